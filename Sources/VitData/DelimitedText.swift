internal import VitIR

/// The records of a text of fields between commas or tabs, one by one (RFC 4180): a field may stand in quotes, in which quotes are
/// doubled and lines may end. Lines end with LF or CR LF; empty ones are skipped. Blanks around a field without quotes are none of it.
struct DelimitedText {
  private let bytes: [UInt8]
  private let separator: UInt8
  private var place = 0
  private var line = 1

  /// The most fields of a record.
  private static let mostFields = 4096
  private static let quote = UInt8(ascii: "\"")
  private static let lineFeed: UInt8 = 10
  private static let carriageReturn: UInt8 = 13

  /// A text whose fields `separator` stands between; a byte order mark is no part of it. Throws where it is UTF-16.
  init(_ bytes: [UInt8], separator: UInt8) throws(VitError) {
    if bytes.starts(with: [0xff, 0xfe]) || bytes.starts(with: [0xfe, 0xff]) {
      throw VitError("expected a text in UTF-8, found UTF-16", code: "list", location: Location(line: 1))
    }
    self.bytes = bytes
    self.separator = separator
    if bytes.starts(with: [0xef, 0xbb, 0xbf]) { place = 3 }
  }

  /// The next record that is not empty, and the line on which it begins; `nil` at the end.
  mutating func next() throws(VitError) -> (line: Int, fields: [ArraySlice<UInt8>])? {
    while true {
      while place < bytes.count, endLine() {}
      guard place < bytes.count else { return nil }
      let start = line
      let fields = try record()
      // A line of blanks is empty, too.
      if fields.count > 1 || !fields[0].isEmpty { return (start, fields) }
    }
  }

  /// The fields up to the end of the line, at least one.
  private mutating func record() throws(VitError) -> [ArraySlice<UInt8>] {
    var fields: [ArraySlice<UInt8>] = []
    fields.reserveCapacity(2)
    while true {
      guard fields.count < DelimitedText.mostFields else {
        throw failure("expected at most \(DelimitedText.mostFields) fields in a line, found more")
      }
      fields.append(place < bytes.count && bytes[place] == DelimitedText.quote ? try quoted() : try plain())
      guard place < bytes.count, bytes[place] == separator else { break }
      place += 1
    }
    guard place == bytes.count || endLine() else {
      throw failure(
        "expected a separator or the end of the line behind a field in quotes, found '\(shown(bytes[place]))'"
      )
    }
    return fields
  }

  private func shown(_ byte: UInt8) -> String { FileName.text(of: [byte]) }

  private func failure(_ message: String, line: Int? = nil) -> VitError {
    VitError(message, code: "list", location: Location(line: line ?? self.line))
  }

  /// Moves past the end of a line; says whether there was one.
  private mutating func endLine() -> Bool {
    var next = place
    if bytes[next] == DelimitedText.carriageReturn { next += 1 }
    guard next < bytes.count ? bytes[next] == DelimitedText.lineFeed : next > place else { return false }
    place = min(next + 1, bytes.count)
    line += 1
    return true
  }

  private mutating func plain() throws(VitError) -> ArraySlice<UInt8> {
    let first = place
    while place < bytes.count, bytes[place] != separator, bytes[place] != DelimitedText.lineFeed {
      if bytes[place] == DelimitedText.carriageReturn {
        guard place + 1 == bytes.count || bytes[place + 1] == DelimitedText.lineFeed else {
          throw failure("expected a line break behind a carriage return, found none")
        }
        break
      }
      guard bytes[place] != DelimitedText.quote else {
        throw failure("expected quotes around a whole field, found one within", line: line)
      }
      place += 1
    }
    var field = bytes[first..<place]
    while let byte = field.first, byte == 0x20 || byte == 9 { field.removeFirst() }
    while let byte = field.last, byte == 0x20 || byte == 9 { field.removeLast() }
    return field
  }

  private mutating func quoted() throws(VitError) -> ArraySlice<UInt8> {
    let start = line
    place += 1
    let first = place
    var unquoted: [UInt8]?
    while place < bytes.count {
      let byte = bytes[place]
      if byte == DelimitedText.quote {
        guard place + 1 < bytes.count, bytes[place + 1] == DelimitedText.quote else {
          let field = unquoted.map { $0[...] } ?? bytes[first..<place]
          place += 1
          return field
        }
        if unquoted == nil { unquoted = Array(bytes[first..<place]) }
        place += 1
      } else if byte == DelimitedText.lineFeed {
        line += 1
      }
      unquoted?.append(byte)
      place += 1
    }
    throw failure("expected a closing quote, found the end of the file", line: start)
  }
}
