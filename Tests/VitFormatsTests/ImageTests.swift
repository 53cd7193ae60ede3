import Testing
import VitFormats
import VitIR
import VitTestSupport

@Suite struct ImageTests {
  /// The pixels that Pillow reads from a fixture.
  private func expected(_ name: String) throws -> Tensor { try NPY.read(Fixture.path("formats/\(name).npy")) }

  @Test(
    "PNG of every kind has the samples that Pillow reads",
    arguments: [
      "rgb", "gray", "alpha", "gray-alpha", "palette", "palette-transparent", "bilevel", "gray4", "gray16",
      "rgb16", "rgb16-low",
      "gamma", "interlaced",
    ])
  func png(_ name: String) throws { try compare(name + ".png") }

  @Test(
    "JPEG of every kind has the samples that Pillow reads, orientation honoured",
    arguments: ["baseline", "fine", "progressive", "gray", "cmyk", "rotated"])
  func jpeg(_ name: String) throws { try compare(name + ".jpg") }

  @Test(
    "WebP of every kind has the samples that Pillow reads", arguments: ["lossy", "alpha", "orientation5"])
  func webp(_ name: String) throws { try compare(name + ".webp") }

  @Test("EXIF's orientation is honoured as by Pillow's exif_transpose", arguments: 1...8)
  func orientation(_ number: Int) throws { try compare("orientation\(number).png") }

  @Test("an animation is refused by name")
  func animation() throws {
    let error = #expect(throws: VitError.self) {
      try Image(contentsOf: Fixture.path("formats/animation.webp"))
    }
    #expect(error?.diagnostic.message == "expected a WebP picture, found an animation")
  }

  private func compare(_ name: String) throws {
    let image = try Image(contentsOf: Fixture.path("formats/" + name))
    let expected = try expected(name)
    #expect([image.height, image.width] == Array(expected.shape.prefix(2)))
    #expect(image.channels == (expected.shape.count == 3 ? 3 : 1))
    #expect(image.pixels.map(Int.init) == (try expected.integers()))
  }

  @Test(
    "a PNG that is cut short anywhere is refused", arguments: ["rgb.png", "palette.png", "interlaced.png"])
  func shortPNG(_ name: String) throws {
    let bytes = try Fixture.bytes("formats/" + name)
    for length in 0..<bytes.count {
      #expect(throws: VitError.self, "cut at \(length)") { try Image(decoding: Array(bytes[..<length])) }
    }
  }

  @Test(
    "a WebP that is cut short is refused", arguments: ["lossy.webp", "alpha.webp"])
  func shortWebP(_ name: String) throws {
    let bytes = try Fixture.bytes("formats/" + name)
    for length in 0..<bytes.count - 1 {
      #expect(throws: VitError.self, "cut at \(length)") { try Image(decoding: Array(bytes[..<length])) }
    }
  }

  @Test(
    "a JPEG that is cut short is refused, up to its last two bytes", arguments: ["baseline.jpg", "gray.jpg"])
  func shortJPEG(_ name: String) throws {
    let bytes = try Fixture.bytes("formats/" + name)
    for length in 0..<bytes.count - 2 {
      #expect(throws: VitError.self, "cut at \(length)") { try Image(decoding: Array(bytes[..<length])) }
    }
  }

  @Test(
    "a damaged image is read or refused, never a trap",
    arguments: [
      "rgb.png", "alpha.png", "palette.png", "bilevel.png", "gray16.png", "interlaced.png", "baseline.jpg",
      "progressive.jpg", "cmyk.jpg", "rotated.jpg", "orientation5.png", "orientation5.webp", "lossy.webp",
      "alpha.webp",
      "animation.webp",
    ])
  func damage(_ name: String) throws {
    #expect(damaged(try Fixture.bytes("formats/" + name)) { _ = try Image(decoding: $0) } == [])
  }

  @Test("an image larger than its bytes can hold, or than the limit, is refused before it is decoded")
  func bombs() throws {
    var png = try Fixture.bytes("formats/rgb.png")
    for (width, height): (UInt8, UInt8) in [(0x7f, 0x7f), (0, 0x7f)] {
      png.replaceSubrange(16..<24, with: [width, 0xff, 0xff, 0xff, height, 0xff, 0xff, 0xff])
      let error = #expect(throws: VitError.self) { try Image(decoding: png) }
      #expect(error?.diagnostic.code == "image-size")
    }
    var jpeg = try Fixture.bytes("formats/gray.jpg")
    let frame = try #require(jpeg.indices.dropLast().first { jpeg[$0] == 0xff && jpeg[$0 + 1] == 0xc0 })
    jpeg.replaceSubrange(frame + 5..<frame + 9, with: [0x20, 0, 0x20, 0])
    let error = #expect(throws: VitError.self) { try Image(decoding: jpeg) }
    #expect(error?.diagnostic.code == "image-size")
  }

  @Test("other files are named in the refusal")
  func foreign() throws {
    for (bytes, name) in [
      (Array("GIF89a".utf8), "GIF"), (Array("BM......".utf8), "BMP"), (Array("II*\0".utf8), "TIFF"),
      ([], "an empty file"),
      (Array("hello".utf8), "something else"),
    ] {
      let error = #expect(throws: VitError.self) { try Image(decoding: bytes) }
      #expect(error?.diagnostic.message.hasSuffix(name) == true)
    }
  }
}
