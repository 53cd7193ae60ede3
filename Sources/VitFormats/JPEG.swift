internal import CVitFormats
internal import VitIR

/// JPEG, by way of TurboJPEG.
enum JPEG {
  /// Decodes to gray or RGB, the orientation of its EXIF data honoured. Damage is an error, also such as libjpeg only
  /// warns of.
  static func decode(_ bytes: [UInt8]) throws -> Image {
    #if VITC_JPEG
      guard let handle = tjInitDecompress() else {
        throw VitError("TurboJPEG cannot start", kind: .environment, code: "jpeg")
      }
      defer { tjDestroy(handle) }
      var width: Int32 = 0
      var height: Int32 = 0
      var sampling: Int32 = 0
      var space: Int32 = 0
      if tjDecompressHeader3(handle, bytes, UInt(bytes.count), &width, &height, &sampling, &space) != 0 {
        try check(handle)
      }
      // A block of 8 × 8 samples takes at least one bit.
      try Image.check(width: Int(width), height: Int(height), bytes: bytes.count, density: 8 * 64)
      let (format, channels): (TJPF, Int) =
        switch Int(space) {
        case Int(TJCS_GRAY.rawValue): (TJPF_GRAY, 1)
        case Int(TJCS_CMYK.rawValue), Int(TJCS_YCCK.rawValue): (TJPF_CMYK, 4)
        default: (TJPF_RGB, 3)
        }
      var pixels = [UInt8](repeating: 0, count: Int(width) * Int(height) * channels)
      let status = tjDecompress2(
        handle, bytes, UInt(bytes.count), &pixels, width, 0, height, Int32(format.rawValue), TJFLAG_LIMITSCANS
      )
      if status != 0 { try check(handle) }
      if channels == 4 { pixels = fromInvertedCMYK(pixels) }
      let image = Image(
        width: Int(width), height: Int(height), channels: channels == 4 ? 3 : channels, pixels: pixels)
      return image.oriented(orientation(bytes))
    #else
      throw missingLibrary("JPEG", package: "libturbojpeg0-dev")
    #endif
  }

  /// What the first EXIF segment (APP1) before the samples says.
  private static func orientation(_ bytes: [UInt8]) -> Orientation {
    let exif = Array("Exif\0\0".utf8)
    return bytes.withUnsafeBytes { buffer in
      var reader = ByteReader(buffer)
      guard (try? reader.skip(2)) != nil else { return .upright }
      while let mark = try? reader.byte(), mark == 0xff, var marker = try? reader.byte() {
        // Fill bytes may stand before a marker; what comes behind the scan's does not count.
        while marker == 0xff, let next = try? reader.byte() { marker = next }
        guard marker != 0xda, marker != 0xd9, let length = try? reader.bigEndian(UInt16.self), length >= 2,
          let body = try? reader.bytes(Int(length) - 2)
        else { return .upright }
        if marker == 0xe1, body.starts(with: exif) {
          return Orientation(exif: UnsafeRawBufferPointer(rebasing: body.dropFirst(exif.count)))
        }
      }
      return .upright
    }
  }

  #if VITC_JPEG
    /// Throws unless the last thing that TurboJPEG said is one of libjpeg's warnings that leave the samples whole.
    ///
    /// Its error code does not tell: a failure after a warning is reported as a warning.
    private static func check(_ handle: tjhandle) throws(VitError) {
      let reason = tjGetErrorStr2(handle).map { String(cString: $0) } ?? "unknown"
      let harmless = ["extraneous bytes", "JFIF revision", "Adobe color transform", "Invalid SOS parameters"]
      guard harmless.contains(where: reason.contains) else {
        throw VitError("the JPEG data are damaged: \(reason)", code: "jpeg")
      }
    }

    /// Cyan, magenta, yellow, black, all stored as 255 minus the ink, to RGB.
    private static func fromInvertedCMYK(_ pixels: [UInt8]) -> [UInt8] {
      [UInt8](unsafeUninitializedCapacity: pixels.count / 4 * 3) { target, count in
        for index in 0..<pixels.count / 4 {
          let white = Int(pixels[4 * index + 3])
          for channel in 0..<3 {
            let ink = 255 - Int(pixels[4 * index + channel])
            let product = ink * white + 128
            target[3 * index + channel] = UInt8(max(0, white - (product + product >> 8) >> 8))
          }
        }
        count = pixels.count / 4 * 3
      }
    }
  #endif
}
