internal import VitIR

/// A batch of CIFAR-10 or CIFAR-100 in the binary version: records of label bytes and 3072 bytes of planes.
///
/// The images stay in the file until they are asked for.
public struct CIFAR: Sendable {
  /// The number of classes: 10, or 100 (fine labels).
  public let classes: Int
  /// The class of each image.
  public let labels: [Int]
  private let file: MappedFile
  private let prefix: Int

  private static let side = 32
  private static let planes = 3 * 32 * 32

  /// Opens the batch at `path`.
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
    self.file = file
    self.prefix = prefix
    self.classes = classes
  }

  /// The number of images.
  public var count: Int { labels.count }

  /// Image `index`, 32 × 32, RGB.
  public func image(_ index: Int) throws -> Image {
    let start = index * (prefix + CIFAR.planes) + prefix
    return try file.withBytes(start..<start + CIFAR.planes) { planes in
      Image(planes: planes, width: CIFAR.side, height: CIFAR.side, channels: 3)
    }
  }
}
