internal import VitIR

/// `onnx.Resize(x, roi?, scales?, sizes?)`: resamples axes one after the other.
///
/// Linear and cubic modes weigh entries of each axis by itself, so the whole is a product of one-axis
/// resamplings, whose gradient uses the same weights.
struct OnnxResize: ResizingOperation {
  static let name = "onnx.Resize"
  static let summary = "Resamples along some axes"
  static let example = #"(f32[1, 3, 4, 4], _, _, i64[4] = [1, 3, 8, 8]) {mode = "linear"}"#
  enum AspectRatio: String, CaseIterable {
    case stretch
    case notLarger = "not_larger"
    case notSmaller = "not_smaller"
  }
  let resampling: Resampling
  let axes: [Int]?
  let aspectRatio: AspectRatio
  /// Whether the operands are `(x, scales)`, as before operator set 11.
  let isOld: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    var resampling = Resampling()
    resampling.mode = try attributes.choice("mode", default: .nearest)
    isOld = try attributes.bool("scales_first", default: attributes.isBefore(opset: 11))
    resampling.coordinates = try attributes.choice(
      "coordinate_transformation_mode", default: isOld ? .asymmetric : .halfPixel)
    resampling.nearest = try attributes.choice("nearest_mode", default: isOld ? .simple : .preferFloor)
    resampling.cubicCoefficient = Float(try attributes.float("cubic_coeff_a", default: -0.75))
    resampling.excludesOutside = try attributes.bool("exclude_outside", default: false)
    resampling.extrapolation = Float(try attributes.float("extrapolation_value", default: 0))
    resampling.antialiases = try attributes.bool("antialias", default: false)
    self.resampling = resampling
    axes = try attributes.optionalInts("axes")
    aspectRatio = try attributes.choice("keep_aspect_ratio_policy", default: .stretch)
  }

  var attributes: Attributes {
    var entries: [(String, Attribute)] = [
      ("mode", .string(resampling.mode.rawValue)),
      ("coordinate_transformation_mode", .string(resampling.coordinates.rawValue)),
      ("nearest_mode", .string(resampling.nearest.rawValue)),
      ("cubic_coeff_a", .float(Double(resampling.cubicCoefficient))),
      ("exclude_outside", .int(resampling.excludesOutside ? 1 : 0)),
      ("extrapolation_value", .float(Double(resampling.extrapolation))),
    ]
    if resampling.antialiases { entries.append(("antialias", .int(1))) }
    if aspectRatio != .stretch { entries.append(("keep_aspect_ratio_policy", .string(aspectRatio.rawValue))) }
    if let axes { entries.append(("axes", .ints(axes))) }
    if isOld { entries.append(("scales_first", .int(1))) }
    return Attributes(entries)
  }

  var scalesOperand: Int { isOld ? 1 : 2 }
  var sizesOperand: Int? { isOld ? nil : 3 }
  var roiOperand: Int? { isOld ? nil : 1 }

  func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    guard isOld else { return try builder.add(self, operands, resultCount: resultCount) }
    return try lowerOld(into: &builder, operands, resultCount)
  }
}

/// `onnx.Upsample(x, scales)`, which `Resize` replaced.
struct OnnxUpsample: ResizingOperation {
  static let name = "onnx.Upsample"
  static let summary = "Resamples along some axes, from the first entry on"
  static let example = #"(f32[1, 3, 4, 4], f32[4] = [1.0, 1.0, 2.0, 2.0]) {mode = "nearest"}"#
  let resampling: Resampling

  init(attributes: inout AttributeReader) throws(VitError) {
    var resampling = Resampling()
    resampling.mode = try attributes.choice("mode", default: .nearest)
    resampling.coordinates = .asymmetric
    resampling.nearest = .simple
    guard resampling.mode != .cubic else { throw VitError("mode is 'cubic', expected 'nearest' or 'linear'") }
    self.resampling = resampling
  }

  var attributes: Attributes { Attributes([("mode", .string(resampling.mode.rawValue))]) }
  var axes: [Int]? { nil }
  var aspectRatio: OnnxResize.AspectRatio { .stretch }
  var scalesOperand: Int { 1 }
  var sizesOperand: Int? { nil }
  var roiOperand: Int? { nil }

  func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    try lowerOld(into: &builder, operands, resultCount)
  }
}

/// What `Resize` and `Upsample` share.
protocol ResizingOperation: Operation {
  var resampling: Resampling { get }
  var axes: [Int]? { get }
  var aspectRatio: OnnxResize.AspectRatio { get }
  var scalesOperand: Int { get }
  var sizesOperand: Int? { get }
  var roiOperand: Int? { get }
}

/// The scales or sizes that a resize is given, for the axes that it is about.
private enum ResizeTarget {
  case scales([Float])
  case sizes([Dimension])
}

extension ResizingOperation {
  private func named(_ rank: Int) throws(VitError) -> [Int] {
    guard let axes else { return Array(0..<rank) }
    return try normalisedAxes(axes, rank: rank)
  }

  /// Whether an operand is there and not just an empty tensor that stands for its absence.
  private func isGiven(_ operands: Operands, _ index: Int?) -> Bool {
    guard let index, let type = operands[index] else { return false }
    return type.shape != [0]
  }

  private func target(_ operands: Operands, _ named: [Int]) throws(VitError) -> ResizeTarget {
    let target: ResizeTarget
    let count: Int
    switch (isGiven(operands, scalesOperand), isGiven(operands, sizesOperand)) {
    case (true, false):
      guard let numbers = operands.value(scalesOperand)?.numbers else {
        throw VitError(
          "input \(scalesOperand) ('scales') is computed from data, expected one that is known when the "
            + "model is compiled",
          code: "dynamic-shape")
      }
      for number in numbers where !(number > 0) || number.isInfinite {
        throw VitError("the scales are \(numbers), expected positive numbers")
      }
      (target, count) = (.scales(numbers.map { Float($0) }), numbers.count)
    case (false, true):
      let sizes = try operands.dimensions(sizesOperand ?? 3, "sizes")
      for size in sizes.compactMap(\.fixedValue) where size < 0 {
        throw VitError("the sizes are \(sizes), expected positive numbers")
      }
      (target, count) = (.sizes(sizes), sizes.count)
    case (true, true): throw VitError("both 'scales' and 'sizes' are given")
    case (false, false): throw VitError("neither 'scales' nor 'sizes' is given", code: "operand-missing")
    }
    guard count == named.count else {
      throw VitError("expected \(named.count) scales or sizes, found \(count)", code: "shape-mismatch")
    }
    return target
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...4)
    try operands.expectResults()
    let roles: [(Int?, String)] = [(roiOperand, "roi"), (scalesOperand, "scales"), (sizesOperand, "sizes")]
    for (index, role) in roles { if let index { operands.note(index, role) } }
    var image = try operands.type(0, "x")
    let named = try named(image.rank)
    guard image.element.isFloat || resampling.mode == .nearest else {
      throw VitError(
        "input 0 ('x') is \(image), expected a float type for mode '\(resampling.mode.rawValue)'")
    }
    if resampling.coordinates == .cropAndResize {
      guard let roi = roiOperand, let regions = operands.value(roi)?.numbers, regions.count == 2 * named.count
      else {
        throw VitError("input 1 ('roi') is missing or not known, expected \(2 * named.count) numbers")
      }
    }
    let target = try target(operands, named)
    try checkEmpty(image, named, target)
    switch target {
    case .scales(let scales):
      for (scale, axis) in zip(scales, named) { image.shape[axis] = scaled(image.shape[axis], by: scale) }
    case .sizes(let sizes):
      if let extents = TensorType(image.element, named.map { image.shape[$0] }).fixedShape,
        let sizes = TensorType(image.element, sizes).fixedShape
      {
        for (axis, size) in zip(named, fitted(extents, sizes).sizes) { image.shape[axis] = .fixed(size) }
      } else {
        for (axis, size) in zip(named, sizes) { image.shape[axis] = size }
      }
    }
    return [image]
  }

  /// An axis without entries, an empty batch, may stay as it is; it becomes nothing else, and no other axis becomes one.
  private func checkEmpty(_ image: TensorType, _ named: [Int], _ target: ResizeTarget) throws(VitError) {
    for (index, axis) in named.enumerated() {
      let isEmpty = image.shape[axis] == 0
      let stays =
        switch target {
        case .scales(let scales): !isEmpty || scales[index] == 1
        case .sizes(let sizes): isEmpty == (sizes[index] == 0)
        }
      guard !stays else { continue }
      throw VitError(
        isEmpty
          ? "axis \(axis) of \(image) has no entries to resample"
          : "the size of axis \(axis) is 0, expected a positive number", code: "shape-mismatch")
    }
  }

  /// The axes that keep their extent run side by side.
  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let image = operands[0]?.shape, image.count == results[0].rank,
      resampling.coordinates != .cropAndResize, let named = try? named(image.count),
      let target = try? target(operands, named)
    else { return .mixed }
    let kept = image.indices.filter { axis in
      guard image[axis] == results[0].shape[axis] else { return false }
      guard case .scales(let scales) = target, let index = named.firstIndex(of: axis) else { return true }
      return index < scales.count && scales[index] == 1
    }
    return AxisMap(kept.map { AxisMap.Letter(.parallel, [$0], [$0]) })
  }

  func role(of index: Int) -> OperandRole {
    if index == sizesOperand { return .shape }
    return index == 0 ? .data : .setting
  }

  /// The extent rounded down; over a symbol as a fraction of small numbers, exact for the scales that models
  /// use.
  private func scaled(_ extent: Dimension, by scale: Float) -> Dimension {
    if let extent = extent.fixedValue {
      return .fixed(Int(clamping: Double((Float(extent) * scale).rounded(.down))))
    }
    for denominator in 1...1024 {
      let numerator = (scale * Float(denominator)).rounded()
      if numerator > 0, numerator < 0x1p20, numerator / Float(denominator) == scale {
        return (extent * .fixed(Int(numerator))).floorDivided(by: .fixed(denominator))
      }
    }
    return (extent * .fixed(Int(clamping: Double(scale) * 65536))).floorDivided(by: .fixed(65536))
  }

  /// The sizes with the aspect ratio kept where that is wanted, and the scale of each axis.
  private func fitted(_ extents: [Int], _ sizes: [Int]) -> (sizes: [Int], scales: [Float]) {
    let scales = zip(sizes, extents).map { $1 == 0 ? 1 : Float($0) / Float($1) }
    guard aspectRatio != .stretch, let low = scales.min(), let high = scales.max() else {
      return (sizes, scales)
    }
    let scale = aspectRatio == .notLarger ? low : high
    return (
      extents.map { Int(clamping: Double((scale * Float($0) + 0.5).rounded(.down))) },
      scales.map { _ in scale }
    )
  }

  /// The tables of the axes that change, innermost last.
  private func tables(
    _ shape: [Int], _ result: [Int], scales: [Float]?, sizes: [Int]?, roi: [Float]?
  ) -> [(axis: Int, table: AxisTable)] {
    let named = (try? named(shape.count)) ?? []
    let extents = named.map { shape[$0] }
    let used = scales ?? fitted(extents, sizes ?? extents).scales
    return named.indices.sorted { named[$0] < named[$1] }.compactMap { index in
      let axis = named[index]
      let region = roi.map { ($0[index], $0[index + named.count]) } ?? (0, 1)
      let table = resampling.table(extent: shape[axis], count: result[axis], scale: used[index], roi: region)
      return table.isIdentity ? nil : (axis, table)
    }
  }

  private func tables(_ context: KernelContext) -> [(axis: Int, table: AxisTable)] {
    func numbers(_ index: Int?) -> [Float]? {
      guard let index, let view = context.optionalInput(index), view.count > 0 else { return nil }
      return (0..<view.count).map { Float(view.number($0)) }
    }
    return tables(
      context.input(0).shape, context.output.shape, scales: numbers(scalesOperand),
      sizes: numbers(sizesOperand)?.map { Int($0) },
      roi: resampling.coordinates == .cropAndResize ? numbers(roiOperand) : nil)
  }

  /// Two buffers for what lies between the axes: as large as anything on the way.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let types = try? resultTypes(operands), let from = operands[0]?.fixedShape,
      let to = types[0].fixedShape
    else { return [] }
    var (shape, most) = (from, 0)
    for axis in from.indices {
      shape[axis] = to[axis]
      most = max(most, shape.reduce(1, *))
    }
    return [TensorType](repeating: TensorType(types[0].element, fixed: [most]), count: 2)
  }

  func forward(_ context: KernelContext) {
    let output = context.output
    guard output.count > 0 else { return }
    let tables = tables(context)
    var (from, shape) = (context.input(0), context.input(0).shape)
    if tables.isEmpty { output.copy(from: from.reshaped(output.shape)) }
    for (step, (axis, table)) in tables.enumerated() {
      let resampler = AxisResampler(
        table: table, outer: shape[..<axis].reduce(1, *), inner: shape[(axis + 1)...].reduce(1, *))
      shape[axis] = table.count
      let to = step == tables.count - 1 ? output : part(context.scratch[step % 2], shape)
      if resampling.mode == .nearest {
        resampler.pick(from, to, context.pool)
      } else {
        resampler.forward(from, to, context.pool)
      }
      from = to
    }
    extrapolate(tables, output)
  }

  private func part(_ buffer: View, _ shape: [Int]) -> View {
    View(base: buffer.base, element: buffer.element, shape: shape)
  }

  /// Sets what lies outside along any axis.
  private func extrapolate(_ tables: [(axis: Int, table: AxisTable)], _ output: View) {
    for (axis, table) in tables {
      let inner = output.shape[(axis + 1)...].reduce(1, *)
      for (place, isOutside) in table.outside.enumerated() where isOutside {
        for outer in 0..<output.count / max(1, inner * table.count) {
          for index in 0..<inner {
            let at = ((outer * table.count) + place) * inner + index
            View(base: output.base + at * output.element.size, element: output.element, shape: [1])
              .setNumber(Double(resampling.extrapolation))
          }
        }
      }
    }
  }

  var isDifferentiable: Bool { true }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dx = operandGradients[0], dy.count > 0 else { return }
    let tables = tables(context)
    guard !tables.isEmpty else { return flat(dy.count).add(dy, to: dx, context.pool) }
    var (from, shape) = (dy, dy.shape)
    if tables.contains(where: { $0.table.outside.contains(true) }) {
      // What was extrapolated depends on nothing.
      let masked = part(context.scratch[(tables.count + 1) % 2], shape)
      masked.copy(from: dy)
      zeroOutside(tables, masked)
      from = masked
    }
    for (step, (axis, table)) in tables.enumerated().reversed() {
      let resampler = AxisResampler(
        table: table, outer: shape[..<axis].reduce(1, *), inner: shape[(axis + 1)...].reduce(1, *))
      shape[axis] = table.extent
      let to = step == 0 ? dx : part(context.scratch[(step + 1) % 2], shape)
      if step > 0 { to.zero() }
      resampler.backward(from, addingTo: to, context.pool)
      from = to
    }
  }

  private func zeroOutside(_ tables: [(axis: Int, table: AxisTable)], _ view: View) {
    for (axis, table) in tables {
      let bytes = view.shape[(axis + 1)...].reduce(1, *) * view.element.size
      for (place, isOutside) in table.outside.enumerated() where isOutside {
        for outer in 0..<view.shape[..<axis].reduce(1, *) {
          (view.base + (outer * table.count + place) * bytes)
            .initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
        }
      }
    }
  }

  /// The operation as a current `Resize`. Rounding up when shrinking, of operator set 10, is `ceil`.
  func lowerOld(
    into builder: inout GraphBuilder, _ operands: [ValueID?], _ resultCount: Int
  ) throws(VitError) -> [ValueID] {
    let scales = operands.count > 1 ? operands[1].flatMap { builder.known($0)?.numbers } : nil
    let shrinks = scales?.contains { $0 < 1 } ?? false
    let nearest =
      resampling.nearest == .simple ? (shrinks ? Resampling.Nearest.ceil : .floor) : resampling.nearest
    let operation = try builder.registry.make(
      OnnxResize.name,
      Attributes([
        ("mode", .string(resampling.mode.rawValue)), ("nearest_mode", .string(nearest.rawValue)),
        ("coordinate_transformation_mode", .string(resampling.coordinates.rawValue)),
      ]))
    return try builder.add(operation, [operands[0], nil] + operands.dropFirst(), resultCount: resultCount)
  }
}
