package import VitFormats
internal import VitIR
internal import VitPasses

extension CheckpointFile: CheckpointStore {}

/// What a part of a compile will hold, in memory until all of it is there.
final class GatheredPart: CheckpointStore {
  /// What was kept, in order.
  private(set) var entries: [(key: String, bytes: [UInt8])] = []

  /// Nothing: it is written once.
  func load<Result>(_ key: String, _ body: (inout StateReader) throws -> Result) throws -> Result? { nil }

  /// Keeps bytes.
  func save(
    _ byteCount: Int, _ key: String, _ body: (_ write: (UnsafeRawBufferPointer) throws -> Void) throws -> Void
  ) throws {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(byteCount)
    try body { bytes += $0 }
    entries.append((key, bytes))
  }
}
