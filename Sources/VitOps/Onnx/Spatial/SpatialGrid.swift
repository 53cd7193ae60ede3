internal import VitIR

/// `onnx.AffineGrid(theta, size)`: the places `[n, h, w, 2]` (or `[n, d, h, w, 3]`) that affine maps send an
/// even grid to.
struct OnnxAffineGrid: Operation {
  static let name = "onnx.AffineGrid"
  static let summary = "Places of a grid under affine maps"
  static let example = "(f32[1, 2, 3], i64[4] = [1, 3, 2, 3]) {align_corners = 1}"
  let alignsCorners: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    alignsCorners = try attributes.bool("align_corners", default: false)
  }

  var attributes: Attributes { Attributes([("align_corners", .int(alignsCorners ? 1 : 0))]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectResults()
    let theta = try operands.floats(0, "theta")
    let size = try shapeOperand(operands, 1, "size")
    let axes = size.count - 2
    guard axes == 2 || axes == 3, theta.rank == 3, mayBeEqual(theta.shape[0], size[0]),
      theta.shape[1] == .fixed(axes), theta.shape[2] == .fixed(axes + 1)
    else {
      throw VitError(
        "theta is \(theta) and the size \(size), expected [n, 2, 3] and four extents, or [n, 3, 4] and five",
        code: "shape-mismatch")
    }
    return [TensorType(theta.element, [size[0]] + size[2...] + [.fixed(axes)])]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .leading(1, results)
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .shape
    default: .data
    }
  }

  /// The coordinate of entry `index` of an axis, from -1 to 1.
  private func coordinate(_ index: Int, of extent: Int) -> Double {
    if alignsCorners { return extent == 1 ? -1 : -1 + 2 * Double(index) / Double(extent - 1) }
    return (2 * Double(index) + 1) / Double(extent) - 1
  }

  /// Calls `body` with each place's number and coordinates, the innermost axis's first, and a one at the end.
  private func forEachPlace(_ shape: [Int], _ body: (_ place: Int, _ point: [Double]) -> Void) {
    let extents = Array(shape[1..<shape.count - 1])
    var point = [Double](repeating: 1, count: extents.count + 1)
    for place in 0..<extents.reduce(1, *) {
      var rest = place
      for (slot, axis) in extents.indices.reversed().enumerated() {
        point[slot] = coordinate(rest % extents[axis], of: extents[axis])
        rest /= extents[axis]
      }
      body(place, point)
    }
  }

  func forward(_ context: KernelContext) {
    let (theta, output) = (context.input(0), context.output)
    let axes = output.shape[output.rank - 1]
    let places = output.shape[1..<output.rank - 1].reduce(1, *)
    func run<T: BinaryFloatingPoint>(_ m: UnsafeMutablePointer<T>, _ y: UnsafeMutablePointer<T>) {
      forEachPlace(output.shape) { place, point in
        for item in 0..<output.shape[0] {
          for row in 0..<axes {
            let map = m + (item * axes + row) * (axes + 1)
            var sum: T = 0
            for column in 0...axes { sum += map[column] * T(point[column]) }
            y[(item * places + place) * axes + row] = sum
          }
        }
      }
    }
    if theta.element == .f64 { run(theta.f64, output.f64) } else { run(theta.f32, output.f32) }
  }

  var isDifferentiable: Bool { true }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dm = operandGradients[0] else { return }
    let axes = dy.shape[dy.rank - 1]
    let places = dy.shape[1..<dy.rank - 1].reduce(1, *)
    func run<T: BinaryFloatingPoint>(_ a: UnsafeMutablePointer<T>, _ b: UnsafeMutablePointer<T>) {
      forEachPlace(dy.shape) { place, point in
        for item in 0..<dy.shape[0] {
          for row in 0..<axes {
            let gradient = a[(item * places + place) * axes + row]
            for column in 0...axes {
              b[(item * axes + row) * (axes + 1) + column] += gradient * T(point[column])
            }
          }
        }
      }
    }
    if dy.element == .f64 { run(dy.f64, dm.f64) } else { run(dy.f32, dm.f32) }
  }
}

/// `onnx.GridSample(x, grid)`: values of images `[n, c, …]` at places between pixels, which run from -1 to 1.
struct OnnxGridSample: Operation {
  static let name = "onnx.GridSample"
  static let summary = "Values of images at given places"
  static let example =
    #"(f32[1, 3, 2, 3], f32[1, 4, 5, 2]) {align_corners = 1, mode = "nearest", padding_mode = "zeros"}"#
  enum Mode: String, CaseIterable { case linear, nearest, cubic }
  enum Padding: String, CaseIterable { case zeros, border, reflection }
  let mode: Mode
  let padding: Padding
  let alignsCorners: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    // Until operator set 20 the modes were named for two axes.
    switch try attributes.string("mode", default: "linear") {
    case "bilinear", "linear": mode = .linear
    case "nearest": mode = .nearest
    case "bicubic", "cubic": mode = .cubic
    case let other: throw VitError("attribute 'mode' is '\(other)', expected 'linear', 'nearest' or 'cubic'")
    }
    padding = try attributes.choice("padding_mode", default: .zeros)
    alignsCorners = try attributes.bool("align_corners", default: false)
  }

  var attributes: Attributes {
    Attributes([
      ("mode", .string(mode.rawValue)), ("padding_mode", .string(padding.rawValue)),
      ("align_corners", .int(alignsCorners ? 1 : 0)),
    ])
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectResults()
    let image = try operands.floats(0, "x")
    let grid = try operands.floats(1, "grid")
    let axes = image.rank - 2
    guard axes >= 1, axes <= 3, grid.element == image.element, grid.rank == image.rank,
      grid.shape[grid.rank - 1] == .fixed(axes), mayBeEqual(grid.shape[0], image.shape[0]),
      !image.shape[2...].contains(0)
    else {
      throw VitError(
        "x is \(image) and the grid \(grid), expected [n, c, …] and [n, …, axes] with as many axes",
        code: "shape-mismatch")
    }
    guard mode != .cubic || axes == 2 else { throw VitError("mode 'cubic' wants two axes, found \(axes)") }
    return [TensorType(image.element, Array(image.shape[..<2]) + grid.shape[1..<grid.rank - 1])]
  }

  /// Images, channels, and the places of the grid.
  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let rank = results[0].rank
    return AxisMap(
      [AxisMap.Letter(.parallel, [0, 0], [0]), AxisMap.Letter(.parallel, [1, nil], [1])]
        + (2..<rank).map { AxisMap.Letter(.parallel, [nil, $0 - 1], [$0]) })
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .index
    default: .data
    }
  }

  /// Entries of one axis that a place takes, with weights and their slopes; an entry of -1 is zero.
  private struct Taps {
    var entries: [Int] = []
    var weights: [Double] = []
    var slopes: [Double] = []
  }

  /// Brings a place inside, and the slope of doing so.
  private func inside(_ x: Double, _ extent: Int) -> (Double, Double) {
    let last = Double(extent - 1)
    switch padding {
    case .zeros: return (x, 1)
    case .border: return x < 0 ? (0, 0) : x > last ? (last, 0) : (x, 1)
    case .reflection:
      let (low, high) = alignsCorners ? (0, last) : (-0.5, last + 0.5)
      guard high > low else { return (0, 0) }
      let span = high - low
      let turns = ((x - low) / span).rounded(.down)
      let phase = x - low - turns * span
      let isOdd = turns.truncatingRemainder(dividingBy: 2) != 0
      let reflected = isOdd ? high - phase : low + phase
      let slope: Double = isOdd ? -1 : 1
      return reflected < 0 ? (0, 0) : reflected > last ? (last, 0) : (reflected, slope)
    }
  }

  /// The entry that stands for one that may be outside.
  private func entry(_ index: Double, _ extent: Int) -> Int {
    if index >= 0, index < Double(extent) { return Int(index) }
    guard padding != .zeros, index.isFinite else { return -1 }
    return Int(clamping: inside(index, extent).0.rounded(.toNearestOrEven))
  }

  /// What a coordinate from -1 to 1 takes along an axis.
  private func taps(_ coordinate: Double, _ extent: Int) -> Taps {
    let size = Double(extent)
    let scale = alignsCorners ? (size - 1) / 2 : size / 2
    let raw = alignsCorners ? (coordinate + 1) * scale : ((coordinate + 1) * size - 1) / 2
    // A cubic reaches out from where it is; the others are brought inside first.
    let (x, turn) = mode == .cubic ? (raw, 1) : inside(raw, extent)
    guard x.isFinite else { return Taps(entries: [-1], weights: [0], slopes: [0]) }
    if mode == .nearest {
      return Taps(entries: [entry(x.rounded(.toNearestOrEven), extent)], weights: [1], slopes: [0])
    }
    let first = x.rounded(.down)
    let t = x - first
    if mode == .linear {
      return Taps(
        entries: [entry(first, extent), entry(first + 1, extent)], weights: [1 - t, t],
        slopes: [-scale * turn, scale * turn])
    }
    var taps = Taps()
    let a = -0.75
    for offset in -1...2 {
      taps.entries.append(entry(first + Double(offset), extent))
      let (d, sign): (Double, Double) = offset <= 0 ? (t - Double(offset), 1) : (Double(offset) - t, -1)
      let isNear = d <= 1
      taps.weights.append(
        isNear ? ((a + 2) * d - (a + 3)) * d * d + 1 : ((a * d - 5 * a) * d + 8 * a) * d - 4 * a)
      let slope = isNear ? (3 * (a + 2) * d - 2 * (a + 3)) * d : (3 * a * d - 10 * a) * d + 8 * a
      taps.slopes.append(slope * sign * scale)
    }
    return taps
  }

  /// Calls `body` for each pixel that a place takes with its number, weight, and for each coordinate of the
  /// grid the slope of the weight.
  private func forEachPixel(
    _ point: (Int) -> Double, _ extents: [Int],
    _ body: (_ pixel: Int, _ weight: Double, _ slopes: [Double]) -> Void
  ) {
    // The grid's coordinates begin with the innermost axis.
    let axes = extents.count
    let taps: [Taps] = extents.indices.map { self.taps(point(axes - 1 - $0), extents[$0]) }
    let counts = taps.map(\.entries.count)
    combinations: for number in 0..<counts.reduce(1, *) {
      var (rest, pixel, weight, stride) = (number, 0, 1.0, 1)
      var chosen = [Int](repeating: 0, count: axes)
      for axis in innermostFirst(axes) {
        chosen[axis] = rest % counts[axis]
        rest /= counts[axis]
        let entry = taps[axis].entries[chosen[axis]]
        guard entry >= 0 else { continue combinations }
        pixel += entry * stride
        stride *= extents[axis]
        weight *= taps[axis].weights[chosen[axis]]
      }
      let slopes = (0..<axes).map { coordinate -> Double in
        var product = 1.0
        for axis in 0..<axes {
          let own = axis == axes - 1 - coordinate ? taps[axis].slopes : taps[axis].weights
          product *= own[chosen[axis]]
        }
        return product
      }
      body(pixel, weight, slopes)
    }
  }

  /// The axes, innermost first.
  private func innermostFirst(_ axes: Int) -> ReversedCollection<Range<Int>> { (0..<axes).reversed() }

  func forward(_ context: KernelContext) {
    let (image, grid, output) = (context.input(0), context.input(1), context.output)
    let extents = Array(image.shape[2...])
    let (pixels, places, axes) = (extents.reduce(1, *), output.shape[2...].reduce(1, *), extents.count)
    let channels = image.shape[1]
    output.zero()
    func run<T: BinaryFloatingPoint>(_ type: T.Type) {
      let (x, g, y) = (image.pointer(as: T.self), grid.pointer(as: T.self), output.pointer(as: T.self))
      let grain = max(1, 4096 / max(1, channels))
      let pieces = (places + grain - 1) / grain
      context.pool.run(tasks: image.shape[0] * pieces) { task, _ in
        let (item, piece) = (task / pieces, task % pieces)
        for place in piece * grain..<min((piece + 1) * grain, places) {
          let at = g + (item * places + place) * axes
          forEachPixel({ Double(at[$0]) }, extents) { pixel, weight, _ in
            for channel in 0..<channels {
              let plane = item * channels + channel
              y[plane * places + place] += T(weight) * x[plane * pixels + pixel]
            }
          }
        }
      }
    }
    if image.element == .f64 { run(Double.self) } else { run(Float.self) }
  }

  var isDifferentiable: Bool { true }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (image, grid) = (context.input(0), context.input(1))
    let extents = Array(image.shape[2...])
    let (pixels, places, axes) = (extents.reduce(1, *), dy.shape[2...].reduce(1, *), extents.count)
    let channels = image.shape[1]
    func run<T: BinaryFloatingPoint>(_ type: T.Type) {
      let (x, g, a) = (image.pointer(as: T.self), grid.pointer(as: T.self), dy.pointer(as: T.self))
      let (dx, dg) = (operandGradients[0]?.pointer(as: T.self), operandGradients[1]?.pointer(as: T.self))
      context.pool.run(tasks: image.shape[0]) { item, _ in
        for place in 0..<places {
          let at = (item * places + place) * axes
          forEachPixel({ Double(g[at + $0]) }, extents) { pixel, weight, slopes in
            for channel in 0..<channels {
              let plane = item * channels + channel
              let gradient = a[plane * places + place]
              dx?[plane * pixels + pixel] += T(weight) * gradient
              guard let dg else { continue }
              let value = gradient * x[plane * pixels + pixel]
              for axis in 0..<axes { dg[at + axis] += T(slopes[axis]) * value }
            }
          }
        }
      }
    }
    if image.element == .f64 { run(Double.self) } else { run(Float.self) }
  }
}
