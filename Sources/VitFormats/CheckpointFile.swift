internal import Glibc
package import VitIR

/// The state of a compile in one file, so that it can go on after an interruption.
///
/// A header names the compile by its identity, a digest of teacher, data, pipeline and seed; a file of another compile is
/// refused. A digest at the end tells damage. Each save writes the file anew, whole or not at all, and streams what it keeps:
/// no state is ever in memory twice. The file is there from the beginning, empty, so that whatever ends the process leaves it
/// behind until `remove()`.
///
/// The file is locked while the compile lives. Another compile to the same output finds that out and keeps its state beside it,
/// under a name that ends in eight digits of its identity; resuming looks there, too.
package final class CheckpointFile {
  /// Where the state is kept.
  package private(set) var path: String
  private let alternative: String
  private let identity: Digest
  private let report: (Diagnostic) -> Void
  private var file: LockedFile?
  private var entries: [(key: String, range: Range<Int>)] = []
  private var hasWarned = false
  /// Whether it is a part of a compile, which another step wrote.
  private let isPart: Bool

  private static let magic = Array("VITCKPT4".utf8)
  /// The most entries of a file.
  static let maximumEntries = 64

  /// Opens the file at `path`, taking up what is in it where `resuming`; throws where there is none, or one of another compile.
  ///
  /// What cannot be written is no error: `report` gets one warning with the reason.
  package init(path: String, identity: Digest, resuming: Bool, report: @escaping (Diagnostic) -> Void) throws
  {
    self.path = path
    self.identity = identity
    self.report = report
    isPart = false
    alternative = "\(path)-\(identity.description.prefix(8))"
    if resuming {
      try resume()
    } else if !CheckpointFile.exists(path) {
      try write(keeping: [], 0, nil) { _ in }
    } else if let old = try? LockedFile(path: path), old.isOurs, (try? belongs(old)) == true {
      report(
        Diagnostic(
          .note, "an interrupted compile like this one left what it had trained, which is not used",
          code: "checkpoint-unused", location: Location(file: path), help: "--resume goes on from there"))
    }
  }

  /// Opens a part that an earlier step wrote; throws where it is none of this compile.
  package init(part path: String, identity: Digest) throws {
    (self.path, alternative, self.identity, report, isPart) = (path, path, identity, { _ in }, true)
    do {
      guard let found = try LockedFile(path: path) else {
        throw VitError("there is no such part", kind: .usage, code: "no-part", help: CheckpointFile.partHelp)
      }
      try read(found)
      file = found
    } catch let error as VitError {
      var failure = error.at(Location(file: path))
      failure.diagnostic.help = CheckpointFile.partHelp
      throw failure
    }
  }

  private static let partHelp = "'vitc compile --part' writes it, with the same teacher, data and options"

  /// Writes a part with these entries to `path`; throws where it cannot be written, which leaves what was there.
  package static func write(_ entries: [(key: String, bytes: [UInt8])], to path: String, identity: Digest)
    throws
  {
    var target = DigestedFile(file: try AtomicFile(path: path))
    try target.begin(magic, identity, entries: entries.count)
    for (key, bytes) in entries {
      try target.begin(key, bytes.count)
      try bytes.withUnsafeBytes { try target.put($0) }
    }
    try target.file.write(target.hash.digest().bytes)
    try target.commit()
  }

  /// Whether a compile that was told to keep its state at `path` may have left some: there, or beside it.
  package static func exists(_ path: String) -> Bool {
    if FileName.withBytes(of: path, { access($0, F_OK) }) == 0 { return true }
    var found = glob_t()
    defer { globfree(&found) }
    let pattern = path.reduce(into: "") { $0 += "*?[]\\".contains($1) ? "\\\($1)" : "\($1)" }
    return FileName.withBytes(of: pattern + "-????????") { glob($0, 0, nil, &found) } == 0
  }

  /// The error of resuming where nothing was left at `path`.
  package static func missing(_ path: String) -> VitError {
    VitError(
      "there is no checkpoint to go on from", kind: .usage, code: "no-checkpoint",
      location: Location(file: path), help: "compile without --resume")
  }

  /// Whether there is nothing to go on from.
  package var isEmpty: Bool { entries.isEmpty }

  // MARK: Reading

  private func resume() throws {
    var failure: VitError?
    for candidate in [path, alternative] {
      do {
        guard let found = try LockedFile(path: candidate) else { continue }
        try read(found)
        (path, file) = (candidate, found)
        return
      } catch let error as VitError { failure = failure ?? error.at(Location(file: candidate)) }
    }
    throw failure ?? CheckpointFile.missing(path)
  }

  /// Whether a file is a checkpoint of this compile; throws where it is none of this version.
  private func belongs(_ file: LockedFile) throws -> Bool {
    let head = try bytes(CheckpointFile.magic.count + Digest.byteCount, of: file, at: 0)
    guard head.starts(with: CheckpointFile.magic) else {
      throw CheckpointFile.damaged("this is no checkpoint of this version of vitc")
    }
    return head.dropFirst(CheckpointFile.magic.count).elementsEqual(identity.bytes)
  }

  private func read(_ file: LockedFile) throws {
    guard try belongs(file) else {
      throw VitError(
        "\(isPart ? "the part" : "the checkpoint") belongs to another compile: teacher, data, pipeline, seed, version or instruction set differ",
        code: "checkpoint", help: "compile without --resume, or with the options of the interrupted run")
    }
    let start = CheckpointFile.magic.count + Digest.byteCount
    let end = file.count - Digest.byteCount
    guard end >= start + 8 else { throw CheckpointFile.damaged("the checkpoint is cut short") }
    var hash = SHA256()
    try file.forEachPiece(of: 0..<end) { hash.update($0) }
    guard hash.digest().bytes == (try bytes(Digest.byteCount, of: file, at: end)) else {
      throw CheckpointFile.damaged("the checkpoint does not match its digest: it is damaged")
    }
    var reader = StateReader(count: end - start) { target, offset throws(VitError) in
      try file.read(into: target, at: start + offset)
    }
    let count = try reader.integer(in: 0...CheckpointFile.maximumEntries, "the number of entries")
    for _ in 0..<count {
      var key = [UInt8](
        repeating: 0, count: try reader.integer(in: 0...Int(UInt16.max), "the length of a key"))
      try key.withUnsafeMutableBytes { try reader.read(into: $0) }
      guard let name = String(validating: key, as: UTF8.self) else {
        throw CheckpointFile.damaged("a key of the checkpoint is no UTF-8")
      }
      let size = try reader.integer(in: 0...Int.max, "the size of an entry")
      _ = try reader.part(size)
      let upper = end - reader.remaining
      entries.append((name, upper - size..<upper))
    }
    try reader.finish()
  }

  private func bytes(_ count: Int, of file: LockedFile, at offset: Int) throws(VitError) -> [UInt8] {
    guard file.count >= offset + count else {
      throw CheckpointFile.damaged("this is no checkpoint of this version of vitc")
    }
    var result = [UInt8](repeating: 0, count: count)
    var failure: VitError?
    result.withUnsafeMutableBytes { target in
      do throws(VitError) { try file.read(into: target, at: offset) } catch { failure = error }
    }
    if let failure { throw failure }
    return result
  }

  private static func damaged(_ message: String) -> VitError {
    VitError(message, code: "checkpoint", help: "compile without --resume")
  }

  /// Hands what was kept under `key` to `body`, which must read all of it; `nil` where there is nothing.
  package func load<Result>(_ key: String, _ body: (inout StateReader) throws -> Result) throws -> Result? {
    guard let file, let range = entries.first(where: { $0.key == key })?.range else { return nil }
    do {
      var reader = StateReader(count: range.count) { target, offset throws(VitError) in
        try file.read(into: target, at: range.lowerBound + offset)
      }
      let result = try body(&reader)
      try reader.finish()
      return result
    } catch let error as VitError { throw error.at(Location(file: path)) }
  }

  // MARK: Writing

  /// Replaces what is kept under `key` by the `byteCount` bytes that `body` writes.
  package func save(
    _ byteCount: Int, _ key: String, _ body: (_ write: (UnsafeRawBufferPointer) throws -> Void) throws -> Void
  ) throws {
    try write(keeping: entries.filter { $0.key != key }, byteCount, key, body)
  }

  /// Writes the file anew; warns, once, where that fails, and leaves the last one then.
  private func write(
    keeping kept: [(key: String, range: Range<Int>)], _ byteCount: Int, _ key: String?,
    _ body: (_ write: (UnsafeRawBufferPointer) throws -> Void) throws -> Void
  ) throws {
    do {
      try replace(keeping: kept, byteCount, key, body)
    } catch let error as VitError where error.kind == .environment {
      guard !hasWarned else { return }
      hasWarned = true
      report(
        Diagnostic(
          .warning, "the checkpoint \(error.diagnostic.message); the compile goes on without",
          code: "checkpoint-unwritten", location: Location(file: path),
          help: "an interruption loses what was trained since the last one that was written"))
    }
  }

  private func replace(
    keeping kept: [(key: String, range: Range<Int>)], _ byteCount: Int, _ key: String?,
    _ body: (_ write: (UnsafeRawBufferPointer) throws -> Void) throws -> Void
  ) throws {
    let count = kept.count + (key == nil ? 0 : 1)
    guard count <= CheckpointFile.maximumEntries else {
      throw VitError(
        "would have more than \(CheckpointFile.maximumEntries) entries", kind: .environment,
        code: "checkpoint")
    }
    giveWay()
    var target = DigestedFile(file: try AtomicFile(path: path))
    var ranges: [(key: String, range: Range<Int>)] = []
    func begin(_ key: String, _ size: Int, _ target: inout DigestedFile) throws {
      try target.begin(key, size)
      ranges.append((key, target.file.count..<target.file.count + size))
    }
    try target.begin(CheckpointFile.magic, identity, entries: count)
    for entry in kept {
      try begin(entry.key, entry.range.count, &target)
      try file?.forEachPiece(of: entry.range) { try target.put($0) }
    }
    if let key {
      try begin(key, byteCount, &target)
      try body { try target.put($0) }
    }
    let end = target.file.count
    precondition(ranges.last.map { $0.range.upperBound == end } ?? true)
    try target.file.write(target.hash.digest().bytes)
    // Locked before it has its name, so that nobody finds it free.
    let written = try LockedFile(path: path, taking: try target.file.duplicate())
    try target.commit()
    (file, entries) = (written, ranges)
  }

  /// Takes the other name where another compile that is alive has this one.
  private func giveWay() {
    if let file, file.isOurs, file.isInPlace { return }
    guard path != alternative, let other = try? LockedFile(path: path), !other.isOurs else { return }
    path = alternative
  }

  /// Removes the file, unless another compile has put its own in its place.
  package func remove() {
    if let file, file.isOurs, file.isInPlace { _ = FileName.withBytes(of: file.path) { unlink($0) } }
    file = nil
    entries = []
  }
}

/// A file whose digest is taken while it is written.
private struct DigestedFile: ~Copyable {
  var file: AtomicFile
  var hash = SHA256()

  init(file: consuming AtomicFile) { self.file = file }

  mutating func put(_ bytes: UnsafeRawBufferPointer) throws {
    hash.update(bytes)
    try file.write(bytes)
  }

  mutating func put(_ bytes: [UInt8]) throws { try bytes.withUnsafeBytes { try put($0) } }

  /// The head of a file, before so many entries.
  mutating func begin(_ magic: [UInt8], _ identity: Digest, entries: Int) throws {
    try put(magic + identity.bytes + number(entries))
  }

  /// What stands before the `size` bytes of an entry.
  mutating func begin(_ key: String, _ size: Int) throws {
    try put(number(key.utf8.count) + Array(key.utf8) + number(size))
  }

  private func number(_ value: Int) -> [UInt8] {
    withUnsafeBytes(of: Int64(value).littleEndian) { Array($0) }
  }

  consuming func commit() throws { try file.commit() }
}
