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

  /// Spaces and `#` get a backslash, `$` is doubled, as make reads it.
  private static func escaped(_ path: String) -> String {
    var result = ""
    for character in path {
      switch character {
      case " ", "#": result += "\\\(character)"
      case "$": result += "$$"
      default: result.append(character)
      }
    }
    return result
  }
}
