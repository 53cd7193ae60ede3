import Testing
import VitFormats
import VitIR
import VitTestSupport

@Suite("Pictures with a palette") struct PalettePNGTests {
  @Test("what is written is read again, colour by colour", arguments: [(1, 1), (3, 2), (17, 9), (256, 200)])
  func roundTrip(_ width: Int, _ height: Int) throws {
    let palette: [(UInt8, UInt8, UInt8)] = (0..<256).map {
      (UInt8($0), UInt8(255 - $0), UInt8(truncatingIfNeeded: 7 * $0))
    }
    let pixels = (0..<width * height).map { UInt8(truncatingIfNeeded: 31 * $0 + $0 / 5) }
    let scratch = try Scratch()
    let path = try scratch.write(
      PalettePNG.encode(width: width, height: height, pixels: pixels, palette: palette), to: "p.png")
    let image = try Image(contentsOf: path)
    #expect(image.width == width && image.height == height)
    try #require(image.pixels.count == 3 * pixels.count)
    for (place, pixel) in pixels.enumerated() {
      let color = palette[Int(pixel)]
      #expect(Array(image.pixels[3 * place..<3 * place + 3]) == [color.0, color.1, color.2])
    }
  }

  @Test("sizes that do not fit are refused")
  func refused() {
    for (width, height, count) in [(0, 1, 0), (2, 2, 3), (1 << 15, 1, 1 << 15)] {
      #expect(throws: VitError.self) {
        try PalettePNG.encode(
          width: width, height: height, pixels: [UInt8](repeating: 0, count: count), palette: [(0, 0, 0)])
      }
    }
    #expect(throws: VitError.self) {
      try PalettePNG.encode(width: 1, height: 1, pixels: [1], palette: [(0, 0, 0)])
    }
  }
}
