internal import VitIR
internal import VitPasses
internal import Vitc

/// The help texts, made from the tables that the parser uses.
enum Help {
  private static let width = 100

  /// What vitc is and which commands there are.
  static var overview: String {
    """
    vitc compiles trained vision transformers to smaller, faster hybrids

    usage: vitc COMMAND …

    \(rows(Command.all.map { ($0.name, $0.summary) }))

      vitc help COMMAND     what a command takes
      vitc help op NAME     what an operation of the IR does
      vitc help pass NAME   what a pass does and takes
      vitc help mixer KIND  what a mixer is and what it can be asked for
      vitc --version        the version

    @FILE stands for the words in a file, apart by blanks and line ends, in quotes where they hold blanks.

    Results go to standard output, all else to standard error. Exit codes: 0 done, 1 a check failed, 2 wrong
    usage, 3 an input that is missing, malformed or unsupported, 4 anything else, 130 interrupted.

    """
  }

  /// What a command takes.
  static func text(_ command: Command) -> String {
    var text = "vitc \(command.name): \(command.summary)\n\n"
    let operands = command.operands.map(\.name)
    let shown = operands.enumerated().map {
      $0.offset < command.operandCount.lowerBound ? $0.element : "[\($0.element)]"
    }
    text += "usage: " + (["vitc", command.name] + shown + ["[options]"]).joined(separator: " ") + "\n"
    if !command.operands.isEmpty { text += "\n" + rows(command.operands) + "\n" }
    text += "\noptions:\n" + rows(command.allOptions.map { ($0.usage, $0.summary) }) + "\n"
    for note in command.notes { text += "\n" + wrapped(note, indent: 0) + "\n" }
    return text
  }

  /// What an operation does.
  static func operation(_ name: String) throws -> String {
    let registry = Registry.vitc
    let ways = [name, "onnx.\(name)", "vit.\(name)", "com.microsoft.\(name)"]
    guard let operation = ways.lazy.compactMap({ registry[$0] }).first else {
      throw Arguments.unknown(name, among: registry.operations.map { $0.name }, what: "operation", help: nil)
    }
    let guide = try OperationGuide(operation, registry: registry)
    var text = "\(operation.name): \(operation.summary)\n\noperands:\n"
    text += rows(
      guide.operands.map { operand in
        let shown = operand.type.map { ", in the example \($0)" } ?? ""
        return (operand.name, (operand.isOptional ? "optional" : "required") + shown)
      })
    if guide.results > 1 { text += "\n\nresults: 1 to \(guide.results)" }
    if !guide.attributes.isEmpty {
      text += "\n\nattributes, with their defaults:\n"
      text += rows(
        guide.attributes.map { attribute in
          let value = attribute.fallback ?? (attribute.isRequired ? "required" : "none")
          return (attribute.name, "\(value)  (\(attribute.kind))")
        })
    }
    return text + "\n\nexample:\n" + indented(try guide.graph.text())
  }

  private static func indented(_ text: String) -> String {
    text.split(separator: "\n").map { "  \($0)\n" }.joined()
  }

  /// What a pass does and takes, with the defaults.
  static func pass(_ name: String) throws(VitError) -> String {
    guard let pass = Pipeline.standardPasses.first(where: { $0.name == name }) else {
      throw Arguments.unknown(name, among: Pipeline.standardPasses.map { $0.name }, what: "pass", help: nil)
    }
    var text = "\(pass.name): \(pass.summary)\n"
    var told: Set<String> = []
    for given in [[]] + pass.forms.map({ [$0] }) {
      var reader = OptionReader(pass: name, given)
      let values = try pass.init(options: &reader).options
      let asked = reader.asked.filter { told.insert($0.name).inserted }
      guard !asked.isEmpty else { continue }
      let form = given.map { "and with \($0.name)=\($0.value)" }.first ?? "options, with their defaults"
      text += "\n\(form):\n"
      text += rows(
        asked.map { option in
          let value = values.first { $0.name == option.name }?.value ?? option.fallback ?? "none"
          return (option.name, "\(value)  (\(option.kind))")
        })
      text += "\n"
    }
    return text + "\nexample:\n  vitc opt MODEL --passes '\(pass.example)' --data DATA -o OUT.vmod\n"
  }

  /// What a mixer is and what it can be asked for, with the defaults.
  static func mixer(_ name: String) throws -> String {
    guard let guide = try MixerGuide.all().first(where: { $0.name == name }) else {
      throw Arguments.unknown(name, among: MixerKinds.names, what: "mixer", help: nil)
    }
    var text = "\(guide.name): \(guide.summary)\n"
    if !guide.options.isEmpty {
      text += "\noptions, with their defaults:\n"
      text += rows(guide.options.map { ($0.name, "\($0.fallback)  (\($0.accepted))") })
      text += "\n"
    }
    let braces = guide.options.first.map { "{\($0.name)=\($0.fallback)}" } ?? ""
    let others = guide.otherWidths.map { ", \($0.width) with \($0.option)" }.joined()
    if let width = guide.width {
      text += "\ninner width, where swap's option 'width' does not say: \(width) of the model's\(others)\n"
    }
    return text
      + "\nexample:\n  vitc opt MODEL --passes 'swap{mixer=\(guide.name)\(braces),layers=all}' -o OUT.vmod\n"
  }

  /// Names and what they mean, in two columns.
  static func rows(_ rows: [(String, String)]) -> String {
    let column = min((rows.map(\.0.count).max() ?? 0) + 4, 34)
    return rows.map { name, summary in
      let head = "  " + name
      let body = wrapped(summary, indent: column)
      return head.count + 2 > column
        ? head + "\n" + String(repeating: " ", count: column) + body
        : head + String(repeating: " ", count: column - head.count) + body
    }.joined(separator: "\n")
  }

  private static func wrapped(_ text: String, indent: Int) -> String {
    var lines: [String] = []
    var line = ""
    for word in text.split(separator: " ") {
      if !line.isEmpty, indent + line.count + 1 + word.count > width {
        lines.append(line)
        line = ""
      }
      line += (line.isEmpty ? "" : " ") + word
    }
    lines.append(line)
    return lines.joined(separator: "\n" + String(repeating: " ", count: indent))
  }
}

extension Command {
  /// `vitc help`.
  static let help = Command(
    "help", "explains a command, an operation, a pass or a mixer",
    operands: [
      ("TOPIC", "a command, or 'op', 'pass' or 'mixer'"),
      ("NAME", "an operation, a pass or a mixer; all are listed without it"),
    ],
    operandCount: 0...2
  ) { arguments, terminal in
    let words = arguments.operands
    switch (words.first, words.dropFirst().first) {
    case (nil, _): terminal.write(Help.overview)
    case ("op"?, let name?): terminal.write(try Help.operation(name))
    case ("op"?, nil):
      terminal.write(Help.rows(Registry.vitc.operations.map { ($0.name, $0.summary) }) + "\n")
    case ("pass"?, let name?): terminal.write(try Help.pass(name))
    case ("pass"?, nil):
      terminal.write(Help.rows(Pipeline.standardPasses.map { ($0.name, $0.summary) }) + "\n")
    case ("mixer"?, let name?): terminal.write(try Help.mixer(name))
    case ("mixer"?, nil):
      terminal.write(Help.rows(try MixerGuide.all().map { ($0.name, $0.summary) }) + "\n")
    case (let name?, nil):
      guard let command = Command.all.first(where: { $0.name == name }) else {
        throw Arguments.unknown(name, among: Command.all.map(\.name), what: "command", help: nil)
      }
      terminal.write(Help.text(command))
    case (_, let extra?): throw usage("unexpected operand '\(extra)'", code: "operand-unexpected")
    }
    return .done
  }
}
