internal import CVitFormats
package import VitIR

/// Pictures of one number a pixel, for pages that show maps.
package enum PalettePNG {
  /// The PNG of `pixels`, row by row, each of which is an index into a palette of red, green and blue. Throws where zlib is not
  /// there, or the sizes do not fit.
  ///
  /// Source: PNG (Portable Network Graphics) Specification, W3C, third edition, §5, §11.
  package static func encode(width: Int, height: Int, pixels: [UInt8], palette: [(UInt8, UInt8, UInt8)])
    throws(VitError) -> [UInt8]
  {
    guard width > 0, height > 0, width <= 1 << 14, height <= 1 << 14, pixels.count == width * height,
      (1...256).contains(palette.count), pixels.allSatisfy({ Int($0) < palette.count })
    else { throw VitError("a picture of \(width) × \(height) has \(pixels.count) pixels", code: "png") }
    var header = word(width) + word(height)
    header += [8, 3, 0, 0, 0]
    var rows: [UInt8] = []
    for row in 0..<height { rows += [0] + pixels[row * width..<(row + 1) * width] }
    return [137, 80, 78, 71, 13, 10, 26, 10] + chunk("IHDR", header)
      + chunk("PLTE", palette.flatMap { [$0.0, $0.1, $0.2] }) + chunk("IDAT", try deflated(rows))
      + chunk("IEND", [])
  }

  private static func word(_ value: Int) -> [UInt8] {
    [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) }
  }

  private static func chunk(_ name: String, _ contents: [UInt8]) -> [UInt8] {
    let body = Array(name.utf8) + contents
    return word(contents.count) + body + word(checksum(body))
  }

  #if VITC_ZLIB
    private static func checksum(_ bytes: [UInt8]) -> Int {
      Int(crc32_z(0, bytes, bytes.count))
    }

    private static func deflated(_ bytes: [UInt8]) throws(VitError) -> [UInt8] {
      var packed = [UInt8](repeating: 0, count: Int(compressBound(UInt(bytes.count))))
      var count = UInt(packed.count)
      let status = compress2(&packed, &count, bytes, UInt(bytes.count), 9)
      guard status == Z_OK else {
        throw VitError("zlib cannot pack a picture (status \(status))", kind: .environment, code: "zlib")
      }
      return Array(packed.prefix(Int(count)))
    }
  #else
    private static func checksum(_ bytes: [UInt8]) -> Int { 0 }

    private static func deflated(_ bytes: [UInt8]) throws(VitError) -> [UInt8] {
      throw missingLibrary("zlib", package: "zlib1g-dev")
    }
  #endif
}
