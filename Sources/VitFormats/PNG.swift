internal import CVitFormats
internal import VitIR

/// PNG, by way of libpng's simplified reader.
enum PNG {
  static let signature: [UInt8] = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]

  /// Decodes to gray or RGB of 8 bits: transparency is dropped, the orientation of an `eXIf` chunk honoured.
  ///
  /// Samples of 16 bits become 8 as in Pillow: gray ones above 255 are 255 (its mode `I;16` is made for numbers that
  /// are no brightness), coloured ones lose their low byte. With transparency they are rounded, by at most one step from
  /// Pillow's: libpng gives deep samples and their transparency only multiplied.
  static func decode(_ bytes: [UInt8]) throws -> Image {
    #if VITC_PNG
      let essence = try Essence(bytes)
      // libpng keeps the address from the first call to the last.
      let image = try essence.bytes.withUnsafeBytes { try decode($0, essence, bytes: bytes.count) }
      return image.oriented(essence.orientation)
    #else
      throw missingLibrary("PNG", package: "libpng-dev")
    #endif
  }

  #if VITC_PNG
    private static func decode(
      _ data: UnsafeRawBufferPointer, _ essence: Essence, bytes: Int
    ) throws -> Image {
      let (width, height) = (essence.width, essence.height)
      // Deflate's best, one bit a pixel.
      try Image.check(width: width, height: height, bytes: bytes, density: 8 * maximumDeflateRatio)
      // On the heap: libpng keeps its address for the errors to come.
      let image = UnsafeMutablePointer<png_image>.allocate(capacity: 1)
      image.initialize(to: png_image())
      image.pointee.version = UInt32(PNG_IMAGE_VERSION)
      defer {
        png_image_free(image)
        image.deallocate()
      }
      guard png_image_begin_read_from_memory(image, data.baseAddress, data.count) != 0 else {
        throw failure(image)
      }
      guard Int(image.pointee.width) == width, Int(image.pointee.height) == height else {
        throw VitError("the PNG data are damaged: two sizes", code: "png")
      }
      let isColour = image.pointee.format & UInt32(PNG_FORMAT_FLAG_COLOR) != 0
      // Read with the alpha that there is: without, libpng would blend with a background.
      let hasAlpha = image.pointee.format & UInt32(PNG_FORMAT_FLAG_ALPHA) != 0
      if essence.depth == 16, !hasAlpha {
        return try decodeDeep(image, isColour: isColour, width: width, height: height)
      }
      image.pointee.format =
        (isColour ? UInt32(PNG_FORMAT_FLAG_COLOR) : 0) | (hasAlpha ? UInt32(PNG_FORMAT_FLAG_ALPHA) : 0)
      // Sixteen-bit samples are taken as they are too, not as linear light.
      image.pointee.flags |= UInt32(PNG_IMAGE_FLAG_16BIT_sRGB)
      let channels = isColour ? 3 : 1
      let stored = channels + (hasAlpha ? 1 : 0)
      var pixels = [UInt8](repeating: 0, count: width * height * stored)
      guard png_image_finish_read(image, nil, &pixels, Int32(width * stored), nil) != 0 else {
        throw failure(image)
      }
      if hasAlpha {
        pixels = [UInt8](unsafeUninitializedCapacity: width * height * channels) { target, count in
          for index in 0..<width * height {
            for channel in 0..<channels {
              target[index * channels + channel] = pixels[index * stored + channel]
            }
          }
          count = width * height * channels
        }
      }
      return Image(width: width, height: height, channels: channels, pixels: pixels)
    }

    /// Samples of 16 bits without transparency: "linear" ones are given as they are stored.
    private static func decodeDeep(
      _ image: UnsafeMutablePointer<png_image>, isColour: Bool, width: Int, height: Int
    ) throws -> Image {
      image.pointee.format =
        UInt32(PNG_FORMAT_FLAG_LINEAR) | (isColour ? UInt32(PNG_FORMAT_FLAG_COLOR) : 0)
      let channels = isColour ? 3 : 1
      var samples = [UInt16](repeating: 0, count: width * height * channels)
      guard png_image_finish_read(image, nil, &samples, Int32(width * channels), nil) != 0 else {
        throw failure(image)
      }
      let pixels = isColour ? samples.map { UInt8($0 >> 8) } : samples.map { UInt8(min($0, 255)) }
      return Image(width: width, height: height, channels: channels, pixels: pixels)
    }
  #endif

  /// A file without its optional chunks, and what its header and its EXIF data say.
  ///
  /// What is left out says how colours are meant (gamma, profiles, backgrounds) and which are transparent; with it
  /// libpng would change samples that training pipelines take as they are.
  private struct Essence {
    var bytes = signature
    var width = 0
    var height = 0
    var depth = 0
    var orientation = Orientation.upright

    init(_ file: [UInt8]) throws {
      bytes.reserveCapacity(file.count)
      try file.withUnsafeBytes { try walk($0) }
    }

    private mutating func walk(_ buffer: UnsafeRawBufferPointer) throws {
      let kept: [[UInt8]] = ["IHDR", "PLTE", "IDAT", "IEND"].map { Array($0.utf8) }
      let exif = Array("eXIf".utf8)
      var reader = ByteReader(buffer)
      try reader.skip(signature.count, "the signature")
      while true {
        let length = Int(try reader.bigEndian(UInt32.self, "a chunk's length"))
        let type = Array(try reader.bytes(4, "a chunk's type"))
        let start = reader.consumed - 8
        var body = try reader.reader(length, "a chunk")
        try reader.skip(4, "a chunk's checksum")
        if type == exif { orientation = Orientation(exif: body.bytes) }
        if start == signature.count {
          guard type == kept[0] else {
            throw VitError("the PNG data are damaged: the first chunk is not IHDR", code: "png")
          }
          width = Int(try body.bigEndian(UInt32.self, "the width"))
          height = Int(try body.bigEndian(UInt32.self, "the height"))
          depth = Int(try body.byte("the bits of a sample"))
        }
        if kept.contains(type) { bytes += buffer[start..<reader.consumed] }
        if type == kept[3] { return }
      }
    }
  }

  #if VITC_PNG
    private static func failure(_ image: UnsafePointer<png_image>) -> VitError {
      let reason = withUnsafeBytes(of: image.pointee.message) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      return VitError("the PNG data are damaged: \(reason)", code: "png")
    }
  #endif
}
