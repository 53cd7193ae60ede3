internal import VitIR
internal import VitPasses
internal import Vitc

extension Terminal {
  /// Reads a model, telling of what the user should know about it.
  func load(
    _ path: String, raising: Bool = true, inputShapes: [String] = [], threads: Int? = nil,
    precision: Precision? = nil, _ files: inout FileUse
  ) throws -> Model {
    try files.reads([path])
    let model = try Model(
      contentsOf: path, raising: raising, inputShapes: inputShapes, threads: threads)
    try files.reads(model.files)
    for diagnostic in model.diagnostics { report(diagnostic) }
    guard let precision else { return model }
    if precision == .f32, model.graph.hasNarrowWeights {
      report(.widenedWeights)
    }
    return try model.computing(in: precision)
  }

  /// A model that works for some sizes of images alone, for the size that `--preprocess`, `--data` or a file beside it says.
  func fitted(_ model: Model, _ arguments: Arguments) throws -> Model {
    guard
      let fitted = try model.refitted(
        toData: arguments.text("--data"), settings: arguments.preprocessing(), threads: arguments.threads())
    else { return model }
    let type = fitted.graph.inputs.first.map { fitted.graph.type($0).description } ?? ""
    report(
      Diagnostic(.note, "the model is read anew for images of another size: \(type)", code: "fitted-size"))
    return fitted
  }

  /// How long work reaches the user.
  var progress: Progress {
    Progress(
      report: { self.report($0) }, advance: { self.advance($0, $1, $2, $3) },
      isCancelled: { self.isCancelled })
  }
}

extension Arguments {
  /// The number of threads asked for.
  func threads() throws(VitError) -> Int? { try integer("--threads", in: 1...1024) }

  /// What products are computed in, if that is said.
  func precision() throws(VitError) -> Precision? {
    try choice("--precision", of: Precision.allCases.map(\.rawValue)).flatMap(Precision.init(rawValue:))
  }

  /// The bytes that `--memory-limit` allows; `nil` where it is not given.
  func memoryLimit() throws(VitError) -> Int? { try byteCount("--memory-limit") }

  /// A number of bytes, as `500M`.
  func byteCount(_ name: String) throws(VitError) -> Int? {
    guard let text = text(name) else { return nil }
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    let units = ["": 0, "B": 0, "K": 10, "M": 20, "G": 30, "T": 40]
    if let count = Int(digits), let shift = units[text.dropFirst(digits.count).uppercased()] {
      let (bytes, overflow) = count.multipliedReportingOverflow(by: 1 << shift)
      if !overflow, bytes > 0 { return bytes }
    }
    throw usage(
      "option \(name) cannot be '\(text)' (expected a size as 500M or 4G)", code: "option-value")
  }

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

  /// What `--preprocess` says; throws a usage error where that makes no sense for any model.
  @discardableResult
  func checkPreprocessing() throws(VitError) -> [(key: String, value: String)] {
    let settings = try preprocessing()
    try Samples.check(settings)
    return settings
  }

  /// What `-MD` asks for, whose file is an output; `nil` where it is not given.
  func depfile(for out: String?, _ files: inout FileUse) throws(VitError) -> Depfile? {
    guard let depfile = try Depfile(self, for: out) else { return nil }
    let role = text("-MF") == nil ? "-MD" : "-MF"
    try FileFormat.check(depfile.path, is: .dependencies, as: role)
    try files.writes(depfile.path, as: role)
    return depfile
  }

  /// The model that `-o` names as an output, with the file of its tensors where it is a text; whether it is one.
  func modelOutput(as format: Model.Format? = nil, _ files: inout FileUse) throws(VitError) -> (
    path: String, isText: Bool
  )? {
    guard let out = text("-o") else { return nil }
    let format = format ?? (FileFormat(out) == .text ? .text : .vmod)
    let kinds: [Model.Format: FileFormat] = [.text: .text, .onnx: .onnx]
    try FileFormat.check(out, is: kinds[format] ?? .vmod, as: "-o")
    try files.writes(out, as: "-o")
    switch format {
    case .text: try files.writes(Model.tensorsPath(of: out), as: "the tensors of -o")
    case .onnx: try files.writes(OnnxExport.dataPath(of: out), as: "the weights of -o")
    case .vmod: break
    }
    return (out, format == .text)
  }

  /// The data that an option names, prepared for a model; `nil` where it is not given.
  func samples(
    _ option: String, for model: Model, purpose: Samples.Purpose = .calibration, limit: Int = .max,
    numbering: Samples.Numbering = .model, seed: UInt64 = 0,
    terminal: Terminal, _ files: inout FileUse
  ) throws -> Samples? {
    guard let name = text(option) else { return nil }
    let samples = try Samples(
      name, for: model, purpose: purpose, settings: preprocessing(), limit: limit, numbering: numbering,
      seed: seed, threads: threads(), report: { terminal.report($0) })
    try files.reads(samples.sources)
    if samples.skipped > 0 {
      terminal.say("\(name): \(samples.skipped) images could not be read, \(samples.count) are used")
    }
    return samples
  }
}
