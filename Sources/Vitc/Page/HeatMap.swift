internal import FoundationEssentials
internal import Glibc
internal import VitFormats
internal import VitIR

/// A matrix as a picture: a pixel for each entry, brighter where it is larger.
struct HeatMap {
  let title: String
  let rows, columns: Int
  let values: [Float]

  /// The most pixels of a side: of larger matrices entries are averaged.
  private static let side = 256

  /// Dark blue to yellow, of rising lightness: five colours with straight lines between, of our own choice.
  private static let palette: [(UInt8, UInt8, UInt8)] = {
    let stops: [(Double, Double, Double)] = [
      (13, 17, 66), (52, 56, 140), (33, 130, 142), (94, 190, 92), (250, 230, 60),
    ]
    return (0..<256).map { index in
      let place = Double(index) / 255 * Double(stops.count - 1)
      let (low, part) = (min(Int(place), stops.count - 2), place - Double(min(Int(place), stops.count - 2)))
      func mixed(_ channel: KeyPath<(Double, Double, Double), Double>) -> UInt8 {
        let (a, b) = (stops[low][keyPath: channel], stops[low + 1][keyPath: channel])
        return UInt8((a + part * (b - a)).rounded())
      }
      return (mixed(\.0), mixed(\.1), mixed(\.2))
    }
  }()

  /// The figure; throws where zlib is not there.
  func markup() throws(VitError) -> Markup {
    let (height, width) = (min(rows, HeatMap.side), min(columns, HeatMap.side))
    let pooled = (0..<height * width).map { index -> Float in
      let (row, column) = (index / width, index % width)
      var (sum, count) = (Float(0), Float(0))
      for i in row * rows / height..<(row + 1) * rows / height {
        for j in column * columns / width..<(column + 1) * columns / width {
          sum += values[i * columns + j]
          count += 1
        }
      }
      return sum / max(count, 1)
    }
    // Maps have a few large entries: the root shows the small ones, and the largest hundredth all looks alike.
    let sorted = pooled.sorted()
    let top = max(sorted[min(sorted.count - 1, sorted.count * 99 / 100)], .leastNormalMagnitude)
    let pixels = pooled.map { UInt8((255 * min(max($0 / top, 0), 1).squareRoot()).rounded()) }
    return try PaletteFigure(
      title: title, width: width, height: height, pixels: pixels, palette: HeatMap.palette
    ).markup()
  }
}

/// A picture of indices into a palette.
struct PaletteFigure {
  let title: String
  let width, height: Int
  let pixels: [UInt8]
  let palette: [(UInt8, UInt8, UInt8)]

  /// The figure; throws where zlib is not there.
  func markup() throws(VitError) -> Markup {
    let png = try PalettePNG.encode(width: width, height: height, pixels: pixels, palette: palette)
    // What has few rows is drawn as a strip.
    let shown = Double(max(height, max(1, width / 8)))
    return Markup(
      "figure", [:],
      [
        Markup(
          "svg", ["viewBox": "0 0 \(width) \(shown.svg)", "role": "img", "aria-label": title],
          [
            Markup("title", text: title),
            Markup(
              "image",
              [
                "width": "\(width)", "height": shown.svg, "preserveAspectRatio": "none",
                "href": "data:image/png;base64,\(Data(png).base64EncodedString())",
              ]),
          ]), Markup("figcaption", text: title),
      ])
  }
}
