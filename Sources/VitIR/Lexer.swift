/// One word of the textual IR.
enum Token: Hashable {
  /// `vit.layer_norm`, `batch`, `true`, `_`.
  case word(String)
  /// `"any text"`, escapes resolved.
  case text(String)
  /// `42`, without a sign.
  case integer(String)
  /// `0.5`, `1e-06`, without a sign.
  case decimal(String)
  /// `%name`.
  case value(String)
  /// `@name`.
  case constant(String)
  /// One of `( ) { } [ ] , = : * + -`.
  case mark(Unicode.Scalar)
  /// `->`.
  case arrow
  /// The end of the text.
  case end

  /// The token as a message names it.
  var description: String {
    switch self {
    case .word(let text), .integer(let text), .decimal(let text): "'\(text.shortened)'"
    case .text(let text): "\"\(text.shortened)\""
    case .value(let name): "'%\(name.shortened)'"
    case .constant(let name): "'@\(name.shortened)'"
    case .mark(let mark): "'\(mark)'"
    case .arrow: "'->'"
    case .end: "the end of the text"
    }
  }
}

extension String {
  /// At most 60 characters of it.
  fileprivate var shortened: String { unicodeScalars.count > 60 ? String(prefix(57)) + "..." : self }
}

extension UInt8 {
  /// Whether it is an ASCII letter or `_`.
  var isLetter: Bool { (self | 0x20 >= 0x61 && self | 0x20 <= 0x7a) || self == UInt8(ascii: "_") }
  /// Whether it is an ASCII digit.
  var isDigit: Bool { self >= UInt8(ascii: "0") && self <= UInt8(ascii: "9") }
  /// Whether it may stand in a word: a letter, a digit or a point.
  var isWordPart: Bool { isLetter || isDigit || self == UInt8(ascii: ".") }
  /// Whether it may stand in a bare name behind `%` or `@`.
  var isNamePart: Bool { isWordPart || self == UInt8(ascii: "/") || self == UInt8(ascii: "$") }
}

/// Cuts the bytes of a textual IR into tokens; blanks and `// comments` lie between them.
struct Lexer {
  private let bytes: [UInt8]
  private let file: String?
  private var position = 0
  private var line = 1
  /// Up to where columns have been counted, and the column there: both only grow within a line.
  private var counted = (offset: 0, column: 1)

  init(_ bytes: [UInt8], file: String?) {
    self.bytes = bytes
    self.file = file
  }

  /// The next token and where it begins.
  mutating func next() throws(VitError) -> (token: Token, location: Location) {
    skipBlanks()
    let location = here()
    guard position < bytes.count else { return (.end, location) }
    let byte = bytes[position]
    switch byte {
    case UInt8(ascii: "\""): return (.text(try string(location)), location)
    case UInt8(ascii: "%"): return (.value(try name(location)), location)
    case UInt8(ascii: "@"): return (.constant(try name(location)), location)
    case UInt8(ascii: "0")...UInt8(ascii: "9"): return (number(), location)
    case UInt8(ascii: "-") where peek(1) == UInt8(ascii: ">"):
      position += 2
      return (.arrow, location)
    case _ where byte.isLetter:
      return (.word(ascii(while: \.isWordPart)), location)
    case _ where "(){}[],=:*+-".utf8.contains(byte):
      position += 1
      return (.mark(Unicode.Scalar(byte)), location)
    default:
      throw VitError("unexpected character \(shown(byte))", code: "syntax", location: location)
    }
  }

  private mutating func here() -> Location {
    for byte in bytes[counted.offset..<position] where byte & 0xc0 != 0x80 { counted.column += 1 }
    counted.offset = position
    return Location(file: file, line: line, column: counted.column)
  }

  private func peek(_ ahead: Int) -> UInt8? {
    position + ahead < bytes.count ? bytes[position + ahead] : nil
  }

  private mutating func skipBlanks() {
    while let byte = peek(0) {
      switch byte {
      case UInt8(ascii: "\n"):
        position += 1
        line += 1
        counted = (position, 1)
      case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"): position += 1
      case UInt8(ascii: "/") where peek(1) == UInt8(ascii: "/"):
        while let byte = peek(0), byte != UInt8(ascii: "\n") { position += 1 }
      default: return
      }
    }
  }

  private mutating func ascii(while belongs: (UInt8) -> Bool) -> String {
    let start = position
    while let byte = peek(0), belongs(byte) { position += 1 }
    return String(decoding: bytes[start..<position], as: UTF8.self)
  }

  /// The name behind `%` or `@`: bare or in quotes.
  private mutating func name(_ location: Location) throws(VitError) -> String {
    position += 1
    if peek(0) == UInt8(ascii: "\"") { return try string(location) }
    let name = ascii(while: \.isNamePart)
    if name.isEmpty { throw VitError("expected a name", code: "syntax", location: here()) }
    return name
  }

  private mutating func number() -> Token {
    let start = position
    func text(_ end: Int) -> String { String(decoding: bytes[start..<end], as: UTF8.self) }
    while let byte = peek(0), byte.isDigit { position += 1 }
    var isDecimal = false
    if peek(0) == UInt8(ascii: "."), let next = peek(1), next.isDigit {
      isDecimal = true
      position += 1
      while let byte = peek(0), byte.isDigit { position += 1 }
    }
    if let e = peek(0), e | 0x20 == UInt8(ascii: "e") {
      let signed = peek(1) == UInt8(ascii: "-") || peek(1) == UInt8(ascii: "+")
      if let first = peek(signed ? 2 : 1), first.isDigit {
        isDecimal = true
        position += signed ? 2 : 1
        while let byte = peek(0), byte.isDigit { position += 1 }
      }
    }
    return isDecimal ? .decimal(text(position)) : .integer(text(position))
  }

  /// The text between quotes, which must end on its line.
  private mutating func string(_ location: Location) throws(VitError) -> String {
    position += 1
    var content: [UInt8] = []
    while let byte = peek(0), byte != UInt8(ascii: "\n") {
      position += 1
      switch byte {
      case UInt8(ascii: "\""):
        guard let text = String(validating: content, as: UTF8.self) else {
          throw VitError("a quoted text is not valid UTF-8", code: "syntax", location: location)
        }
        return text
      case UInt8(ascii: "\\"): content += try escape()
      default: content.append(byte)
      }
    }
    throw VitError("a quoted text does not end on its line", code: "syntax", location: location)
  }

  private mutating func escape() throws(VitError) -> [UInt8] {
    let letter = peek(0)
    position += 1
    switch letter {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"): return [letter ?? 0]
    case UInt8(ascii: "n"): return [UInt8(ascii: "\n")]
    case UInt8(ascii: "t"): return [UInt8(ascii: "\t")]
    case UInt8(ascii: "r"): return [UInt8(ascii: "\r")]
    case UInt8(ascii: "u") where peek(0) == UInt8(ascii: "{"):
      position += 1
      let digits = ascii { $0.isDigit || ($0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x66) }
      if digits.utf8.count <= 6, let code = UInt32(digits, radix: 16), let scalar = Unicode.Scalar(code),
        peek(0) == UInt8(ascii: "}")
      {
        position += 1
        return Array(String(Character(scalar)).utf8)
      }
    default: break
    }
    position = min(position, bytes.count)
    throw VitError(
      "unknown escape in a quoted text, expected \\\", \\\\, \\n, \\t, \\r or \\u{…}", code: "syntax",
      location: here())
  }

  private func shown(_ byte: UInt8) -> String {
    if byte > 0x20 && byte < 0x7f { return "'\(Unicode.Scalar(byte))'" }
    let digits = String(byte, radix: 16)
    return "0x" + String(repeating: "0", count: 2 - digits.count) + digits
  }
}
