public import VitIR
internal import VitRuntime

/// `vit.layer_norm(x, gain, bias?)`: normalises the last axis of `x` (Mixers.md §2.6).
public struct VitLayerNorm: Operation {
  /// The operation's name.
  public static let name = "vit.layer_norm"
  /// What it computes.
  public static let summary =
    "Normalises the last axis to mean zero and variance one, then scales and shifts it"
  /// A use of it.
  public static let example = "(f32[1, 2, 3], f32[3], f32[3])"
  /// What is added to the variance.
  public let epsilon: Double

  /// A layer norm.
  public init(epsilon: Double = 1e-6) { self.epsilon = epsilon }

  /// Takes `epsilon`.
  public init(attributes: inout AttributeReader) throws(VitError) {
    epsilon = try attributes.float("epsilon", default: 1e-6)
  }

  /// `epsilon`.
  public var attributes: Attributes { Attributes([("epsilon", .float(epsilon))]) }

  /// The type of `x`; gain and bias are as wide as its last axis.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...3)
    try operands.expectOneResult()
    let x = try operands.float(0, "x", rank: 1...64)
    let width = x.with(Array(x.shape.suffix(1)))
    try operands.expect(1, "gain", width)
    try operands.expectOptional(2, "bias", width)
    return [x]
  }

  /// All axes but the last run side by side.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .rows(operands, results) { $0 == results[0].rank - 1 }
  }

  /// Gain and bias.
  public func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .gain
    case 2: .bias
    default: .data
    }
  }

  /// Mean and reciprocal deviation of each row.
  public func savedTypes(_ operands: Operands) -> [TensorType] {
    operands[0].map { [TensorType($0.element, fixed: [$0.rows, 2])] } ?? []
  }

  /// Each row is normalised where it lies.
  public var memory: ResultMemory { .inPlace(operands: [0]) }

  /// About eight operations an element.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    Cost(flops: 8 * results[0].count, bytes: operands.bytes(results))
  }

  /// Computes the result.
  public func forward(_ context: KernelContext) {
    Kernel.layerNorm(
      context.input(0), gain: context.input(1), bias: context.optionalInput(2), epsilon: epsilon,
      into: context.output, saving: context.saved.first, pool: context.pool)
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds the gradients of `x`, gain and bias.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    Kernel.layerNormGradient(
      context.input(0), gain: context.input(1), saved: context.saved[0], dy: dy, adding: operandGradients[0],
      operandGradients[1], operandGradients.count > 2 ? operandGradients[2] : nil, pool: context.pool)
  }

  /// A `LayerNormalization`.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    [
      try builder.add(
        "onnx.LayerNormalization", operands, [("axis", .int(-1)), ("epsilon", .float(epsilon))])
    ]
  }
}
