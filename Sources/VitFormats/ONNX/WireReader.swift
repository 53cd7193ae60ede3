internal import VitIR

/// A cursor over one message of the protocol buffers' wire format, in bytes that may hold anything.
///
/// Every length is checked against the bytes that the enclosing message has left before anything is made of it, and
/// errors name the offset, the message and the field. It borrows the bytes and must not outlive them.
struct WireReader {
  /// How the value of a field is written.
  enum WireType: Int {
    case varint = 0
    case fixed64 = 1
    case bytes = 2
    case fixed32 = 5

    var words: String {
      switch self {
      case .varint: "varint"
      case .fixed64: "64 bits"
      case .bytes: "length-delimited"
      case .fixed32: "32 bits"
      }
    }
  }

  /// The bytes of the file.
  private let file: UnsafeRawBufferPointer
  /// The offset of the next byte.
  private(set) var position: Int
  /// The offset behind the message.
  private let end: Int
  /// The message's name, for errors.
  let message: StaticString
  /// How many messages may still be opened: what a file of empty messages would make of our memory.
  private let budget: MessageBudget
  /// The field that `next` has found.
  private(set) var field = 0
  private(set) var wireType = WireType.varint
  private var start = 0

  /// A cursor at the start of the outermost message.
  init(_ file: UnsafeRawBufferPointer, message: StaticString, budget: MessageBudget) {
    self.file = file
    self.message = message
    self.budget = budget
    position = 0
    end = file.count
  }

  private init(_ parent: WireReader, range: Range<Int>, message: StaticString) {
    file = parent.file
    budget = parent.budget
    self.message = message
    position = range.lowerBound
    end = range.upperBound
  }

  /// Moves on to the next field, whose number is then `field`; false at the end of the message.
  mutating func next() throws(VitError) -> Bool {
    guard position < end else { return false }
    start = position
    let tag = try varint("a tag")
    guard let number = Int(exactly: tag >> 3), number >= 1, number < 1 << 29 else {
      throw VitError(
        "offset \(start): \(message) has the impossible field number \(tag >> 3)", code: "bad-wire")
    }
    field = number
    guard let type = WireType(rawValue: Int(tag & 7)) else {
      let what = tag & 7 == 3 || tag & 7 == 4 ? "is a group, which ONNX has not" : "does not exist"
      throw VitError(
        "offset \(start): field \(number) of \(message) has the wire type \(tag & 7), which \(what)",
        code: "bad-wire")
    }
    wireType = type
    return true
  }

  /// Throws unless the field is written as `type`.
  private func expect(_ type: WireType, _ name: StaticString) throws(VitError) {
    guard wireType == type else {
      throw VitError(
        "offset \(start): \(message).\(name) has the wire type \(wireType.rawValue) (\(wireType.words)), "
          + "expected \(type.rawValue) (\(type.words))", code: "bad-wire")
    }
  }

  private mutating func varint(_ name: StaticString) throws(VitError) -> UInt64 {
    var value: UInt64 = 0
    for index in 0..<10 {
      guard position < end else {
        throw VitError(
          "truncated at offset \(position): \(message).\(name) ends in the middle of a varint",
          code: "truncated")
      }
      let byte = file[position]
      position += 1
      value |= UInt64(byte & 0x7f) << UInt64(7 * index)
      if byte < 0x80 { return value }
    }
    throw VitError(
      "offset \(position - 10): \(message).\(name) is a varint of more than ten bytes", code: "bad-wire")
  }

  private mutating func take(_ count: UInt64, _ name: StaticString) throws(VitError) -> Range<Int> {
    guard let count = Int(exactly: count), count <= end - position else {
      throw VitError(
        "truncated at offset \(position): \(message).\(name) has the length \(count), "
          + "but only \(end - position) bytes are left", code: "truncated")
    }
    defer { position += count }
    return position..<position + count
  }

  /// Moves past the field's value, whatever it is.
  mutating func skip() throws(VitError) {
    switch wireType {
    case .varint: _ = try varint("an unknown field")
    case .fixed64: _ = try take(8, "an unknown field")
    case .fixed32: _ = try take(4, "an unknown field")
    case .bytes: _ = try range("an unknown field")
    }
  }

  /// The field as a whole number.
  mutating func int(_ name: StaticString) throws(VitError) -> Int {
    try expect(.varint, name)
    return Int(truncatingIfNeeded: try varint(name))
  }

  /// The field as a 32-bit float.
  mutating func float(_ name: StaticString) throws(VitError) -> Float {
    try expect(.fixed32, name)
    let range = try take(4, name)
    return Float(bitPattern: file.loadUnaligned(fromByteOffset: range.lowerBound, as: UInt32.self))
  }

  /// Where the bytes of a length-delimited field are.
  mutating func range(_ name: StaticString) throws(VitError) -> Range<Int> {
    try expect(.bytes, name)
    return try take(try varint(name), name)
  }

  /// The bytes of a length-delimited field.
  mutating func bytes(_ name: StaticString) throws(VitError) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: file[try range(name)])
  }

  /// A cursor over the message that the field holds.
  mutating func message(_ name: StaticString, _ type: StaticString) throws(VitError) -> WireReader {
    let range = try range(name)
    try budget.spend()
    return WireReader(self, range: range, message: type)
  }

  /// Appends a repeated whole number: one, or a packed run of them; at most `limit` in all.
  mutating func ints(_ name: StaticString, into values: inout [Int], limit: Int) throws(VitError) {
    var rest = self
    if wireType == .bytes {
      rest = WireReader(self, range: try range(name), message: message)
    } else {
      try expect(.varint, name)
    }
    repeat {
      if wireType == .bytes, rest.position == rest.end { break }
      guard values.count < limit else {
        throw VitError("offset \(start): \(message).\(name) has more than \(limit) values", code: "too-many")
      }
      values.append(Int(truncatingIfNeeded: try rest.varint(name)))
    } while wireType == .bytes
    if wireType == .varint { position = rest.position }
  }

  /// Appends a repeated 32-bit float: one, or a packed run of them.
  mutating func floats(_ name: StaticString, into values: inout [Float]) throws(VitError) {
    guard wireType == .bytes else {
      values.append(try float(name))
      return
    }
    let range = try range(name)
    guard range.count % 4 == 0 else {
      throw VitError(
        "offset \(start): \(message).\(name) has \(range.count) bytes, expected a multiple of 4",
        code: "bad-wire")
    }
    for offset in stride(from: range.lowerBound, to: range.upperBound, by: 4) {
      values.append(Float(bitPattern: file.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    }
  }

  /// Where the values of a repeated scalar are: one, or a packed run, of elements that are written as `type`.
  mutating func scalars(_ name: StaticString, as type: WireType) throws(VitError) -> Range<Int> {
    if wireType == .bytes { return try range(name) }
    try expect(type, name)
    let first = position
    switch type {
    case .varint: _ = try varint(name)
    case .fixed64: _ = try take(8, name)
    case .fixed32, .bytes: _ = try take(4, name)
    }
    return first..<position
  }

  /// A cursor over a run of bare varints.
  func run(_ range: Range<Int>) -> WireReader { WireReader(self, range: range, message: message) }

  /// The next of a run of bare varints, or `nil` at its end.
  mutating func element(_ name: StaticString) throws(VitError) -> UInt64? {
    position < end ? try varint(name) : nil
  }

  /// The bytes of a range that this reader has given.
  subscript(range: Range<Int>) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: file[range]) }
}

/// How many messages a file may still hold.
final class MessageBudget {
  /// A million: ten times the largest graph that is worth compiling.
  static let limit = 1 << 20
  private var left = limit

  func spend() throws(VitError) {
    guard left > 0 else {
      throw VitError("the file has more than \(Self.limit) protobuf messages", code: "too-many")
    }
    left -= 1
  }
}
