/// Reads a saved state in order, each part straight into the memory of who asks for it.
///
/// Knows how many bytes there are, so that nothing read can reach beyond them. Every failure is an `.input` error of the code
/// `checkpoint`.
public struct StateReader {
  /// How many bytes have not been read.
  public private(set) var remaining: Int
  private var offset: Int
  private let fill: (UnsafeMutableRawBufferPointer, Int) throws(VitError) -> Void

  /// A reader of `count` bytes, of which `fill` writes as many as its buffer takes, from an offset on.
  public init(
    count: Int,
    fill: @escaping (_ target: UnsafeMutableRawBufferPointer, _ offset: Int) throws(VitError) -> Void
  ) {
    self.init(remaining: count, offset: 0, fill: fill)
  }

  /// A reader of bytes in memory.
  public init(_ bytes: [UInt8]) {
    self.init(count: bytes.count) { target, offset throws(VitError) in
      bytes.withUnsafeBytes {
        target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + target.count]))
      }
    }
  }

  private init(
    remaining: Int, offset: Int, fill: @escaping (UnsafeMutableRawBufferPointer, Int) throws(VitError) -> Void
  ) {
    self.remaining = remaining
    self.offset = offset
    self.fill = fill
  }

  /// Fills `target` with the bytes that follow; throws where there are fewer.
  public mutating func read(into target: UnsafeMutableRawBufferPointer) throws(VitError) {
    try take(target.count)
    if target.count > 0 { try fill(target, offset - target.count) }
  }

  /// A whole number of eight bytes; throws where it is none of `range`.
  public mutating func integer(in range: ClosedRange<Int>, _ what: String) throws(VitError) -> Int {
    let value = Int(truncatingIfNeeded: Int64(bitPattern: try word()))
    guard range.contains(value) else {
      throw StateReader.failure(
        "the checkpoint says \(value) for \(what), expected \(range.lowerBound)…\(range.upperBound)")
    }
    return value
  }

  /// A number of double precision; throws where it is not finite.
  public mutating func number(_ what: String) throws(VitError) -> Double {
    let value = Double(bitPattern: try word())
    guard value.isFinite else { throw StateReader.failure("the checkpoint says \(value) for \(what)") }
    return value
  }

  /// A truth value of one byte, 0 or 1.
  public mutating func flag(_ what: String) throws(VitError) -> Bool {
    var byte: UInt8 = 0
    try read(&byte)
    guard byte <= 1 else { throw StateReader.failure("the checkpoint says \(byte) for \(what)") }
    return byte == 1
  }

  /// A reader of the next `count` bytes alone, which this one passes over; throws where there are fewer.
  public mutating func part(_ count: Int) throws(VitError) -> StateReader {
    try take(count)
    return StateReader(remaining: count, offset: offset - count, fill: fill)
  }

  /// Throws unless everything has been read.
  public func finish() throws(VitError) {
    guard remaining == 0 else {
      throw StateReader.failure("the checkpoint has \(remaining) bytes more than expected")
    }
  }

  /// Eight bytes as they are.
  public mutating func bits() throws(VitError) -> UInt64 { try word() }

  private mutating func word() throws(VitError) -> UInt64 {
    var bits: UInt64 = 0
    try read(&bits)
    return UInt64(littleEndian: bits)
  }

  private mutating func read<Value: BitwiseCopyable>(_ value: inout Value) throws(VitError) {
    var failure: VitError?
    withUnsafeMutableBytes(of: &value) { target in
      do throws(VitError) { try read(into: target) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  private mutating func take(_ count: Int) throws(VitError) {
    guard count >= 0, count <= remaining else {
      throw StateReader.failure("the checkpoint ends early: expected \(count) bytes more, found \(remaining)")
    }
    remaining -= count
    offset += count
  }

  package static func failure(_ message: String) -> VitError {
    VitError(message, code: "checkpoint", help: "compile without --resume")
  }
}
