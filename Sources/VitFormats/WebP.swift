internal import CVitFormats
internal import VitIR

/// WebP, lossy and lossless, by way of libwebp.
enum WebP {
  /// Whether a file that starts with `bytes` is WebP.
  static func isMarked(_ bytes: [UInt8]) -> Bool {
    bytes.starts(with: Array("RIFF".utf8)) && bytes.dropFirst(8).starts(with: Array("WEBP".utf8))
  }

  /// Decodes to RGB: transparency is dropped, the orientation of its EXIF data honoured; animations are refused.
  static func decode(_ bytes: [UInt8]) throws -> Image {
    #if VITC_WEBP
      var features = WebPBitstreamFeatures()
      guard WebPGetFeatures(bytes, bytes.count, &features) == VP8_STATUS_OK else {
        throw VitError("the WebP data are damaged: no header", code: "webp")
      }
      let (width, height) = (Int(features.width), Int(features.height))
      guard features.has_animation == 0 else {
        throw VitError("expected a WebP picture, found an animation", code: "not-an-image")
      }
      // Flat areas take next to nothing: only the limit of an image holds.
      try Image.check(width: width, height: height, bytes: bytes.count, density: Image.maximumPixels)
      var pixels = [UInt8](repeating: 0, count: 3 * width * height)
      let count = pixels.count
      guard WebPDecodeRGBInto(bytes, bytes.count, &pixels, count, Int32(3 * width)) != nil else {
        throw VitError("the WebP data are damaged", code: "webp")
      }
      let image = Image(width: width, height: height, channels: 3, pixels: pixels)
      return image.oriented(orientation(bytes))
    #else
      throw missingLibrary("WebP", package: "libwebp-dev")
    #endif
  }

  /// What the EXIF chunk says.
  private static func orientation(_ bytes: [UInt8]) -> Orientation {
    let marks = ["EXIF", "Exif\0\0"].map { Array($0.utf8) }
    return bytes.withUnsafeBytes { buffer in
      var reader = ByteReader(buffer)
      guard (try? reader.skip(12)) != nil else { return .upright }
      while let type = try? reader.bytes(4), let length = try? reader.littleEndian(UInt32.self),
        let body = try? reader.bytes(Int(length))
      {
        if type.elementsEqual(marks[0]) {
          let mark = body.starts(with: marks[1]) ? marks[1].count : 0
          return Orientation(exif: UnsafeRawBufferPointer(rebasing: body.dropFirst(mark)))
        }
        // Chunks begin at even offsets.
        guard length % 2 == 0 || (try? reader.skip(1)) != nil else { break }
      }
      return .upright
    }
  }
}
