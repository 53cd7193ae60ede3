public import VitIR
internal import VitRuntime

/// `vit.linear(x, weight, bias?)`: `activation(x·weightᵀ + bias)` over the last axis of `x`.
///
/// `x` is `[..., in]`, `weight` `[out, in]`, `bias` `[out]`; the result is `[..., out]`.
public struct VitLinear: Operation {
  /// The operation's name.
  public static let name = "vit.linear"
  /// What it computes.
  public static let summary = "A linear map of the last axis, and a function of each element"
  /// A use of it.
  public static let example = "(f32[1, 2, 3], f32[4, 3], f32[4])"
  /// Applied to each element of the result.
  public let activation: Activation

  /// A linear map.
  public init(activation: Activation = .none) { self.activation = activation }

  /// Takes `activation`.
  public init(attributes: inout AttributeReader) throws(VitError) {
    activation = try attributes.choice("activation", default: .none)
  }

  /// `activation`, unless there is none.
  public var attributes: Attributes {
    Attributes(activation == .none ? [] : [("activation", .string(activation.rawValue))])
  }

  /// `[..., out]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...3)
    try operands.expectOneResult()
    return [try LinearMap(weight: 1, bias: 2).resultType(operands.float(0, "x", rank: 1...64), operands)]
  }

  /// All axes but the last, and the channels of the result.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    LinearMap(weight: 1, bias: 2).axes(operands, results)
  }

  /// Weight and bias.
  public func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .weight
    case 2: .bias
    default: .data
    }
  }

  /// What the function was applied to, where there is one.
  public func savedTypes(_ operands: Operands) -> [TensorType] {
    activation == .none ? [] : [LinearMap(weight: 1, bias: 2).result(operands)]
  }

  /// The gradient of what the function was applied to.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    mode.training ? savedTypes(operands) : []
  }

  /// The weight, packed.
  public func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing] {
    LinearMap(weight: 1, bias: 2).packings(operands, stored)
  }

  /// The product.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    Cost(flops: LinearMap.flops(results[0], operands), bytes: operands.bytes(results))
  }

  /// In the epilogue of the last product.
  public var takesEpilogue: Bool { true }

  /// Computes the result.
  public func forward(_ context: KernelContext) {
    let map = LinearMap(weight: 1, bias: 2)
    guard let before = context.saved.first else {
      return map.forward(
        context, context.input(0), activation: activation.kind, epilogue: context.epilogue,
        into: context.output,
        prepared: context.prepared.first)
    }
    map.forward(context, context.input(0), into: before)
    Kernel.unary(activation.kind, before, into: context.output, pool: context.pool)
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds the gradients of `x`, weight and bias.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard var dy = resultGradients[0] else { return }
    if let before = context.saved.first {
      let inner = context.scratch[0]
      inner.zero()
      Kernel.unaryGradient(
        activation.kind, x: before, y: context.output, dy: dy, adding: inner, pool: context.pool)
      dy = inner
    }
    LinearMap(weight: 1, bias: 2).gradients(
      context, x: context.input(0), dy: dy, adding: operandGradients[0], operandGradients)
  }

  /// A product with the transposed weight, a sum, the function.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    guard let x = operands[0] else { throw VitError("input 0 ('x') is missing", code: "operand-missing") }
    let product = try LinearMap(weight: 1, bias: 2).lower(x, operands, into: &builder)
    return [try activation.lower(product, into: &builder)]
  }
}
