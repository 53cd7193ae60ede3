internal import VitIR

/// Writes the wire format of protocol buffers: fields one behind the other, of which tensors are left where they lie until the
/// bytes are asked for.
struct WireWriter {
  /// A stretch of the message.
  private enum Piece {
    case bytes([UInt8])
    /// A tensor's elements in a type.
    case tensor(Tensor, ElementType)
  }

  private var pieces: [Piece] = []
  private var open: [UInt8] = []
  /// How many bytes the message has.
  private(set) var count = 0

  private mutating func append(_ bytes: some Collection<UInt8>) {
    open.append(contentsOf: bytes)
    count += bytes.count
  }

  private mutating func varint(_ value: UInt64) {
    var (rest, bytes) = (value, [UInt8]())
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
    append(bytes)
  }

  private mutating func key(_ field: Int, wire: UInt64) { varint(UInt64(field) << 3 | wire) }

  /// A whole number.
  mutating func int(_ field: Int, _ value: Int) {
    key(field, wire: 0)
    varint(UInt64(bitPattern: Int64(value)))
  }

  /// A number in single precision.
  mutating func float(_ field: Int, _ value: Float) {
    key(field, wire: 5)
    append((0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> UInt32(8 * $0)) })
  }

  /// A text.
  mutating func text(_ field: Int, _ value: String) {
    let bytes = Array(value.utf8)
    key(field, wire: 2)
    varint(UInt64(bytes.count))
    append(bytes)
  }

  /// A message within.
  mutating func message(_ field: Int, _ body: (inout WireWriter) throws(VitError) -> Void) throws(VitError) {
    var inner = WireWriter()
    try body(&inner)
    key(field, wire: 2)
    varint(UInt64(inner.count))
    inner.close()
    close()
    pieces += inner.pieces
    count += inner.count
  }

  /// The elements of a tensor, in a type, as bytes.
  mutating func elements(_ field: Int, _ tensor: Tensor, as element: ElementType) {
    let bytes = tensor.count * element.size
    key(field, wire: 2)
    varint(UInt64(bytes))
    close()
    pieces.append(.tensor(tensor, element))
    count += bytes
  }

  private mutating func close() {
    if !open.isEmpty { pieces.append(.bytes(open)) }
    open = []
  }

  /// Appends the message to a file. Throws where a tensor's source is damaged, or the file cannot be written.
  func write(to file: inout AtomicFile) throws {
    for piece in pieces {
      switch piece {
      case .bytes(let bytes): try file.write(bytes)
      case .tensor(let tensor, let element): try file.write(tensor, as: element)
      }
    }
    try file.write(open)
  }
}

extension AtomicFile {
  /// The most bytes of a tensor that are held in another type at once.
  private static let stretch = 16 << 20

  /// Appends the elements of a tensor in a type. Throws where its source is damaged, or the file cannot be written.
  mutating func write(_ tensor: Tensor, as element: ElementType) throws {
    let tensor = tensor.dequantised
    var failure: (any Error)?
    var copy = [UInt8]()
    let most = max(1, AtomicFile.stretch / element.size)
    // The file is lent to no closure: what is to be written is handed out in stretches.
    var first = 0
    repeat {
      let count = min(most, tensor.count - first)
      copy = try tensor.storage.withBytes { bytes in
        [UInt8](unsafeUninitializedCapacity: max(1, count * element.size)) { target, initialized in
          if count > 0, let from = bytes.baseAddress, let to = target.baseAddress {
            Conversion.copy(
              count, from: from + first * tensor.element.size, tensor.element,
              to: UnsafeMutableRawPointer(to),
              element)
          }
          initialized = count * element.size
        }
      }
      do { try write(copy) } catch { failure = error }
      first += count
    } while first < tensor.count && failure == nil
    if let failure { throw failure }
  }
}
