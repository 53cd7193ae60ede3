internal import VitIR
internal import Vitc

extension Terminal {
  /// Reads a model, telling of what the user should know about it.
  func load(_ path: String, raising: Bool = true, threads: Int? = nil) throws -> Model {
    let model = try Model(contentsOf: path, raising: raising, threads: threads)
    for diagnostic in model.diagnostics { report(diagnostic) }
    return model
  }

  /// How long work reaches the user.
  var progress: Progress {
    Progress(
      report: { self.report($0) }, advance: { self.advance($0, $1, $2, $3) },
      isCancelled: { Interrupts.isRequested })
  }
}

extension Arguments {
  /// The number of threads asked for.
  func threads() throws(VitError) -> Int? { try integer("--threads", in: 1...1024) }

  /// The seed.
  func seed() throws(VitError) -> UInt64 { UInt64(try integer("--seed", in: 0...Int.max) ?? 0) }

  /// What `--preprocess` says.
  func preprocessing() throws(VitError) -> [(key: String, value: String)] {
    var settings: [(key: String, value: String)] = []
    for text in texts("--preprocess") {
      guard let equals = text.firstIndex(of: "=") else {
        throw usage("option --preprocess cannot be '\(text)' (expected KEY=VALUE)", code: "option-value")
      }
      settings.append((String(text[..<equals]), String(text[text.index(after: equals)...])))
    }
    return settings
  }

  /// The data that an option names, prepared for a model; `nil` where it is not given.
  func samples(
    _ option: String, for model: Model, purpose: Samples.Purpose = .calibration, limit: Int = .max,
    seed: UInt64 = 0,
    terminal: Terminal
  ) throws -> Samples? {
    guard let name = text(option) else { return nil }
    let samples = try Samples(
      name, for: model, purpose: purpose, settings: preprocessing(), limit: limit, seed: seed,
      report: { terminal.report($0) })
    if samples.skipped > 0 {
      terminal.say("\(name): \(samples.skipped) images could not be read, \(samples.count) are used")
    }
    return samples
  }
}
