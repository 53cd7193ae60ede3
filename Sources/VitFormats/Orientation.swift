internal import VitIR

/// How a camera was held: what EXIF's tag 0x0112 says of a picture's samples.
///
/// The rule: a picture is what its viewer shows, so the tag is honoured wherever a picture is read, as by
/// transformers' `load_image` and Pillow's `ImageOps.exif_transpose`. EXIF data that cannot be read say nothing.
public enum Orientation: Int, Sendable, Hashable, CaseIterable {
  /// As stored.
  case upright = 1
  /// Left and right have changed places.
  case mirrored
  /// Turned by 180°.
  case turned
  /// Top and bottom have changed places.
  case flipped
  /// Rows are columns: mirrored along the first diagonal.
  case transposed
  /// To be turned by 90° clockwise.
  case clockwise
  /// Mirrored along the second diagonal.
  case transversed
  /// To be turned by 90° counter-clockwise.
  case counterClockwise

  /// Whether the rows that are shown are columns of what is stored.
  var swapsAxes: Bool { rawValue >= 5 }

  /// What EXIF data (a TIFF header, then the first directory) say; upright where they are damaged or have no such tag.
  init(exif data: UnsafeRawBufferPointer) {
    self = (try? Orientation.read(data)).flatMap { $0 } ?? .upright
  }

  private static func read(_ data: UnsafeRawBufferPointer) throws -> Orientation? {
    var header = ByteReader(data)
    let isLittle = try header.bigEndian(UInt16.self) == 0x4949
    func number<Number: FixedWidthInteger>(_ reader: inout ByteReader, _: Number.Type) throws -> Number {
      isLittle ? try reader.littleEndian() : try reader.bigEndian()
    }
    guard try number(&header, UInt16.self) == 42 else { return nil }
    var directory = ByteReader(data)
    try directory.skip(Int(try number(&header, UInt32.self)))
    for _ in 0..<(try number(&directory, UInt16.self)) {
      let tag = try number(&directory, UInt16.self)
      let type = try number(&directory, UInt16.self)
      try directory.skip(4, "the count")
      let value = try number(&directory, UInt16.self)
      try directory.skip(2)
      if tag == 0x0112 { return type == 3 ? Orientation(rawValue: Int(value)) : nil }
    }
    return nil
  }
}

extension Image {
  /// The picture as it is meant to be seen, its samples being stored in `orientation`.
  func oriented(_ orientation: Orientation) -> Image {
    if orientation == .upright { return self }
    let (rows, columns) = orientation.swapsAxes ? (width, height) : (height, width)
    // What a step along a shown row and down a shown column is in the stored samples, and where they begin.
    let (down, right) = (width, 1)
    let (start, perRow, perColumn): (Int, Int, Int) =
      switch orientation {
      case .upright: (0, down, right)
      case .mirrored: (width - 1, down, -right)
      case .turned: (width * height - 1, -down, -right)
      case .flipped: (width * (height - 1), -down, right)
      case .transposed: (0, right, down)
      case .clockwise: (width * (height - 1), right, -down)
      case .transversed: (width * height - 1, -right, -down)
      case .counterClockwise: (width - 1, -right, down)
      }
    let samples = [UInt8](unsafeUninitializedCapacity: pixels.count) { target, count in
      for row in 0..<rows {
        for column in 0..<columns {
          let source = (start + row * perRow + column * perColumn) * channels
          for channel in 0..<channels { target[count + channel] = pixels[source + channel] }
          count += channels
        }
      }
    }
    return Image(width: columns, height: rows, channels: channels, pixels: samples)
  }
}
