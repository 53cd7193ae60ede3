internal import VitIR

/// What a pickle holds: numbers, text, lists, dictionaries, and arrays of NumPy. Nothing in it is executed.
///
/// A value has a number; what lies in the file as it is stays a range of it.
struct Pickle {
  /// All values, in the order in which they were met.
  let values: [PickleValue]
  /// The number of the one that is the pickle's.
  let root: Int
  private let bytes: [UInt8]

  /// The bytes that a file may have.
  static let maximumBytes = 1 << 30

  /// Reads a pickle of the protocols 0 to 5. Throws for what is malformed, for any name but the five that arrays of NumPy and
  /// bytes need, and for more values than 2²¹.
  init(_ bytes: [UInt8]) throws(VitError) {
    let result = Result { () throws(VitError) in
      try bytes.withUnsafeBytesOf { buffer throws(VitError) in
        var machine = PickleMachine(buffer)
        let root = try machine.run()
        return (machine.values, root)
      }
    }
    (values, root) = try result.get()
    self.bytes = bytes
  }

  /// Whether `bytes`, the first of a file, can be the start of a pickle that holds a dictionary.
  static func isHeader(_ bytes: [UInt8]) -> Bool {
    guard bytes.count >= 2 else { return false }
    if bytes[0] == 0x80 { return (2...5).contains(bytes[1]) }
    return bytes.starts(with: Array("(dp".utf8)) || bytes.starts(with: Array("}q".utf8))
  }

  /// The value of that number.
  subscript(index: Int) -> PickleValue { values.indices.contains(index) ? values[index] : .none }

  /// The value under a key of the dictionary that the pickle is; `nil` where there is none. Throws where it is no dictionary.
  func member(_ key: String) throws(VitError) -> PickleValue? {
    guard case .dictionary(let members) = self[root] else {
      throw VitError("expected a dictionary, found \(self[root].kind)", code: "pickle-value")
    }
    // Of a key that is there twice Python keeps the last.
    for member in members.reversed() {
      // A form with escapes takes four bytes for one at the most.
      if case .text(_, let range) = self[member.key], range.count <= 4 * key.utf8.count,
        try text(self[member.key]) == Array(key.utf8)
      {
        return self[member.value]
      }
    }
    return nil
  }

  /// The keys of the dictionary that are text, for messages.
  func keys() -> String {
    guard case .dictionary(let members) = self[root] else { return "none" }
    let names = members.prefix(8).compactMap { member -> String? in
      (try? text(self[member.key])).map { "'\(FileName.text(of: $0.prefix(40)))'" }
    }
    return names.isEmpty ? "none" : names.joined(separator: ", ")
  }

  /// The bytes of a text.
  func text(_ value: PickleValue) throws(VitError) -> [UInt8] {
    guard case .text(let coding, let range) = value else {
      throw VitError("expected text, found \(value.kind)", code: "pickle-value")
    }
    switch coding {
    case .raw: return Array(bytes[range])
    case .escaped: return try PickleText.unescaped(bytes[range])
    case .latin: return try PickleText.latin(bytes[range])
    }
  }

  /// Where the bytes of a text lie in the file as they are; `nil` where they are written in another form.
  func range(_ value: PickleValue) -> Range<Int>? {
    guard case .text(.raw, let range) = value else { return nil }
    return range
  }

  /// The elements of a list or tuple.
  func elements(_ value: PickleValue, _ what: String) throws(VitError) -> [PickleValue] {
    switch value {
    case .list(let elements), .tuple(let elements): return elements.map { self[$0] }
    default:
      throw VitError("expected a list of \(what), found \(value.kind)", code: "pickle-value")
    }
  }

  /// The numbers in a list or tuple.
  func integers(_ value: PickleValue, _ what: String) throws(VitError) -> [Int] {
    var numbers: [Int] = []
    for (place, element) in try elements(value, what).enumerated() {
      guard case .int(let number) = element else {
        throw VitError(
          "expected \(what), whole numbers, found \(element.kind) at place \(place)", code: "pickle-value")
      }
      numbers.append(number)
    }
    return numbers
  }
}

/// The forms in which pickles write bytes as text.
enum PickleText {
  /// The bytes of a literal of Python 2, its quotes left out.
  static func unescaped(_ text: ArraySlice<UInt8>) throws(VitError) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    var place = text.startIndex
    func failure(_ at: Int) -> VitError {
      VitError("offset \(at): expected an escape of Python's, found none", code: "pickle-text")
    }
    while place < text.endIndex {
      guard text[place] == UInt8(ascii: "\\") else {
        result.append(text[place])
        place += 1
        continue
      }
      guard place + 1 < text.endIndex else { throw failure(place) }
      if let byte = simple[text[place + 1]] {
        result.append(byte)
        place += 2
      } else if text[place + 1] == UInt8(ascii: "x") {
        guard place + 3 < text.endIndex, let high = digit(text[place + 2]), let low = digit(text[place + 3])
        else { throw failure(place) }
        result.append(high << 4 | low)
        place += 4
      } else {
        throw failure(place)
      }
    }
    return result
  }

  /// Escapes of one letter.
  private static let simple: [UInt8: UInt8] = [
    0x5c: 0x5c, 0x27: 0x27, 0x22: 0x22, 0x6e: 10, 0x72: 13, 0x74: 9, 0x61: 7, 0x62: 8, 0x66: 12, 0x76: 11,
    0x30: 0,
  ]

  private static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x61...0x66: byte - 0x61 + 10
    case 0x41...0x46: byte - 0x41 + 10
    default: nil
    }
  }

  /// The bytes that the characters of UTF-8 stand for, each below 256.
  static func latin(_ text: ArraySlice<UInt8>) throws(VitError) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    var place = text.startIndex
    while place < text.endIndex {
      let byte = text[place]
      if byte < 0x80 {
        result.append(byte)
        place += 1
        continue
      }
      guard byte == 0xc2 || byte == 0xc3, place + 1 < text.endIndex, text[place + 1] & 0xc0 == 0x80 else {
        throw VitError(
          "offset \(place): expected a character below 256 in UTF-8, found the byte \(byte)",
          code: "pickle-text")
      }
      result.append((byte & 3) << 6 | text[place + 1] & 0x3f)
      place += 2
    }
    return result
  }
}

extension [UInt8] {
  /// `withUnsafeBytes` that throws what `body` throws.
  fileprivate func withUnsafeBytesOf<Value>(
    _ body: (UnsafeRawBufferPointer) throws(VitError) -> Value
  ) throws(VitError) -> Value {
    let result = withUnsafeBytes { buffer in
      Result { () throws(VitError) in try body(buffer) }
    }
    return try result.get()
  }
}
