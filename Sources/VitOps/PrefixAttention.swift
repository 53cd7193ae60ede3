public import VitIR
internal import VitRuntime

/// `vit.prefix_attention(x, mixed?, wq, bq?, wk, wv, bv?, wo, bo?, bias?)`: `mixed`, with the rows of the first `prefix` tokens
/// replaced by what self-attention gives them; without `mixed` those rows alone.
///
/// `x` is `[batch, tokens, dim]`, `mixed` and the result `[batch, tokens, outputDim]`, or the result `[batch, prefix, outputDim]`; `wq` and `wk` are
/// `[heads·rank, dim]`, `wv` `[kvHeads·dv, dim]`, `wo` `[outputDim, heads·dv]`. With few such tokens no key and no value of
/// the others is ever formed: both maps act on the side of the queries, `p = softmax(scale · (x_s W_Qᵀ + b) W_K xᵀ)`,
/// `c = (p x) W_Vᵀ + b_V`. A bias of the keys adds the same to all scores of a query, so there is none.
/// `bias`, `[batch, 1, 1, tokens]`, is added to the scores of all queries: the sizes of merged tokens, see `vit.log_size`.
public struct PrefixAttention: Operation {
  /// The operation's name.
  public static let name = "vit.prefix_attention"
  /// What it computes.
  public static let summary =
    "Self-attention for the rows of the first tokens, put into the result of a mixer"
  /// A use of it.
  public static let example =
    "(f32[1, 4, 6], f32[1, 4, 5], f32[4, 6], f32[4], f32[4, 6], f32[6, 6], f32[6], f32[5, 6], f32[5]) "
    + "{heads = 2, scale = 0.5}"

  /// Heads of queries.
  public let heads: Int
  /// Heads of values; divides `heads`.
  public let kvHeads: Int
  /// How many tokens attend: the first ones.
  public let prefix: Int
  /// The factor of the scores.
  public let scale: Double

  private static let queries = LinearMap(weight: 2, bias: 3)
  private static let keys = 4
  private static let values = LinearMap(weight: 5, bias: 6)
  private static let output = LinearMap(weight: 7, bias: 8)
  private static let bias = 9

  /// Attention of the first `prefix` tokens.
  public init(heads: Int, kvHeads: Int, prefix: Int, scale: Double) {
    self.heads = heads
    self.kvHeads = kvHeads
    self.prefix = prefix
    self.scale = scale
  }

  /// Takes `heads`, `kv_heads`, `prefix` (1) and `scale`.
  public init(attributes: inout AttributeReader) throws(VitError) {
    heads = try attributes.int("heads")
    kvHeads = try attributes.int("kv_heads", default: heads)
    prefix = try attributes.int("prefix", default: 1)
    scale = try attributes.float("scale")
    guard (1...Hybrid.maximumHeads).contains(heads), kvHeads > 0, heads % kvHeads == 0 else {
      throw VitError(
        "\(heads) heads of queries cannot share \(kvHeads) heads of values", code: "attribute-value")
    }
    guard prefix > 0 else {
      throw VitError("attribute 'prefix' is \(prefix), expected at least 1", code: "attribute-value")
    }
  }

  /// All of them.
  public var attributes: Attributes {
    Attributes([
      ("heads", .int(heads)), ("kv_heads", .int(kvHeads)), ("prefix", .int(prefix)), ("scale", .float(scale)),
    ])
  }

  /// The type of `mixed`, or of the rows.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(8...10)
    try operands.expectOneResult()
    let x = try operands.float(0, "x", rank: 3...3)
    let q = try Self.queries.resultType(x, operands, weightRole: "wq", biasRole: "bq")
    try operands.expect(Self.keys, "wk", operands.float(Self.queries.weight, "wq", rank: 2...2))
    let v = try Self.values.resultType(x, operands, weightRole: "wv", biasRole: "bv")
    guard let queries = q.shape[2].fixedValue, let values = v.shape[2].fixedValue, queries % heads == 0,
      values % kvHeads == 0, x.shape[2].fixedValue != nil
    else {
      throw VitError(
        "\(q.shape[2]) and \(v.shape[2]) channels of queries and values do not make \(heads) heads over"
          + " \(kvHeads) groups", code: "operand-shape")
    }
    if let tokens = x.shape[1].fixedValue, tokens < prefix {
      throw VitError("'x' has \(tokens) tokens, expected at least \(prefix)", code: "operand-shape")
    }
    try operands.expectOptional(Self.bias, "bias", x.with([x.shape[0], 1, 1, x.shape[1]]))
    let attended = x.with([x.shape[0], x.shape[1], .fixed(heads * (values / kvHeads))])
    let result = try Self.output.resultType(attended, operands, weightRole: "wo", biasRole: "bo")
    guard operands.has(1) else { return [result.with([x.shape[0], .fixed(prefix), result.shape[2]])] }
    let mixed = try operands.float(1, "mixed", rank: 3...3)
    guard mixed == result else {
      throw VitError("'mixed' is \(mixed), expected \(result)", code: "operand-shape")
    }
    return [result]
  }

  /// Images, and the channels of the result; tokens see one another.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let isPut = operands.has(1)
    var channels: [Int?] = [nil, isPut ? 2 : nil, nil, nil, nil, nil, nil, 0]
    if operands.has(8) { channels.append(0) }
    var sides: [Int?] = isPut ? [0, 0] : [0]
    if operands.has(Self.bias) {
      sides += [Int?](repeating: nil, count: Self.bias - sides.count) + [0]
    }
    let images = [
      AxisMap.Letter(.parallel, sides, [0]), AxisMap.Letter(.parallel, channels, [2]),
    ]
    return AxisMap(images + (isPut ? [AxisMap.Letter(.aligned, [1, 1], [1])] : []))
  }

  /// Weights and biases of the maps.
  public func role(of index: Int) -> OperandRole {
    switch index {
    case 2, 4, 5, 7: .weight
    case 3, 6, 8: .bias
    case Self.bias: .mask
    default: .data
    }
  }

  /// Written over `mixed`.
  public var memory: ResultMemory { .inPlace(operands: [1]) }

  private struct Sizes {
    let batch, tokens, dim, outputs: Int
    let prefix, heads, groups, rank, valueDim: Int

    /// The rows that attend.
    var rows: Int { batch * prefix }

    /// What is kept: the attending tokens, queries, queries brought before the keys' tokens, maps, pooled tokens, pooled
    /// values.
    func kept(_ element: ElementType) -> [TensorType] {
      func row(_ width: Int) -> TensorType { TensorType(element, fixed: [batch, prefix, width]) }
      // Maps are rows of a softmax.
      return [
        row(dim), row(heads * rank), row(heads * dim),
        TensorType(element, fixed: [rows * heads, tokens]), row(heads * dim), row(heads * valueDim),
      ]
    }

    /// Copies the rows of the first tokens, `[batch, prefix, width]`, out of those of all; no memory is taken.
    func take(_ width: Int, of all: View, into first: View) {
      for image in 0..<batch {
        first.part(image * prefix * width, of: prefix * width)
          .copy(from: all.part(image * tokens * width, of: prefix * width))
      }
    }

    /// Copies them back.
    func put(_ width: Int, of first: View, into all: View) {
      for image in 0..<batch {
        all.part(image * tokens * width, of: prefix * width)
          .copy(from: first.part(image * prefix * width, of: prefix * width))
      }
    }
  }

  private func sizes(x: [Int], outputs: Int, queries: Int, values: Int) -> Sizes {
    Sizes(
      batch: x[0], tokens: x[1], dim: x[2], outputs: outputs, prefix: prefix, heads: heads, groups: kvHeads,
      rank: queries / heads, valueDim: values / kvHeads)
  }

  private func sizes(_ operands: Operands) -> Sizes? {
    guard let x = operands[0], let wq = operands[2], let wv = operands[5], let wo = operands[7] else {
      return nil
    }
    return sizes(x: x.extents, outputs: wo.extents[0], queries: wq.extents[0], values: wv.extents[0])
  }

  private func sizes(_ context: KernelContext) -> Sizes {
    sizes(
      x: context.input(0).shape, outputs: context.output.shape[2], queries: context.input(2).shape[0],
      values: context.input(5).shape[0])
  }

  /// What `Sizes.kept` lists.
  public func savedTypes(_ operands: Operands) -> [TensorType] {
    guard let element = operands[0]?.element, let sizes = sizes(operands) else { return [] }
    return sizes.kept(element)
  }

  /// What is kept or its gradient, in training that of the maps before the softmax's; the rows of the result.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let element = operands[0]?.element, let sizes = sizes(operands) else { return [] }
    let kept = sizes.kept(element)
    return kept + (mode.training ? [kept[3]] : [])
      + [TensorType(element, fixed: [sizes.batch, prefix, sizes.outputs])]
  }

  /// The products.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let s = sizes(operands) else { return Cost() }
    let row =
      4 * s.heads * s.rank * s.dim + 4 * s.tokens * s.heads * s.dim
      + 2 * s.heads * s.valueDim * (s.dim + s.outputs)
    return Cost(flops: s.rows * row, bytes: operands.bytes(results))
  }

  /// Computes the result.
  public func forward(_ context: KernelContext) {
    let s = sizes(context)
    let memory = context.saved.isEmpty ? context.scratch : context.saved
    attend(context, s, memory)
    guard let mixed = context.optionalInput(1) else {
      Self.output.forward(context, memory[5], into: context.output)
      return
    }
    let rows = context.scratch[context.scratch.count - 1]
    Self.output.forward(context, memory[5], into: rows)
    let y = context.output
    if mixed.base != y.base { y.copy(from: mixed) }
    s.put(s.outputs, of: rows, into: y)
  }

  /// The attended values of each of the first tokens, `memory[5]`, and all that leads to them.
  private func attend(_ context: KernelContext, _ s: Sizes, _ memory: [View]) {
    let (first, q, z, p, g, c) = (memory[0], memory[1], memory[2], memory[3], memory[4], memory[5])
    let (x, pool) = (context.input(0), context.pool)
    s.take(s.dim, of: x, into: first)
    Self.queries.forward(context, first, into: q)
    Kernel.batchedGemm(
      inner: s.heads, m: s.rows, n: s.dim, k: s.rank, a: q, lda: s.heads * s.rank,
      aStride: BatchStride(inner: s.rank), b: context.input(Self.keys),
      bStride: BatchStride(inner: s.rank * s.dim), c: z, ldc: s.heads * s.dim,
      cStride: BatchStride(inner: s.dim), pool: pool)
    let (queries, tokens) = (s.prefix * s.heads, BatchStride(inner: s.tokens * s.dim))
    // The bias of an image goes with the product, which is then scaled there.
    let bias = s.batch > 0 ? context.optionalInput(Self.bias) : nil
    Kernel.batchedGemm(
      inner: s.batch, transB: true, m: queries, n: s.tokens, k: s.dim, alpha: bias == nil ? 1 : scale, a: z,
      aStride: BatchStride(inner: queries * s.dim), b: x, bStride: tokens, c: p,
      cStride: BatchStride(inner: queries * s.tokens), bias: bias,
      columnStride: BatchStride(inner: s.tokens), pool: pool)
    Kernel.softmax(p, scale: bias == nil ? scale : 1, into: p, pool: pool)
    Kernel.batchedGemm(
      inner: s.batch, m: queries, n: s.dim, k: s.tokens, a: p,
      aStride: BatchStride(inner: queries * s.tokens), b: x, bStride: tokens, c: g,
      cStride: BatchStride(inner: queries * s.dim), pool: pool)
    let shared = s.heads / s.groups
    Kernel.batchedGemm(
      outer: s.groups, inner: shared, transB: true, m: s.rows, n: s.valueDim, k: s.dim, a: g,
      lda: s.heads * s.dim, aStride: BatchStride(outer: shared * s.dim, inner: s.dim),
      b: context.input(Self.values.weight), bStride: BatchStride(outer: s.valueDim * s.dim, inner: 0), c: c,
      ldc: s.heads * s.valueDim, cStride: BatchStride(outer: shared * s.valueDim, inner: s.valueDim),
      bias: context.optionalInput(Self.values.bias), columnStride: BatchStride(outer: s.valueDim, inner: 0),
      pool: pool)
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds the gradients of the tokens, of `mixed` behind the first tokens, of all weights and biases, and of the scores' bias.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let s = sizes(context)
    let rows = context.scratch[context.scratch.count - 1]
    let pool = context.pool
    s.take(s.outputs, of: dy, into: rows)
    if let dmixed = operandGradients[1] {
      let (width, length) = (s.outputs, (s.tokens - s.prefix) * s.outputs)
      for image in 0..<s.batch where length > 0 {
        let start = (image * s.tokens + s.prefix) * width
        let part = dmixed.part(start, of: length)
        Kernel.addRepeated(part, dy.part(start, of: length), into: part, pool: pool)
      }
    }
    attendGradient(context, s, rows, operandGradients)
  }

  private func attendGradient(
    _ context: KernelContext, _ s: Sizes, _ drows: View, _ operandGradients: [View?]
  ) {
    let (first, q, z, p, g, c) = (
      context.saved[0], context.saved[1], context.saved[2], context.saved[3], context.saved[4],
      context.saved[5]
    )
    let (dfirst, dq, dz, ds, dg, dc, dp) = (
      context.scratch[0], context.scratch[1], context.scratch[2], context.scratch[3], context.scratch[4],
      context.scratch[5], context.scratch[6]
    )
    let (x, pool) = (context.input(0), context.pool)
    Self.output.gradients(context, x: c, dy: drows, writing: dc, operandGradients)
    valueGradients(context, s, g: g, dc: dc, writing: dg, operandGradients)
    let queries = s.prefix * s.heads
    let (row, map) = (BatchStride(inner: queries * s.dim), BatchStride(inner: queries * s.tokens))
    let tokens = BatchStride(inner: s.tokens * s.dim)
    Kernel.batchedGemm(
      inner: s.batch, transB: true, m: queries, n: s.tokens, k: s.dim, a: dg, aStride: row, b: x,
      bStride: tokens, c: dp, cStride: map, pool: pool)
    ds.zero()
    if operandGradients.count > Self.bias, let dbias = operandGradients[Self.bias] {
      Kernel.softmaxGradient(y: p, dy: dp, adding: ds, pool: pool)
      for image in 0..<s.batch {
        Kernel.addColumnSums(
          of: ds.part(image * queries * s.tokens, of: queries * s.tokens), row: s.tokens, rows: queries,
          to: dbias.part(image * s.tokens, of: s.tokens), pool: pool)
      }
      ds.zero()
    }
    Kernel.softmaxGradient(
      y: p, dy: dp, scale: scale, adding: ds, pool: pool)
    Kernel.batchedGemm(
      inner: s.batch, m: queries, n: s.dim, k: s.tokens, a: ds, aStride: map, b: x, bStride: tokens, c: dz,
      cStride: row, pool: pool)
    if let dx = operandGradients[0] {
      Kernel.batchedGemm(
        inner: s.batch, transA: true, m: s.tokens, n: s.dim, k: queries, a: p, aStride: map, b: dg,
        bStride: row, beta: 1, c: dx, cStride: tokens, pool: pool)
      Kernel.batchedGemm(
        inner: s.batch, transA: true, m: s.tokens, n: s.dim, k: queries, a: ds, aStride: map, b: z,
        bStride: row, beta: 1, c: dx, cStride: tokens, pool: pool)
    }
    let head = BatchStride(inner: s.rank * s.dim)
    Kernel.batchedGemm(
      inner: s.heads, transB: true, m: s.rows, n: s.rank, k: s.dim, a: dz, lda: s.heads * s.dim,
      aStride: BatchStride(inner: s.dim), b: context.input(Self.keys), bStride: head, c: dq,
      ldc: s.heads * s.rank, cStride: BatchStride(inner: s.rank), pool: pool)
    if let dwk = operandGradients[Self.keys] {
      Kernel.batchedGemm(
        inner: s.heads, transA: true, m: s.rank, n: s.dim, k: s.rows, a: q, lda: s.heads * s.rank,
        aStride: BatchStride(inner: s.rank), b: dz, ldb: s.heads * s.dim, bStride: BatchStride(inner: s.dim),
        beta: 1, c: dwk, cStride: head, pool: pool)
    }
    Self.queries.gradients(context, x: first, dy: dq, writing: dfirst, operandGradients)
    guard let dx = operandGradients[0] else { return }
    for image in 0..<s.batch {
      let part = dx.part(image * s.tokens * s.dim, of: s.prefix * s.dim)
      Kernel.addRepeated(
        part, dfirst.part(image * s.prefix * s.dim, of: s.prefix * s.dim), into: part, pool: pool)
    }
  }

  /// `dc` through the values, to the pooled tokens.
  private func valueGradients(
    _ context: KernelContext, _ s: Sizes, g: View, dc: View, writing dg: View, _ operandGradients: [View?]
  ) {
    let (shared, pool) = (s.heads / s.groups, context.pool)
    let values = BatchStride(outer: shared * s.valueDim, inner: s.valueDim)
    let pooled = BatchStride(outer: shared * s.dim, inner: s.dim)
    Kernel.batchedGemm(
      outer: s.groups, inner: shared, m: s.rows, n: s.dim, k: s.valueDim, a: dc, lda: s.heads * s.valueDim,
      aStride: values, b: context.input(Self.values.weight),
      bStride: BatchStride(outer: s.valueDim * s.dim, inner: 0), c: dg, ldc: s.heads * s.dim,
      cStride: pooled, pool: pool)
    // Heads that share values add to the same gradient: one after another.
    for head in 0..<shared {
      if let dwv = operandGradients[Self.values.weight] {
        Kernel.batchedGemm(
          inner: s.groups, transA: true, m: s.valueDim, n: s.dim, k: s.rows,
          a: dc.part(head * s.valueDim, of: dc.count - head * s.valueDim), lda: s.heads * s.valueDim,
          aStride: BatchStride(inner: shared * s.valueDim),
          b: g.part(head * s.dim, of: g.count - head * s.dim), ldb: s.heads * s.dim,
          bStride: BatchStride(inner: shared * s.dim), beta: 1, c: dwv,
          cStride: BatchStride(inner: s.valueDim * s.dim), pool: pool)
      }
      if let dbv = operandGradients[Self.values.bias] {
        for group in 0..<s.groups {
          let start = (group * shared + head) * s.valueDim
          Kernel.addColumnSums(
            of: dc.part(start, of: dc.count - start), row: s.heads * s.valueDim, rows: s.rows,
            to: dbv.part(group * s.valueDim, of: s.valueDim), pool: pool)
        }
      }
    }
  }

  /// Queries brought before the tokens, a softmax, pooled tokens brought through values and output; the others behind.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    let types = builder.operands(operands)
    let (type, wq, wv) = (try types.type(0, "x"), try types.type(2, "wq"), try types.type(5, "wv"))
    guard let x = operands[0], let keys = operands[Self.keys],
      let values = operands[5], let tokens = type.shape[1].fixedValue, let dim = type.shape[2].fixedValue,
      let queries = wq.shape[0].fixedValue, let channels = wv.shape[0].fixedValue
    else { throw VitError("'x' is \(type), expected a known number of tokens", code: "dynamic-shape") }
    let (rank, valueDim) = (queries / heads, channels / kvHeads)
    let first = try ScanLowering.slice(x, 0..<prefix, of: tokens, axis: 1, into: &builder)
    let q = try builder.add(
      "onnx.Transpose",
      [
        try builder.add(
          "onnx.Reshape",
          [
            try Self.queries.lower(first, operands, into: &builder),
            builder.integers([0, prefix, heads, rank]),
          ])
      ],
      [("perm", .ints([0, 2, 1, 3]))])
    // [batch, heads, prefix, dim]
    let z = try builder.add(
      "onnx.MatMul", [q, try builder.add("onnx.Reshape", [keys, builder.integers([heads, rank, dim])])])
    let factor = builder.constant([scale], shape: [], element: type.element)
    let rows = try builder.add("onnx.Unsqueeze", [x, builder.integers([1])])
    let columns = try builder.add("onnx.Transpose", [rows], [("perm", .ints([0, 1, 3, 2]))])
    var scores = try builder.add("onnx.MatMul", [try builder.add("onnx.Mul", [z, factor]), columns])
    if operands.count > Self.bias, let bias = operands[Self.bias] {
      scores = try builder.add("onnx.Add", [scores, bias])
    }
    let p = try builder.add("onnx.Softmax", [scores], [("axis", .int(-1))])
    let g = try builder.add("onnx.MatMul", [p, rows])
    func grouped(_ value: ValueID, _ shape: [Int]) throws(VitError) -> ValueID {
      let cut = try builder.add("onnx.Reshape", [value, builder.integers([kvHeads] + shape)])
      if kvHeads == heads { return cut }
      let sources = (0..<heads).map { $0 / (heads / kvHeads) }
      return try builder.add("onnx.Gather", [cut, builder.integers(sources)], [("axis", .int(0))])
    }
    let maps = try builder.add(
      "onnx.Transpose", [try grouped(values, [valueDim, dim])], [("perm", .ints([0, 2, 1]))])
    var c = try builder.add("onnx.MatMul", [g, maps])
    if let bias = operands[6] { c = try builder.add("onnx.Add", [c, try grouped(bias, [1, valueDim])]) }
    let joined = try builder.add("onnx.Transpose", [c], [("perm", .ints([0, 2, 1, 3]))])
    let flat = try builder.add(
      "onnx.Reshape", [joined, builder.integers([0, prefix, heads * valueDim])])
    let attended = try Self.output.lower(flat, operands, into: &builder)
    guard let mixed = operands[1], prefix < tokens else { return [attended] }
    let rest = try ScanLowering.slice(mixed, prefix..<tokens, of: tokens, axis: 1, into: &builder)
    return [try ScanLowering.join([attended, rest], axis: 1, into: &builder)]
  }
}
