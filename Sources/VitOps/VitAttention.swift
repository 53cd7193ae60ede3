public import VitIR
internal import VitRuntime

/// `vit.attention(x, wq, bq?, wk, bk?, wv, bv?, wo, bo?, bias?)`: self-attention with its linear maps, from
/// the normalised tokens `[batch, tokens, dim]` to what is added to the residual.
///
/// `wq` is `[heads·d, dim]`, `wk` `[kvHeads·d, dim]`, `wv` `[kvHeads·dv, dim]`, `wo` `[outputDim, heads·dv]`;
/// `bias` broadcasts to `[batch, heads, tokens, tokens]` and is added to the scores. With `causal`, a token
/// sees those up to itself. A token that sees none attends to zeros, or NaN where it is not `guarded`.
public struct VitAttention: Operation {
  /// The operation's name.
  public static let name = "vit.attention"
  /// What it computes.
  public static let summary = "Self-attention with its linear maps: queries, keys, values, output"
  /// A use of it.
  public static let example =
    "(f32[1, 4, 6], f32[6, 6], f32[6], f32[6, 6], f32[6], f32[6, 6], f32[6], f32[6, 6], f32[6], "
    + "f32[4, 4]) {heads = 2}"
  /// Heads of queries.
  public let heads: Int
  /// Heads of keys and values; divides `heads`.
  public let kvHeads: Int
  /// The channels of a query or key head, where they are checked against the weights.
  public let headDim: Int?
  /// The channels of a value head, where they are checked against the weights.
  public let valueDim: Int?
  /// The factor of the scores; `nil` for one over the square root of the channels of a head.
  public let scale: Double?
  /// Whether tokens that come after a token are hidden from it.
  public let isCausal: Bool
  /// Whether a token that sees none attends to zeros, else NaN.
  public let isGuarded: Bool

  private static let queries = LinearMap(weight: 1, bias: 2)
  private static let keys = LinearMap(weight: 3, bias: 4)
  private static let values = LinearMap(weight: 5, bias: 6)
  private static let output = LinearMap(weight: 7, bias: 8)
  private static let bias = 9

  /// An attention.
  public init(heads: Int, kvHeads: Int? = nil, scale: Double? = nil, isCausal: Bool = false) {
    self.heads = heads
    self.kvHeads = kvHeads ?? heads
    self.scale = scale
    self.isCausal = isCausal
    isGuarded = true
    headDim = nil
    valueDim = nil
  }

  /// Takes `heads`, `kv_heads`, `head_dim`, `value_dim`, `scale`, `causal` and `guarded`.
  public init(attributes: inout AttributeReader) throws(VitError) {
    heads = try attributes.int("heads")
    kvHeads = try attributes.int("kv_heads", default: heads)
    headDim = try attributes.optionalInt("head_dim")
    valueDim = try attributes.optionalInt("value_dim")
    scale = try attributes.optionalFloat("scale")
    isCausal = try attributes.bool("causal", default: false)
    isGuarded = try attributes.bool("guarded", default: true)
    guard (1...Hybrid.maximumHeads).contains(heads), kvHeads > 0, heads % kvHeads == 0 else {
      throw VitError(
        "\(heads) heads of queries cannot share \(kvHeads) heads of keys", code: "attribute-value")
    }
  }

  /// What `init` takes; the default scale, unchecked widths and `guarded` where it holds are left out.
  public var attributes: Attributes {
    var result = Attributes([
      ("heads", .int(heads)), ("kv_heads", .int(kvHeads)), ("causal", .bool(isCausal)),
    ])
    result["head_dim"] = headDim.map(Attribute.int)
    result["value_dim"] = valueDim.map(Attribute.int)
    result["scale"] = scale.map(Attribute.float)
    if !isGuarded { result["guarded"] = .bool(false) }
    return result
  }

  /// `[batch, tokens, outputDim]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(8...10)
    try operands.expectOneResult()
    let x = try operands.float(0, "x", rank: 3...3)
    let q = try Self.queries.resultType(x, operands, weightRole: "wq", biasRole: "bq")
    let k = try Self.keys.resultType(x, operands, weightRole: "wk", biasRole: "bk")
    let v = try Self.values.resultType(x, operands, weightRole: "wv", biasRole: "bv")
    guard let queries = q.shape[2].fixedValue, let keys = k.shape[2].fixedValue,
      let values = v.shape[2].fixedValue
    else {
      throw VitError("expected weights of known shapes, found \(q), \(k), \(v)", code: "operand-shape")
    }
    guard queries % heads == 0, keys % kvHeads == 0, values % kvHeads == 0, queries / heads == keys / kvHeads
    else {
      throw VitError(
        "\(queries), \(keys) and \(values) channels of queries, keys and values do not make"
          + " \(heads) heads over \(kvHeads) groups", code: "operand-shape")
    }
    guard headDim ?? (queries / heads) == queries / heads, valueDim ?? (values / kvHeads) == values / kvHeads
    else {
      throw VitError(
        "heads have \(queries / heads) channels and \(values / kvHeads) of values,"
          + " expected \(headDim ?? queries / heads) and \(valueDim ?? values / kvHeads)",
        code: "operand-shape")
    }
    if operands.has(Self.bias) {
      let scores = x.with([x.shape[0], .fixed(heads), x.shape[1], x.shape[1]])
      try SoftmaxAttention.check(bias: operands.float(Self.bias, "bias"), scores: scores)
    }
    let o = x.with([x.shape[0], x.shape[1], .fixed(heads * (values / kvHeads))])
    return [try Self.output.resultType(o, operands, weightRole: "wo", biasRole: "bo")]
  }

  /// Images, and the channels of the result; tokens see one another.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let x = operands[0]?.shape else { return .mixed }
    let scores = [x[0], .fixed(heads), x[1], x[1]]
    let bias = AxisMap.broadcastAxes(operands, [Self.bias], 0, of: scores).dropFirst()
    return AxisMap(
      [
        AxisMap.Letter(.parallel, [0] + bias, [0]), AxisMap.Letter(.aligned, [1], [1]),
        AxisMap.Letter(
          .parallel, (0..<operands.count).map { ($0 == 7 || $0 == 8) && operands.has($0) ? 0 : nil }, [2]),
      ], broadcasts: true)
  }

  /// Weights and biases of the maps; what is added to the scores may be a mask.
  public func role(of index: Int) -> OperandRole {
    switch index {
    case 1, 3, 5, 7: .weight
    case 2, 4, 6, 8: .bias
    case Self.bias: .mask
    default: .data
    }
  }

  /// The columns of queries, keys and values side by side, and the core on them.
  private struct Sizes {
    let batch, tokens, dim, heads: Int
    let queries, keys, values: Int
    let core: SoftmaxAttention

    var columns: Int { queries + keys + values }
    var outputs: Int { heads * core.sizes.valueWidth }

    func type(_ element: ElementType, _ width: Int) -> TensorType {
      TensorType(element, fixed: [batch, tokens, width])
    }
    /// Those of some of the images, for which the bias is the same.
    func of(images count: Int) -> Sizes {
      var shape = core.sizes
      shape.batch = count
      return Sizes(
        batch: count, tokens: tokens, dim: dim, heads: heads, queries: queries, keys: keys, values: values,
        core: SoftmaxAttention(sizes: shape, isCausal: core.isCausal, bias: core.bias))
    }
    func q(_ view: View) -> AttentionOperand {
      operand(view, from: 0, columns, core.sizes.width)
    }
    func k(_ view: View) -> AttentionOperand {
      operand(view, from: queries, columns, core.sizes.width)
    }
    func v(_ view: View) -> AttentionOperand {
      operand(view, from: queries + keys, columns, core.sizes.valueWidth)
    }
    func o(_ view: View) -> AttentionOperand {
      operand(view, from: 0, outputs, core.sizes.valueWidth)
    }
    /// Heads side by side in rows of so many columns, from one of them on.
    private func operand(_ view: View, from start: Int, _ row: Int, _ width: Int) -> AttentionOperand {
      AttentionOperand(
        view.part(start, of: max(0, view.count - start)), batch: tokens * row, head: width, token: row)
    }
  }

  private func sizes(x: [Int], queries: Int, keys: Int, values: Int, bias: [Int]?) -> Sizes {
    let width = queries / heads
    var shape = AttentionShape(
      batch: x[0], heads: heads, keyHeads: kvHeads, queries: x[1], keys: x[1], width: width,
      valueWidth: values / kvHeads, scale: scale ?? 1 / Double(max(1, width)).squareRoot())
    shape.isGuarded = isGuarded
    return Sizes(
      batch: x[0], tokens: x[1], dim: x[2], heads: heads, queries: queries, keys: keys, values: values,
      core: SoftmaxAttention(sizes: shape, isCausal: isCausal, bias: bias))
  }

  private func sizes(_ operands: Operands) -> Sizes? {
    guard let x = operands[0], let wq = operands[1], let wk = operands[3], let wv = operands[5] else {
      return nil
    }
    return sizes(
      x: x.extents, queries: wq.extents[0], keys: wk.extents[0], values: wv.extents[0],
      bias: operands[Self.bias]?.extents)
  }

  private func sizes(_ context: KernelContext) -> Sizes {
    sizes(
      x: context.input(0).shape, queries: context.input(1).shape[0], keys: context.input(3).shape[0],
      values: context.input(5).shape[0], bias: context.optionalInput(Self.bias)?.shape)
  }

  /// Queries, keys and values; the heads' results; the logarithm of each row's sum of exponentials.
  public func savedTypes(_ operands: Operands) -> [TensorType] {
    guard let element = operands[0]?.element, let sizes = sizes(operands) else { return [] }
    return [
      sizes.type(element, sizes.columns), sizes.type(element, sizes.outputs),
      TensorType(element, fixed: [sizes.batch, heads, sizes.tokens]),
    ]
  }

  /// In inference what training saves; in training the gradients of it; and the core's.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let element = operands[0]?.element, let sizes = sizes(operands) else { return [] }
    return [sizes.type(element, sizes.columns), sizes.type(element, sizes.outputs)]
      + sizes.core.scratchTypes(element, mode)
  }

  /// The weights of queries, keys and values, packed as one; their biases; the packed weight of the output.
  public func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing] {
    let maps = [Self.queries, Self.keys, Self.values]
    guard let x = operands[0], let sizes = sizes(operands), maps.allSatisfy({ stored[$0.weight] != nil }),
      maps.allSatisfy({ stored[$0.bias] != nil || operands[$0.bias] == nil })
    else { return [] }
    let output = Self.output.packings(operands, stored)
    guard output.count == 1 else { return [] }
    let (biases, places) = biasPlaces(operands, maps)
    return [
      .weights(maps.map(\.weight), x.element, rows: sizes.columns, columns: sizes.dim, stored: stored),
      .vector(biases, at: places, x.element, count: sizes.columns),
    ] + output
  }

  /// The biases that are there, and where each stands beside the others.
  private func biasPlaces(_ operands: Operands, _ maps: [LinearMap]) -> ([Int], [Int]) {
    var (biases, places, start): ([Int], [Int], Int) = ([], [], 0)
    for map in maps {
      if operands.has(map.bias) {
        biases.append(map.bias)
        places.append(start)
      }
      start += operands[map.weight]?.extents[0] ?? 0
    }
    return (biases, places)
  }

  /// The products, those of the core included.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let sizes = sizes(operands) else { return Cost() }
    let rows = 2 * sizes.batch * sizes.tokens
    let maps = rows * (sizes.columns * sizes.dim + sizes.outputs * results[0].width)
    return Cost(flops: maps + sizes.core.flops, bytes: operands.bytes(results))
  }

  /// In the epilogue of the last product.
  public var takesEpilogue: Bool { true }

  /// Bytes of the projections of images that are worked through together where weights have fewer bits: products are done so soon
  /// there that memory would be what takes the time.
  private static let sliceBytes = 1 << 20

  /// Computes the result.
  public func forward(_ context: KernelContext) {
    let sizes = sizes(context)
    let bias = context.optionalInput(Self.bias)
    let isShared = bias.map { $0.rank < 4 || $0.shape[0] == 1 } ?? true
    guard Self.isNarrow(context), isShared, sizes.batch > 1 else {
      return forward(context, sizes, context.input(0), context.epilogue, into: context.output)
    }
    let most = max(1, Self.sliceBytes / max(1, 4 * sizes.tokens * sizes.columns))
    for first in stride(from: 0, to: sizes.batch, by: most) {
      let count = min(most, sizes.batch - first)
      func images(_ view: View) -> View {
        let size = view.count / sizes.batch
        return view.part(first * size, of: count * size)
      }
      forward(
        context, sizes.of(images: count), images(context.input(0)),
        Epilogue(scale: context.epilogue.scale, residual: context.epilogue.residual.map(images)),
        into: images(context.output))
    }
  }

  /// Whether its weights have fewer bits, in which products are computed.
  private static func isNarrow(_ context: KernelContext) -> Bool {
    context.prepared.first.map { $0.element == .i8 || $0.element == .bf16 } ?? false
  }

  private func forward(
    _ context: KernelContext, _ sizes: Sizes, _ x: View, _ epilogue: Epilogue, into y: View
  ) {
    let memory = context.saved.isEmpty ? context.scratch : context.saved
    let qkv = memory[0].part(0, of: sizes.batch * sizes.tokens * sizes.columns)
    let o = memory[1].part(0, of: sizes.batch * sizes.tokens * sizes.outputs)
    if context.prepared.isEmpty {
      project(context, sizes, into: qkv)
    } else {
      Kernel.linear(
        x, rows: sizes.columns, columns: sizes.dim, packed: context.prepared[0], bias: context.prepared[1],
        into: qkv, pool: context.pool)
    }
    sizes.core.forward(
      q: sizes.q(qkv), k: sizes.k(qkv), v: sizes.v(qkv), bias: context.optionalInput(Self.bias),
      into: sizes.o(o), logSumExp: context.saved.last, isNarrow: Self.isNarrow(context),
      scratch: context.scratch[2...], pool: context.pool)
    Self.output.forward(context, o, epilogue: epilogue, into: y, prepared: context.prepared.last)
  }

  /// Queries, keys and values beside one another, each by its own product.
  private func project(_ context: KernelContext, _ sizes: Sizes, into qkv: View) {
    var start = 0
    for map in [Self.queries, Self.keys, Self.values] {
      let width = context.input(map.weight).shape[0]
      Kernel.gemm(
        transB: true, m: sizes.batch * sizes.tokens, n: width, k: sizes.dim, a: context.input(0),
        b: context.input(map.weight), c: qkv.part(start, of: max(0, qkv.count - start)), ldc: sizes.columns,
        bias: context.optionalInput(map.bias), pool: context.pool)
      start += width
    }
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds the gradients of the tokens, of all weights and biases, and of the bias of the scores.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let sizes = sizes(context)
    let (qkv, o) = (context.saved[0], context.saved[1])
    let (dqkv, dO) = (context.scratch[0], context.scratch[1])
    Self.output.gradients(context, x: o, dy: dy, writing: dO, operandGradients)
    dqkv.zero()
    sizes.core.gradient(
      q: sizes.q(qkv), k: sizes.k(qkv), v: sizes.v(qkv), bias: context.optionalInput(Self.bias),
      o: sizes.o(o),
      logSumExp: context.saved[2], dO: sizes.o(dO), adding: sizes.q(dqkv), sizes.k(dqkv), sizes.v(dqkv),
      operandGradients.count > Self.bias ? operandGradients[Self.bias] : nil, scratch: context.scratch[2...],
      pool: context.pool)
    var start = 0
    for map in [Self.queries, Self.keys, Self.values] {
      let width = context.input(map.weight).shape[0]
      map.gradients(
        context, x: context.input(0), dy: dqkv.part(start, of: max(0, dqkv.count - start)),
        row: sizes.columns,
        rows: sizes.batch * sizes.tokens, adding: operandGradients[0], operandGradients)
      start += width
    }
  }

  /// The maps, the heads split off, `vit.sdpa`'s products, the heads joined.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    guard let x = operands[0] else { throw VitError("input 0 ('x') is missing", code: "operand-missing") }
    func split(_ map: LinearMap, _ heads: Int) throws(VitError) -> ValueID {
      let flat = try map.lower(x, operands, into: &builder)
      // No extent is left open: that would not go with an empty batch.
      let width = (builder.graph.type(flat).shape[2].fixedValue ?? 0) / heads
      let cut = try builder.add("onnx.Reshape", [flat, builder.integers([0, 0, heads, width])])
      return try builder.add("onnx.Transpose", [cut], [("perm", .ints([0, 2, 1, 3]))])
    }
    let core = VitSDPA(scale: scale, isCausal: isCausal, isGuarded: isGuarded)
    let bias = operands.count > Self.bias ? operands[Self.bias] : nil
    let (q, k) = (try split(Self.queries, heads), try split(Self.keys, kvHeads))
    let o = try core.lower(
      into: &builder, operands: [q, k, try split(Self.values, kvHeads), bias], resultCount: 1)[0]
    let joined = try builder.add("onnx.Transpose", [o], [("perm", .ints([0, 2, 1, 3]))])
    let width = builder.graph.type(joined).shape[2...].reduce(Dimension.fixed(1)) { $0 * $1 }
    let flat = try builder.add("onnx.Reshape", [joined, builder.integers([0, 0, width.fixedValue ?? -1])])
    return [try Self.output.lower(flat, operands, into: &builder)]
  }
}
