internal import VitIR
internal import VitRuntime

/// Which normalisation follows a residual sum.
protocol SkipNormalizationKind: Sendable {
  static var name: String { get }
  static var summary: String { get }
  /// Whether the mean is subtracted and a shift added; else the mean square alone is made one.
  static var isCentred: Bool { get }
}

enum SkipLayerNormalizationKind: SkipNormalizationKind {
  static let name = "com.microsoft.SkipLayerNormalization"
  static let summary = "Layer normalisation of a sum of two tensors and a bias"
  static let isCentred = true
}

enum SkipSimplifiedLayerNormalizationKind: SkipNormalizationKind {
  static let name = "com.microsoft.SkipSimplifiedLayerNormalization"
  static let summary = "Root-mean-square normalisation of a sum of two tensors and a bias"
  static let isCentred = false
}

/// `com.microsoft.SkipLayerNormalization` and its simplified form: operands x, skip, gamma, beta (where
/// centred), bias; results y, mean, reciprocal deviation, and the sum that was normalised.
struct MicrosoftSkipNormalization<Kind: SkipNormalizationKind>: Operation {
  static var name: String { Kind.name }
  static var summary: String { Kind.summary }
  static var example: String { "(f32[1, 2, 3], f32[1, 2, 3], f32[3])" }
  let norm: RowNormalization

  init(attributes: inout AttributeReader) throws(VitError) {
    norm = try RowNormalization(attributes: &attributes, isCentred: Kind.isCentred, epsilon: 1e-12)
    guard norm.axis == -1 else { throw VitError("attribute 'axis' is \(norm.axis), expected -1") }
  }
  var attributes: Attributes { Attributes([("epsilon", .float(norm.epsilon))]) }
  var memory: ResultMemory { .inPlace(operands: [0]) }
  var isDifferentiable: Bool { true }

  private static var betaIndex: Int? { Kind.isCentred ? 3 : nil }
  private static var biasIndex: Int { Kind.isCentred ? 4 : 3 }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...(Self.biasIndex + 1))
    try operands.expectResults(4)
    let x = try operands.typed(0, "input", ElementType.reals)
    let skip = try operands.typed(1, "skip", [x.element])
    _ = try operands.typed(2, "gamma", [x.element])
    guard x.rank >= 2, let width = x.shape.last else {
      throw VitError("the input has the shape \(x.shape), expected at least two axes")
    }
    guard try broadcast(x.shape, skip.shape) == x.shape else {
      throw VitError("'skip' has the shape \(skip.shape), which does not broadcast to \(x.shape)")
    }
    let roles = Kind.isCentred ? ["gamma", "beta", "bias"] : ["gamma", "bias"]
    for (index, role) in roles.enumerated() {
      try operands.expectSame(index + 2, role, as: x.element)
      try operands.expectShape(index + 2, role, [width])
    }
    let statistics = TensorType(x.element, x.shape.dropLast() + [1])
    return Array([x, statistics, statistics, x].prefix(operands.resultCount))
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let rank = results[0].rank
    return AxisMap(
      (0..<rank).map { axis in
        if axis == rank - 1 {
          return AxisMap.Letter(.aligned, [axis], results.map { $0.shape[axis] == 1 ? nil : axis })
        }
        return AxisMap.Letter(
          .parallel, AxisMap.broadcastAxes(operands, [0, 1], axis, of: results[0].shape),
          results.map { _ in axis })
      }, broadcasts: true)
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 0, 1: .data
    case 2: .gain
    default: .bias
    }
  }

  /// The sum that is normalised, and the statistics.
  func savedTypes(_ operands: Operands) -> [TensorType] {
    [operands[0]].compactMap { $0 } + norm.statistics(operands)
  }

  /// Statistics, where they are results; the gradient of the sum.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    if mode.training { return [operands[0]].compactMap { $0 } }
    return operands.resultCount > 1 ? norm.statistics(operands) : []
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    let type = results[0]
    return Cost(flops: 10 * type.count, bytes: 3 * type.count * type.element.size)
  }

  func forward(_ context: KernelContext) {
    let (pool, results) = (context.pool, context.outputs)
    let isTraining = !context.saved.isEmpty
    let sum = isTraining ? context.saved[0] : results.count > 3 ? results[3] : results[0]
    Kernel.binary(.add, context.input(0), context.input(1), into: sum, pool: pool)
    if let bias = context.optionalInput(Self.biasIndex) {
      Kernel.binary(.add, sum, bias, into: sum, pool: pool)
    }
    if isTraining, results.count > 3 { results[3].copy(from: sum) }
    norm.forward(
      sum, scale: context.input(2), bias: Self.betaIndex.flatMap(context.optionalInput), into: results[0],
      stats: isTraining ? context.saved[1] : context.scratch.first,
      mean: results.count > 1 ? results[1] : nil,
      deviation: results.count > 2 ? results[2] : nil, pool: pool)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    func gradient(_ index: Int?) -> View? {
      index.flatMap { $0 < operandGradients.count ? operandGradients[$0] : nil }
    }
    let flow = context.scratch[0]
    flow.zero()
    if resultGradients.count > 3, let direct = resultGradients[3] { flow.copy(from: direct) }
    if let dy = resultGradients[0] {
      norm.gradient(
        context.saved[0], scale: context.input(2), stats: context.saved[1], dy: dy, into: flow, gradient(2),
        gradient(Self.betaIndex), pool: context.pool)
    }
    for index in [0, 1, Self.biasIndex] {
      guard let sink = gradient(index) else { continue }
      Kernel.reduceSum(flow, toShapeOf: sink, pool: context.pool)
    }
  }
}

/// `com.microsoft.GroupNorm`: group normalisation, channels last or second, then SiLU if asked for.
struct MicrosoftGroupNorm: Operation {
  static let (name, summary) = (
    "com.microsoft.GroupNorm", "Group normalisation, channels last, then an activation"
  )
  static let example = "(f32[1, 2, 3, 6], f32[6], f32[6]) {activation = 0, epsilon = 0.001, groups = 2}"
  let epsilon: Double
  let groups: Int
  let isLast: Bool
  let activates: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    epsilon = try attributes.float("epsilon", default: 1e-5)
    groups = try attributes.int("groups")
    isLast = try attributes.bool("channels_last", default: true)
    activates = try attributes.bool("activation", default: false)
    guard groups > 0 else { throw VitError("attribute 'groups' is \(groups), expected at least 1") }
  }
  var attributes: Attributes {
    Attributes([
      ("activation", .bool(activates)), ("channels_last", .bool(isLast)), ("epsilon", .float(epsilon)),
      ("groups", .int(groups)),
    ])
  }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...3)
    try operands.expectResults()
    let x = try operands.typed(0, "X", ElementType.reals)
    guard x.rank == 4, let channels = x.shape[isLast ? 3 : 1].fixedValue else {
      throw VitError("the input has the shape \(x.shape), expected four axes and a known number of channels")
    }
    guard channels % groups == 0 else {
      throw VitError("\(channels) channels cannot be parted into \(groups) groups")
    }
    for (index, role) in [(1, "gamma"), (2, "beta")] {
      _ = try operands.typed(index, role, [x.element])
      try operands.expectShape(index, role, [.fixed(channels)])
    }
    return [x]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .rows(operands, results) { $0 != 0 }
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .gain
    case 2: .bias
    default: .data
    }
  }

  private func planar(_ shape: [Int]) -> [Int] {
    isLast ? [shape[0], shape[3], shape[1], shape[2]] : shape
  }

  func savedTypes(_ operands: Operands) -> [TensorType] {
    guard let x = operands[0] else { return [] }
    return [TensorType(x.element, fixed: [x.count == 0 ? 0 : x.extents[0] * groups, 2])]
  }

  /// Operand and result with channels second; in training their gradients too.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    [TensorType](repeating: operands[0] ?? TensorType(.f32, []), count: mode.training ? 5 : 2)
  }

  private func toPlanes(_ shape: [Int]) -> Move {
    let planes = planar(shape)
    let steps = rowMajorStrides(shape)
    return Move(
      shape: planes, source: Move.Region(strides: isLast ? [steps[0], steps[3], steps[1], steps[2]] : steps))
  }

  /// Normalises the operand, which it copies to the first scratch, into the second.
  private func normalise(_ context: KernelContext, stats: View?) {
    let x = context.input(0)
    toPlanes(x.shape).copy(x, to: context.scratch[0], context.pool)
    GroupedRows(planar(x.shape), groups: groups, isPerGroup: false).forward(
      context.scratch[0], context.input(1), context.input(2), epsilon: epsilon, into: context.scratch[1],
      stats: stats,
      pool: context.pool)
  }

  func forward(_ context: KernelContext) {
    let y = context.output
    normalise(context, stats: context.saved.first)
    if activates { Kernel.unary(.silu, context.scratch[1], into: context.scratch[1], pool: context.pool) }
    toPlanes(y.shape).reversed.copy(context.scratch[1], to: y, context.pool)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (x, scratch, pool) = (context.input(0), context.scratch, context.pool)
    normalise(context, stats: context.saved[0])
    var flow = scratch[2]
    toPlanes(x.shape).copy(dy, to: flow, pool)
    if activates {
      scratch[3].zero()
      Kernel.unaryGradient(.silu, x: scratch[1], y: scratch[1], dy: flow, adding: scratch[3], pool: pool)
      flow = scratch[3]
    }
    scratch[1].zero()
    GroupedRows(planar(x.shape), groups: groups, isPerGroup: false).gradient(
      scratch[0], context.input(1), stats: context.saved[0], dy: flow, scratch: scratch[4], into: scratch[1],
      operandGradients[1], operandGradients[2], pool: pool)
    if let dx = operandGradients[0] { toPlanes(x.shape).reversed.add(scratch[1], to: dx, pool) }
  }
}
