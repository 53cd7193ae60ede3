internal import Glibc
internal import VitFormats
internal import VitIR
internal import VitPasses

/// The state of a compile in one file, so that it can go on after an interruption.
///
/// A header names the compile by a digest of teacher, data, pipeline and seed; a file of another compile is refused. A digest
/// at the end tells damage. Each save writes the file anew, whole or not at all.
final class Checkpoint: CheckpointStore {
  private let path: String
  private let identity: Digest
  private var entries: [(key: String, range: Range<Int>)] = []

  private static let magic = Array("VITCKPT2".utf8)
  private static let maximumEntries: UInt64 = 64

  /// Opens the file at `path`, taking up what is in it where `resuming`; throws where that belongs to another compile.
  init(path: String, identity: Digest, resuming: Bool) throws {
    self.path = path
    self.identity = identity
    guard resuming else { return }
    do { try read(try MappedFile(path: path)) } catch let error as VitError {
      throw error.at(Location(file: path))
    }
  }

  private func read(_ file: MappedFile) throws {
    try file.withBytes { bytes in
      var reader = ByteReader(bytes)
      guard try reader.bytes(Checkpoint.magic.count, "the signature").elementsEqual(Checkpoint.magic) else {
        throw VitError("this is no checkpoint of this version of vitc", code: "checkpoint")
      }
      guard try reader.bytes(Digest.byteCount, "the digest").elementsEqual(identity.bytes) else {
        throw VitError(
          "the checkpoint belongs to another compile: teacher, data, pipeline, seed, version or instruction set differ",
          code: "checkpoint",
          help: "compile without --resume, or with the options of the interrupted run")
      }
      guard reader.remaining >= Digest.byteCount else {
        throw VitError("the checkpoint is cut short", code: "checkpoint")
      }
      let end = bytes.count - Digest.byteCount
      var hash = SHA256()
      hash.update(UnsafeRawBufferPointer(rebasing: bytes[..<end]))
      guard hash.digest().bytes.elementsEqual(bytes[end...]) else {
        throw VitError(
          "the checkpoint does not match its digest: it is damaged", code: "checkpoint",
          help: "compile without --resume")
      }
      let count = try reader.littleEndian(UInt64.self, "the number of entries")
      guard count <= Checkpoint.maximumEntries else {
        throw VitError("the checkpoint claims \(count) entries", code: "checkpoint")
      }
      for _ in 0..<count {
        let key = try reader.text(Int(try reader.littleEndian(UInt16.self, "a key")), "a key")
        guard let size = Int(exactly: try reader.littleEndian(UInt64.self, "a size")) else {
          throw VitError("an entry of the checkpoint is too large", code: "checkpoint")
        }
        let start = reader.position
        try reader.skip(size, "an entry")
        entries.append((key, start..<reader.position))
      }
    }
  }

  /// What was kept under `key`.
  func load(_ key: String) throws -> [UInt8]? {
    guard let entry = entries.first(where: { $0.key == key }) else { return nil }
    return try MappedFile(path: path).read(entry.range)
  }

  /// Replaces what is kept under `key`.
  func save(
    _ byteCount: Int, _ key: String, _ body: (_ write: (UnsafeRawBufferPointer) throws -> Void) throws -> Void
  ) throws {
    let kept = entries.filter { $0.key != key }
    let old = kept.isEmpty ? nil : try MappedFile(path: path)
    var file = try AtomicFile(path: path)
    var hash = SHA256()
    var ranges: [(key: String, range: Range<Int>)] = []
    var head = Checkpoint.magic + identity.bytes + little(UInt64(kept.count + 1))
    for entry in kept {
      head += header(entry.key, entry.range.count)
      hash.update(head)
      try file.write(head)
      ranges.append((entry.key, file.count..<file.count + entry.range.count))
      try old?.withBytes(entry.range) {
        hash.update($0)
        try file.write($0)
      }
      head = []
    }
    head += header(key, byteCount)
    hash.update(head)
    try file.write(head)
    ranges.append((key, file.count..<file.count + byteCount))
    try body {
      hash.update($0)
      try file.write($0)
    }
    precondition(file.count == ranges[ranges.count - 1].range.upperBound)
    try file.write(hash.digest().bytes)
    try file.commit()
    entries = ranges
  }

  /// What stands before an entry of `count` bytes.
  private func header(_ key: String, _ count: Int) -> [UInt8] {
    little(UInt16(key.utf8.count)) + Array(key.utf8) + little(UInt64(count))
  }

  private func little<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
    withUnsafeBytes(of: number.littleEndian) { Array($0) }
  }

  /// Whether there is something to go on from.
  var isEmpty: Bool { entries.isEmpty }

  /// Removes the file.
  func remove() {
    guard !entries.isEmpty else { return }
    unlink(path)
    entries = []
  }
}
