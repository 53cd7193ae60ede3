/// Names of files as text. A name is bytes, and not all bytes are UTF-8: what is none stands in a text as a character of its
/// own, so that the text leads back to the file.
public enum FileName {
  /// The first of 256 characters, of the last plane for private use, that stand for bytes which are no UTF-8.
  private static let first: UInt32 = 0x10_fe00

  /// The text for the bytes of a name.
  public static func text(of bytes: some Sequence<UInt8>) -> String {
    let bytes = Array(bytes)
    if let text = String(validating: bytes, as: UTF8.self) { return text }
    var text = ""
    var rest = bytes[...]
    while !rest.isEmpty {
      // A character of UTF-8 is at most four bytes long.
      let length = (1...min(4, rest.count)).first {
        String(validating: rest.prefix($0), as: UTF8.self) != nil
      }
      if let length {
        text += String(decoding: rest.prefix(length), as: UTF8.self)
      } else if let byte = rest.first, let scalar = Unicode.Scalar(first + UInt32(byte)) {
        text.unicodeScalars.append(scalar)
      }
      rest = rest.dropFirst(length ?? 1)
    }
    return text
  }

  /// The bytes of a name.
  public static func bytes(of text: String) -> [UInt8] {
    guard !isText(text) else { return Array(text.utf8) }
    return text.unicodeScalars.flatMap { scalar in byte(scalar).map { [$0] } ?? Array(String(scalar).utf8) }
  }

  /// Lends the name as the system takes it: its bytes, and a zero behind them.
  public static func withBytes<Result>(of text: String, _ body: (UnsafePointer<CChar>) throws -> Result)
    rethrows -> Result
  {
    if isText(text) { return try text.withCString(body) }
    return try (bytes(of: text) + [0]).withUnsafeBytes { buffer in
      try buffer.withMemoryRebound(to: CChar.self) { characters in
        // There is at least the zero.
        guard let base = characters.baseAddress else { return try "".withCString(body) }
        return try body(base)
      }
    }
  }

  /// Whether all of the name is UTF-8.
  public static func isText(_ text: String) -> Bool { !text.unicodeScalars.contains { byte($0) != nil } }

  /// The name as people read it: a byte that is no UTF-8 as `\xe9`.
  public static func shown(_ text: String) -> String {
    guard !isText(text) else { return text }
    return text.unicodeScalars.map { scalar in
      byte(scalar).map { #"\x"# + String($0, radix: 16) } ?? String(scalar)
    }.joined()
  }

  private static func byte(_ scalar: Unicode.Scalar) -> UInt8? {
    scalar.value >= first + 0x80 && scalar.value <= first + 0xff ? UInt8(scalar.value - first) : nil
  }
}
