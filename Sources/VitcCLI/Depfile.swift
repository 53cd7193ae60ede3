/// What make and ninja read to know what a file was made from.
enum Depfile {
  /// The name that goes with an output: its extension replaced by `.d`.
  static func name(for out: String) -> String {
    let start = out.lastIndex(of: "/").map { out.index(after: $0) } ?? out.startIndex
    guard let dot = out[start...].lastIndex(of: "."), dot > start else { return out + ".d" }
    return out[..<dot] + ".d"
  }

  /// One rule: the target needs the inputs, each once.
  static func text(target: String, inputs: [String]) -> String {
    var seen: Set<String> = []
    let names = inputs.filter { seen.insert($0).inserted }.map(escaped)
    return ([escaped(target) + ":"] + names).joined(separator: " \\\n  ") + "\n"
  }

  /// As make and ninja read it: blanks, `#` and `:` get a backslash, backslashes before a blank another, `$` is doubled.
  private static func escaped(_ path: String) -> String {
    var result = ""
    var backslashes = 0
    for character in path {
      switch character {
      case " ", "\t": result += String(repeating: "\\", count: backslashes + 1)
      case "#", ":": result += "\\"
      case "$": result += "$"
      default: break
      }
      result.append(character)
      backslashes = character == "\\" ? backslashes + 1 : 0
    }
    return result
  }
}
