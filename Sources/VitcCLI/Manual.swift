internal import VitIR
internal import Vitc

/// The pages of the manual (section 1), as text that `man` formats, made from the tables that the parser uses.
enum Manual {
  /// The page `vitc`, which names the others.
  static var overview: String {
    var text = head("vitc", "compiles trained vision transformers to smaller, faster hybrids")
    text += ".SH SYNOPSIS\n.B vitc\n.I \(escaped("COMMAND …"))\n.SH COMMANDS\n"
    for command in Command.all { text += entry("vitc-\(command.name)(1)", command.summary) }
    text += """
      .SH FILES OF WORDS
      \(escaped("@FILE stands for the words in a file, apart by blanks and line ends, in quotes where they hold blanks."))
      .SH EXIT STATUS

      """
    for (status, meaning) in statuses { text += entry(status, meaning) }
    return text
  }

  /// The page `vitc-NAME`.
  static func page(_ command: Command) -> String {
    var text = head("vitc-\(command.name)", command.summary)
    let operands = command.operands.enumerated().map { place, operand in
      place < command.operandCount.lowerBound ? operand.name : "[\(operand.name)]"
    }
    text += ".SH SYNOPSIS\n.B vitc \(command.name)\n"
    text += operands.map { ".I \(escaped($0))\n" }.joined() + "[\\fIoptions\\fR]\n"
    if !command.operands.isEmpty {
      text += ".SH OPERANDS\n"
      for operand in command.operands { text += entry(operand.name, operand.summary) }
    }
    text += ".SH OPTIONS\n"
    for option in command.allOptions { text += entry(option.usage, option.summary) }
    if !command.notes.isEmpty {
      text += ".SH NOTES\n" + command.notes.map { escaped($0) + "\n" }.joined(separator: ".PP\n")
    }
    return text + ".SH SEE ALSO\n.BR vitc (1)\n"
  }

  private static let statuses = [
    ("0", "done"), ("1", "a check failed: a difference, a wrong output, a bound that is missed"),
    ("2", "wrong usage"), ("3", "an input that is missing, malformed or unsupported"),
    ("4", "anything else"), ("130", "interrupted"),
  ]

  private static func head(_ name: String, _ summary: String) -> String {
    ".TH \(name.uppercased().replacing("-", with: "\\-")) 1 \"\" \"vitc \(Version.current)\"\n"
      + ".SH NAME\n\(escaped(name)) \\- \(escaped(summary))\n"
  }

  private static func entry(_ name: String, _ meaning: String) -> String {
    ".TP\n.B \(escaped(name))\n\(escaped(meaning))\n"
  }

  /// Text in which nothing is a request or an escape, in ASCII.
  private static func escaped(_ text: String) -> String {
    var plain = ""
    for character in text.unicodeScalars {
      switch character {
      case "\\": plain += "\\e"
      case "-": plain += "\\-"
      case "…": plain += "..."
      case "§": plain += "section "
      case _ where character.isASCII: plain.unicodeScalars.append(character)
      default: plain += "\\[u\(padded(String(character.value, radix: 16, uppercase: true)))]"
      }
    }
    return plain.hasPrefix(".") || plain.hasPrefix("'") ? "\\&" + plain : plain
  }

  private static func padded(_ hex: String) -> String {
    String(repeating: "0", count: max(0, 4 - hex.count)) + hex
  }
}

extension Command {
  /// `vitc manual`.
  static let manual = Command(
    "manual", "prints a page of the manual for 'man'",
    operands: [("COMMAND", "whose page; without it the overview")],
    notes: [
      "'vitc manual compile | man -l -' shows one; tools/install puts all of them where 'man' looks for them."
    ],
    operandCount: 0...1
  ) { arguments, terminal in
    guard let name = arguments.operands.first else {
      terminal.write(Manual.overview)
      return .done
    }
    guard let command = Command.all.first(where: { $0.name == name }) else {
      throw Arguments.unknown(name, among: Command.all.map(\.name), what: "command", help: nil)
    }
    terminal.write(Manual.page(command))
    return .done
  }
}
