internal import Glibc
public import VitIR

/// A regular file mapped into memory, read only, or bytes in memory that are read as if a file held them.
///
/// Bulk data are lent from the map without a copy. A map whose file is cut short by somebody else kills the process
/// that touches it, so what decides control flow (headers, manifests, wire messages) is copied with `read(_:)`
/// first, and every lending looks at the file's size again.
public final class MappedFile: TensorStorage {
  /// The file as the user named it.
  public let path: String
  /// The number of bytes when it was opened.
  public let count: Int
  /// The same as `count`.
  public var byteCount: Int { count }
  /// The whole map.
  public var resident: UnsafeRawBufferPointer? {
    UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: address), count: count)
  }
  /// Whether no file holds the bytes, so that nothing lies beside it.
  public let isInMemory: Bool
  /// That of the file; -1 where there is none.
  private let descriptor: Int32
  /// The address of the map as a number, because raw pointers are not `Sendable`; zero for an empty file.
  private let address: UInt

  /// Opens and maps the file at `path`; throws a `.input` error where it is missing, unreadable or not regular.
  public init(path: String) throws(VitError) {
    let location = Location(file: path)
    let descriptor = try openForReading(path)
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      let error = systemError("cannot be inspected", path: path, kind: .input)
      close(descriptor)
      throw error
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      let found = status.st_mode & S_IFMT == S_IFDIR ? "a folder" : "a device or pipe"
      throw VitError("expected a regular file, found \(found)", code: "not-a-file", location: location)
    }
    let count = Int(status.st_size)
    var address: UInt = 0
    if count > 0 {
      guard let map = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), map != MAP_FAILED else {
        let error = systemError("cannot be mapped", path: path, kind: .input)
        close(descriptor)
        throw error
      }
      address = UInt(bitPattern: map)
    }
    self.path = path
    self.count = count
    self.descriptor = descriptor
    self.address = address
    isInMemory = false
  }

  /// Keeps a copy of `bytes` under a name for messages; throws where there is no memory for it.
  public init(copying bytes: UnsafeRawBufferPointer, named name: String) throws(VitError) {
    (path, count, descriptor, isInMemory) = (name, bytes.count, -1, true)
    guard count > 0, let source = bytes.baseAddress else {
      address = 0
      return
    }
    guard let map = mmap(nil, count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
      map != MAP_FAILED
    else { throw systemError("cannot be kept in memory", path: name, kind: .environment) }
    map.copyMemory(from: source, byteCount: count)
    address = UInt(bitPattern: map)
  }

  deinit {
    if let map = UnsafeMutableRawPointer(bitPattern: address) { munmap(map, count) }
    if descriptor >= 0 { close(descriptor) }
  }

  /// Lends the bytes of `range` from the map, or throws where the file has no such bytes (any more).
  public func withBytes<Result>(
    _ range: Range<Int>, _ body: (UnsafeRawBufferPointer) throws -> Result
  ) throws -> Result {
    try check(range)
    var status = stat()
    guard isInMemory || fstat(descriptor, &status) == 0 && Int(status.st_size) >= range.upperBound else {
      throw VitError(
        "the file has become shorter since it was opened: expected \(count) bytes, found \(status.st_size)",
        code: "file-changed", location: Location(file: path))
    }
    guard let map = UnsafeRawPointer(bitPattern: address) else {
      return try body(UnsafeRawBufferPointer(start: nil, count: 0))
    }
    return try withExtendedLifetime(self) {
      try body(UnsafeRawBufferPointer(start: map + range.lowerBound, count: range.count))
    }
  }

  /// Lends all bytes from the map.
  public func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
    try withBytes(0..<count, body)
  }

  /// Lets the pages of the map go; the file has them still.
  public func release() {
    if !isInMemory, let map = UnsafeMutableRawPointer(bitPattern: address) {
      madvise(map, count, MADV_DONTNEED)
    }
  }

  /// A copy of the bytes of `range`, read from the file and not through the map.
  public func read(_ range: Range<Int>) throws(VitError) -> [UInt8] {
    try check(range)
    if isInMemory { return resident.map { Array($0[range]) } ?? [] }
    var failure: VitError?
    let bytes = [UInt8](unsafeUninitializedCapacity: range.count) { buffer, filled in
      while filled < range.count {
        guard let base = buffer.baseAddress else { break }
        let got = pread(descriptor, base + filled, range.count - filled, range.lowerBound + filled)
        if got < 0, errno == EINTR { continue }
        if got <= 0 {
          failure =
            got < 0
            ? systemError("cannot be read", path: path, kind: .input)
            : VitError(
              "the file has become shorter since it was opened", code: "file-changed",
              location: Location(file: path))
          break
        }
        filled += got
      }
    }
    if let failure { throw failure }
    return bytes
  }

  /// The bytes of `range` as the storage of a tensor, left in the map until they are asked for.
  public func storage(_ range: Range<Int>) throws(VitError) -> StorageRange {
    try check(range)
    return StorageRange(of: self, range)
  }

  private func check(_ range: Range<Int>) throws(VitError) {
    guard range.lowerBound >= 0, range.upperBound <= count else {
      throw VitError(
        "expected bytes \(range.lowerBound) to \(range.upperBound), found a file of \(count) bytes",
        code: "truncated", location: Location(file: path))
    }
  }

  /// A copy of the whole file at `path`; a file of more than `limit` bytes is refused before it is read.
  public static func contents(of path: String, limit: Int) throws(VitError) -> [UInt8] {
    try MappedFile(path: path).contents(limit: limit)
  }

  /// A copy of all bytes; more than `limit` are refused before they are read.
  func contents(limit: Int) throws(VitError) -> [UInt8] {
    guard count <= limit else {
      throw VitError(
        "expected at most \(limit) bytes, found \(count)", code: "too-large", location: Location(file: path))
    }
    return try read(0..<count)
  }
}

/// Part of another storage: a tensor in a mapped file or in an unpacked archive.
public final class StorageRange: TensorStorage {
  private let whole: any TensorStorage
  private let range: Range<Int>

  /// The bytes `range` of `whole`, which has them.
  public init(of whole: any TensorStorage, _ range: Range<Int>) {
    precondition(range.lowerBound >= 0 && range.upperBound <= whole.byteCount)
    self.whole = whole
    self.range = range
  }

  /// The number of bytes.
  public var byteCount: Int { range.count }

  /// Gives the memory of the whole back.
  public func release() { whole.release() }

  /// The bytes, where the whole has them in memory.
  public var resident: UnsafeRawBufferPointer? {
    whole.resident.map { UnsafeRawBufferPointer(rebasing: $0[range]) }
  }

  /// Lends the bytes; throws where the whole cannot be read.
  public func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
    try whole.withBytes { try body(UnsafeRawBufferPointer(rebasing: $0[range])) }
  }
}

/// Opens `path` for reading, retrying when interrupted. Opening a pipe does not wait for its writer.
func openForReading(_ path: String) throws(VitError) -> Int32 {
  while true {
    let descriptor = FileName.withBytes(of: path) { open($0, O_RDONLY | O_CLOEXEC | O_NONBLOCK) }
    if descriptor >= 0 { return descriptor }
    if errno != EINTR { throw systemError("cannot be opened", path: path, kind: .input) }
  }
}

/// The error that `errno` stands for, about the file at `path`.
func systemError(_ what: String, path: String, kind: FailureKind) -> VitError {
  let code = errno
  let reason = String(cString: strerror(code))
  let name = code == ENOENT ? "missing-file" : kind == .input ? "unreadable-file" : "unwritable-file"
  return VitError("\(what): \(reason)", kind: kind, code: name, location: Location(file: path))
}
