public import VitIR
internal import VitRuntime

/// `vit.mlp(x, w1, b1?, w2, b2?)`: two linear maps of the last axis with a function of each element between
/// them.
public struct VitMLP: Operation {
  /// The operation's name.
  public static let name = "vit.mlp"
  /// What it computes.
  public static let summary = "Two linear maps of the last axis with a function of each element between them"
  /// A use of it.
  public static let example = #"(f32[1, 2, 3], f32[6, 3], f32[6], f32[3, 6], f32[3]) {activation = "gelu"}"#
  /// Applied between the maps.
  public let activation: Activation

  private static let first = LinearMap(weight: 1, bias: 2)
  private static let second = LinearMap(weight: 3, bias: 4)

  /// A perceptron.
  public init(activation: Activation = .gelu) { self.activation = activation }

  /// Takes `activation`.
  public init(attributes: inout AttributeReader) throws(VitError) {
    activation = try attributes.choice("activation", default: .gelu)
  }

  /// `activation`.
  public var attributes: Attributes { Attributes([("activation", .string(activation.rawValue))]) }

  /// `[..., out]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(4...5)
    try operands.expectOneResult()
    let hidden = try Self.first.resultType(
      operands.float(0, "x", rank: 1...64), operands, weightRole: "w1", biasRole: "b1")
    return [try Self.second.resultType(hidden, operands, weightRole: "w2", biasRole: "b2")]
  }

  /// All axes but the last, and the channels of the result.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    Self.second.axes(operands, results)
  }

  /// Weights and biases.
  public func role(of index: Int) -> OperandRole {
    switch index {
    case 1, 3: .weight
    case 2, 4: .bias
    default: .data
    }
  }

  /// What the function is applied to.
  public func savedTypes(_ operands: Operands) -> [TensorType] { [Self.first.result(operands)] }

  /// What the function gives; in training also the gradients on both sides of it.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    [TensorType](repeating: Self.first.result(operands), count: mode.training ? 3 : 1)
  }

  /// The packed weights.
  public func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing] {
    let first = Self.first.packings(operands, stored)
    let second = Self.second.packings(operands, stored)
    return first.isEmpty || second.isEmpty ? [] : first + second
  }

  /// The two products and the function.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    let hidden = Self.first.result(operands)
    let products = LinearMap.flops(hidden, operands) + LinearMap.flops(results[0], operands, weight: 3)
    return Cost(flops: products + hidden.count, bytes: operands.bytes(results))
  }

  /// In the epilogue of the last product.
  public var takesEpilogue: Bool { true }

  /// Computes the result.
  public func forward(_ context: KernelContext) {
    let hidden = context.scratch[0]
    let (x, w1, w2) = (context.input(0), context.input(1).shape, context.input(3).shape)
    if let first = context.prepared.first, let second = context.prepared.last,
      Kernel.isPerceptronFused(first, second, rows: x.count / max(1, w1[1]))
    {
      return Kernel.quantisedPerceptron(
        x, columns: w1[1], hidden: w1[0], rows: w2[0], first: first, firstBias: context.optionalInput(2),
        activation: activation.kind, second: second, secondBias: context.optionalInput(4),
        epilogue: context.epilogue, into: context.output, pool: context.pool)
    }
    if let before = context.saved.first {
      Self.first.forward(context, context.input(0), into: before)
      Kernel.unary(activation.kind, before, into: hidden, pool: context.pool)
    } else {
      Self.first.forward(
        context, context.input(0), activation: activation.kind, into: hidden, prepared: context.prepared.first
      )
    }
    Self.second.forward(
      context, hidden, epilogue: context.epilogue, into: context.output, prepared: context.prepared.last)
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds the gradients of `x`, the weights and the biases.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let before = context.saved[0]
    let (hidden, dhidden, dbefore) = (context.scratch[0], context.scratch[1], context.scratch[2])
    Kernel.unary(activation.kind, before, into: hidden, pool: context.pool)
    Self.second.gradients(context, x: hidden, dy: dy, writing: dhidden, operandGradients)
    dbefore.zero()
    Kernel.unaryGradient(
      activation.kind, x: before, y: hidden, dy: dhidden, adding: dbefore, pool: context.pool)
    Self.first.gradients(
      context, x: context.input(0), dy: dbefore, adding: operandGradients[0], operandGradients)
  }

  /// The two maps and the function.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    let hidden = try hidden(into: &builder, operands: operands)
    return [try Self.second.lower(hidden, operands, into: &builder)]
  }

  /// Adds the first map and the function; gives what the second map reads.
  package func hidden(into builder: inout GraphBuilder, operands: [ValueID?]) throws(VitError) -> ValueID {
    guard let x = operands[0] else { throw VitError("input 0 ('x') is missing", code: "operand-missing") }
    return try activation.lower(Self.first.lower(x, operands, into: &builder), into: &builder)
  }
}
