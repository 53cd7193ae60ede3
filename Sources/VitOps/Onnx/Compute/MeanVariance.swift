internal import VitIR
internal import VitRuntime

/// `onnx.MeanVarianceNormalization(X)`: zero mean and unit variance over some axes, by default all but the channels.
/// Elements that are all the same give NaN, as in ONNX Runtime.
struct OnnxMeanVarianceNormalization: Operation {
  static let name = "onnx.MeanVarianceNormalization"
  static let summary = "Normalises the elements along some axes to zero mean and unit variance"
  static let example = "(f32[1, 4, 3, 3]) {axes = [2, 3]}"
  let normalised: [Int]

  init(attributes: inout AttributeReader) throws(VitError) {
    normalised = try attributes.ints("axes", default: [0, 2, 3])
  }

  var attributes: Attributes { Attributes([("axes", .ints(normalised))]) }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    let type = try operands.typed(0, "X", ElementType.reals)
    _ = try normalisedAxes(normalised, rank: type.rank)
    return [type]
  }

  /// The axes that are normalised, for an operand of that rank.
  private func places(rank: Int) -> Set<Int> { Set(normalised.map { $0 < 0 ? $0 + rank : $0 }) }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let places = places(rank: results[0].rank)
    return .rows(operands, results) { places.contains($0) }
  }

  /// From the operand to rows of what is normalised together, and how long they are.
  private func rows(_ shape: [Int]) -> (move: Move, width: Int) {
    let places = places(rank: shape.count)
    let order = shape.indices.filter { !places.contains($0) } + places.sorted()
    let strides = rowMajorStrides(shape)
    return (
      Move(shape: order.map { shape[$0] }, source: Move.Region(strides: order.map { strides[$0] })),
      places.reduce(1) { $0 * shape[$1] }
    )
  }

  private func statistics(_ type: TensorType) -> TensorType {
    let width = rows(type.extents).width
    return TensorType(type.element, fixed: [width == 0 ? 0 : type.count / width, 2])
  }

  /// Mean and reciprocal deviation of each row.
  func savedTypes(_ operands: Operands) -> [TensorType] { operands[0].map { [statistics($0)] } ?? [] }

  /// Rows; in training their gradients too.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    [TensorType](repeating: operands[0] ?? TensorType(.f32, []), count: mode.training ? 3 : 1)
  }

  func forward(_ context: KernelContext) {
    let (x, y, rows) = (context.input(0), context.output, rows(context.input(0).shape))
    guard x.count > 0 else { return }
    let lines = context.scratch[0].reshaped([x.count / rows.width, rows.width])
    rows.move.copy(x, to: lines, context.pool)
    Kernel.layerNorm(
      lines, epsilon: 0, into: lines, saving: context.saved.first, pool: context.pool)
    rows.move.reversed.copy(lines, to: y, context.pool)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dx = operandGradients[0], dy.count > 0 else { return }
    let rows = rows(dx.shape)
    let lines = context.scratch.map { $0.reshaped([dx.count / rows.width, rows.width]) }
    rows.move.copy(context.input(0), to: lines[0], context.pool)
    rows.move.copy(dy, to: lines[1], context.pool)
    lines[2].zero()
    Kernel.layerNormGradient(
      lines[0], saved: context.saved[0], dy: lines[1], adding: lines[2], nil, nil, pool: context.pool)
    rows.move.reversed.add(lines[2], to: dx, context.pool)
  }
}
