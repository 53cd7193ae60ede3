internal import Glibc
public import VitFormats

/// How a picture is resampled: the filters of Pillow's `Image.resize`.
///
/// All but `nearest` are stretched when a picture shrinks, so that each source sample counts (antialiasing).
public enum Interpolation: String, CaseIterable, Hashable, Sendable {
  case nearest, bilinear, bicubic, lanczos, box, hamming

  /// The filter that Pillow numbers `code`, as in `resample` of a Hugging Face configuration.
  public init?(pillow code: Int) {
    let order: [Interpolation] = [.nearest, .lanczos, .bilinear, .bicubic, .box, .hamming]
    guard order.indices.contains(code) else { return nil }
    self = order[code]
  }

  /// `image` in `width` × `height` pixels, equal to Pillow's result in every sample.
  public func resize(_ image: Image, width: Int, height: Int) -> Image {
    precondition(width > 0 && height > 0 && image.width > 0 && image.height > 0)
    if self == .nearest {
      return width == image.width && height == image.height
        ? image : pickNearest(image, width: width, height: height)
    }
    // Two passes, rounded to 8 bits in between: along rows first, unless the height shrinks by more than twice as many
    // pixels as the width (since Pillow 13; older ones never turn the passes round).
    let loss = (rows: image.height - height, columns: image.width - width)
    let isUprightFirst = loss.rows > 0 && loss.rows > 2 * loss.columns
    var result = image
    for isUpright in [isUprightFirst, !isUprightFirst] {
      if isUpright {
        if loss.rows != 0 { result = resampleColumns(result, Taps(self, from: image.height, to: height)) }
      } else {
        if loss.columns != 0 { result = resampleRows(result, Taps(self, from: image.width, to: width)) }
      }
    }
    return result
  }

  /// Half the width of the filter at scale one.
  fileprivate var support: Double {
    switch self {
    case .nearest: 0
    case .box: 0.5
    case .bilinear, .hamming: 1
    case .bicubic: 2
    case .lanczos: 3
    }
  }

  /// The filter's value `x` source pixels from its centre.
  fileprivate func weight(_ x: Double) -> Double {
    let distance = abs(x)
    switch self {
    case .nearest: return 0
    case .box: return x > -0.5 && x <= 0.5 ? 1 : 0
    case .bilinear: return distance < 1 ? 1 - distance : 0
    case .hamming:
      // Pillow's two constants have the precision of a `float`.
      let (level, swing) = (Double(0.54 as Float), Double(0.46 as Float))
      return distance < 1 ? sinc(distance) * (level + swing * cos(distance * .pi)) : 0
    case .bicubic:
      let a = -0.5
      if distance < 1 { return ((a + 2) * distance - (a + 3)) * distance * distance + 1 }
      return distance < 2 ? (((distance - 5) * distance + 8) * distance - 4) * a : 0
    case .lanczos: return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0
    }
  }
}

private func sinc(_ x: Double) -> Double {
  if x == 0 { return 1 }
  let angle = x * .pi
  return sin(angle) / angle
}

/// Fixed-point places of the filter's weights: products with 8-bit samples sum up in 32 bits.
private let places = 22

/// For each sample of a resized line, the source samples that it is made of.
private struct Taps {
  /// The number of samples.
  let count: Int
  /// Room for the weights of one sample.
  let stride: Int
  /// The first source sample of each, and how many there are.
  var ranges: [(start: Int, count: Int)] = []
  /// The weights in fixed point, `count` × `stride`.
  var weights: [Int32]

  init(_ filter: Interpolation, from source: Int, to target: Int) {
    let scale = Double(source) / Double(target)
    let stretch = max(scale, 1)
    let support = filter.support * stretch
    count = target
    stride = Int(support.rounded(.up)) * 2 + 1
    weights = [Int32](repeating: 0, count: target * stride)
    ranges.reserveCapacity(target)
    var exact = [Double](repeating: 0, count: stride)
    for index in 0..<target {
      let centre = (Double(index) + 0.5) * scale
      let start = max(0, Int(centre - support + 0.5))
      let taps = min(source, Int(centre + support + 0.5)) - start
      var sum = 0.0
      for tap in 0..<taps {
        exact[tap] = filter.weight((Double(tap + start) - centre + 0.5) * (1 / stretch))
        sum += exact[tap]
      }
      for tap in 0..<taps {
        let share = (sum != 0 ? exact[tap] / sum : exact[tap]) * Double(1 << places)
        weights[index * stride + tap] = Int32(share < 0 ? share - 0.5 : share + 0.5)
      }
      ranges.append((start, taps))
    }
  }
}

/// A sum of products in fixed point as a sample.
@inline(__always)
private func sample(_ sum: Int32) -> UInt8 { UInt8(clamping: sum >> Int32(places)) }

private func resampleRows(_ image: Image, _ taps: Taps) -> Image {
  let channels = image.channels
  let row = image.width * channels
  let pixels = [UInt8](unsafeUninitializedCapacity: image.height * taps.count * channels) { target, filled in
    image.pixels.withUnsafeBufferPointer { source in
      taps.weights.withUnsafeBufferPointer { weights in
        var next = 0
        for y in 0..<image.height {
          for x in 0..<taps.count {
            let (start, count) = taps.ranges[x]
            for channel in 0..<channels {
              var sum: Int32 = 1 << Int32(places - 1)
              var from = y * row + start * channels + channel
              for tap in x * taps.stride..<x * taps.stride + count {
                sum &+= Int32(source[from]) &* weights[tap]
                from += channels
              }
              target[next] = sample(sum)
              next += 1
            }
          }
        }
        filled = next
      }
    }
  }
  return Image(width: taps.count, height: image.height, channels: channels, pixels: pixels)
}

private func resampleColumns(_ image: Image, _ taps: Taps) -> Image {
  let row = image.width * image.channels
  var sums = [Int32](repeating: 0, count: row)
  let pixels = [UInt8](unsafeUninitializedCapacity: taps.count * row) { target, filled in
    image.pixels.withUnsafeBufferPointer { source in
      sums.withUnsafeMutableBufferPointer { sums in
        for y in 0..<taps.count {
          for x in 0..<row { sums[x] = 1 << Int32(places - 1) }
          let (start, count) = taps.ranges[y]
          for tap in 0..<count {
            let weight = taps.weights[y * taps.stride + tap]
            let from = (start + tap) * row
            for x in 0..<row { sums[x] &+= Int32(source[from + x]) &* weight }
          }
          for x in 0..<row { target[y * row + x] = sample(sums[x]) }
        }
        filled = taps.count * row
      }
    }
  }
  return Image(width: image.width, height: taps.count, channels: image.channels, pixels: pixels)
}

private func pickNearest(_ image: Image, width: Int, height: Int) -> Image {
  // The positions are added up, not multiplied: where they fall between two pixels, the last bit decides.
  func positions(_ source: Int, _ target: Int) -> [Int] {
    let step = Double(source) / Double(target)
    var position = step * 0.5
    return (0..<target).map { _ in
      defer { position += step }
      return min(Int(position), source - 1)
    }
  }
  let columns = positions(image.width, width)
  let channels = image.channels
  var pixels: [UInt8] = []
  pixels.reserveCapacity(width * height * channels)
  for y in positions(image.height, height) {
    for x in columns {
      let from = (y * image.width + x) * channels
      for channel in 0..<channels { pixels.append(image.pixels[from + channel]) }
    }
  }
  return Image(width: width, height: height, channels: channels, pixels: pixels)
}
