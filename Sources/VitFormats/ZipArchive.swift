internal import CVitFormats
internal import VitIR

/// The members of a zip archive (zip64 included), read where they lie.
///
/// Only the central directory is believed; nothing is unpacked until it is asked for, and never to more than deflate
/// can pack.
final class ZipArchive: Sendable {
  /// One member.
  struct Entry: Sendable {
    /// Its name, as stored.
    let name: String
    fileprivate let method: UInt16
    fileprivate let checksum: UInt32
    fileprivate let packedSize: Int
    let size: Int
    fileprivate let offset: Int
  }

  /// The members in the order of the directory.
  let entries: [Entry]
  private let file: MappedFile

  init(_ file: MappedFile) throws {
    let (range, count) = try ZipArchive.findDirectory(file)
    let directory = try file.read(range)
    entries = try directory.withUnsafeBytes { buffer in
      var reader = ByteReader(buffer, origin: range.lowerBound)
      var entries: [Entry] = []
      var names: Set<String> = []
      while entries.count < count {
        let entry = try ZipArchive.directoryEntry(&reader)
        guard names.insert(entry.name).inserted else {
          throw VitError("the archive has two members named '\(entry.name)'", code: "zip")
        }
        entries.append(entry)
      }
      return entries
    }
    self.file = file
  }

  /// Where the directory lies and how many entries it has.
  private static func findDirectory(_ file: MappedFile) throws -> (Range<Int>, Int) {
    let fixed = 22
    let start = max(0, file.count - fixed - 0xffff)
    let tail = try file.read(start..<file.count)
    let signature: [UInt8] = [0x50, 0x4b, 5, 6]
    let last = tail.count - fixed
    guard last >= 0,
      let found = stride(from: last, through: 0, by: -1).first(where: { tail[$0...].starts(with: signature) })
    else {
      throw VitError("expected a zip archive (.npz), found no end of a directory", code: "not-zip")
    }
    var (count, size, offset) = try tail.withUnsafeBytes { buffer in
      var reader = ByteReader(buffer, origin: start)
      try reader.skip(found + 10)
      return (
        Int(try reader.littleEndian(UInt16.self)), Int(try reader.littleEndian(UInt32.self)),
        Int(try reader.littleEndian(UInt32.self))
      )
    }
    if count == 0xffff || size == 0xffff_ffff || offset == 0xffff_ffff,
      let large = try largeDirectory(file, endingAt: start + found)
    {
      (count, size, offset) = large
    }
    // An entry has at least 46 bytes.
    guard offset <= file.count, size <= file.count - offset, count <= size / 46 else {
      throw VitError(
        "the archive's directory claims \(count) members in \(size) bytes at \(offset)", code: "zip")
    }
    return (offset..<offset + size, count)
  }

  /// The same three numbers from the zip64 record, if its locator stands before `end`.
  private static func largeDirectory(_ file: MappedFile, endingAt end: Int) throws -> (Int, Int, Int)? {
    guard end >= 20 else { return nil }
    let position: UInt64? = try file.read(end - 20..<end).withUnsafeBytes { buffer in
      var reader = ByteReader(buffer, origin: end - 20)
      guard try reader.littleEndian(UInt32.self) == 0x0706_4b50 else { return nil }
      try reader.skip(4)
      return try reader.littleEndian(UInt64.self)
    }
    guard let position else { return nil }
    let start = try whole(position, "the directory's end")
    guard start <= file.count - 56 else {
      throw VitError("the archive's zip64 record lies outside of the file", code: "zip")
    }
    return try file.read(start..<start + 56).withUnsafeBytes { buffer in
      var reader = ByteReader(buffer, origin: start)
      guard try reader.littleEndian(UInt32.self) == 0x0606_4b50 else {
        throw VitError("offset \(start): expected a zip64 record", code: "zip")
      }
      try reader.skip(28)
      return (
        try whole(reader.littleEndian(), "the count"), try whole(reader.littleEndian(), "the size"),
        try whole(reader.littleEndian(), "the offset")
      )
    }
  }

  private static func whole(_ value: UInt64, _ what: String) throws(VitError) -> Int {
    guard let number = Int(exactly: value) else { throw VitError("\(what) is \(value)", code: "zip") }
    return number
  }

  private static func directoryEntry(_ reader: inout ByteReader) throws -> Entry {
    let start = reader.position
    guard try reader.littleEndian(UInt32.self, "a directory entry") == 0x0201_4b50 else {
      throw VitError("offset \(start): expected an entry of the archive's directory", code: "zip")
    }
    try reader.skip(4)
    let flags: UInt16 = try reader.littleEndian()
    let method: UInt16 = try reader.littleEndian()
    try reader.skip(4)
    let checksum: UInt32 = try reader.littleEndian()
    var packedSize = Int(try reader.littleEndian(UInt32.self))
    var size = Int(try reader.littleEndian(UInt32.self))
    let nameLength = Int(try reader.littleEndian(UInt16.self))
    let extraLength = Int(try reader.littleEndian(UInt16.self))
    let commentLength = Int(try reader.littleEndian(UInt16.self))
    try reader.skip(8)
    var offset = Int(try reader.littleEndian(UInt32.self))
    let name = try reader.text(nameLength, "a member's name")
    var extra = try reader.reader(extraLength, "extra fields")
    try reader.skip(commentLength, "a comment")
    guard flags & 1 == 0 else { throw VitError("the member '\(name)' is encrypted", code: "zip") }
    while extra.remaining >= 4 {
      let tag: UInt16 = try extra.littleEndian()
      var field = try extra.reader(Int(try extra.littleEndian(UInt16.self)), "an extra field")
      guard tag == 1 else { continue }
      // Zip64: just those numbers that did not fit, in this order.
      if size == 0xffff_ffff { size = try whole(field.littleEndian(), "the size of '\(name)'") }
      if packedSize == 0xffff_ffff {
        packedSize = try whole(field.littleEndian(), "the packed size of '\(name)'")
      }
      if offset == 0xffff_ffff { offset = try whole(field.littleEndian(), "the offset of '\(name)'") }
    }
    return Entry(
      name: name, method: method, checksum: checksum, packedSize: packedSize, size: size, offset: offset)
  }

  /// The first bytes of `entry` unpacked, at most `count`; their checksum is not looked at.
  func head(of entry: Entry, _ count: Int) throws -> [UInt8] {
    #if VITC_ZLIB
      let packed = try packedRange(entry)
      return try file.withBytes(packed) { bytes in
        switch entry.method {
        case 0: return Array(bytes.prefix(count))
        case 8:
          var inflater = try Inflater(bytes, .none)
          return try inflater.bytes(min(count, entry.size), "the member '\(entry.name)'")
        default: throw unsupportedMethod(of: entry)
        }
      }
    #else
      throw missingLibrary("zip", package: "zlib1g-dev")
    #endif
  }

  /// The unpacked bytes of `entry`, checked against its checksum.
  func storage(_ entry: Entry) throws -> any TensorStorage {
    #if VITC_ZLIB
      let packed = try packedRange(entry)
      let storage: any TensorStorage
      switch entry.method {
      case 0:
        guard entry.size == packed.count else {
          throw VitError("the member '\(entry.name)' has two sizes", code: "zip")
        }
        storage = try file.storage(packed)
      case 8:
        guard entry.size / maximumDeflateRatio <= packed.count else {
          throw VitError(
            "the member '\(entry.name)' claims \(entry.size) bytes, which \(packed.count) packed bytes cannot "
              + "hold", code: "zip")
        }
        storage = try file.withBytes(packed) { bytes in
          var inflater = try Inflater(bytes, .none)
          return try inflater.rest(entry.size, "the member '\(entry.name)'")
        }
      default: throw unsupportedMethod(of: entry)
      }
      let checksum = try storage.withBytes { bytes in
        crc32_z(0, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes.count)
      }
      guard UInt32(truncatingIfNeeded: checksum) == entry.checksum else {
        throw VitError("the member '\(entry.name)' does not match its checksum", code: "damaged")
      }
      return storage
    #else
      throw missingLibrary("zip", package: "zlib1g-dev")
    #endif
  }

  private func unsupportedMethod(of entry: Entry) -> VitError {
    VitError(
      "the member '\(entry.name)' is packed by method \(entry.method), expected 0 (stored) or 8 (deflate)",
      code: "zip", help: "save it with numpy.savez or numpy.savez_compressed")
  }

  /// Where the packed bytes of `entry` lie: behind a local header that has its own lengths.
  private func packedRange(_ entry: Entry) throws -> Range<Int> {
    guard entry.offset <= file.count - 30 else {
      throw VitError("the member '\(entry.name)' lies outside of the file", code: "zip")
    }
    let head = try file.read(entry.offset..<entry.offset + 30)
    let lengths = try head.withUnsafeBytes { buffer in
      var reader = ByteReader(buffer, origin: entry.offset)
      guard try reader.littleEndian(UInt32.self) == 0x0403_4b50 else {
        throw VitError("offset \(entry.offset): expected the member '\(entry.name)'", code: "zip")
      }
      try reader.skip(22)
      return Int(try reader.littleEndian(UInt16.self)) + Int(try reader.littleEndian(UInt16.self))
    }
    let start = entry.offset + 30 + lengths
    guard start <= file.count, entry.packedSize <= file.count - start else {
      throw VitError("the member '\(entry.name)' is cut short", code: "truncated")
    }
    return start..<start + entry.packedSize
  }
}
