internal import Glibc
internal import Synchronization
public import VitIR

/// A file that appears whole or not at all: written to a temporary beside the target, synced, then renamed.
///
/// Dropped without `commit()`, it takes its temporary with it. A target that is a symbolic link keeps the link; one
/// that is a device or a pipe (`/dev/stdout`) gets the bytes when all are there. A target that may not be written is
/// refused, although renaming would replace it. Errors are of the kind `.environment`.
public struct AtomicFile: ~Copyable {
  /// The target as the user named it.
  public let path: String
  /// How many bytes have been appended.
  public private(set) var count = 0
  private let target: String
  /// The name of the temporary; `nil` where the target is no regular file.
  private let temporary: Temporary?
  private let descriptor: Int32

  /// A temporary beside the file at `path`, which need not exist; its folder must.
  public init(path: String) throws(VitError) {
    let target = AtomicFile.target(of: path)
    var status = stat()
    let exists = FileName.withBytes(of: target) { stat($0, &status) } == 0
    guard !exists || status.st_mode & S_IFMT != S_IFDIR else {
      throw VitError(
        "expected a file to write, found a folder", kind: .environment, code: "unwritable-file",
        location: Location(file: path))
    }
    guard !exists || FileName.withBytes(of: target, { access($0, W_OK) }) == 0 else {
      throw systemError("cannot be written", path: path, kind: .environment)
    }
    var temporary: Temporary?
    var descriptor: Int32 = -1
    if path.isEmpty {
      errno = ENOENT
    } else if exists, status.st_mode & S_IFMT != S_IFREG {
      descriptor = anonymousFile()
    } else {
      let slash = target.utf8.lastIndex(of: UInt8(ascii: "/"))
      let start = slash.map { target.utf8.index(after: $0) } ?? target.startIndex
      let stem = "\(target[..<start]).\(target[start...].prefix(100)).\(getpid())-"
      // What a process of the same number left when it was killed stays.
      repeat {
        let name = "\(stem)\(AtomicFile.made.add(1, ordering: .relaxed).newValue).tmp"
        // The mode is that of any new file, which `mkstemp` would not give.
        descriptor = FileName.withBytes(of: name) { open($0, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666) }
        if descriptor >= 0 { temporary = Temporary(name) }
      } while descriptor < 0 && errno == EEXIST
    }
    guard descriptor >= 0 else {
      throw systemError("cannot be written", path: path, kind: .environment)
    }
    self.path = path
    self.target = target
    self.temporary = temporary
    self.descriptor = descriptor
  }

  deinit { close(descriptor) }

  /// Numbers the temporaries of this process.
  private static let made = Atomic<Int>(0)

  /// Removes the temporaries of all files of this process, which is about to end. A signal handler may call it, after
  /// somebody else has once.
  public static func abandonAll() { Temporary.removeAll() }

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

  /// Overwrites bytes that were appended before: a header that is known last.
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

  /// Another descriptor of the file, whose owner closes it.
  func duplicate() throws(VitError) -> Int32 {
    let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
    guard copy >= 0 else { throw systemError("cannot be kept open", path: path, kind: .environment) }
    return copy
  }

  /// Makes the file appear under its name, its bytes on the disk first.
  public consuming func commit() throws(VitError) {
    guard let temporary else { return try copy() }
    // What is dropped here takes its temporary with it.
    if AtomicFile.keepsEqual, isAtTarget { return }
    guard fsync(descriptor) == 0 else {
      throw systemError("cannot be written to the disk", path: path, kind: .environment)
    }
    let renamed = FileName.withBytes(of: temporary.name) { from in
      FileName.withBytes(of: target) { rename(from, $0) }
    }
    guard renamed == 0 else {
      throw systemError("cannot be put in place", path: path, kind: .environment)
    }
    temporary.forget()
  }

  /// Whether a target that holds the same bytes already stays as it is, its time with it, while something is done.
  @TaskLocal public static var keepsEqual = false

  /// Whether the target is a file of the same bytes.
  private var isAtTarget: Bool {
    let other = FileName.withBytes(of: target) { open($0, O_RDONLY | O_CLOEXEC | O_NONBLOCK) }
    guard other >= 0 else { return false }
    defer { close(other) }
    var status = stat()
    guard fstat(other, &status) == 0, status.st_mode & S_IFMT == S_IFREG, Int(status.st_size) == count else {
      return false
    }
    var (mine, theirs) = ([UInt8](repeating: 0, count: 1 << 16), [UInt8](repeating: 0, count: 1 << 16))
    var offset = 0
    while offset < count {
      let wanted = min(mine.count, count - offset)
      guard AtomicFile.fill(&mine, wanted, from: descriptor, at: offset),
        AtomicFile.fill(&theirs, wanted, from: other, at: offset), mine[..<wanted] == theirs[..<wanted]
      else { return false }
      offset += wanted
    }
    return true
  }

  /// Reads so many bytes; false where there are fewer.
  private static func fill(_ bytes: inout [UInt8], _ count: Int, from descriptor: Int32, at offset: Int)
    -> Bool
  {
    var done = 0
    while done < count {
      let got = bytes.withUnsafeMutableBytes { buffer in
        buffer.baseAddress.map { pread(descriptor, $0 + done, count - done, offset + done) } ?? 0
      }
      if got < 0, errno == EINTR { continue }
      guard got > 0 else { return false }
      done += got
    }
    return true
  }

  /// Hands the bytes to a target that is a device or a pipe; for a pipe nobody reads it waits.
  private borrowing func copy() throws(VitError) {
    let output = FileName.withBytes(of: target) { open($0, O_WRONLY | O_CLOEXEC) }
    guard output >= 0 else { throw systemError("cannot be written", path: path, kind: .environment) }
    defer { close(output) }
    var offset = 0
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    while offset < count {
      let got = pread(descriptor, &piece, min(piece.count, count - offset), offset)
      guard got > 0 else { throw systemError("cannot be written", path: path, kind: .environment) }
      try send(piece[..<got], to: output)
      offset += got
    }
  }

  private borrowing func send(_ bytes: ArraySlice<UInt8>, to output: Int32) throws(VitError) {
    var rest = bytes
    while !rest.isEmpty {
      let wrote = rest.withUnsafeBytes { Glibc.write(output, $0.baseAddress, $0.count) }
      if wrote < 0, errno == EINTR { continue }
      guard wrote > 0 else { throw systemError("cannot be written", path: path, kind: .environment) }
      rest = rest.dropFirst(wrote)
    }
  }

  /// The path of what would be written: symbolic links followed, also where they lead to a file that does not exist yet.
  public static func target(of path: String) -> String {
    var path = path
    var status = stat()
    // As many links as Linux follows.
    for _ in 0..<40 {
      if let real = FileName.real(path) { return real }
      // What is there without a path is a pipe.
      guard FileName.withBytes(of: path, { stat($0, &status) }) != 0 else { break }
      var target = [CChar](repeating: 0, count: Int(PATH_MAX))
      let count = FileName.withBytes(of: path) { readlink($0, &target, target.count) }
      guard count > 0 else { break }
      let link = FileName.text(of: target[..<count].map(UInt8.init(bitPattern:)))
      let folder = path.utf8.lastIndex(of: UInt8(ascii: "/")).map { path[...$0] } ?? ""
      path = link.hasPrefix("/") ? link : folder + link
    }
    return path
  }

  /// Writes a whole file.
  public static func write(_ bytes: [UInt8], to path: String) throws(VitError) {
    var file = try AtomicFile(path: path)
    try file.write(bytes)
    try file.commit()
  }
}

/// A descriptor of a new file without a name, in the folder for temporary files; -1 where there can be none.
private func anonymousFile() -> Int32 {
  let folder = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
  var name = Array("\(folder)/vitc-XXXXXX".utf8CString)
  let descriptor = mkstemp(&name)
  guard descriptor >= 0 else { return descriptor }
  unlink(name)
  _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
  return descriptor
}
