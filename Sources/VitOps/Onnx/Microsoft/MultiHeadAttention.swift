internal import VitIR
internal import VitRuntime

/// `com.microsoft.MultiHeadAttention`: attention of projected queries, keys and values, to which a bias may
/// be added.
///
/// Operands: query `[batch, tokens, heads·depth]` or all three packed as `[batch, tokens, heads, 3, depth]`;
/// key, or key and value packed as `[batch, tokens, heads, 2, depth]`; value (key and value may be `[batch,
/// heads, tokens, depth]`); bias; padding mask; what is added to scores; past keys and values. Results: the
/// attended values, present keys and values, the products of queries and keys.
struct MicrosoftMultiHeadAttention: Operation {
  static let name = "com.microsoft.MultiHeadAttention"
  static let summary = "Attention of projected queries, keys and values, to which a bias may be added"
  static let example = "(f32[1, 2, 6], f32[1, 5, 6], f32[1, 5, 6], f32[18]) {num_heads = 2}"
  let options: MicrosoftAttentionOptions

  init(attributes: inout AttributeReader) throws(VitError) {
    options = try MicrosoftAttentionOptions(attributes: &attributes)
  }
  var attributes: Attributes { options.attributes }
  var isDifferentiable: Bool { true }

  /// Extents as `[batch, tokens, heads, depth]`.
  private struct Extents {
    var batch: Dimension
    var queries: Dimension
    var keys: Dimension
    var depth: Int
    var valueDepth: Int
  }

  private func extents(_ shapes: [Shape?]) throws(VitError) -> Extents {
    func shape(_ index: Int) -> Shape? { index < shapes.count ? shapes[index] : nil }
    func wrong() -> VitError {
      let found = (0..<3).map { shape($0).map { "\($0)" } ?? "none" }.joined(separator: ", ")
      return VitError("query, key and value have the shapes \(found), which no form of the operator has")
    }
    let heads = Dimension.fixed(options.heads)
    guard let query = shape(0) else { throw wrong() }
    if query.count == 5 {
      guard shape(1) == nil, shape(2) == nil, query[2] == heads, query[3] == 3,
        let depth = query[4].fixedValue
      else { throw wrong() }
      return Extents(batch: query[0], queries: query[1], keys: query[1], depth: depth, valueDepth: depth)
    }
    guard query.count == 3, let width = query[2].fixedValue, let key = shape(1), key[0] == query[0] else {
      throw wrong()
    }
    let depth = try options.depth(width, "the query")
    if key.count == 5 {
      guard shape(2) == nil, key[2] == heads, key[3] == 2, key[4] == .fixed(depth) else { throw wrong() }
      return Extents(batch: query[0], queries: query[1], keys: key[1], depth: depth, valueDepth: depth)
    }
    guard let value = shape(2), value.count == key.count, value[0] == query[0] else { throw wrong() }
    if key.count == 4 {
      guard key[1] == heads, value[1] == heads, key[2] == value[2], key[3] == .fixed(depth),
        let valueDepth = value[3].fixedValue
      else { throw wrong() }
      return Extents(batch: query[0], queries: query[1], keys: key[2], depth: depth, valueDepth: valueDepth)
    }
    guard key.count == 3, key[1] == value[1], key[2] == .fixed(width), let valueWidth = value[2].fixedValue
    else {
      throw wrong()
    }
    return Extents(
      batch: query[0], queries: query[1], keys: key[1], depth: depth,
      valueDepth: try options.depth(valueWidth, "the value"))
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...10)
    try operands.expectResults(4)
    let element = try operands.typed(0, "query", ElementType.reals).element
    for (index, role) in [(1, "key"), (2, "value"), (3, "bias"), (6, "past_key"), (7, "past_value")] {
      try operands.expectSame(index, role, as: element)
      guard operands.has(index) else { continue }
      _ = try operands.typed(index, role, [element])
    }
    let extents = try extents(operands.types.map { $0?.shape })
    let heads = options.heads
    try operands.expectShape(3, "bias", [.fixed(heads * (2 * extents.depth + extents.valueDepth))])
    guard !operands.has(8), !operands.has(9) else {
      throw VitError(
        "the past shares a buffer with the present, which ONNX Runtime knows when generating only")
    }
    guard operands.has(6) == operands.has(7) else {
      throw VitError("one of 'past_key' and 'past_value' is missing, expected both or none")
    }
    var keys = extents.keys
    if let past = operands[6]?.shape {
      guard past.count == 4 else { throw VitError("'past_key' has the shape \(past), expected four axes") }
      try operands.expectShape(6, "past_key", [extents.batch, .fixed(heads), past[2], .fixed(extents.depth)])
      try operands.expectShape(
        7, "past_value", [extents.batch, .fixed(heads), past[2], .fixed(extents.valueDepth)])
      keys = keys + past[2]
    }
    try options.checkMask(
      operands, 4, "key_padding_mask", batch: extents.batch, queries: extents.queries,
      keys: [extents.keys, keys])
    try options.checkBias(
      operands, 5, element, batch: extents.batch, queries: extents.queries, keys: keys)
    let types = [
      TensorType(element, [extents.batch, extents.queries, .fixed(heads * extents.valueDepth)]),
      TensorType(element, [extents.batch, .fixed(heads), keys, .fixed(extents.depth)]),
      TensorType(element, [extents.batch, .fixed(heads), keys, .fixed(extents.valueDepth)]),
      TensorType(element, [extents.batch, .fixed(heads), extents.queries, keys]),
    ]
    return Array(types.prefix(operands.resultCount))
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard var axes = MicrosoftAttentionOptions.imageAxes(operands, masks: [4, 5]) else { return .mixed }
    for index in [1, 2, 6, 7] where operands.has(index) { axes[index] = 0 }
    return AxisMap([AxisMap.Letter(.parallel, axes, results.map { _ in 0 })], broadcasts: true)
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 3: .bias
    case 4, 5: .mask
    default: .data
    }
  }

  private func core(_ shapes: [[Int]?], mask: AttentionMask) -> AttentionCore {
    let extents = try? extents(shapes.map { $0.map { $0.map(Dimension.fixed) } })
    guard let extents, let batch = extents.batch.fixedValue, let queries = extents.queries.fixedValue,
      let keys = extents.keys.fixedValue
    else { preconditionFailure("the type rule has checked the shapes") }
    let past = shapes.count > 6 ? shapes[6]?[2] ?? 0 : 0
    return AttentionCore(
      batch: batch, heads: options.heads, keyHeads: options.heads, queries: queries, keys: past + keys,
      depth: extents.depth, valueDepth: extents.valueDepth, scale: options.scale(depth: extents.depth),
      mask: mask)
  }

  /// Queries, keys and values as `[batch, tokens, heads·depth]`.
  private func dense(_ core: AttentionCore, past: Int, _ element: ElementType) -> [TensorType] {
    [(core.queries, core.depth), (core.keys - past, core.depth), (core.keys - past, core.valueDepth)].map {
      TensorType(element, fixed: [core.batch, $0, core.heads * $1])
    }
  }

  /// Where each kind of scratch begins.
  private struct Layout {
    /// Queries, keys and values with their bias added.
    var biased: Int?
    /// Keys and values joined to those of the past.
    var joined: Int?
    /// Gradients of queries, keys and values, in training.
    var flows = 0
    /// Gradients of what was joined, in training.
    var gathered: Int?
  }

  /// In training there is more than in inference, after it.
  private func scratch(
    _ core: AttentionCore, past: Int?, hasBias: Bool, _ element: ElementType, mode: ExecutionMode
  ) -> (types: [TensorType], layout: Layout) {
    var types = [core.scratchType(element, mode: mode)]
    var layout = Layout()
    let parts = dense(core, past: past ?? 0, element)
    if hasBias {
      layout.biased = types.count
      types += parts
    }
    let joined = [core.depth, core.valueDepth].map {
      TensorType(element, fixed: [core.batch, core.heads, core.keys, $0])
    }
    if past != nil {
      layout.joined = types.count
      types += joined
    }
    guard mode.training else { return (types, layout) }
    layout.flows = types.count
    types += parts
    if past != nil {
      layout.gathered = types.count
      types += joined
    }
    return (types, layout)
  }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let query = operands[0] else { return [] }
    let core = core(operands.types.map { $0?.extents }, mask: AttentionMask())
    return scratch(
      core, past: operands[6]?.extents[2], hasBias: operands.has(3), query.element, mode: mode
    ).types
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    let core = core(operands.types.map { $0?.extents }, mask: AttentionMask())
    let read = operands.types.reduce(0) { $0 + ($1?.count ?? 0) }
    return Cost(
      flops: core.flops, bytes: (read + results.reduce(0) { $0 + $1.count }) * results[0].element.size)
  }

  /// Queries, keys and values where the operands (or their gradients) have them.
  private func parts(_ views: [View?], _ core: AttentionCore) -> [HeadLayout?] {
    func view(_ index: Int) -> View? { index < views.count ? views[index] : nil }
    func packed(_ view: View, _ count: Int, _ index: Int) -> HeadLayout {
      let row = core.heads * count * core.depth
      return HeadLayout(
        view: view, offset: index * core.depth, batch: view.shape[1] * row, head: count * core.depth, row: row
      )
    }
    func plain(_ view: View, _ depth: Int) -> HeadLayout {
      view.rank == 4 ? .outer(view) : .inner(view, depth: depth)
    }
    if let query = view(0), query.rank == 5 { return (0..<3).map { packed(query, 3, $0) } }
    let query = view(0).map { plain($0, core.depth) }
    if let key = view(1), key.rank == 5 { return [query] + (0..<2).map { packed(key, 2, $0) } }
    return [query, view(1).map { plain($0, core.depth) }, view(2).map { plain($0, core.valueDepth) }]
  }

  /// One run: the attention, its three operands, and the layout of scratch.
  private struct Run {
    var attention: CachedAttention
    var query: HeadLayout
    var sides: [CachedAttention.Side]
    var layout: Layout
  }

  private func run(_ context: KernelContext) -> Run {
    let shapes = context.inputs.map { $0?.shape }
    let past = context.optionalInput(6)?.shape[2]
    let mask = options.mask(
      context.optionalInput(4), bias: context.optionalInput(5), batch: context.input(0).shape[0],
      past: past ?? 0)
    let core = core(shapes, mask: mask)
    let mode = ExecutionMode(training: true, workers: context.pool.workers)
    let bias = context.optionalInput(3)
    let layout = scratch(core, past: past, hasBias: bias != nil, context.output.element, mode: mode).layout
    var heads = parts(context.inputs, core).compactMap { $0 }
    let depths = [core.depth, core.depth, core.valueDepth]
    if let bias, let first = layout.biased {
      var offset = 0
      for index in 0..<3 {
        let target = context.scratch[first + index]
        let dense = HeadLayout.inner(target, depth: depths[index])
        heads[index].move(to: dense, core, heads: core.heads, tokens: target.shape[1], depth: depths[index])
          .copy(heads[index].view, to: target, context.pool)
        let width = target.shape[2]
        let part = View(base: bias.from(offset).base, element: bias.element, shape: [width])
        Kernel.binary(.add, target, part, into: target, pool: context.pool)
        heads[index] = dense
        offset += width
      }
    }
    let sides = (0..<2).map { side in
      let result = context.outputs.count > side + 1 ? context.outputs[side + 1] : nil
      return CachedAttention.Side(
        new: heads[1 + side], past: context.optionalInput(6 + side).map(HeadLayout.outer),
        present: (result ?? layout.joined.map { context.scratch[$0 + side] }).map(HeadLayout.outer),
        depth: depths[1 + side])
    }
    return Run(
      attention: CachedAttention(core: core, past: past ?? 0), query: heads[0], sides: sides, layout: layout)
  }

  func forward(_ context: KernelContext) {
    let run = run(context)
    run.attention.forward(
      run.query, run.sides[0], run.sides[1],
      into: .inner(context.output, depth: run.attention.core.valueDepth),
      scratch: context.scratch[0], probe: context.outputs.count > 3 ? (context.outputs[3], .product) : nil,
      pool: context.pool)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    func gradient(_ index: Int) -> View? { index < operandGradients.count ? operandGradients[index] : nil }
    func result(_ index: Int) -> View? { index < resultGradients.count ? resultGradients[index] : nil }
    let run = run(context)
    let core = run.attention.core
    let depths = [core.depth, core.depth, core.valueDepth]
    let flows = (0..<3).map { context.scratch[run.layout.flows + $0] }
    for flow in flows { flow.zero() }
    let heads = flows.indices.map { HeadLayout.inner(flows[$0], depth: depths[$0]) }
    let sinks = (0..<2).map { side in
      CachedAttention.Sinks(
        new: heads[1 + side], past: gradient(6 + side).map(HeadLayout.outer),
        gathered: run.layout.gathered.map { .outer(context.scratch[$0 + side]) },
        result: result(1 + side).map(HeadLayout.outer))
    }
    run.attention.gradient(
      run.query, run.sides[0], run.sides[1], dy: result(0).map { .inner($0, depth: core.valueDepth) },
      into: heads[0],
      sinks[0], sinks[1], masks: gradient(5).map { [AttentionMask.Term($0)] } ?? [],
      scratch: context.scratch[0],
      probeGradient: result(3).map { ($0, .product) }, pool: context.pool)
    let targets = parts(operandGradients.enumerated().map { $0.offset < 3 ? $0.element : nil }, core)
    var offset = 0
    for index in 0..<3 {
      let (flow, width) = (flows[index], flows[index].shape[2])
      if let target = targets[index] {
        heads[index].move(to: target, core, heads: core.heads, tokens: flow.shape[1], depth: depths[index])
          .add(flow, to: target.view, context.pool)
      }
      if let bias = gradient(3) {
        let part = View(base: bias.from(offset).base, element: bias.element, shape: [width])
        Kernel.reduceSum(flow, toShapeOf: part, pool: context.pool)
      }
      offset += width
    }
  }
}
