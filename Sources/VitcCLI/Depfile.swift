internal import VitIR
internal import Vitc

/// What make and ninja read to know what a file was made from.
struct Depfile {
  /// The file of dependencies.
  let path: String
  /// What was made.
  private let target: String
  /// Whether each input gets a rule of its own without a command, so that one that is gone is no error.
  private let hasPhonyTargets: Bool

  /// What `-MD`, `-MF` and `-MP` ask for; `nil` where they do not. Throws a usage error where there is no output to speak of.
  init?(_ arguments: Arguments, for out: String?) throws(VitError) {
    guard arguments.flag("-MD") else {
      for option in ["-MF", "-MP"] where arguments.flag(option) {
        throw usage("\(option) needs -MD", code: "option-missing")
      }
      return nil
    }
    guard let out else { throw usage("-MD needs -o", code: "option-missing") }
    target = out
    path = arguments.text("-MF") ?? Depfile.name(for: out)
    hasPhonyTargets = arguments.flag("-MP")
    guard Depfile.escaped(out) != nil else {
      throw usage(
        "-MD: make and ninja cannot both read the name '\(out)'", code: "depfile-name",
        help: "give -o a name of plain characters")
    }
  }

  /// The name that goes with an output: its extension replaced by `.d`.
  static func name(for out: String) -> String {
    let start = out.lastIndex(of: "/").map { out.index(after: $0) } ?? out.startIndex
    guard let dot = out[start...].lastIndex(of: "."), dot > start else { return out + ".d" }
    return out[..<dot] + ".d"
  }

  /// Writes the file: the target needs what was read. A folder that holds an output changes whenever that is written, so it is
  /// left out with a warning, and so is a name that make and ninja do not read alike.
  func write(_ files: FileUse, _ terminal: Terminal) throws {
    var names: [String] = []
    var known: Set<String> = []
    for input in files.inputs {
      if let output = files.output(in: input) {
        terminal.report(
          Diagnostic(
            .warning, "the folder holds the output '\(output)', so its age says nothing: it is no dependency",
            code: "depfile-folder", location: Location(file: input),
            help: "write outputs elsewhere, so that images which come or go make them anew"))
        continue
      }
      var path = input
      while path.utf8.count > 1, path.hasSuffix("/") { path.removeLast() }
      guard known.insert(path).inserted else { continue }
      guard let name = Depfile.escaped(path) else {
        terminal.report(
          Diagnostic(
            .warning, "make and ninja cannot both read such a name: it is no dependency",
            code: "depfile-name", location: Location(file: input)))
        continue
      }
      names.append(name)
    }
    try TextFile.write(Depfile.text(target: target, names: names, phony: hasPhonyTargets), to: path)
  }

  private static func text(target: String, names: [String], phony: Bool) -> String {
    // What stands first behind a colon must not look like an assignment.
    let first = names.firstIndex { !$0.contains("=") }
    let sorted = first.map { [names[$0]] + names[..<$0] + names[($0 + 1)...] } ?? names
    var text = ([(escaped(target) ?? target) + ":"] + sorted).joined(separator: " \\\n  ") + "\n"
    guard phony else { return text }
    // Signs that mean more in a target than behind one.
    for name in names where !name.contains(where: { "%=".contains($0) }) { text += "\n\(name):\n" }
    return text
  }

  /// A name as make and ninja both read it: blanks, `#` and `:` get a backslash, backslashes before a blank another, `$` is
  /// doubled. `nil` where no spelling means the same to both.
  private static func escaped(_ path: String) -> String? {
    var result = path.hasPrefix("~") ? "./" : ""
    var backslashes = 0
    for character in path.unicodeScalars {
      switch character {
      case " ": result += String(repeating: "\\", count: backslashes + 1)
      case "#", ":":
        guard backslashes == 0 else { return nil }
        result += "\\"
      case "$": result += "$"
      case "\t", "\n", "\r", ";", "*", "<", ">", "|", "^", "`", "\"", "'": return nil
      default: if character.value < 0x20 || character.value == 0x7f { return nil }
      }
      result.unicodeScalars.append(character)
      backslashes = character == "\\" ? backslashes + 1 : 0
    }
    // At the end of a line, or before the blank that ends a name, a backslash would mean something else.
    return backslashes == 0 ? result : nil
  }
}
