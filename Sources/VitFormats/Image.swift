internal import VitIR

/// A picture: 8 bits a sample, rows from the top, the channels of a pixel side by side.
public struct Image: Sendable, Hashable {
  /// Pixels in a row.
  public let width: Int
  /// The number of rows.
  public let height: Int
  /// Samples of a pixel: 1 is gray, 3 is red, green, blue; other numbers have no meaning as colours.
  public let channels: Int
  /// The samples, `height` × `width` × `channels`.
  public let pixels: [UInt8]

  /// A picture of as many samples as its extents say.
  public init(width: Int, height: Int, channels: Int, pixels: [UInt8]) {
    precondition(pixels.count == width * height * channels)
    self.width = width
    self.height = height
    self.channels = channels
    self.pixels = pixels
  }

  /// A picture of which the channels lie apart: `channels` × `height` × `width` samples.
  public init(planes: UnsafeRawBufferPointer, width: Int, height: Int, channels: Int) {
    let area = width * height
    precondition(planes.count == area * channels)
    self.init(
      width: width, height: height, channels: channels,
      pixels: [UInt8](unsafeUninitializedCapacity: planes.count) { target, count in
        for channel in 0..<channels {
          for index in 0..<area { target[index * channels + channel] = planes[channel * area + index] }
        }
        count = planes.count
      })
  }

  /// The most pixels that a picture may have.
  public static let maximumPixels = 1 << 27
  /// The most bytes that a picture's file may have.
  public static let maximumFile = 1 << 28

  /// Decodes the JPEG, PNG or WebP file at `path`, told by its content.
  public init(contentsOf path: String) throws {
    let bytes = try MappedFile.contents(of: path, limit: Image.maximumFile)
    self = try located(path) { try Image(decoding: bytes) }
  }

  /// Decodes a JPEG, PNG or WebP file, told by its content.
  ///
  /// Transparency is dropped and CMYK converted as Pillow's `convert("RGB")` does; EXIF's orientation is honoured (see
  /// `Orientation`).
  public init(decoding bytes: [UInt8]) throws {
    switch Image.format(bytes) {
    case .jpeg: self = try JPEG.decode(bytes)
    case .png: self = try PNG.decode(bytes)
    case .webp: self = try WebP.decode(bytes)
    case nil:
      let found = bytes.isEmpty ? "an empty file" : Image.foreignFormat(bytes) ?? "something else"
      throw VitError("expected a JPEG, PNG or WebP image, found \(found)", code: "not-an-image")
    }
  }

  /// A format of pictures that vitc reads.
  public enum Format: Sendable { case jpeg, png, webp }

  /// The format of a file that starts with `bytes`, of which twelve are enough.
  public static func format(_ bytes: [UInt8]) -> Format? {
    if bytes.starts(with: [0xff, 0xd8, 0xff]) { return .jpeg }
    if bytes.starts(with: PNG.signature) { return .png }
    return WebP.isMarked(bytes) ? .webp : nil
  }

  private static func foreignFormat(_ bytes: [UInt8]) -> String? {
    let known: [(offset: Int, mark: String, name: String)] = [
      (0, "GIF8", "GIF"), (0, "BM", "BMP"), (4, "ftyp", "HEIF or AVIF"),
      (0, "II*\0", "TIFF"), (0, "MM\0*", "TIFF"), (0, "P6", "PPM"), (0, "P5", "PGM"),
    ]
    return known.first { bytes.dropFirst($0.offset).starts(with: $0.mark.utf8) }?.name
  }

  /// Throws unless a picture of these extents is small enough, and can be in `bytes` bytes of which each holds at most
  /// `density` pixels.
  static func check(width: Int, height: Int, bytes: Int, density: Int) throws(VitError) {
    guard width > 0, height > 0 else {
      throw VitError("an image of \(width) × \(height) pixels has none", code: "image-size")
    }
    let (pixels, overflow) = width.multipliedReportingOverflow(by: height)
    guard !overflow, pixels <= maximumPixels else {
      throw VitError(
        "an image of \(width) × \(height) pixels is larger than vitc reads (\(maximumPixels))",
        code: "image-size")
    }
    guard pixels / density <= bytes else {
      throw VitError(
        "\(bytes) bytes cannot hold an image of \(width) × \(height) pixels", code: "image-size")
    }
  }
}
