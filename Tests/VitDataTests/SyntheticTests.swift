import Glibc
import Testing
import VitData
import VitFormats
import VitIR

@Suite struct SyntheticTests {
  private func open(_ text: String, channels: Int = 3, size: Int = 32, seed: UInt64 = 0) throws -> Dataset {
    try Dataset.open(
      text, defaultSplit: .train, channels: channels, height: size, width: size, seed: seed, warn: { _ in })
  }

  private func image(_ dataset: Dataset, _ index: Int) throws -> Image {
    guard case .image(let image) = try dataset.sample(at: index) else { throw VitError("no image") }
    return image
  }

  @Test("the argument gives the number of images, 1024 by default, and must be one")
  func argument() throws {
    #expect(try open("synthetic").count == 1024)
    #expect(try open("synthetic:7").count == 7)
    for text in [
      "synthetic:", "synthetic:0", "synthetic:-3", "synthetic:x", "synthetic:99999999999999999999",
    ] {
      let error = #expect(throws: VitError.self) { try open(text) }
      #expect(error?.kind == .usage)
    }
  }

  @Test("an image depends on the seed and its number only")
  func deterministic() throws {
    let few = try open("synthetic:3")
    let many = try open("synthetic:50")
    let isSame = try image(few, 2) == image(many, 2)
    #expect(isSame)
    let isOther = try image(few, 1) != image(few, 2)
    #expect(isOther)
    let isReseeded = try image(open("synthetic:3", seed: 9), 2) != image(few, 2)
    #expect(isReseeded)
  }

  @Test("any shape can be made", arguments: [(1, 1, 1), (1, 28, 28), (3, 5, 40), (4, 16, 9)])
  func shapes(_ channels: Int, _ height: Int, _ width: Int) {
    let image = Synthetic(count: 1, channels: channels, height: height, width: width, seed: 0).image(0)
    #expect(image.channels == channels && image.height == height && image.width == width)
  }

  @Test("colours are correlated, contrast is there, little is clipped")
  func statistics() throws {
    let data = try open("synthetic:40")
    var (sum, square, cross, clipped, count) = (0.0, 0.0, 0.0, 0.0, 0.0)
    for index in 0..<data.count {
      let pixels = try image(data, index).pixels
      for pixel in stride(from: 0, to: pixels.count, by: 3) {
        let (red, green) = (Double(pixels[pixel]) - 127, Double(pixels[pixel + 1]) - 127)
        sum += red
        square += red * red
        cross += red * green
        clipped += pixels[pixel] == 0 || pixels[pixel] == 255 ? 1 : 0
        count += 1
      }
    }
    let deviation = (square / count - sum * sum / (count * count)).squareRoot()
    #expect(deviation > 25 && deviation < 80)
    #expect(cross / square > 0.6)
    #expect(clipped / count < 0.05)
  }

  @Test("along a line the power falls as in natural images, between one over the frequency and its square")
  func spectrum() throws {
    // Power along rows of 64 pixels, Hann window, at frequencies 2 to 16, averaged over images.
    let size = 64
    let data = try open("synthetic:60", channels: 1, size: size)
    let tones = [2, 4, 8, 16]
    var power = [Double](repeating: 0, count: tones.count)
    let window = (0..<size).map { 0.5 - 0.5 * cos(2 * Double.pi * (Double($0) + 0.5) / Double(size)) }
    for index in 0..<data.count {
      let pixels = try image(data, index).pixels
      for row in stride(from: 0, to: size, by: 8) {
        let line = pixels[row * size..<(row + 1) * size].map(Double.init)
        let mean = line.reduce(0, +) / Double(size)
        for (slot, tone) in tones.enumerated() {
          var (real, imaginary) = (0.0, 0.0)
          for (x, value) in line.enumerated() {
            let angle = 2 * Double.pi * Double(tone * x) / Double(size)
            real += window[x] * (value - mean) * cos(angle)
            imaginary += window[x] * (value - mean) * sin(angle)
          }
          power[slot] += real * real + imaginary * imaginary
        }
      }
    }
    let slope = log(power[3] / power[0]) / log(8)
    #expect(slope < -0.9 && slope > -2, "\(slope)")
    for slot in 1..<tones.count { #expect(power[slot] < power[slot - 1]) }
  }
}
