internal import VitIR
internal import VitPasses

/// A sample in gray, a byte for each pixel.
struct GrayPicture: Sendable {
  let width, height: Int
  let pixels: [UInt8]

  /// A sample that is a picture, its lightest pixel white and its darkest black; `nil` for another.
  init?(_ index: Int, of data: Samples) throws {
    let shape = data.shape
    guard shape.count == 3 else { return nil }
    let isPlanes = [1, 3].contains(shape[0])
    guard isPlanes || [1, 3].contains(shape[2]) else { return nil }
    let (channels, height, width) = isPlanes ? (shape[0], shape[1], shape[2]) : (shape[2], shape[0], shape[1])
    var values = [Float](repeating: 0, count: channels * height * width)
    try values.withUnsafeMutableBufferPointer { try data.read(index, variant: nil, into: $0) }
    let area = height * width
    let gray = (0..<area).map { pixel in
      (0..<channels).reduce(Float(0)) { $0 + values[isPlanes ? $1 * area + pixel : pixel * channels + $1] }
    }
    guard let low = gray.min(), let high = gray.max(), gray.allSatisfy(\.isFinite), (high - low).isFinite
    else { return nil }
    (self.width, self.height) = (width, height)
    pixels = gray.map { UInt8((255 * (($0 - low) / max(high - low, .leastNormalMagnitude))).rounded()) }
  }

  /// The same with the patches of a grid that are gone in a darker blue.
  func figure(_ title: String, rows: Int, columns: Int, isLeft: [Bool]) throws(VitError) -> Markup {
    // Twice 128 shades: of what is left gray, of what is gone dark and blue.
    let palette = (0..<256).map { index -> (UInt8, UInt8, UInt8) in
      let shade = UInt8(index % 128)
      return index < 128 ? (2 * shade, 2 * shade, 2 * shade) : (shade / 4, shade / 4, 40 + shade / 2)
    }
    let marked = (0..<height * width).map { pixel -> UInt8 in
      let patch = pixel / width * rows / height * columns + pixel % width * columns / width
      return pixels[pixel] / 2 + (isLeft[patch] ? 0 : 128)
    }
    return try PaletteFigure(
      title: title, width: width, height: height, pixels: marked, palette: palette
    ).markup()
  }
}

extension ReportFigures {
  /// What models say that keep fewer patches.
  var dropping: Markup? {
    let kinds = [("teacher", teacherRetention), ("hybrid", hybridRetention)]
    let series = kinds.compactMap { name, retention -> PointChart.Series? in
      guard let retention else { return nil }
      let points = retention.points.compactMap { point in
        (point.fidelity.accuracy ?? point.fidelity.agreement).map {
          (x: point.keep, y: 100 * $0, label: "\(name), keeps \(point.keep.fixed(1))")
        }
      }
      return PointChart.Series(name: name, points: points, isLine: true)
    }
    let isAccuracy = kinds.contains { $0.1?.points.first?.fidelity.accuracy != nil }
    return PointChart(
      title: "Accuracy under controlled retention",
      description:
        "Patches that are attended to least are dropped behind a quarter, a half and three quarters of the layers, each time the part that is left out here; nothing is trained. On \(ReportFigures.retained) images at most.",
      x: ("part of the patches that is kept each time", false),
      y: (isAccuracy ? "accuracy, %" : "agreement with the teacher, %", false), series: series
    ).chart?.markup
  }

  private var importances: [(name: String, layers: [PatchImportance.Layer])] {
    [("teacher", teacherImportance), ("hybrid", hybridImportance)].compactMap { name, found in
      found.map { (name, $0.layers) }
    }
  }

  /// How many patches go on, layer by layer.
  var parts: Markup? {
    PointChart(
      title: "Patches that go on, layer by layer",
      description:
        "Behind each layer the part of all patches that is left: in a model that drops some itself; in another one where seven in ten are kept each time, behind a quarter, a half and three quarters of the layers.",
      x: ("layer", false), y: ("part of the patches", false),
      series: importances.map { name, layers in
        PointChart.Series(
          name: name,
          points: layers.map { (Double($0.layer), $0.part, "\(name), layer \($0.layer)") }, isLine: true)
      }
    ).chart?.markup
  }

  /// How much those that go on count in the teacher's attention, and those that do not.
  var importance: Markup? {
    let series = importances.flatMap { name, layers in
      [("go on", \PatchImportance.Layer.kept), ("are gone", \PatchImportance.Layer.dropped)].map {
        what, path in
        PointChart.Series(
          name: "\(name): \(what)",
          points: layers.compactMap { layer in
            layer[keyPath: path].map { (Double(layer.layer), $0, "\(name), layer \(layer.layer): \(what)") }
          }, isLine: true)
      }
    }
    return PointChart(
      title: "Importance of patches, layer by layer",
      description:
        "The attention that the teacher's first token pays to a patch (where there is none, that all tokens pay), with all patches there: on the mean over those that are left behind a layer, and over those that are gone by then; 1 is an even share. On \(ReportFigures.retained) images at most.",
      x: ("layer", false), y: ("attention, 1 for an even share", false),
      series: series.filter { !$0.points.isEmpty }
    ).chart?.markup
  }

  /// Which patches are left, on sample images.
  func drawnPatches() throws(VitError) -> Markup? {
    var groups: [Markup] = []
    for (name, retention) in [("teacher", teacherRetention), ("hybrid", hybridRetention)] {
      for patches in retention?.patches ?? [] {
        let title = "\(name), behind layer \(patches.layer)"
        let figures = try zip(pictures, patches.isLeft).map { picture, isLeft throws(VitError) in
          try picture.figure(title, rows: patches.rows, columns: patches.columns, isLeft: isLeft)
        }
        if !figures.isEmpty { groups.append(Markup("div", ["class": "maps"], figures)) }
      }
    }
    guard !groups.isEmpty else { return nil }
    return Markup(
      "div", [:],
      [
        Markup("h3", text: "Patches that are left"),
        Markup("p", text: "Seven in ten are kept each time; those that are gone are dark."),
      ] + groups)
  }
}
