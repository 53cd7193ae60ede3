public import VitIR
internal import VitRuntime

/// `vit.pointwise(x, w, b)`: a linear map of each token by itself; the control that no mixing may lose to
/// (Mixers.md §2.5).
public struct Pointwise: Mixer {
  /// The operation's name.
  public static let name = "vit.pointwise"
  /// What it computes.
  public static let summary = "A linear map of each token by itself"
  /// A use of it.
  public static let example = "(f32[1, 5, 3], f32[3, 3], f32[3])"
  /// What the user asks for.
  public var kind: String { "pointwise" }

  private static let map = LinearMap(weight: 1, bias: 2)

  /// The operation.
  public init() {}

  /// Takes nothing.
  public init(attributes: inout AttributeReader) throws(VitError) {}

  /// None.
  public var attributes: Attributes { Attributes() }

  /// Weight and bias.
  public func parameters(_ layout: MixerLayout) -> [MixerParameter] {
    [
      MixerParameter("w", [layout.outputDim, layout.dim], decay: true),
      MixerParameter("b", [layout.outputDim], decay: false),
    ]
  }

  /// A small weight at random; the bias of the attention's output.
  public func initialise(
    _ layout: MixerLayout, from attention: AttentionWeights?, random: inout SplitMix
  ) throws -> [Tensor] {
    let bound = FirstValues.timidOutput / Double(layout.dim).squareRoot()
    return [
      FirstValues.uniform([layout.outputDim, layout.dim], bound: bound, &random),
      FirstValues.outputBias(layout, try attention.map { try InheritedChannels(layout, $0) }),
    ]
  }

  /// All of it.
  public var readout: MixerReadout? { MixerReadout(weight: 1, bias: 2) }

  /// It sees no other token.
  public func merged(patches: Int) throws(VitError) -> (any Mixer)? { self }

  /// `[batch, tokens, outputDim]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...3)
    try operands.expectOneResult()
    _ = try operands.type(2, "b")
    return [
      try Self.map.resultType(operands.float(0, "x", rank: 3...3), operands, weightRole: "w", biasRole: "b")
    ]
  }

  /// Images, tokens, and the channels of the result; they do not see one another.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    mixing(operands, tokens: .parallel)
  }

  /// Weights and biases.
  public func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .weight
    case 2: .bias
    default: .data
    }
  }

  /// The packed weight.
  public func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing] {
    Self.map.packings(operands, stored)
  }

  /// The product.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    Cost(flops: LinearMap.flops(results[0], operands), bytes: operands.bytes(results))
  }

  /// In the epilogue of the product.
  public var takesEpilogue: Bool { true }

  /// Computes the result.
  public func forward(_ context: KernelContext) {
    Self.map.forward(
      context, context.input(0), epilogue: context.epilogue, into: context.output,
      prepared: context.prepared.first)
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds the gradients of `x`, weight and bias.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    Self.map.gradients(context, x: context.input(0), dy: dy, adding: operandGradients[0], operandGradients)
  }

  /// A product and a sum.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    guard let x = operands[0] else { throw VitError("input 0 ('x') is missing", code: "operand-missing") }
    return [try Self.map.lower(x, operands, into: &builder)]
  }
}
