internal import VitIR

/// A batch of CIFAR-10 or CIFAR-100: 32 × 32 pictures as planes, in the binary version or that for Python.
///
/// The images stay in the file until they are asked for, where they lie in it as they are.
public struct CIFAR: Sendable {
  /// The number of classes: 10, or 100 (fine labels).
  public let classes: Int
  /// The class of each image.
  public let labels: [Int]
  private let storage: any TensorStorage
  /// The bytes of a record, of which the last are planes.
  private let record: Int

  private static let side = 32
  private static let planes = 3 * 32 * 32

  /// Opens the batch of the binary version at `path`: records of label bytes and 3072 bytes of planes.
  ///
  /// Which of the two it is follows from its size or, where both fit, from its name. Throws where neither fits and
  /// for a label out of range.
  public init(_ path: String) throws {
    let file = try MappedFile(path: path)
    let candidates = [1, 2].filter { file.count.isMultiple(of: $0 + CIFAR.planes) }
    let name = path.split(separator: "/").last ?? ""
    guard file.count > 0, !candidates.isEmpty else {
      throw VitError(
        "expected records of 3073 bytes (CIFAR-10) or 3074 (CIFAR-100), found \(file.count) bytes",
        code: "cifar-size", location: Location(file: path))
    }
    let prefix = candidates.count == 1 ? candidates[0] : name.contains("batch") ? 1 : 2
    let classes = prefix == 1 ? 10 : 100
    let record = prefix + CIFAR.planes
    labels = try file.withBytes { bytes in
      try stride(from: prefix - 1, to: bytes.count, by: record).map { offset in
        guard bytes[offset] < classes else {
          throw VitError(
            "offset \(offset): expected a label below \(classes), found \(bytes[offset])",
            code: "cifar-label", location: Location(file: path))
        }
        return Int(bytes[offset])
      }
    }
    storage = file
    self.record = record
    self.classes = classes
  }

  /// Opens the batch of the version for Python at `path`: a pickle, which is read and not executed, of a dictionary with
  /// `data`, an array u8 [images, 3072], and `labels` or `fine_labels`.
  ///
  /// Throws for what is malformed, for a name that NumPy's arrays do not need, and for a label out of range.
  public init(pickle path: String) throws {
    (classes, labels, storage) = try located(path) {
      let file = try MappedFile(path: path)
      let pickle = try Pickle(try MappedFile.contents(of: path, limit: Pickle.maximumBytes))
      guard let data = try pickle.member("data"),
        let (classes, found) = try pickle.member("fine_labels").map({ (100, $0) })
          ?? pickle.member("labels").map({ (10, $0) })
      else {
        throw VitError(
          "expected 'data' and 'labels' or 'fine_labels', found the keys \(pickle.keys())",
          code: "cifar-keys")
      }
      let labels = try pickle.integers(found, "labels")
      for (place, label) in labels.enumerated() where !(0..<classes).contains(label) {
        throw VitError(
          "expected labels from 0 to \(classes - 1), found \(label) for image \(place)", code: "cifar-label")
      }
      return (classes, labels, try CIFAR.planes(of: pickle, data, count: labels.count, file))
    }
    record = CIFAR.planes
  }

  /// The planes of `count` images in the array `value`.
  private static func planes(
    of pickle: Pickle, _ value: PickleValue, count: Int, _ file: MappedFile
  ) throws -> any TensorStorage {
    guard case .array(let array?) = value, case .elementType(let type) = pickle[array.type] else {
      throw VitError("expected 'data' to be an array of NumPy, found \(value.kind)", code: "cifar-data")
    }
    let shape = try pickle.integers(pickle[array.shape], "extents")
    guard ["u1", "|u1"].contains(type), shape == [count, planes] else {
      throw VitError(
        "expected 'data' to be an array u1[\(count), \(planes)], a row for each label, found \(type)\(shape)",
        code: "cifar-data")
    }
    let contents = pickle[array.bytes]
    let range = pickle.range(contents)
    let bytes = range == nil || array.isColumnMajor ? try pickle.text(contents) : []
    let found = range?.count ?? bytes.count
    // A list of so many labels has been read: the product is small.
    guard found == count * planes else {
      throw VitError(
        "expected \(count * planes) bytes of 'data', found \(found)", code: "cifar-data")
    }
    if let range, !array.isColumnMajor { return try file.storage(range) }
    return try MemoryStorage(byteCount: found) { target in
      if !array.isColumnMajor { return target.copyBytes(from: bytes) }
      for place in 0..<found { target[place] = bytes[place % planes * count + place / planes] }
    }
  }

  /// The names of the classes in the file beside batches for Python, `batches.meta` or `meta`: of 10 or of 100 (fine) ones.
  public static func classNames(pickle path: String) throws -> [String] {
    try located(path) {
      let pickle = try Pickle(try MappedFile.contents(of: path, limit: 1 << 20))
      guard
        let (classes, found) = try pickle.member("fine_label_names").map({ (100, $0) })
          ?? pickle.member("label_names").map({ (10, $0) })
      else {
        throw VitError(
          "expected 'label_names' or 'fine_label_names', found the keys \(pickle.keys())", code: "cifar-keys")
      }
      let names = try pickle.elements(found, "names")
      guard names.count == classes else {
        throw VitError("expected \(classes) names, found \(names.count)", code: "cifar-keys")
      }
      return try names.map { try FileName.text(of: pickle.text($0)) }
    }
  }

  /// Whether `bytes`, the first of a file, can be the start of a batch for Python.
  public static func isPickle(_ bytes: [UInt8]) -> Bool { Pickle.isHeader(bytes) }

  /// The number of images.
  public var count: Int { labels.count }

  /// Image `index`, 32 × 32, RGB.
  public func image(_ index: Int) throws -> Image {
    let start = index * record + record - CIFAR.planes
    return try storage.withBytes { bytes in
      Image(
        planes: UnsafeRawBufferPointer(rebasing: bytes[start..<start + CIFAR.planes]), width: CIFAR.side,
        height: CIFAR.side, channels: 3)
    }
  }
}
