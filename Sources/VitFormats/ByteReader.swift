public import VitIR

/// A cursor over bytes that may hold anything: every read is checked and throws with the offset.
///
/// It borrows the bytes and must not outlive them.
public struct ByteReader {
  /// What is read, the read part included.
  public let bytes: UnsafeRawBufferPointer
  /// The offset in the file of the first byte of `bytes`.
  public let origin: Int
  /// How many bytes have been read.
  public private(set) var consumed = 0

  /// A cursor at the start of `bytes`, which lie `origin` bytes into their file.
  public init(_ bytes: UnsafeRawBufferPointer, origin: Int = 0) {
    self.bytes = bytes
    self.origin = origin
  }

  /// The offset in the file of the next byte.
  public var position: Int { origin + consumed }

  /// How many bytes are left.
  public var remaining: Int { bytes.count - consumed }

  /// Whether no bytes are left.
  public var isAtEnd: Bool { remaining == 0 }

  /// The next `count` bytes, without a copy; `what` names them in the error.
  public mutating func bytes(
    _ count: Int, _ what: @autoclosure () -> String = "bytes"
  ) throws(VitError) -> UnsafeRawBufferPointer {
    guard count >= 0, count <= remaining else {
      throw VitError(
        "offset \(position): expected \(count) bytes of \(what()), found \(remaining)", code: "truncated")
    }
    let start = consumed
    consumed += count
    return UnsafeRawBufferPointer(rebasing: bytes[start..<consumed])
  }

  /// A cursor over the next `count` bytes, which this one skips.
  public mutating func reader(
    _ count: Int, _ what: @autoclosure () -> String = "bytes"
  ) throws(VitError) -> ByteReader {
    let origin = position
    return ByteReader(try bytes(count, what()), origin: origin)
  }

  /// Moves past `count` bytes.
  public mutating func skip(
    _ count: Int, _ what: @autoclosure () -> String = "bytes"
  ) throws(VitError) { _ = try bytes(count, what()) }

  /// The next byte.
  public mutating func byte(_ what: @autoclosure () -> String = "data") throws(VitError) -> UInt8 {
    try bytes(1, what())[0]
  }

  /// The next whole number, least significant byte first.
  public mutating func littleEndian<Number: FixedWidthInteger>(
    _ type: Number.Type = Number.self, _ what: @autoclosure () -> String = "a number"
  ) throws(VitError) -> Number {
    Number(
      littleEndian: try bytes(MemoryLayout<Number>.size, what()).loadUnaligned(as: Number.self))
  }

  /// The next whole number, most significant byte first.
  public mutating func bigEndian<Number: FixedWidthInteger>(
    _ type: Number.Type = Number.self, _ what: @autoclosure () -> String = "a number"
  ) throws(VitError) -> Number {
    Number(bigEndian: try bytes(MemoryLayout<Number>.size, what()).loadUnaligned(as: Number.self))
  }

  /// The next base-128 number of protocol buffers: seven bits a byte, the lowest first, at most ten bytes.
  ///
  /// Longer encodings and bits beyond the 64th are errors.
  public mutating func varint(_ what: @autoclosure () -> String = "a number") throws(VitError) -> UInt64 {
    let start = position
    var value: UInt64 = 0
    for index in 0..<10 {
      let next = try byte(what())
      if index == 9, next > 1 {
        throw VitError("offset \(start): \(what()) does not fit 64 bits", code: "bad-varint")
      }
      value |= UInt64(next & 0x7f) << UInt64(7 * index)
      if next < 0x80 { return value }
    }
    throw VitError("offset \(start): \(what()) takes more than ten bytes", code: "bad-varint")
  }

  /// The next `count` bytes as UTF-8 text.
  public mutating func text(
    _ count: Int, _ what: @autoclosure () -> String = "text"
  ) throws(VitError) -> String {
    let start = position
    guard let text = String(validating: try bytes(count, what()), as: UTF8.self) else {
      throw VitError("offset \(start): \(what()) is no UTF-8", code: "bad-text")
    }
    return text
  }
}
