internal import VitIR

/// One option that a command takes: what the parser accepts and the help shows.
struct Option: Sendable {
  /// How it is written, dashes included.
  let name: String
  /// What stands for its value in the help; `nil` for a flag.
  let value: String?
  /// What it does, with its default.
  let summary: String
  /// Whether it may be given several times.
  let isRepeatable: Bool

  /// An option with a value.
  init(_ name: String, _ value: String, _ summary: String, isRepeatable: Bool = false) {
    self.init(name: name, value: value, summary: summary, isRepeatable: isRepeatable)
  }

  /// A flag.
  init(_ name: String, _ summary: String) {
    self.init(name: name, value: nil, summary: summary, isRepeatable: false)
  }

  private init(name: String, value: String?, summary: String, isRepeatable: Bool) {
    self.name = name
    self.value = value
    self.summary = summary
    self.isRepeatable = isRepeatable
  }

  /// The option with its value, as the help writes it.
  var usage: String { value.map { "\(name) \($0)" } ?? name }

  /// Options that every command takes.
  static let common = [
    Option(
      "--diagnostics", "FORMAT",
      "how messages are written: text (default), json, one object a line, or sarif, one document at the end"),
    Option("--quiet", "says nothing but results, warnings and errors: no notes, no progress"),
    Option("--help", "shows this help"),
  ]
  /// The shape of an input that the model leaves open.
  static let inputShape = Option(
    "--input-shape", "NAME=SHAPE",
    "the shape of an input, as image=batch,3,224,224, where an ONNX file leaves it open; ? for what stays so",
    isRepeatable: true)
  /// What products are computed in.
  static let precision = Option(
    "--precision", "TYPE",
    "what products are computed in: f32, bf16 or int8 (default: as the file has its weights)"
  )
  /// How many threads compute.
  static let threads = Option("--threads", "T", "threads that compute (default: the cores that may be used)")
  /// How much memory is used.
  static let memoryLimit = Option(
    "--memory-limit", "SIZE",
    "memory that may be used, as 500M or 4G (default: what the machine, its control groups and ulimit allow)")
  /// The data of a command.
  static let data = Option(
    "--data", "PATH[:SPLIT]",
    "images: a folder, a list of paths and labels (.csv, .tsv), an IDX, .npy, .npz or CIFAR file, with :train or :test a split "
      + "of it, or synthetic[:N]"
  )
  /// How images become inputs, where neither the model nor a file beside it says so, or says it wrongly.
  static let preprocess = Option(
    "--preprocess", "KEY=VALUE",
    "how images are prepared: channels, size, order, resize, interpolation, crop, scale, mean, std; may be given several "
      + "times (default: as the model, or a preprocessor_config.json or config.json beside it, says)",
    isRepeatable: true)
  /// The seed of every random choice.
  static let seed = Option("--seed", "S", "decides all random choices (default 0)")
  /// How many of the data nothing is trained on.
  static let heldOut = Option(
    "--held-out", "N",
    "images of the data that nothing is trained on: they decide which weights are kept; without data to measure on, a half of them is that"
  )
  /// What make and ninja read.
  static let dependencies = [
    Option(
      "-MD", "writes a file of dependencies for make and ninja: OUT with .d in place of its extension"),
    Option("-MF", "FILE", "the name of that file"),
    Option("-MP", "gives each dependency a rule there, so that one that is gone is no error"),
    Option(
      "--restat",
      "leaves a file that has the bytes already as it is, its time with it: for ninja's restat; make would run the rule again and again"
    ),
  ]
  /// Results for scripts.
  static func json(_ schema: String) -> Option {
    Option("--json", "the result as JSON (schemas/\(schema).schema.json)")
  }
}

/// The words behind a command, sorted into its options and operands.
struct Arguments: Sendable {
  /// What stands beside the options, in order.
  private(set) var operands: [String] = []
  private let declared: [Option]
  private var values: [(name: String, value: String)] = []

  /// Sorts `words`; throws a usage error for what the command does not take.
  init(_ words: [String], of command: Command) throws(VitError) {
    declared = command.allOptions
    var index = 0
    var onlyOperands = false
    while index < words.count {
      let word = words[index]
      index += 1
      guard !onlyOperands, word.hasPrefix("-"), word != "-" else {
        operands.append(word)
        continue
      }
      if word == "--" {
        onlyOperands = true
        continue
      }
      let (name, attached) = Arguments.cut(word == "-h" ? "--help" : word)
      guard let option = declared.first(where: { $0.name == name }) else {
        throw Arguments.unknown(name, among: declared.map(\.name), what: "option", help: command.name)
      }
      if !option.isRepeatable, values.contains(where: { $0.name == name }) {
        throw usage("option \(name) is given twice", code: "option-twice")
      }
      guard option.value != nil else {
        guard attached == nil else { throw usage("option \(name) takes no value", code: "option-value") }
        values.append((name, ""))
        continue
      }
      guard let value = attached ?? (index < words.count ? words[index] : nil) else {
        throw usage("option \(name) needs a value: \(option.usage)", code: "option-value")
      }
      if attached == nil { index += 1 }
      values.append((name, value))
    }
    // Who asks for help does not have to name a model.
    guard !flag("--help") else { return }
    try command.checkOperands(operands)
  }

  /// The same words, but for the values of an option.
  func replacing(_ name: String, by texts: [String]) -> Arguments {
    var copy = self
    copy.values = values.filter { $0.name != name } + texts.map { (name, $0) }
    return copy
  }

  /// The words that say the same but for some options, with `words` that are options, too: those first.
  func words(leavingOut names: Set<String>, adding words: [String] = []) -> [String] {
    let given = values.filter { !names.contains($0.name) }.flatMap { option in
      declared.contains { $0.name == option.name && $0.value != nil }
        ? [option.name, option.value] : [option.name]
    }
    return given + words + (operands.contains { $0.hasPrefix("-") } ? ["--"] : []) + operands
  }

  private static func cut(_ word: String) -> (String, String?) {
    guard word.hasPrefix("--"), let equals = word.firstIndex(of: "=") else { return (word, nil) }
    return (String(word[..<equals]), String(word[word.index(after: equals)...]))
  }

  /// A usage error about a word that nobody knows, with the nearest that is known.
  static func unknown(_ word: String, among known: [String], what: String, help command: String?) -> VitError
  {
    usage(
      "unknown \(what) '\(word)'", code: "unknown-\(what)",
      help: word.meant(among: known) ?? "see 'vitc help\(command.map { " \($0)" } ?? "")'")
  }

  /// Whether a flag is given.
  func flag(_ name: String) -> Bool { !texts(name).isEmpty }

  /// The value of an option, or `nil` where it is not given.
  func text(_ name: String) -> String? { texts(name).first }

  /// Whether the command has this option.
  func takes(_ name: String) -> Bool { declared.contains { $0.name == name } }

  /// The values of a repeatable option, in order.
  func texts(_ name: String) -> [String] {
    precondition(takes(name), "\(name) is not declared")
    return values.filter { $0.name == name }.map(\.value)
  }

  /// A whole number in a range.
  func integer(_ name: String, in range: ClosedRange<Int>) throws(VitError) -> Int? {
    guard let text = text(name) else { return nil }
    guard let value = Int(text), range.contains(value) else {
      let limit =
        range.upperBound == .max
        ? "at least \(range.lowerBound)" : "in \(range.lowerBound)…\(range.upperBound)"
      throw usage(
        "option \(name) cannot be '\(text)' (expected a whole number \(limit))", code: "option-value")
    }
    return value
  }

  /// A finite number that is not negative, or is above a limit.
  func number(_ name: String, above limit: Double? = nil) throws(VitError) -> Double? {
    guard let text = text(name) else { return nil }
    guard let value = Double(text), value.isFinite, limit.map({ value > $0 }) ?? (value >= 0) else {
      let expected = limit.map { "a number above \($0)" } ?? "a number of at least 0.0"
      throw usage("option \(name) cannot be '\(text)' (expected \(expected))", code: "option-value")
    }
    return value
  }

  /// Numbers separated by commas.
  func numbers(_ name: String) throws(VitError) -> [Double]? {
    guard let text = text(name) else { return nil }
    let values = text.split(separator: ",", omittingEmptySubsequences: false).map { Double($0) }
    guard values.allSatisfy({ $0?.isFinite ?? false }) else {
      throw usage(
        "option \(name) cannot be '\(text)' (expected numbers as in 0.5,0.25)", code: "option-value")
    }
    return values.compactMap { $0 }
  }

  /// One of the words that the option may be.
  func choice(_ name: String, of choices: [String]) throws(VitError) -> String? {
    guard let text = text(name) else { return nil }
    guard choices.contains(text) else {
      throw usage(
        "option \(name) cannot be '\(text)' (expected \(choices.joined(separator: ", ")))",
        code: "option-value", help: text.meant(among: choices))
    }
    return text
  }

  /// A time in seconds, written as in `90s`, `10m`, `1h30m`; a bare number counts seconds.
  func seconds(_ name: String) throws(VitError) -> Double? {
    guard let text = text(name) else { return nil }
    var total = 0.0
    var digits = ""
    for character in text {
      guard let unit = ["s": 1.0, "m": 60, "h": 3600][character] else {
        digits.append(character)
        continue
      }
      guard let value = Double(digits) else { throw badTime(name, text) }
      total += value * unit
      digits = ""
    }
    if !digits.isEmpty {
      guard total == 0, let value = Double(digits) else { throw badTime(name, text) }
      total = value
    }
    guard total.isFinite, total > 0, !text.hasPrefix("-") else { throw badTime(name, text) }
    return total
  }

  private func badTime(_ name: String, _ text: String) -> VitError {
    usage(
      "option \(name) cannot be '\(text)' (expected a time as in 90s, 10m or 1h30m)", code: "option-value")
  }
}

/// A usage error.
func usage(_ message: String, code: String = "usage", help: String? = nil) -> VitError {
  VitError(message, kind: .usage, code: code, help: help)
}
