internal import Glibc
internal import Synchronization
public import VitIR

/// A file that appears whole or not at all: written to a temporary beside the target, synced, then renamed.
///
/// Dropped without `commit()`, it takes its temporary with it. A target that is a symbolic link keeps the link; one
/// that is a device or a pipe (`/dev/null`) is written to directly. Errors are of the kind `.environment`.
public struct AtomicFile: ~Copyable {
  /// The target as the user named it.
  public let path: String
  /// How many bytes have been appended.
  public private(set) var count = 0
  private let target: String
  /// What `deinit` removes; `nil` once it is in place, or where the target itself is written to.
  private var temporary: String?
  private let descriptor: Int32

  /// A temporary beside the file at `path`, which need not exist; its folder must.
  public init(path: String) throws(VitError) {
    let target = resolved(path)
    var status = stat()
    let exists = stat(target, &status) == 0
    guard !exists || status.st_mode & S_IFMT != S_IFDIR else {
      throw VitError(
        "expected a file to write, found a folder", kind: .environment, code: "unwritable-file",
        location: Location(file: path))
    }
    var temporary: String?
    let descriptor: Int32
    if exists, status.st_mode & S_IFMT != S_IFREG {
      descriptor = open(target, O_WRONLY | O_CLOEXEC)
    } else {
      // The mode is that of any new file, which `mkstemp` would not give.
      let number = AtomicFile.made.add(1, ordering: .relaxed).newValue
      let slash = target.utf8.lastIndex(of: UInt8(ascii: "/"))
      let start = slash.map { target.utf8.index(after: $0) } ?? target.startIndex
      let name = "\(target[..<start]).\(target[start...].prefix(100)).\(getpid())-\(number).tmp"
      temporary = name
      descriptor = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    }
    guard descriptor >= 0 else {
      throw systemError("cannot be written", path: path, kind: .environment)
    }
    self.path = path
    self.target = target
    self.temporary = temporary
    self.descriptor = descriptor
  }

  deinit {
    close(descriptor)
    if let temporary { unlink(temporary) }
  }

  /// Numbers the temporaries of this process.
  private static let made = Atomic<Int>(0)

  /// Appends bytes.
  public mutating func write(_ bytes: UnsafeRawBufferPointer) throws(VitError) {
    var done = 0
    while done < bytes.count {
      guard let base = bytes.baseAddress else { break }
      let wrote = Glibc.write(descriptor, base + done, bytes.count - done)
      if wrote < 0, errno == EINTR { continue }
      guard wrote > 0 else { throw systemError("cannot be written", path: path, kind: .environment) }
      done += wrote
    }
    count += bytes.count
  }

  /// Appends bytes.
  public mutating func write(_ bytes: [UInt8]) throws(VitError) {
    var failure: VitError?
    bytes.withUnsafeBytes { buffer in
      do throws(VitError) { try write(buffer) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  /// Overwrites bytes that were appended before: a header that is known last. The target is a regular file.
  public func rewrite(_ bytes: [UInt8], at offset: Int) throws(VitError) {
    precondition(offset >= 0 && offset + bytes.count <= count)
    var done = 0
    while done < bytes.count {
      let wrote = bytes.withUnsafeBytes { buffer in
        buffer.baseAddress.map { pwrite(descriptor, $0 + done, bytes.count - done, offset + done) } ?? 0
      }
      if wrote < 0, errno == EINTR { continue }
      guard wrote > 0 else { throw systemError("cannot be written", path: path, kind: .environment) }
      done += wrote
    }
  }

  /// Makes the file appear under its name, its bytes on the disk first.
  public consuming func commit() throws(VitError) {
    guard let temporary else { return }
    guard fsync(descriptor) == 0 else {
      throw systemError("cannot be written to the disk", path: path, kind: .environment)
    }
    guard rename(temporary, target) == 0 else {
      throw systemError("cannot be put in place", path: path, kind: .environment)
    }
    self.temporary = nil
  }

  /// Writes a whole file.
  public static func write(_ bytes: [UInt8], to path: String) throws(VitError) {
    var file = try AtomicFile(path: path)
    try file.write(bytes)
    try file.commit()
  }
}

/// The path with symbolic links followed, or as it is where there is no such file yet.
private func resolved(_ path: String) -> String {
  guard let real = realpath(path, nil) else { return path }
  defer { free(real) }
  return String(cString: real)
}
