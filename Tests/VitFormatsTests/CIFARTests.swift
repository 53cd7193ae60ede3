import Testing
import VitFormats
import VitIR
import VitTestSupport

@Suite struct CIFARTests {
  /// `count` records; plane k of image i holds (i + k + position) mod 251.
  private func batch(_ count: Int, prefix: Int) -> [UInt8] {
    (0..<count).flatMap { index -> [UInt8] in
      let labels: [UInt8] = prefix == 1 ? [UInt8(index % 10)] : [UInt8(index % 20), UInt8(index % 100)]
      return labels + (0..<3072).map { UInt8((index + $0 / 1024 + $0 % 1024) % 251) }
    }
  }

  @Test(
    "both kinds are told by size, planes become pixels, fine labels are taken",
    arguments: [(1, 10), (2, 100)])
  func kinds(_ prefix: Int, _ classes: Int) throws {
    let scratch = try Scratch()
    let batch = try CIFAR(scratch.write(batch(23, prefix: prefix), to: "x.bin"))
    #expect(batch.classes == classes)
    #expect(batch.count == 23)
    #expect(batch.labels == (0..<23).map { $0 % classes })
    let image = try batch.image(5)
    #expect(image.width == 32 && image.height == 32 && image.channels == 3)
    #expect(image.pixels[2100..<2103] == [203, 204, 205])
  }

  @Test("a size of no whole number of records and a label out of range are refused")
  func refused() throws {
    let scratch = try Scratch()
    let whole = batch(2, prefix: 1)
    for length in [0, 1, 3072, 3075, 6145] {
      let path = try scratch.write(Array(whole.prefix(length)), to: "x.bin")
      #expect(throws: VitError.self) { try CIFAR(path) }
    }
    var wrong = whole
    wrong[3073] = 10
    let path = try scratch.write(wrong, to: "x.bin")
    let error = #expect(throws: VitError.self) { try CIFAR(path) }
    #expect(error?.diagnostic.message.contains("3073") == true)
  }
}
