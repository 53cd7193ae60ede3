public import VitIR

/// IDX, the format of MNIST and its kin: a big-endian array of rank up to 255, plain or in gzip.
public enum IDX {
  /// Reads the array in the file at `path`; that it is packed is told by its content.
  ///
  /// Bytes of an unpacked file stay in it until asked for. Throws for a malformed header and where there are fewer or
  /// more elements than it says.
  public static func read(_ path: String) throws -> Tensor {
    let file = try MappedFile(path: path)
    return try located(path) {
      let head = try file.read(0..<min(file.count, 4 + 4 * 255))
      if head.starts(with: [0x1f, 0x8b]) { return try unpack(file) }
      let (layout, start) = try decodeHeader(head)
      let needed = try layout.byteCount()
      guard file.count - start == needed else { throw wrongSize(layout, needed, "\(file.count - start)") }
      return try layout.tensor(start..<file.count, of: file)
    }
  }

  /// Whether `bytes`, the first of a file, can be the start of an unpacked IDX file.
  public static func isHeader(_ bytes: [UInt8]) -> Bool {
    bytes.count >= 4 && bytes[0] == 0 && bytes[1] == 0 && elementType(bytes[2]) != nil && bytes[3] > 0
  }

  private static func elementType(_ code: UInt8) -> ElementType? {
    switch code {
    case 0x08: .u8
    case 0x09: .i8
    case 0x0b: .i16
    case 0x0c: .i32
    case 0x0d: .f32
    case 0x0e: .f64
    default: nil
    }
  }

  private static func decodeHeader(_ bytes: [UInt8]) throws -> (ArrayLayout, Int) {
    try bytes.withUnsafeBytes { buffer in
      var reader = ByteReader(buffer)
      guard try reader.bigEndian(UInt16.self, "the signature") == 0 else {
        throw VitError("expected an IDX file, found no IDX signature", code: "not-idx")
      }
      let code = try reader.byte("the type")
      guard let element = elementType(code) else {
        throw VitError("expected an element type of IDX (8, 9, 11 to 14), found \(code)", code: "idx-type")
      }
      var shape: [Int] = []
      for _ in 0..<Int(try reader.byte("the rank")) {
        shape.append(Int(try reader.bigEndian(UInt32.self, "an extent")))
      }
      return (ArrayLayout(element: element, shape: shape, isBigEndian: true), reader.position)
    }
  }

  private static func wrongSize(_ layout: ArrayLayout, _ needed: Int, _ found: String) -> VitError {
    VitError(
      "the header's \(layout.element.rawValue)\(layout.shape) takes \(needed) bytes, found \(found)",
      code: "idx-size")
  }

  private static func unpack(_ file: MappedFile) throws -> Tensor {
    #if VITC_ZLIB
      return try file.withBytes { packed in
        var inflater = try Inflater(packed, .gzip)
        var head = try inflater.bytes(4, "the signature")
        head += try inflater.bytes(4 * Int(head[3]), "the extents")
        let (layout, _) = try decodeHeader(head)
        let needed = try layout.byteCount()
        guard needed / maximumDeflateRatio <= packed.count else {
          throw wrongSize(layout, needed, "\(packed.count) bytes of gzip, which cannot hold so many")
        }
        let storage = try inflater.rest(needed, "elements")
        return try layout.tensor(0..<needed, of: storage)
      }
    #else
      throw missingLibrary("gzip", package: "zlib1g-dev")
    #endif
  }
}
