internal import Glibc
internal import VitIR

/// For each entry of a resampled axis the entries of the original that it is made of, and their weights.
struct AxisTable {
  /// Entries of the original.
  let extent: Int
  /// Weighted entries of each new one; `width` of them, those that are not needed having weight zero.
  let width: Int
  /// `width` entries for each new one.
  var entries: [Int] = []
  /// Their weights.
  var weights: [Float] = []
  /// New entries that lie outside and take the extrapolation value.
  var outside: [Bool] = []

  /// The number of new entries.
  var count: Int { outside.count }

  /// Whether the axis stays as it is.
  var isIdentity: Bool {
    count == extent && !outside.contains(true)
      && (0..<count).allSatisfy { place in
        (0..<width).allSatisfy { tap in
          let (entry, weight) = (entries[place * width + tap], weights[place * width + tap])
          return weight == 0 || entry == place && weight == 1
        }
      }
  }
}

/// How `onnx.Resize` finds values between and around entries of one axis.
struct Resampling: Sendable {
  enum Mode: String, CaseIterable { case nearest, linear, cubic }
  enum Coordinates: String, CaseIterable {
    case halfPixel = "half_pixel"
    case halfPixelSymmetric = "half_pixel_symmetric"
    case pytorchHalfPixel = "pytorch_half_pixel"
    case alignCorners = "align_corners"
    case asymmetric
    case cropAndResize = "tf_crop_and_resize"
    case halfPixelForNearest = "tf_half_pixel_for_nn"
  }
  enum Nearest: String, CaseIterable {
    case preferFloor = "round_prefer_floor"
    case preferCeil = "round_prefer_ceil"
    case floor, ceil
    /// Of operator set 10: up when shrinking, else down.
    case simple
  }

  var mode = Mode.nearest
  var coordinates = Coordinates.halfPixel
  var nearest = Nearest.preferFloor
  var cubicCoefficient: Float = -0.75
  var excludesOutside = false
  var extrapolation: Float = 0
  var antialiases = false

  /// Where entry `place` lies among the entries of the original; in single precision, as implementations
  /// agree on.
  private func origin(_ place: Int, scale: Float, count: Int, extent: Int, roi: (Float, Float)) -> Float {
    let (x, length, original) = (Float(place), Float(count), Float(extent))
    switch coordinates {
    case .asymmetric: return x / scale
    case .halfPixel: return (x + 0.5) / scale - 0.5
    case .pytorchHalfPixel: return count > 1 ? (x + 0.5) / scale - 0.5 : 0
    case .alignCorners: return count == 1 ? 0 : x * (original - 1) / (length - 1)
    case .halfPixelForNearest: return (x + 0.5) / scale
    case .halfPixelSymmetric:
      let adjustment = length / (scale * original)
      let offset = original / 2 * (1 - adjustment)
      return offset + (x + 0.5) / scale - 0.5
    case .cropAndResize:
      guard count > 1 else { return 0.5 * (roi.0 + roi.1) * (original - 1) }
      return roi.0 * (original - 1) + x * (roi.1 - roi.0) * (original - 1) / (length - 1)
    }
  }

  private func rounded(_ x: Float, scale: Float) -> Int {
    switch nearest {
    case .preferFloor: Int(clamping: Double(x == x.rounded(.down) + 0.5 ? x.rounded(.down) : x.rounded()))
    case .preferCeil: Int(clamping: Double(x.rounded(.toNearestOrAwayFromZero)))
    case .floor: Int(clamping: Double(x.rounded(.down)))
    case .ceil: Int(clamping: Double(x.rounded(.up)))
    case .simple: Int(clamping: Double(scale < 1 ? x.rounded(.up) : x))
    }
  }

  /// The weight of an entry at a distance from the place that is asked for, stretched by nothing.
  private func filter(_ distance: Float) -> Float {
    let x = abs(distance)
    guard mode == .cubic else { return max(0, 1 - x) }
    let a = cubicCoefficient
    if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
    if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
    return 0
  }

  /// The table of an axis of `extent` entries resampled to `count` by `scale`.
  func table(extent: Int, count: Int, scale: Float, roi: (Float, Float) = (0, 1)) -> AxisTable {
    // No scale is too small for no entries.
    guard count > 0 else { return AxisTable(extent: extent, width: 1) }
    // A shrinking filter is stretched so that every entry counts.
    let stretch = antialiases && mode != .nearest && scale < 1 ? 1 / scale : 1
    let reach = (mode == .cubic ? 2 : 1) * stretch
    let width = mode == .nearest ? 1 : antialiases ? 2 * Int(reach.rounded(.up)) + 1 : mode == .cubic ? 4 : 2
    var table = AxisTable(extent: extent, width: width)
    table.entries.reserveCapacity(count * width)
    table.weights.reserveCapacity(count * width)
    for place in 0..<count {
      var x = origin(place, scale: scale, count: count, extent: extent, roi: roi)
      table.outside.append(coordinates == .cropAndResize && (x < 0 || x > Float(extent - 1)))
      if mode == .nearest {
        table.entries.append(min(max(rounded(x, scale: scale), 0), extent - 1))
        table.weights.append(1)
        continue
      }
      if mode == .linear && !antialiases { x = min(max(x, 0), Float(extent - 1)) }
      let first = antialiases ? (x - reach + 1).rounded(.down) : x.rounded(.down) - (mode == .cubic ? 1 : 0)
      appendWeights(&table, x, first: Int(clamping: Double(first)), stretch: stretch)
    }
    return table
  }

  private func appendWeights(_ table: inout AxisTable, _ x: Float, first: Int, stretch: Float) {
    var weights: [Float] = []
    for tap in 0..<table.width {
      let entry = first + tap
      let weight = filter((Float(entry) - x) / stretch)
      let isInside = entry >= 0 && entry < table.extent
      weights.append(excludesOutside && !isInside ? 0 : weight)
      table.entries.append(min(max(entry, 0), table.extent - 1))
    }
    let total = weights.reduce(0, +)
    let normalises = antialiases || excludesOutside
    table.weights += normalises && total != 0 ? weights.map { $0 / total } : weights
  }
}

/// One axis of a resampling at work: views as `[outer, extent, inner]`.
struct AxisResampler {
  let table: AxisTable
  let outer: Int
  let inner: Int

  /// `to ← ` the resampled `from`.
  func forward(_ from: View, _ to: View, _ pool: any WorkPool) {
    switch from.element {
    case .f64: run(from.f64, to.f64, pool) { Double($0) }
    case .f32: run(from.f32, to.f32, pool) { $0 }
    default: break
    }
  }

  /// `to ← ` the chosen entries, of any element type: for tables of width one.
  func pick(_ from: View, _ to: View, _ pool: any WorkPool) {
    let bytes = inner * from.element.size
    pool.run(tasks: outer) { task, _ in
      for place in 0..<table.count {
        (to.base + (task * table.count + place) * bytes).copyMemory(
          from: from.base + (task * table.extent + table.entries[place]) * bytes, byteCount: bytes)
      }
    }
  }

  private func run<T: BinaryFloatingPoint>(
    _ from: UnsafeMutablePointer<T>, _ to: UnsafeMutablePointer<T>, _ pool: any WorkPool, _ real: (Float) -> T
  ) {
    let weights = table.weights.map(real)
    pool.run(tasks: outer) { task, _ in
      let (source, target) = (from + task * table.extent * inner, to + task * table.count * inner)
      for place in 0..<table.count {
        let line = target + place * inner
        line.update(repeating: 0, count: inner)
        for tap in place * table.width..<(place + 1) * table.width where weights[tap] != 0 {
          let (weight, entry) = (weights[tap], source + table.entries[tap] * inner)
          for index in 0..<inner { line[index] += weight * entry[index] }
        }
      }
    }
  }

  /// `to ← to + ` what the gradient `from` of the resampled axis means for the original.
  func backward(_ from: View, addingTo to: View, _ pool: any WorkPool) {
    if from.element == .f64 {
      add(from.f64, to.f64, pool) { Double($0) }
    } else {
      add(from.f32, to.f32, pool) { $0 }
    }
  }

  private func add<T: BinaryFloatingPoint>(
    _ from: UnsafeMutablePointer<T>, _ to: UnsafeMutablePointer<T>, _ pool: any WorkPool, _ real: (Float) -> T
  ) {
    let weights = table.weights.map(real)
    pool.run(tasks: outer) { task, _ in
      let (source, target) = (from + task * table.count * inner, to + task * table.extent * inner)
      for place in 0..<table.count {
        let line = source + place * inner
        for tap in place * table.width..<(place + 1) * table.width where weights[tap] != 0 {
          let (weight, entry) = (weights[tap], target + table.entries[tap] * inner)
          for index in 0..<inner { entry[index] += weight * line[index] }
        }
      }
    }
  }
}
