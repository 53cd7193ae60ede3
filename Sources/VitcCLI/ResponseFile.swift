internal import VitIR
internal import Vitc

/// Words of a command line that lie in files: `@FILE` stands for the words in it, as with compilers.
enum ResponseFile {
  /// How deep files may name files.
  private static let deepest = 8

  /// The words with those of files in place of `@FILE`; throws where a file cannot be read or a quote does not end.
  static func expand(_ words: [String], depth: Int = 0) throws -> [String] {
    try words.flatMap { word -> [String] in
      guard word.hasPrefix("@"), word.count > 1 else { return [word] }
      let path = String(word.dropFirst())
      guard depth < deepest else {
        throw usage("'\(word)' is named by more than \(deepest) files, one in another", code: "response-file")
      }
      do { return try expand(ResponseFile.words(of: TextFile.read(path)), depth: depth + 1) } catch let error
        as VitError
      {
        throw VitError(
          error.diagnostic.message, kind: .usage, code: "response-file",
          location: error.diagnostic.location.filled(from: Location(file: path)),
          help: error.diagnostic.help ?? "an argument that begins with @ is written ./@")
      }
    }
  }

  /// The words of a text: apart by blanks and line ends; quotes of either kind hold blanks, and a backslash, but for one
  /// between single quotes, takes the next character as it is.
  private static func words(of text: String) throws(VitError) -> [String] {
    var words: [String] = []
    var word: String?
    var quote: Character?
    var isEscaped = false
    for character in text {
      if isEscaped {
        word = (word ?? "") + String(character)
        isEscaped = false
      } else if character == "\\", quote != "'" {
        isEscaped = true
      } else if let open = quote {
        if character == open { quote = nil } else { word = (word ?? "") + String(character) }
      } else if character == "\"" || character == "'" {
        quote = character
        word = word ?? ""
      } else if character.isWhitespace {
        if let done = word { words.append(done) }
        word = nil
      } else {
        word = (word ?? "") + String(character)
      }
    }
    guard quote == nil, !isEscaped else {
      throw VitError("a quote or a backslash is at the end", kind: .usage)
    }
    if let word { words.append(word) }
    return words
  }
}
