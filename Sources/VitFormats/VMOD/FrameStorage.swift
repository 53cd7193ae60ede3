internal import CVitFormats
internal import Synchronization
internal import VitIR

/// The bytes of a tensor in a frame of a file: read, checked and decompressed when they are asked for.
///
/// While somebody holds them others share them; then they are let go. Any number of threads may ask at once.
final class FrameStorage: TensorStorage {
  let byteCount: Int
  /// The digest that the manifest promises.
  let digest: [UInt8]
  private let file: MappedFile
  private let offset: Int
  private let frame: FrameRecord
  private let elementSize: Int
  private let name: String
  private let cache = Mutex(Cache())

  private struct Cache: Sendable {
    weak var memory: MemoryStorage?
  }

  /// The storage of a tensor of `byteCount` bytes, which `record` names; the frame begins at `offset`, inside
  /// the file.
  init(
    file: MappedFile, offset: Int, frame: FrameRecord, record: TensorRecord, element: ElementType,
    byteCount: Int
  ) {
    self.file = file
    self.offset = offset
    self.frame = frame
    self.byteCount = byteCount
    digest = record.digest
    elementSize = element.size
    name = record.name
  }

  /// Lends the bytes; throws where the frame is damaged.
  func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
    let memory = try cache.withLock { cache in
      if let memory = cache.memory { return memory }
      let memory = try load()
      cache.memory = memory
      return memory
    }
    return try memory.withBytes(body)
  }

  private func load() throws -> MemoryStorage {
    let bytes = try file.read(offset..<offset + frame.size)
    guard checksum(bytes) == frame.checksum else { throw damaged("does not match its checksum") }
    return try MemoryStorage(byteCount: byteCount) { target in
      switch frame.encoding {
      case .plain: target.copyBytes(from: bytes)
      case .planes: try decompress(bytes, into: target)
      }
    }
  }

  private func decompress(_ bytes: [UInt8], into target: UnsafeMutableRawBufferPointer) throws {
    let size = bytes.withUnsafeBytes { ZSTD_getFrameContentSize($0.baseAddress, $0.count) }
    guard size == UInt64(byteCount) else {
      throw damaged("is in a frame of \(size) bytes, expected \(byteCount)")
    }
    let planes = [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, filled in
      let size = bytes.withUnsafeBytes {
        ZSTD_decompress(buffer.baseAddress, byteCount, $0.baseAddress, $0.count)
      }
      filled = ZSTD_isError(size) == 0 ? min(size, byteCount) : 0
    }
    guard planes.count == byteCount else { throw damaged("cannot be decompressed") }
    planes.withUnsafeBytes { join($0, into: target, elementSize: elementSize) }
  }

  /// Throws unless the bytes have the digest of the manifest.
  func verify() throws {
    let found = try withBytes { bytes in
      var hash = SHA256()
      hash.update(bytes)
      return hash.digest()
    }
    guard found.bytes == digest else { throw damaged("does not match its digest") }
  }

  private func damaged(_ what: String) -> VitError {
    VitError("the tensor '\(name)' \(what)", code: "bad-tensor", location: Location(file: file.path))
  }
}
