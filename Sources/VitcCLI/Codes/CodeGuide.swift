internal import VitIR

/// What a code of a message means, and what helps: the wording of messages may change, the codes do not.
struct CodeGuide: Sendable {
  /// The code.
  let code: String
  /// What it means and what helps.
  let text: String

  init(_ code: String, _ text: String) { (self.code, self.text) = (code, text) }

  /// All of them, in the order of the codes.
  static let all = (words + running + models + onnx + data).sorted { $0.code < $1.code }

  /// The one of a code.
  static func of(_ code: String) -> CodeGuide? { all.first { $0.code == code } }
}

extension Command {
  /// `vitc explain`.
  static let explain = Command(
    "explain", "says what the code of a message means, and what helps",
    operands: [("CODE", "as messages in JSON and SARIF have it; all are listed without it")],
    notes: [
      "'--diagnostics json' shows the codes of messages. They stay the same from version to version; the wording does not."
    ],
    operandCount: 0...1
  ) { arguments, terminal in
    guard let code = arguments.operands.first else {
      terminal.write(Help.rows(CodeGuide.all.map { ($0.code, $0.text) }) + "\n")
      return .done
    }
    guard let guide = CodeGuide.of(code) else {
      throw Arguments.unknown(code, among: CodeGuide.all.map(\.code), what: "code", help: nil)
    }
    terminal.write(Help.rows([(guide.code, guide.text)]) + "\n")
    return .done
  }
}
