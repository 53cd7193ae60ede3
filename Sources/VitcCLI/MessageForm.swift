internal import VitIR
internal import Vitc

/// How messages are written to standard error.
enum MessageForm: String, CaseIterable {
  /// For people.
  case text
  /// One object a line (`schemas/diagnostic.schema.json`).
  case json
  /// One document at the end (SARIF 2.1.0), which code scanning and editors read.
  case sarif

  /// What `--diagnostics` says among words that nobody has looked at yet: an error in them is told so, too.
  init(saidIn words: [String]) {
    let apart = Array(zip(words, words.dropFirst())).last { $0.0 == "--diagnostics" }?.1
    let joined = words.last { $0.hasPrefix("--diagnostics=") }?.dropFirst("--diagnostics=".count)
    self = (apart ?? joined.map(String.init)).flatMap(MessageForm.init) ?? .text
  }

  /// The last that is said of work that a signal ended.
  func farewell(_ diagnostic: Diagnostic) -> String {
    switch self {
    case .text: diagnostic.text
    case .json: diagnostic.json.line
    case .sarif: Sarif.log([diagnostic], status: FailureKind.interrupted.rawValue).line
    }
  }
}

extension Diagnostic {
  /// The message as JSON, in the form of `schemas/diagnostic.schema.json`.
  var json: JSON {
    var members: [(String, JSON)] = [
      ("severity", .string(severity.rawValue)), ("code", .string(code)), ("message", .string(message)),
    ]
    if let file = location.file { members.append(("file", .string(file))) }
    if let node = location.node { members.append(("node", .string(node))) }
    if let line = location.line { members.append(("line", .int(line))) }
    if let column = location.column { members.append(("column", .int(column))) }
    if let help { members.append(("help", .string(help))) }
    return .object(members)
  }
}

extension Sarif {
  /// The log of messages, of one run that ended with that exit code.
  static func log(_ diagnostics: [Diagnostic], status: Int32) -> JSON {
    log(
      rules: Set(diagnostics.map(\.code)).sorted().map { ($0, CodeGuide.of($0)?.text ?? $0) },
      results: diagnostics.map { diagnostic in
        let help = diagnostic.help.map { "\nhelp: \($0)" } ?? ""
        // SARIF's words for the three severities are the same.
        return result(
          diagnostic.code, level: diagnostic.severity.rawValue, text: diagnostic.message + help,
          file: diagnostic.location.file, line: diagnostic.location.line, column: diagnostic.location.column,
          part: diagnostic.location.node)
      }, status: status)
  }
}
