internal import VitIR
internal import VitRuntime

/// `com.microsoft.Attention`: projection of tokens to queries, keys and values by one weight, then attention.
///
/// Operands: tokens `[batch, tokens, in]`, weight `[in, q + k + v]`, bias, mask, past `[2, batch, heads,
/// past, depth]`, what is added to scores; results: the attended values, and the present keys and values.
struct MicrosoftAttention: Operation {
  static let name = "com.microsoft.Attention"
  static let summary = "Queries, keys and values projected by one weight, then attention"
  static let example = "(f32[1, 2, 6], f32[6, 18], f32[18]) {num_heads = 2, unidirectional = 1}"
  let options: MicrosoftAttentionOptions
  /// Channels of queries, keys and values; absent: a third each.
  let widths: [Int]?

  init(attributes: inout AttributeReader) throws(VitError) {
    options = try MicrosoftAttentionOptions(attributes: &attributes)
    widths = try attributes.optionalInts("qkv_hidden_sizes")
    if let widths, widths.count != 3 || widths[0] != widths[1] || widths.contains(where: { $0 <= 0 }) {
      throw VitError("attribute 'qkv_hidden_sizes' is \(widths), expected three numbers, the first two equal")
    }
    for name in ["do_rotary", "past_present_share_buffer"] {
      guard try !attributes.bool(name, default: false) else {
        throw VitError("attribute '\(name)' is 1, which ONNX Runtime knows on accelerators only")
      }
    }
    _ = try attributes.optionalInt("rotary_embedding_dim")
  }
  var attributes: Attributes {
    var result = options.attributes
    result["qkv_hidden_sizes"] = widths.map(Attribute.ints)
    return result
  }
  var isDifferentiable: Bool { true }

  /// Channels of queries and keys, and of values.
  private func split(_ total: Int) -> (key: Int, value: Int) {
    if let widths { return (widths[0], widths[2]) }
    return (total / 3, total / 3)
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...7)
    try operands.expectResults(2)
    let x = try operands.typed(0, "input", ElementType.reals)
    let weight = try operands.typed(1, "weights", [x.element])
    guard x.rank == 3, weight.rank == 2, weight.shape[0] == x.shape[2] else {
      throw VitError(
        "'input' and 'weights' have the shapes \(x.shape) and \(weight.shape), which do not match")
    }
    guard let total = weight.shape[1].fixedValue else {
      throw VitError("'weights' have \(weight.shape[1]) columns, expected a number without symbols")
    }
    let (key, value) = split(total)
    let (sum, overflow) = (key &* 2).addingReportingOverflow(value)
    guard !overflow, key <= total, sum == total else {
      throw VitError(
        "'weights' have \(total) columns, expected queries, keys and values: \(widths ?? [key, key, value])")
    }
    let depth = try options.depth(key, "keys")
    let valueDepth = try options.depth(value, "values")
    try operands.expectSame(2, "bias", as: x.element)
    try operands.expectShape(2, "bias", [.fixed(total)])
    guard !operands.has(6) else {
      throw VitError("'past_sequence_length' is there, expected a past that is not shared with the present")
    }
    let (batch, tokens) = (x.shape[0], x.shape[1])
    var keys = tokens
    if operands.has(4) {
      let past = try operands.typed(4, "past", [x.element])
      guard past.rank == 5, depth == valueDepth else {
        throw VitError("'past' has the shape \(past.shape), expected five axes, and keys as deep as values")
      }
      try operands.expectShape(4, "past", [2, batch, .fixed(options.heads), past.shape[3], .fixed(depth)])
      keys = keys + past.shape[3]
    }
    try options.checkMask(operands, 3, "mask_index", batch: batch, queries: tokens, keys: [keys])
    try options.checkBias(operands, 5, x.element, batch: batch, queries: tokens, keys: keys)
    let output = TensorType(x.element, [batch, tokens, .fixed(value)])
    guard operands.resultCount > 1 else { return [output] }
    guard depth == valueDepth else {
      throw VitError(
        "the present is a result, which needs keys as deep as values, found \(depth) and \(valueDepth)")
    }
    return [output, TensorType(x.element, [2, batch, .fixed(options.heads), keys, .fixed(depth)])]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    var axes = MicrosoftAttentionOptions.imageAxes(operands, masks: [3, 5])
    if operands.has(4) { axes?[4] = 1 }
    return axes.map { AxisMap([AxisMap.Letter(.parallel, $0, results.indices.map { $0 })], broadcasts: true) }
      ?? .mixed
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .weight
    case 2: .bias
    case 3, 5: .mask
    default: .data
    }
  }

  private func core(_ x: [Int], _ weight: [Int], past: [Int]?, mask: AttentionMask) -> AttentionCore {
    let (key, value) = split(weight[1])
    let depth = key / options.heads
    return AttentionCore(
      batch: x[0], heads: options.heads, keyHeads: options.heads, queries: x[1], keys: x[1] + (past?[3] ?? 0),
      depth: depth, valueDepth: value / options.heads, scale: options.scale(depth: depth), mask: mask)
  }

  private func core(_ operands: Operands) -> AttentionCore? {
    guard let x = operands[0], let weight = operands[1] else { return nil }
    return core(x.extents, weight.extents, past: operands[4]?.extents, mask: AttentionMask())
  }

  private func projected(_ operands: Operands) -> [TensorType] {
    guard let x = operands[0], let weight = operands[1] else { return [] }
    return [TensorType(x.element, [x.shape[0], x.shape[1], weight.shape[1]])]
  }

  /// Queries, keys and values.
  func savedTypes(_ operands: Operands) -> [TensorType] { projected(operands) }

  /// Scores; projections, or their gradient; with a past the joined keys and values, and their gradient.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let x = operands[0], let core = core(operands) else { return [] }
    var types = [core.scratchType(x.element, mode: mode)] + projected(operands)
    guard operands.has(4) else { return types }
    let present = TensorType(x.element, fixed: [2, core.batch, core.heads, core.keys, core.depth])
    types.append(present)
    if mode.training { types.append(present) }
    return types
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let x = operands[0], let weight = operands[1], let core = core(operands) else { return Cost() }
    let (_, columns) = (weight.extents[0], weight.extents[1])
    let bytes = (x.count + weight.count + results.reduce(0) { $0 + $1.count }) * x.element.size
    return Cost(flops: 2 * x.count * columns + core.flops, bytes: bytes)
  }

  /// Queries, keys and values within the projections.
  private func parts(_ view: View, _ core: AttentionCore) -> [HeadLayout] {
    let row = view.shape[2]
    let width = core.heads * core.depth
    return [(0, core.depth), (width, core.depth), (2 * width, core.valueDepth)].map { offset, depth in
      HeadLayout(view: view, offset: offset, batch: view.shape[1] * row, head: depth, row: row)
    }
  }

  /// Keys or values of the past or present.
  private func cached(_ view: View?, _ side: Int) -> HeadLayout? {
    guard let view else { return nil }
    let steps = view.strides
    return HeadLayout(view: view, offset: side * steps[0], batch: steps[1], head: steps[2], row: steps[3])
  }

  private func attention(_ context: KernelContext, _ projections: View) -> (
    CachedAttention, [CachedAttention.Side]
  ) {
    let (x, past) = (context.input(0), context.optionalInput(4))
    let mask = options.mask(
      context.optionalInput(3), bias: context.optionalInput(5), batch: x.shape[0], past: past?.shape[3] ?? 0)
    let core = core(x.shape, context.input(1).shape, past: past?.shape, mask: mask)
    let present = context.outputs.count > 1 ? context.outputs[1] : past == nil ? nil : context.scratch[2]
    let heads = parts(projections, core)
    let sides = [core.depth, core.valueDepth].enumerated().map { side, depth in
      CachedAttention.Side(
        new: heads[1 + side], past: cached(past, side), present: cached(present, side), depth: depth)
    }
    return (CachedAttention(core: core, past: past?.shape[3] ?? 0), sides)
  }

  func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing] {
    packedWeight(operands, stored, MatrixFlags())
  }

  func forward(_ context: KernelContext) {
    let (x, weight) = (context.input(0), context.input(1))
    let projections = context.saved.first ?? context.scratch[1]
    MatrixProduct(x.shape, weight.shape).forward.run(
      a: x, b: weight, packed: context.prepared.first, c: projections,
      bias: context.optionalInput(2), pool: context.pool)
    let (attention, sides) = attention(context, projections)
    attention.forward(
      parts(projections, attention.core)[0], sides[0], sides[1],
      into: .inner(context.output, depth: attention.core.valueDepth), scratch: context.scratch[0],
      pool: context.pool)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    func gradient(_ index: Int) -> View? { index < operandGradients.count ? operandGradients[index] : nil }
    let (x, weight, pool) = (context.input(0), context.input(1), context.pool)
    let flow = context.scratch[1]
    flow.zero()
    let (attention, sides) = attention(context, context.saved[0])
    let core = attention.core
    let sinks = (0..<2).map { side in
      CachedAttention.Sinks(
        new: parts(flow, core)[1 + side], past: cached(gradient(4), side),
        gathered: context.scratch.count > 3 ? cached(context.scratch[3], side) : nil,
        result: resultGradients.count > 1 ? cached(resultGradients[1], side) : nil)
    }
    attention.gradient(
      parts(context.saved[0], core)[0], sides[0], sides[1],
      dy: resultGradients[0].map { .inner($0, depth: core.valueDepth) }, into: parts(flow, core)[0], sinks[0],
      sinks[1],
      masks: gradient(5).map { [AttentionMask.Term($0)] } ?? [], scratch: context.scratch[0], pool: pool)
    let rows = x.shape[0] * x.shape[1]
    MatrixProduct([rows, weight.shape[0]], weight.shape).accumulate(
      alpha: 1, a: x, b: weight, dy: flow, into: gradient(0), gradient(1), pool: pool)
    if let bias = gradient(2) { Kernel.reduceSum(flow, toShapeOf: bias, pool: pool) }
  }
}
