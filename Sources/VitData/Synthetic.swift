internal import Glibc
public import VitFormats
internal import VitIR

/// Images with the statistics of natural ones, made from a seed: random fields whose amplitude falls as one over the
/// frequency, with occluding shapes (dead leaves) whose sizes follow a power law, in correlated colours.
///
/// Image `i` depends on the seed and `i` only.
public struct Synthetic: Sendable {
  /// How many images `synthetic` alone stands for.
  public static let defaultCount = 1024
  /// The number of images.
  public let count: Int
  private let channels: Int
  private let height: Int
  private let width: Int
  private let random: SplitMix

  /// `count` images of `channels` × `height` × `width`.
  public init(count: Int, channels: Int, height: Int, width: Int, seed: UInt64) {
    precondition(count > 0 && channels > 0 && height > 0 && width > 0)
    self.count = count
    self.channels = channels
    self.height = height
    self.width = width
    random = SplitMix(seed: seed).split("synthetic")
  }

  /// Image `index`.
  public func image(_ index: Int) -> Image {
    var random = random.split(index)
    // Three latent planes: light, and two of colour that vary less.
    let spread: [Float] = [1, 0.35, 0.2]
    var planes = spread.map { scale in field(&random).map { $0 * scale } }
    addLeaves(&planes, &random)
    let mix = mixture(&random)
    let brightness = Float(0.5 + 0.1 * random.normal())
    let contrast = Float(0.12 * exp(0.35 * random.normal()))
    return Image(
      width: width, height: height, channels: channels,
      pixels: [UInt8](unsafeUninitializedCapacity: width * height * channels) { target, filled in
        for pixel in 0..<width * height {
          for channel in 0..<channels {
            let weights = mix[channel]
            let light =
              weights[0] * planes[0][pixel] + weights[1] * planes[1][pixel] + weights[2] * planes[2][pixel]
            let value = (brightness + contrast * light) * 255
            target[pixel * channels + channel] = UInt8(max(0, min(255, value.rounded())))
          }
        }
        filled = width * height * channels
      })
  }

  /// A plane of zero mean and unit variance: waves of random direction and phase, a little
  /// weaker from octave to octave.
  private func field(_ random: inout SplitMix) -> [Float] {
    let waves = 96
    let longest = Double(max(width, height)) * 2
    var plane = [Float](repeating: 0, count: width * height)
    var power = 0.0
    for _ in 0..<waves {
      // From twice the longer edge down to two pixels.
      let length = longest * pow(2 / longest, random.uniform())
      let angle = random.uniform() * 2 * Double.pi
      let phase = random.uniform() * 2 * Double.pi
      let (across, down) = (cos(angle) * 2 * Double.pi / length, sin(angle) * 2 * Double.pi / length)
      let strength = pow(length / longest, 0.15) * random.normal()
      power += strength * strength / 2
      // cos(a + b) = cos a cos b - sin a sin b: two numbers for each column and row, no more functions inside.
      let cosines = (0..<width).map { Float(cos(across * Double($0) + phase)) }
      let sines = (0..<width).map { Float(sin(across * Double($0) + phase)) }
      for y in 0..<height {
        let (c, s) = (Float(strength * cos(down * Double(y))), Float(strength * sin(down * Double(y))))
        plane.withUnsafeMutableBufferPointer { plane in
          let row = y * width
          for x in 0..<width { plane[row + x] += c * cosines[x] - s * sines[x] }
        }
      }
    }
    let scale = Float(1 / max(power, 1e-9).squareRoot())
    return plane.map { $0 * scale }
  }

  /// Covers the planes with ellipses, the farthest first, each of one colour with some of the field left in it.
  private func addLeaves(_ planes: inout [[Float]], _ random: inout SplitMix) {
    let edge = Double(min(width, height))
    let (small, large) = (max(1, edge / 25), max(1.5, edge / 1.8))
    // From images that are nearly all texture to such that are nearly all shapes.
    let leaves = 10 + random.below(190)
    let fields = planes
    for _ in 0..<leaves {
      // The number of radii above r falls as 1/r²: the power law that makes the image alike at all scales.
      let least = 1 / (small * small)
      let most = 1 / (large * large)
      let radius = 1 / (most + (least - most) * random.uniform()).squareRoot()
      let ratio = 0.4 + 0.6 * random.uniform()
      let angle = random.uniform() * Double.pi
      let (x, y) = (random.uniform() * Double(width), random.uniform() * Double(height))
      let colour = [1.3, 0.6, 0.4].map { Float($0 * random.normal()) }
      let texture = Float(0.1 + 0.5 * random.uniform())
      let shade = Float(0.4 * random.normal() / radius)
      let (c, s) = (cos(angle), sin(angle))
      for row in max(0, Int(y - radius))..<max(0, min(height, Int(y + radius) + 1)) {
        for column in max(0, Int(x - radius))..<max(0, min(width, Int(x + radius) + 1)) {
          let (dx, dy) = (Double(column) + 0.5 - x, Double(row) + 0.5 - y)
          let (u, v) = (c * dx + s * dy, (c * dy - s * dx) / ratio)
          guard u * u + v * v <= radius * radius else { continue }
          let pixel = row * width + column
          for plane in 0..<3 {
            let slope = plane == 0 ? shade * Float(dx + dy) : 0
            planes[plane][pixel] = colour[plane] + slope + texture * fields[plane][pixel]
          }
        }
      }
    }
  }

  /// How much of light and colour goes into each channel.
  private func mixture(_ random: inout SplitMix) -> [[Float]] {
    let turn = random.uniform() * 2 * Double.pi
    return (0..<channels).map { channel in
      if channels == 1 { return [1, 0, 0] }
      let angle = turn + 2 * Double.pi * Double(channel) / Double(channels)
      return [1, Float(cos(angle)), Float(sin(angle))]
    }
  }
}

extension Synthetic: DatasetSource {
  func sample(_ index: Int) throws -> Sample { .image(image(index)) }
}
