internal import Glibc
internal import VitIR

/// A file held open, and locked against other processes that would take it for their own.
final class LockedFile {
  /// The file as the user named it.
  let path: String
  /// How many bytes it has.
  let count: Int
  /// Whether nobody else held it first. A file system without locks says so of every file.
  let isOurs: Bool
  private let descriptor: Int32
  private let device: UInt
  private let inode: UInt

  /// The file that is at `path`; `nil` where there is none.
  convenience init?(path: String) throws(VitError) {
    do throws(VitError) { try self.init(path: path, taking: try openForReading(path)) } catch {
      guard error.diagnostic.code == "missing-file" else { throw error }
      return nil
    }
  }

  /// The file behind a descriptor, which is taken over.
  init(path: String, taking descriptor: Int32) throws(VitError) {
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      throw VitError("expected a regular file", code: "not-a-file", location: Location(file: path))
    }
    self.path = path
    self.descriptor = descriptor
    count = Int(status.st_size)
    (device, inode) = (UInt(status.st_dev), UInt(status.st_ino))
    isOurs = flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK
  }

  deinit { close(descriptor) }

  /// Whether it is what its path names.
  var isInPlace: Bool {
    var status = stat()
    return FileName.withBytes(of: path, { stat($0, &status) }) == 0 && UInt(status.st_dev) == device
      && UInt(status.st_ino) == inode
  }

  /// Fills `target` with the bytes from `offset` on.
  func read(into target: UnsafeMutableRawBufferPointer, at offset: Int) throws(VitError) {
    var done = 0
    while done < target.count {
      guard let base = target.baseAddress else { break }
      let got = pread(descriptor, base + done, target.count - done, off_t(offset + done))
      if got < 0, errno == EINTR { continue }
      guard got >= 0 else { throw systemError("cannot be read", path: path, kind: .input) }
      guard got > 0 else {
        throw VitError(
          "the file has become shorter since it was opened", code: "file-changed",
          location: Location(file: path))
      }
      done += got
    }
  }

  /// Hands over the bytes of `range` in pieces.
  func forEachPiece(
    of range: Range<Int>, _ body: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: min(1 << 20, range.count), alignment: 64)
    defer { piece.deallocate() }
    var offset = range.lowerBound
    while offset < range.upperBound {
      let part = UnsafeMutableRawBufferPointer(
        rebasing: piece[..<min(piece.count, range.upperBound - offset)])
      try read(into: part, at: offset)
      try body(UnsafeRawBufferPointer(part))
      offset += part.count
    }
  }
}
