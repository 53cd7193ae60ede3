internal import VitIR
internal import VitRuntime

/// A normalisation of all axes from one on as a single row: what layer and root-mean-square normalisation
/// share.
struct RowNormalization: Sendable {
  let axis: Int
  let epsilon: Double
  /// Whether the mean is subtracted.
  let isCentred: Bool

  init(attributes: inout AttributeReader, isCentred: Bool, epsilon fallback: Double = 1e-5) throws(VitError) {
    self.isCentred = isCentred
    axis = try attributes.int("axis", default: -1)
    epsilon = try attributes.float("epsilon", default: fallback)
    // Sums are kept in the type of the operands; the statistics are results of that type too.
    _ = try attributes.optionalInt("stash_type")
  }

  var attributes: Attributes { Attributes([("axis", .int(axis)), ("epsilon", .float(epsilon))]) }

  /// Operands `x`, `scale` and, where centred, `bias`; the result and `statistics` more, one element for each
  /// row.
  func resultTypes(_ operands: Operands, statistics: Int) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...(isCentred ? 3 : 2))
    try operands.expectResults(1 + statistics)
    let x = try operands.typed(0, "X", ElementType.reals)
    _ = try operands.typed(1, "Scale", ElementType.reals)
    let place = try normalisedAxis(axis, rank: x.rank)
    let row = Array(x.shape[place...])
    for (index, role) in [(1, "Scale"), (2, "B")] where operands.has(index) {
      try operands.expectSame(index, role, as: x.element)
      guard let shape = operands[index]?.shape, Array(shape.drop { $0 == 1 }) != Array(row.drop { $0 == 1 })
      else { continue }
      throw VitError(
        "input \(index) ('\(role)') has the shape \(shape), expected \(row), that of the normalised axes",
        code: "shape-mismatch")
    }
    let one = TensorType(x.element, x.shape[..<place] + [Dimension](repeating: 1, count: x.rank - place))
    return [x] + [TensorType](repeating: one, count: operands.resultCount - 1)
  }

  /// The axes before the normalised ones run side by side.
  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let place = axis < 0 ? axis + (operands[0]?.rank ?? 0) : axis
    return .rows(operands, results) { $0 >= place }
  }

  private func width(_ shape: [Int]) -> Int {
    shape[(axis < 0 ? axis + shape.count : axis)...].reduce(1, *)
  }

  /// Mean and reciprocal deviation of each row.
  func statistics(_ operands: Operands) -> [TensorType] {
    guard let x = operands[0] else { return [] }
    let width = width(x.extents)
    return [TensorType(x.element, fixed: [width == 0 ? 0 : x.count / width, 2])]
  }

  /// Normalises `x`; the statistics go to `stats` and, as far as they are wanted, to `mean` and `deviation`.
  func forward(
    _ x: View, scale: View, bias: View?, into y: View, stats: View?, mean: View?, deviation: View?,
    pool: any WorkPool
  ) {
    let width = width(x.shape)
    guard x.count > 0 else { return }
    let shape = [x.count / width, width]
    if isCentred {
      Kernel.layerNorm(
        x.reshaped(shape), gain: scale, bias: bias, epsilon: epsilon, into: y.reshaped(shape), saving: stats,
        pool: pool)
    } else {
      Kernel.rmsNorm(
        x.reshaped(shape), gain: scale, bias: bias, epsilon: epsilon, into: y.reshaped(shape), saving: stats,
        pool: pool)
    }
    guard let stats else { return }
    for (index, view) in [mean, deviation].enumerated() {
      guard let view else { continue }
      Move(shape: [shape[0]], source: Move.Region(offset: index, strides: [2])).copy(stats, to: view, pool)
    }
  }

  func gradient(
    _ x: View, scale: View, stats: View, dy: View, into dx: View?, _ dscale: View?, _ dbias: View?,
    pool: any WorkPool
  ) {
    let width = width(x.shape)
    guard x.count > 0 else { return }
    let shape = [x.count / width, width]
    if isCentred {
      Kernel.layerNormGradient(
        x.reshaped(shape), gain: scale, saved: stats, dy: dy.reshaped(shape), adding: dx?.reshaped(shape),
        dscale,
        dbias, pool: pool)
    } else {
      Kernel.rmsNormGradient(
        x.reshaped(shape), gain: scale, saved: stats, dy: dy.reshaped(shape), adding: dx?.reshaped(shape),
        dscale,
        dbias, pool: pool)
    }
  }
}

/// A normalisation as an operator: what it is called and which statistics are results.
protocol RowNormalizationFunction: Sendable {
  static var name: String { get }
  static var summary: String { get }
  static var isCentred: Bool { get }
  /// How many of (mean, reciprocal deviation) may be results after the first.
  static var statistics: Int { get }
}

/// `onnx.LayerNormalization`, `RMSNormalization` and `SimplifiedLayerNormalization`.
///
/// The statistics are constants to the gradient: what depends on a model's output through them is not
/// followed.
struct OnnxRowNormalization<Function: RowNormalizationFunction>: Operation {
  static var name: String { Function.name }
  static var summary: String { Function.summary }
  static var example: String { Function.isCentred ? "(f32[2, 3], f32[3], f32[3])" : "(f32[2, 3], f32[3])" }
  let norm: RowNormalization

  init(attributes: inout AttributeReader) throws(VitError) {
    norm = try RowNormalization(attributes: &attributes, isCentred: Function.isCentred)
  }
  var attributes: Attributes { norm.attributes }
  var memory: ResultMemory { .inPlace(operands: [0]) }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try norm.resultTypes(operands, statistics: Function.statistics)
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap { norm.axes(operands, results) }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .gain
    case 2: .bias
    default: .data
    }
  }
  func savedTypes(_ operands: Operands) -> [TensorType] { norm.statistics(operands) }
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    operands.resultCount > 1 && !mode.training ? norm.statistics(operands) : []
  }
  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    let type = results[0]
    return Cost(flops: 8 * type.count, bytes: 2 * type.count * type.element.size)
  }

  func forward(_ context: KernelContext) {
    let statistics = context.outputs.dropFirst()
    norm.forward(
      context.input(0), scale: context.input(1), bias: context.optionalInput(2), into: context.output,
      stats: context.saved.first ?? context.scratch.first,
      mean: Function.statistics == 2 ? statistics.first : nil,
      deviation: statistics.count == Function.statistics ? statistics.last : nil, pool: context.pool)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    norm.gradient(
      context.input(0), scale: context.input(1), stats: context.saved[0], dy: dy, into: operandGradients[0],
      operandGradients[1], operandGradients.count > 2 ? operandGradients[2] : nil, pool: context.pool)
  }
}

enum LayerNormalizationFunction: RowNormalizationFunction {
  static let name = "onnx.LayerNormalization"
  static let summary = "Zero mean and unit variance over the last axes, then scale and bias"
  static let (isCentred, statistics) = (true, 2)
}

enum RMSNormalizationFunction: RowNormalizationFunction {
  static let name = "onnx.RMSNormalization"
  static let summary = "Unit mean square over the last axes, then a scale"
  static let (isCentred, statistics) = (false, 0)
}

enum SimplifiedLayerNormalizationFunction: RowNormalizationFunction {
  static let name = "onnx.SimplifiedLayerNormalization"
  static let summary = "Unit mean square over the last axes, then a scale; ONNX Runtime's form"
  static let (isCentred, statistics) = (false, 1)
}
