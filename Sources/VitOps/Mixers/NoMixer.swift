public import VitIR
internal import VitRuntime

/// `vit.none(x, beta?)`: what is left of attention that is dropped: nothing, or the same for every token
/// (Mixers.md §2.5).
public struct NoMixer: Mixer {
  /// The operation's name.
  public static let name = "vit.none"
  /// What it computes.
  public static let summary = "Zero, or one and the same value for every token"
  /// A use of it.
  public static let example = "(f32[1, 5, 3], f32[3])"
  /// What the user asks for.
  public var kind: String { "none" }

  /// The operation.
  public init() {}

  /// Takes nothing.
  public init(attributes: inout AttributeReader) throws(VitError) {}

  /// None.
  public var attributes: Attributes { Attributes() }

  /// The value.
  public func parameters(_ layout: MixerLayout) -> [MixerParameter] {
    [MixerParameter("beta", [layout.outputDim], decay: false)]
  }

  /// The bias of the attention's output, else zero: the best value is the readout's to find.
  public func initialise(
    _ layout: MixerLayout, from attention: AttentionWeights?, random: inout SplitMix
  ) throws -> [Tensor] {
    [FirstValues.outputBias(layout, try attention.map { try InheritedChannels(layout, $0) })]
  }

  /// The value alone.
  public var readout: MixerReadout? { MixerReadout(weight: nil, bias: 1) }

  /// It sees no other token.
  public func merged(patches: Int) throws(VitError) -> (any Mixer)? { self }

  /// `[batch, tokens, beta's]`; without `beta` the type of `x`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...2)
    try operands.expectOneResult()
    let x = try operands.float(0, "x", rank: 3...3)
    guard operands.has(1) else { return [x] }
    let beta = try operands.float(1, "beta", rank: 1...1)
    guard beta.element == x.element else {
      throw VitError("'beta' is \(beta), expected elements of \(x.element.rawValue)", code: "operand-type")
    }
    return [x.with([x.shape[0], x.shape[1], beta.shape[0]])]
  }

  /// Images, tokens and the channels of the result.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    mixing(operands, tokens: .parallel)
  }

  /// Weights and biases.
  public func role(of index: Int) -> OperandRole { index == 1 ? .bias : .data }

  /// One operation for each element where there is a value.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    let beta = operands[1].map { $0.count } ?? 0
    return Cost(
      flops: beta > 0 ? results[0].count : 0, bytes: (beta + results[0].count) * results[0].element.size)
  }

  /// Writes the value.
  public func forward(_ context: KernelContext) {
    context.output.zero()
    if let beta = context.optionalInput(1) {
      Kernel.addRepeated(context.output, beta, into: context.output, pool: context.pool)
    }
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds the gradient of `beta`; that of `x` is zero.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], operandGradients.count > 1, let dbeta = operandGradients[1] else {
      return
    }
    Kernel.addColumnSums(of: dy, to: dbeta, pool: context.pool)
  }

  /// The value expanded to the tokens that there are.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    guard let x = operands[0] else { throw VitError("input 0 ('x') is missing", code: "operand-missing") }
    let type = builder.graph.type(x)
    let beta: ValueID
    if operands.count > 1, let given = operands[1] {
      beta = given
    } else {
      guard let width = type.shape[2].fixedValue else {
        throw VitError("the number of channels of \(type) is not known", code: "dynamic-shape")
      }
      beta = builder.constant([Double](repeating: 0, count: width), shape: [width], element: type.element)
    }
    let shape = try builder.add("onnx.Shape", [x], [("start", .int(0)), ("end", .int(2))])
    let target = try builder.add("onnx.Concat", [shape, builder.integers([1])], [("axis", .int(0))])
    return [try builder.add("onnx.Expand", [beta, target])]
  }
}
