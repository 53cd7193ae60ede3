internal import CVitFormats

/// Memory for the C structures of a message while it is packed; freed all at once.
final class PackArena {
  private var blocks: [UnsafeMutableRawPointer] = []

  deinit { for block in blocks { block.deallocate() } }

  /// Copies of `items` behind one another; `nil` where there are none.
  func list<T: BitwiseCopyable>(_ items: [T]) -> UnsafeMutablePointer<T>? {
    guard !items.isEmpty else { return nil }
    let block = UnsafeMutableRawPointer.allocate(
      byteCount: items.count * MemoryLayout<T>.stride, alignment: MemoryLayout<T>.alignment)
    blocks.append(block)
    let target = block.bindMemory(to: T.self, capacity: items.count)
    target.initialize(from: items, count: items.count)
    return target
  }

  /// Bytes as protobuf-c takes them.
  func bytes(_ bytes: [UInt8]) -> ProtobufCBinaryData {
    ProtobufCBinaryData(len: bytes.count, data: list(bytes))
  }

  /// A text as protobuf-c takes it.
  func bytes(_ text: String) -> ProtobufCBinaryData { bytes(Array(text.utf8)) }

  /// Copies of messages, as an array of pointers to them.
  func messages<T: BitwiseCopyable>(_ items: [T]) -> UnsafeMutablePointer<UnsafeMutablePointer<T>?>? {
    guard let first = list(items) else { return nil }
    return list(items.indices.map { Optional(first + $0) })
  }
}
