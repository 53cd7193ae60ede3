public import VitIR

/// NumPy's `.npy`: one array behind a header that is a Python dictionary.
public enum NPY {
  /// The most bytes that a header may have.
  static let maximumHeader = 1 << 16
  static let magic: [UInt8] = [0x93] + Array("NUMPY".utf8)

  /// Reads the array in the file at `path`: versions 1 to 3, both orders, both byte orders.
  ///
  /// Row-major little-endian elements stay in the file until asked for. Throws for object, text, complex and
  /// structured types, for a malformed header, and where the file has fewer or more bytes than the header says.
  public static func read(_ path: String) throws -> Tensor {
    let file = try MappedFile(path: path)
    return try located(path) { try decode(file) }
  }

  /// Reads the array that fills `storage`.
  static func decode(_ storage: any TensorStorage) throws -> Tensor {
    // A copy: the header decides what is allocated, and a mapped file may change under us.
    let head = try storage.withBytes { Array($0.prefix(headSize)) }
    let (layout, start) = try layout(head: head, byteCount: storage.byteCount)
    return try layout.tensor(start..<storage.byteCount, of: storage)
  }

  /// The most bytes that come before the elements.
  static let headSize = maximumHeader + 12

  /// What the header in `head` says of an array of `byteCount` bytes, and where its elements start; throws where they are
  /// more or fewer.
  static func layout(head: [UInt8], byteCount: Int) throws -> (ArrayLayout, Int) {
    let (layout, start) = try head.withUnsafeBytes { try decodeHeader($0) }
    let needed = try layout.byteCount()
    guard byteCount - start == needed else {
      throw VitError(
        "the header's \(layout.element.rawValue)\(layout.shape) takes \(needed) bytes, found \(byteCount - start)",
        code: "npy-size")
    }
    return (layout, start)
  }

  /// What the header says, and where the elements start.
  private static func decodeHeader(_ bytes: UnsafeRawBufferPointer) throws -> (ArrayLayout, Int) {
    var reader = ByteReader(bytes)
    guard reader.remaining >= 6, try reader.bytes(6).elementsEqual(magic) else {
      throw VitError("expected a NumPy array, found no NumPy signature", code: "not-npy")
    }
    let major = try reader.byte("the version")
    try reader.skip(1, "the version")
    guard (1...3).contains(major) else {
      throw VitError("expected version 1 to 3 of the format, found \(major)", code: "npy-version")
    }
    let length =
      major == 1
      ? Int(try reader.littleEndian(UInt16.self, "the header's length"))
      : Int(try reader.littleEndian(UInt32.self, "the header's length"))
    guard length <= maximumHeader else {
      throw VitError("the header claims \(length) bytes, more than \(maximumHeader)", code: "npy-header")
    }
    let text = try reader.bytes(length, "the header")
    return (try NPYHeader.parse(text), reader.position)
  }

  /// Writes `tensor` to the file at `path`, which appears whole or not at all.
  ///
  /// What NumPy lacks, bfloat16 and whole numbers with scales, is written as float32.
  public static func write(_ tensor: Tensor, to path: String) throws {
    var file = try AtomicFile(path: path)
    if tensor.element == .bf16 || tensor.element.isQuantised {
      let widened = Tensor(shape: tensor.shape, floats: try tensor.floats())
      try file.write(NPYHeader.encode(widened.element, widened.shape))
      try append(widened, to: &file)
    } else {
      try file.write(NPYHeader.encode(tensor.element, tensor.shape))
      try append(tensor, to: &file)
    }
    try file.commit()
  }

  private static func append(_ tensor: Tensor, to file: inout AtomicFile) throws {
    // Copied in pieces: a closure cannot borrow the file while it is written to.
    let piece = 1 << 20
    for start in stride(from: 0, to: tensor.storage.byteCount, by: piece) {
      let end = min(start + piece, tensor.storage.byteCount)
      try file.write(tensor.storage.withBytes { Array($0[start..<end]) })
    }
  }
}

/// Runs `body`; what it throws gets `path` as its file.
func located<Result>(_ path: String, _ body: () throws -> Result) throws -> Result {
  do { return try body() } catch let error as VitError { throw error.at(Location(file: path)) }
}
