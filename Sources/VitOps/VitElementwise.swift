public import VitIR
internal import VitRuntime

/// A sum or product of a value and one that is repeated over its leading axes: no attributes, and an ONNX operator
/// that does the same.
protocol RepeatingOperation: PointwiseOperation {
  /// The ONNX operator.
  static var lowered: String { get }
  /// The operation.
  init()
}

extension RepeatingOperation {
  /// Takes nothing.
  public init(attributes: inout AttributeReader) throws(VitError) { self.init() }

  /// None.
  public var attributes: Attributes { Attributes() }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// The ONNX operator.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    [try builder.add(Self.lowered, operands)]
  }
}

/// `vit.add(a, b)`: the sum, where `b` is repeated over leading axes of `a`: a residual, or a table of
/// positions.
public struct VitAdd: RepeatingOperation {
  /// The operation's name.
  public static let name = "vit.add"
  /// The operator that does the same.
  static let lowered = "onnx.Add"
  /// What it computes.
  public static let summary = "The sum of a value and one of its shape, or of the shape of its last axes"
  /// A use of it.
  public static let example = "(f32[1, 2, 3], f32[2, 3])"

  /// A sum.
  public init() {}

  /// The type of `a`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectOneResult()
    let a = try operands.float(0, "a")
    let b = try operands.float(1, "b")
    let core = Array(b.shape.drop { $0 == .fixed(1) })
    guard b.element == a.element, b.rank <= a.rank, a.shape.suffix(core.count) == core[...] else {
      throw VitError("'b' is \(b), expected the type of 'a' or of its last axes: \(a)", code: "operand-shape")
    }
    return [a]
  }

  /// Both are added.
  public func use(of index: Int) -> PointwiseUse? { .term }

  /// Written over either operand.
  public var memory: ResultMemory { .inPlace(operands: [0, 1]) }

  /// A residual, where `b` is not repeated.
  public var epilogueRole: EpilogueRole? { .residual }

  /// Computes the sum.
  public func forward(_ context: KernelContext) {
    Kernel.addRepeated(context.input(0), context.input(1), into: context.output, pool: context.pool)
  }

  /// Adds the gradient to both; to `b` summed over what it was repeated for.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    if let da = operandGradients[0] { Kernel.addRepeated(da, dy, into: da, pool: context.pool) }
    if let db = operandGradients[1] { Kernel.addColumnSums(of: dy, to: db, pool: context.pool) }
  }
}

/// `vit.scale(x, gamma)`: each channel of the last axis times its factor (LayerScale).
public struct VitScale: RepeatingOperation {
  /// The operation's name.
  public static let name = "vit.scale"
  /// The operator that does the same.
  static let lowered = "onnx.Mul"
  /// What it computes.
  public static let summary = "Each channel of the last axis times its own factor"
  /// A use of it.
  public static let example = "(f32[1, 2, 3], f32[3])"

  /// A scale.
  public init() {}

  /// The type of `x`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectOneResult()
    let x = try operands.float(0, "x", rank: 1...64)
    try operands.expect(1, "gamma", x.with(Array(x.shape.suffix(1))))
    return [x]
  }

  /// Both are multiplied.
  public func use(of index: Int) -> PointwiseUse? { .factor }

  /// A factor for each channel.
  public func role(of index: Int) -> OperandRole { index == 1 ? .gain : .data }

  /// Written over `x`.
  public var memory: ResultMemory { .inPlace(operands: [0]) }

  /// The products of the gradient with `x`.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    mode.training ? [operands[0]].compactMap { $0 } : []
  }

  /// A factor.
  public var epilogueRole: EpilogueRole? { .scale }

  /// Computes the product.
  public func forward(_ context: KernelContext) {
    Kernel.multiplyRepeated(context.input(0), context.input(1), into: context.output, pool: context.pool)
  }

  /// Adds the gradients of `x` and `gamma`.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    if let dx = operandGradients[0] {
      Kernel.addProductRepeated(dy, context.input(1), to: dx, pool: context.pool)
    }
    if let dgamma = operandGradients[1] {
      let products = context.scratch[0]
      Kernel.multiplyRepeated(dy, context.input(0), into: products, pool: context.pool)
      Kernel.addColumnSums(of: products, to: dgamma, pool: context.pool)
    }
  }
}
