internal import VitIR
internal import VitRuntime

/// `com.microsoft.Gelu` and its kin: an activation of one operand, to which a bias may be added first.
protocol MicrosoftActivation: PointwiseOperation {
  /// How many operands there may be: with a bias two.
  static var operandCount: ClosedRange<Int> { get }
  /// The activation.
  var kind: UnaryKind { get }
}

extension MicrosoftActivation {
  var memory: ResultMemory { .inPlace(operands: [0]) }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(Self.operandCount)
    try operands.expectResults()
    let type = try operands.typed(0, "X", ElementType.reals)
    if Self.operandCount.lowerBound == 2 { _ = try operands.type(1, "bias") }
    guard operands.has(1) else { return [type] }
    _ = try operands.typed(1, "bias", [type.element])
    guard let width = type.shape.last else {
      throw VitError("the input is a scalar, expected at least one axis")
    }
    try operands.expectShape(1, "bias", [width])
    return [type]
  }

  /// A bias for each channel.
  func role(of index: Int) -> OperandRole { index == 1 ? .bias : .data }

  /// With a bias, the sum and its gradient.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard mode.training, operands.has(1), let type = operands[0] else { return [] }
    return [type, type]
  }

  func forward(_ context: KernelContext) {
    let (x, y, pool) = (context.input(0), context.output, context.pool)
    guard let bias = context.optionalInput(1) else { return Kernel.unary(kind, x, into: y, pool: pool) }
    Kernel.binary(.add, x, bias, into: y, pool: pool)
    Kernel.unary(kind, y, into: y, pool: pool)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (x, y, pool) = (context.input(0), context.output, context.pool)
    guard let bias = context.optionalInput(1) else {
      guard let dx = operandGradients[0] else { return }
      return Kernel.unaryGradient(kind, x: x, y: y, dy: dy, adding: dx, pool: pool)
    }
    let (sum, flow) = (context.scratch[0], context.scratch[1])
    Kernel.binary(.add, x, bias, into: sum, pool: pool)
    flow.zero()
    Kernel.unaryGradient(kind, x: sum, y: y, dy: dy, adding: flow, pool: pool)
    if let dx = operandGradients[0] { Kernel.accumulate(flow, into: dx, pool: pool) }
    if let dbias = operandGradients[1] { Kernel.reduceSum(flow, toShapeOf: dbias, pool: pool) }
  }
}

struct MicrosoftGelu: MicrosoftActivation {
  static let (name, summary) = ("com.microsoft.Gelu", "x times the normal distribution function of x")
  static let operandCount = 1...1
  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  var kind: UnaryKind { .gelu }
}

struct MicrosoftBiasGelu: MicrosoftActivation {
  static let (name, summary) = (
    "com.microsoft.BiasGelu", "A bias added, then x times its normal distribution function"
  )
  static let example = "(f32[1, 2, 3], f32[3])"
  static let operandCount = 2...2
  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  var kind: UnaryKind { .gelu }
}

struct MicrosoftFastGelu: MicrosoftActivation {
  static let (name, summary) = ("com.microsoft.FastGelu", "A bias added, then GELU by the hyperbolic tangent")
  static let example = "(f32[1, 2, 3], f32[3])"
  static let operandCount = 1...2
  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  var kind: UnaryKind { .geluTanh }
}

struct MicrosoftQuickGelu: MicrosoftActivation {
  static let (name, summary) = ("com.microsoft.QuickGelu", "x/(1 + e^(-alpha·x)) of each element")
  static let operandCount = 1...1
  let alpha: Double
  init(attributes: inout AttributeReader) throws(VitError) {
    alpha = try attributes.float("alpha", default: 1.702)
  }
  var attributes: Attributes { Attributes([("alpha", .float(alpha))]) }
  var kind: UnaryKind { .quickGelu(alpha: alpha) }
}

/// `com.microsoft.BiasAdd`: `X + bias + skip`.
struct MicrosoftBiasAdd: PointwiseOperation {
  static let (name, summary) = (
    "com.microsoft.BiasAdd", "A tensor plus a bias for each channel plus another tensor"
  )
  static let example = "(f32[1, 2, 3], f32[3], f32[1, 2, 3])"
  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...3)
    try operands.expectResults()
    let type = try operands.typed(0, "X", ElementType.reals)
    _ = try operands.typed(1, "bias", [type.element])
    _ = try operands.typed(2, "skip", [type.element])
    guard let width = type.shape.last else {
      throw VitError("the input is a scalar, expected at least one axis")
    }
    try operands.expectShape(1, "bias", [width])
    try operands.expectShape(2, "skip", type.shape)
    return [type]
  }

  func role(of index: Int) -> OperandRole { index == 1 ? .bias : .data }

  func forward(_ context: KernelContext) {
    Kernel.binary(.add, context.input(0), context.input(1), into: context.output, pool: context.pool)
    Kernel.binary(.add, context.output, context.input(2), into: context.output, pool: context.pool)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    for case let gradient? in operandGradients {
      Kernel.reduceSum(dy, toShapeOf: gradient, pool: context.pool)
    }
  }
}

/// `com.microsoft.BiasSplitGelu`: a bias added, then the left half of the channels times GELU of the right
/// half.
struct MicrosoftBiasSplitGelu: Operation {
  static let name = "com.microsoft.BiasSplitGelu"
  static let summary = "A bias added, then one half of the channels times GELU of the other"
  static let example = "(f32[1, 2, 6], f32[6])"
  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectResults()
    let type = try operands.typed(0, "X", ElementType.reals)
    _ = try operands.typed(1, "bias", [type.element])
    guard let width = type.shape.last else {
      throw VitError("the input is a scalar, expected at least one axis")
    }
    try operands.expectShape(1, "bias", [width])
    guard let half = width.exactlyDivided(by: 2) else {
      throw VitError("the input has \(width) channels, expected an even number")
    }
    return [TensorType(type.element, type.shape.dropLast() + [half])]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .leading(results[0].rank - 1, results)
  }

  func role(of index: Int) -> OperandRole { index == 1 ? .bias : .data }

  /// The sum; the gate before and after GELU; in training three more, for gradients.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let type = operands[0], let half = try? resultTypes(operands)[0] else { return [] }
    return mode.training ? [type, half, half, half, half] : [type, half, half]
  }

  private func half(_ width: Int, _ rows: Int, _ side: Int) -> Move {
    Move(shape: [rows, width], source: Move.Region(offset: side * width, strides: [2 * width, 1]))
  }

  /// The parts of `x + bias`: the right half and GELU of it.
  private func gate(_ context: KernelContext, _ rows: Int, _ width: Int) {
    Kernel.binary(.add, context.input(0), context.input(1), into: context.scratch[0], pool: context.pool)
    half(width, rows, 1).copy(context.scratch[0], to: context.scratch[1], context.pool)
    Kernel.unary(.gelu, context.scratch[1], into: context.scratch[2], pool: context.pool)
  }

  private func extents(_ shape: [Int]) -> (rows: Int, width: Int) {
    (shape.dropLast().reduce(1, *), shape[shape.count - 1] / 2)
  }

  func forward(_ context: KernelContext) {
    let (rows, width) = extents(context.input(0).shape)
    gate(context, rows, width)
    half(width, rows, 0).copy(context.scratch[0], to: context.output, context.pool)
    Kernel.binary(.multiply, context.output, context.scratch[2], into: context.output, pool: context.pool)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (rows, width) = extents(context.input(0).shape)
    let (scratch, pool) = (context.scratch, context.pool)
    gate(context, rows, width)
    // The left half's gradient in place of the gate, the right one's beside it; then both in place of the
    // sum.
    half(width, rows, 0).copy(scratch[0], to: scratch[3], pool)
    Kernel.binary(.multiply, scratch[3], dy, into: scratch[3], pool: pool)
    scratch[4].zero()
    Kernel.unaryGradient(.gelu, x: scratch[1], y: scratch[2], dy: scratch[3], adding: scratch[4], pool: pool)
    Kernel.binary(.multiply, scratch[2], dy, into: scratch[2], pool: pool)
    half(width, rows, 0).reversed.copy(scratch[2], to: scratch[0], pool)
    half(width, rows, 1).reversed.copy(scratch[4], to: scratch[0], pool)
    for case let gradient? in operandGradients {
      Kernel.reduceSum(scratch[0], toShapeOf: gradient, pool: pool)
    }
  }
}

/// `com.microsoft.BiasSoftmax`: the softmax of a sum over all axes from one on as a single row.
struct MicrosoftBiasSoftmax: Operation {
  static let (name, summary) = (
    "com.microsoft.BiasSoftmax", "The softmax of scores plus a bias that broadcasts"
  )
  static let example = "(f32[1, 2, 3], f32[1, 2, 3]) {axis = 2, is_inner_broadcast = 0}"
  let axis: Int

  init(attributes: inout AttributeReader) throws(VitError) {
    axis = try attributes.int("axis", default: 1)
    // Both ways of repeating the bias are the usual broadcast of its shape.
    _ = try attributes.optionalInt("is_inner_broadcast")
  }
  var attributes: Attributes { Attributes([("axis", .int(axis))]) }
  var memory: ResultMemory { .inPlace(operands: [0]) }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectResults()
    let type = try operands.typed(0, "data", ElementType.reals)
    let bias = try operands.typed(1, "bias", [type.element])
    _ = try normalisedAxis(axis, rank: type.rank)
    guard try broadcast(type.shape, bias.shape) == type.shape else {
      throw VitError("'bias' has the shape \(bias.shape), which does not broadcast to \(type.shape)")
    }
    return [type]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let rank = results[0].rank
    let place = axis < 0 ? axis + rank : axis
    return AxisMap(
      (0..<rank).map { axis in
        AxisMap.Letter(
          axis < place ? .parallel : .aligned,
          axis < place
            ? AxisMap.broadcastAxes(operands, [0, 1], axis, of: results[0].shape) : [axis], [axis])
      }, broadcasts: true)
  }

  func role(of index: Int) -> OperandRole { index == 0 ? .scores : .mask }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    mode.training ? [operands[0]].compactMap { $0 } : []
  }

  private func rows(_ view: View) -> View {
    let width = view.shape[(axis < 0 ? axis + view.rank : axis)...].reduce(1, *)
    return view.reshaped([width == 0 ? 0 : view.count / width, width])
  }

  func forward(_ context: KernelContext) {
    let y = context.output
    Kernel.binary(.add, context.input(0), context.input(1), into: y, pool: context.pool)
    Kernel.softmax(rows(y), guarded: false, into: rows(y), pool: context.pool)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let flow = context.scratch[0]
    flow.zero()
    Kernel.softmaxGradient(y: rows(context.output), dy: rows(dy), adding: rows(flow), pool: context.pool)
    for case let gradient? in operandGradients {
      Kernel.reduceSum(flow, toShapeOf: gradient, pool: context.pool)
    }
  }
}
