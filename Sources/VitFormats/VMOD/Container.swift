internal import VitIR

/// What a file in our container holds.
enum ContainerKind {
  case model, tensors

  var magic: [UInt8] {
    [0x89] + Array((self == .model ? "VMOD" : "VTEN").utf8) + [0x0d, 0x0a, 0x1a]
  }

  /// What a message calls such a file.
  var name: String { self == .model ? "a .vmod file" : "a .vit.tensors file" }
}

/// The header of a container: `schemas/vmod.proto` has its layout.
struct ContainerHeader {
  static let byteCount = 128
  /// The version that is written.
  static let version: UInt32 = 2
  private static let reserved = 24

  var version = Self.version
  var manifestSize = 0
  var manifestDigest = [UInt8](repeating: 0, count: Digest.byteCount)
  var framesSize = 0
  var tableSize = 0
  var tableChecksum: UInt64 = 0
  var measurementsSize = 0
  var measurementsChecksum: UInt64 = 0

  func encoded(_ kind: ContainerKind) -> [UInt8] {
    var bytes = kind.magic
    func append(_ value: some FixedWidthInteger) { withUnsafeBytes(of: value.littleEndian) { bytes += $0 } }
    append(version)
    append(UInt32(Self.byteCount))
    append(UInt64(manifestSize))
    bytes += manifestDigest
    append(UInt64(framesSize))
    append(UInt64(tableSize))
    append(tableChecksum)
    append(UInt64(measurementsSize))
    append(measurementsChecksum)
    bytes += [UInt8](repeating: 0, count: Self.reserved)
    append(checksum(bytes))
    return bytes
  }

  init() {}

  /// Reads a header; throws unless it is one of `kind` whose sections fill `fileSize` bytes.
  init(_ bytes: [UInt8], _ kind: ContainerKind, fileSize: Int) throws(VitError) {
    var failure: VitError?
    var header = ContainerHeader()
    bytes.withUnsafeBytes { buffer in
      do throws(VitError) { header = try Self.decoded(buffer, kind, fileSize: fileSize) } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    self = header
  }

  private static func decoded(
    _ bytes: UnsafeRawBufferPointer, _ kind: ContainerKind, fileSize: Int
  ) throws(VitError) -> ContainerHeader {
    var reader = ByteReader(bytes)
    var header = ContainerHeader()
    guard bytes.starts(with: kind.magic) else {
      throw VitError("expected \(kind.name), found other contents", code: "bad-magic")
    }
    guard bytes.count == byteCount else {
      throw VitError("the file ends in its header", code: "truncated")
    }
    try reader.skip(kind.magic.count)
    header.version = try reader.littleEndian()
    guard (1...Self.version).contains(header.version) else {
      throw VitError(
        "the file has the version \(header.version) of the format, expected at most \(Self.version)",
        code: "format-version", help: "a newer vitc may read it")
    }
    let size: UInt32 = try reader.littleEndian()
    func section() throws(VitError) -> Int {
      let size: UInt64 = try reader.littleEndian()
      guard let size = Int(exactly: size), size <= fileSize else {
        throw VitError("a section of \(size) bytes lies in a file of \(fileSize)", code: "truncated")
      }
      return size
    }
    header.manifestSize = try section()
    header.manifestDigest = Array(try reader.bytes(Digest.byteCount))
    header.framesSize = try section()
    header.tableSize = try section()
    header.tableChecksum = try reader.littleEndian()
    header.measurementsSize = try section()
    header.measurementsChecksum = try reader.littleEndian()
    let rest = try reader.bytes(reserved)
    let sum: UInt64 = try reader.littleEndian()
    guard sum == checksum(UnsafeRawBufferPointer(rebasing: bytes[..<(byteCount - 8)])), size == byteCount,
      rest.allSatisfy({ $0 == 0 })
    else { throw VitError("the header is damaged", code: "bad-checksum") }
    // Each is at most the file's size, so the sum cannot overflow.
    let expected =
      byteCount + header.manifestSize + header.framesSize + header.tableSize + header.measurementsSize
    guard expected == fileSize else {
      throw VitError(
        "the header speaks of \(expected) bytes, but the file has \(fileSize)", code: "truncated")
    }
    return header
  }
}

/// An opened container: sections in memory, frames left in the file until they are asked for.
struct Container {
  /// The most bytes of a manifest, of a frame table, of measurements.
  static let maximumSection = 64 << 20

  let file: MappedFile
  let header: ContainerHeader
  let manifest: [UInt8]
  let frames: [FrameRecord]
  let measurements: [UInt8]

  /// The content digest.
  var digest: Digest { Digest(of: manifest) }

  /// Opens a file and checks everything but the frames.
  init(path: String, _ kind: ContainerKind) throws(VitError) {
    let file: MappedFile
    do throws(VitError) { file = try MappedFile(path: path) } catch { throw error.at(Location(file: path)) }
    try self.init(file, kind)
  }

  /// Checks everything but the frames of a file.
  init(_ file: MappedFile, _ kind: ContainerKind) throws(VitError) {
    self.file = file
    do throws(VitError) {
      let bytes = try file.read(0..<min(file.count, ContainerHeader.byteCount))
      header = try ContainerHeader(bytes, kind, fileSize: file.count)
      for size in [header.manifestSize, header.tableSize, header.measurementsSize]
      where size > Self.maximumSection {
        throw VitError(
          "a section has \(size) bytes, expected at most \(Self.maximumSection)", code: "too-large")
      }
      let framesStart = ContainerHeader.byteCount + header.manifestSize
      let tableStart = framesStart + header.framesSize
      let measurementsStart = tableStart + header.tableSize
      manifest = try file.read(ContainerHeader.byteCount..<framesStart)
      guard Digest(of: manifest).bytes == header.manifestDigest else { throw Self.damaged("manifest") }
      let table = try file.read(tableStart..<measurementsStart)
      guard checksum(table) == header.tableChecksum else { throw Self.damaged("frame table") }
      measurements = try file.read(measurementsStart..<measurementsStart + header.measurementsSize)
      guard checksum(measurements) == header.measurementsChecksum else {
        throw Self.damaged("measurements section")
      }
      frames = try Manifest.frames(unpacking: table, version: header.version)
    } catch { throw error.at(Location(file: file.path)) }
  }

  private static func damaged(_ section: String) -> VitError {
    VitError("the \(section) does not match its checksum", code: "bad-checksum")
  }

  /// The tensors whose records are given, in the order of the frames, which fill their section without gaps. From
  /// version 2 on more frames may follow, whose tensors stand in fields that this reader passes over.
  func tensors(_ records: [TensorRecord]) throws(VitError) -> [Tensor] {
    do throws(VitError) {
      guard records.count == frames.count || (records.count < frames.count && header.version >= 2) else {
        throw VitError("there are \(records.count) tensors, but \(frames.count) frames", code: "bad-manifest")
      }
      var offset = ContainerHeader.byteCount + header.manifestSize
      let end = offset + header.framesSize
      var budget = FrameBudget()
      var tensors: [Tensor] = []
      tensors.reserveCapacity(records.count)
      for (record, frame) in zip(records, frames) {
        guard frame.size <= end - offset else {
          throw VitError("the frame of '\(record.name)' lies outside the frames", code: "truncated")
        }
        let type = try TensorType(text: record.type)
        guard let shape = type.fixedShape else {
          throw VitError("the tensor '\(record.name)' has the type \(type)", code: "bad-manifest")
        }
        let byteCount = type.element.byteCount(of: shape)
        let fits =
          frame.encoding == .plain ? frame.size == byteCount : budget.allows(byteCount, from: frame.size)
        guard fits else {
          throw VitError(
            "the tensor '\(record.name)' has \(byteCount) bytes, but its frame \(frame.size)",
            code: "bad-manifest")
        }
        let storage = FrameStorage(
          file: file, offset: offset, frame: frame, record: record, element: type.element,
          byteCount: byteCount)
        tensors.append(try Tensor(element: type.element, shape: shape, storage: storage))
        offset += frame.size
      }
      for frame in frames.dropFirst(records.count) {
        guard frame.size <= end - offset else {
          throw VitError("a frame lies outside the frames", code: "truncated")
        }
        offset += frame.size
      }
      guard offset == end else {
        throw VitError("\(end - offset) bytes of the frames belong to no tensor", code: "bad-manifest")
      }
      return tensors
    } catch { throw error.at(Location(file: file.path)) }
  }
}

extension Container {
  /// Writes a container in one pass over the tensors: memory for one of them at a time. Returns its content
  /// digest.
  ///
  /// The manifest has `manifestSize` bytes; it is asked for when the tensors' digests are known.
  static func write(
    to path: String, _ kind: ContainerKind, manifestSize: Int, tensors: [Tensor], measurements: [UInt8] = [],
    atMost most: Int = .max, manifest: ([Digest]) -> [UInt8]
  ) throws -> Digest {
    for size in [manifestSize, measurements.count] where size > maximumSection {
      throw VitError(
        "a section would have \(size) bytes, and readers take at most \(maximumSection)", kind: .environment,
        code: "too-large", location: Location(file: path))
    }
    var header = ContainerHeader()
    var frames: [FrameRecord] = []
    var digests: [Digest] = []
    let encoder = try FrameEncoder()
    var file = try AtomicFile(path: path)
    try file.write([UInt8](repeating: 0, count: ContainerHeader.byteCount + manifestSize))
    for tensor in tensors {
      try encoder.encode(tensor) { bytes, frame, digest in
        try file.write(bytes)
        frames.append(frame)
        digests.append(digest)
      }
    }
    let table = Manifest.packed(frames: frames)
    let manifest = manifest(digests)
    precondition(manifest.count == manifestSize)
    let digest = Digest(of: manifest)
    (header.manifestSize, header.manifestDigest) = (manifestSize, digest.bytes)
    header.framesSize = frames.reduce(0) { $0 + $1.size }
    (header.tableSize, header.tableChecksum) = (table.count, checksum(table))
    (header.measurementsSize, header.measurementsChecksum) = (measurements.count, checksum(measurements))
    try file.write(table)
    try file.write(measurements)
    try file.rewrite(header.encoded(kind) + manifest, at: 0)
    let count =
      ContainerHeader.byteCount + manifestSize + header.framesSize + table.count + measurements.count
    guard count <= most else {
      throw VitError(
        "the file would have \(count) bytes, and at most \(most) are asked for", kind: .check,
        code: "too-many-bytes", location: Location(file: path))
    }
    try file.commit()
    return digest
  }
}
