import Testing
import VitData
import VitFormats
import VitIR
import VitTestSupport

@Suite struct InterpolationTests {
  private let fixtures: NPZ

  init() throws { fixtures = try NPZ(Fixture.path("preprocess/resize.npz")) }

  static func image(_ tensor: Tensor) throws -> Image {
    try tensor.storage.withBytes { bytes in
      Image(
        width: tensor.shape[1], height: tensor.shape[0],
        channels: tensor.shape.count == 3 ? tensor.shape[2] : 1,
        pixels: Array(bytes))
    }
  }

  @Test(
    "every filter gives Pillow's samples, bit for bit, larger and smaller", arguments: Interpolation.allCases)
  func pillow(_ filter: Interpolation) throws {
    let names = fixtures.names.filter { $0.contains("_\(filter.rawValue)_") }
    #expect(names.count == 9)
    for name in names {
      let source = try Self.image(fixtures.tensor(name.hasPrefix("rgb") ? "rgb" : "gray"))
      let expected = try Self.image(fixtures.tensor(name))
      let result = filter.resize(source, width: expected.width, height: expected.height)
      let isSame = result == expected
      #expect(isSame, "\(name)")
    }
  }

  @Test("the same size changes nothing")
  func identity() throws {
    let source = try Self.image(fixtures.tensor("rgb"))
    for filter in Interpolation.allCases {
      let isSame = filter.resize(source, width: source.width, height: source.height) == source
      #expect(isSame)
    }
  }

  @Test("a single colour stays that colour at any size")
  func constant() {
    for filter in Interpolation.allCases {
      for value: UInt8 in [0, 1, 127, 255] {
        let source = Image(width: 5, height: 3, channels: 1, pixels: [UInt8](repeating: value, count: 15))
        let result = filter.resize(source, width: 13, height: 2)
        let isConstant = result.pixels.allSatisfy { $0 == value }
        #expect(isConstant)
      }
    }
  }

  @Test("Pillow's numbers name the filters")
  func codes() {
    #expect(
      (-1...6).map { Interpolation(pillow: $0) } == [
        nil, .nearest, .lanczos, .bilinear, .bicubic, .box, .hamming, nil,
      ])
  }
}
