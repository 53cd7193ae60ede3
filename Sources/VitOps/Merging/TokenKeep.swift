public import VitIR
internal import VitRuntime

/// `vit.keep(x, wq, bq?, wk, table?)`: which patches go on: the table of places in which only the `count` patches that are
/// attended to most have a token.
///
/// `x` is `[batch, tokens, dim]`, `wq` `[heads·d, dim]`, `wk` `[kvHeads·d, dim]`; `table` and the result are i64 `[batch, places]`: for
/// each place the token that stands for it, and behind the last token, `prefix + count`, where none does. A patch counts by the mean over heads of
/// `softmax(scale · q kᵀ)` in the row of the first token, with `rows` of 1; with `rows` of 0 by that over all rows, for models without
/// such a token. (A bias of the keys adds the same to all scores of a query.) The first `prefix` tokens stay, and the others keep
/// their order.
///
/// Means are rounded to multiples of 2⁻²⁴; of equal ones the first counts. There is no gradient: a small change of the tokens changes
/// no choice.
public struct TokenKeep: Operation {
  /// The operation's name.
  public static let name = "vit.keep"
  /// What it computes.
  public static let summary = "Which patches are attended to most, and go on"
  /// A use of it.
  public static let example =
    "(f32[1, 6, 4], f32[4, 4], f32[4], f32[4, 4], i64[1, 8]) {count = 3, heads = 2, prefix = 1, scale = 0.7}"

  /// How many patches stay.
  public let count: Int
  /// The tokens before the patches.
  public let prefix: Int
  /// Heads of queries.
  public let heads: Int
  /// Heads of keys; divides `heads`.
  public let kvHeads: Int
  /// The factor of the scores.
  public let scale: Double
  /// Whether it is the first token that attends, and not all of them.
  public let asksFirst: Bool

  private static let queries = LinearMap(weight: 1, bias: 2)
  private static let keys = 3
  private static let table = 4

  /// The `count` patches to which the first token attends most, or all of them do.
  public init(count: Int, prefix: Int, heads: Int, kvHeads: Int, scale: Double, asksFirst: Bool) {
    (self.count, self.prefix, self.heads, self.kvHeads) = (count, prefix, heads, kvHeads)
    self.scale = scale
    self.asksFirst = asksFirst
  }

  /// Takes `count`, `prefix` (0), `heads`, `kv_heads` (`heads`), `scale` and `rows` (1).
  public init(attributes: inout AttributeReader) throws(VitError) {
    count = try attributes.tokens("count", from: 1)
    prefix = try attributes.tokens("prefix", default: 0)
    heads = try attributes.int("heads")
    kvHeads = try attributes.int("kv_heads", default: heads)
    scale = try attributes.float("scale")
    let rows = try attributes.int("rows", default: 1)
    asksFirst = rows == 1
    guard (1...Hybrid.maximumHeads).contains(heads), kvHeads > 0, heads % kvHeads == 0 else {
      throw VitError(
        "\(heads) heads of queries cannot share \(kvHeads) heads of keys", code: "attribute-value")
    }
    guard scale.isFinite else {
      throw VitError("attribute 'scale' is \(scale), expected a number", code: "attribute-value")
    }
    guard rows == 1 || rows == 0 else {
      throw VitError("attribute 'rows' is \(rows), expected 1, or 0 for all", code: "attribute-value")
    }
  }

  /// All of them.
  public var attributes: Attributes {
    Attributes([
      ("count", .int(count)), ("prefix", .int(prefix)), ("heads", .int(heads)), ("kv_heads", .int(kvHeads)),
      ("scale", .float(scale)), ("rows", .int(asksFirst ? 1 : 0)),
    ])
  }

  /// `[batch, places]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(4...5)
    try operands.expectOneResult()
    let x = try operands.float(0, "x", rank: 3...3)
    guard let tokens = x.shape[1].fixedValue, tokens >= prefix + count, tokens > 0,
      tokens <= ScanOrder.maximumTokens, let dim = x.shape[2].fixedValue
    else {
      throw VitError(
        "'x' is \(x), expected a known number of channels, and of tokens from \(prefix + count)",
        code: "operand-shape")
    }
    let q = try Self.queries.resultType(x, operands, weightRole: "wq", biasRole: "bq")
    let keys = try operands.float(Self.keys, "wk", rank: 2...2)
    guard let queries = q.shape[2].fixedValue, queries % heads == 0,
      keys.shape == [.fixed(queries / heads * kvHeads), .fixed(dim)], keys.element == x.element
    else {
      throw VitError(
        "'wk' is \(keys), expected keys of \(kvHeads) heads for \(q.shape[2]) channels of \(heads) heads of queries",
        code: "operand-shape")
    }
    operands.note(Self.table, "table")
    let places =
      operands.has(Self.table)
      ? try operands.places(Self.table, "table", images: x.shape[0]).shape[1] : .fixed(tokens - prefix)
    return [TensorType(.i64, [x.shape[0], places])]
  }

  /// Images.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    AxisMap([
      AxisMap.Letter(.parallel, operands.has(Self.table) ? [0, nil, nil, nil, 0] : [0], [0])
    ])
  }

  /// The maps; where the places are now.
  public func role(of index: Int) -> OperandRole {
    switch index {
    case 1, 3: .weight
    case 2: .bias
    case 4: .index
    default: .data
    }
  }

  private struct Sizes {
    let batch, tokens, dim, rank, places: Int
    /// The tokens of an image that attend.
    let rows: Int
  }

  private func sizes(x: [Int], queries: Int, places: Int) -> Sizes {
    Sizes(
      batch: x[0], tokens: x[1], dim: x[2], rank: queries / heads, places: places, rows: asksFirst ? 1 : x[1])
  }

  private func sizes(_ context: KernelContext) -> Sizes {
    sizes(
      x: context.input(0).shape, queries: context.input(1).shape[0], places: context.output.shape[1])
  }

  /// Tokens that attend, their queries, those brought before the keys' tokens, the maps; the mean of each token, and its new
  /// number.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let x = operands[0], x.rank == 3, let wq = operands[1] else { return [] }
    let s = sizes(x: x.extents, queries: wq.extents[0], places: 0)
    func type(_ shape: [Int], _ element: ElementType? = nil) -> TensorType {
      TensorType(element ?? x.element, fixed: shape)
    }
    return [
      type([s.batch, s.rows, s.dim]), type([s.batch, s.rows, heads * s.rank]),
      type([s.batch, s.rows, heads * s.dim]), type([s.batch * s.rows * heads, s.tokens]),
      type([s.batch, s.tokens], .f64), type([s.batch, s.tokens], .i64),
    ]
  }

  /// The products.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let x = operands[0], let wq = operands[1] else { return Cost() }
    let s = sizes(x: x.extents, queries: wq.extents[0], places: 0)
    let row = 4 * heads * s.rank * s.dim + 2 * s.tokens * heads * s.dim
    return Cost(flops: s.batch * s.rows * row, bytes: operands.bytes(results))
  }

  /// Computes the table.
  public func forward(_ context: KernelContext) {
    let s = sizes(context)
    attend(context, s)
    let (pool, patches, kept) = (context.pool, s.tokens - prefix, kept)
    let pieces = s.batch == 1 ? max(1, min(8, patches * patches / 16384)) : 1
    // Means of all tokens are there before any is compared with the others.
    pool.run(tasks: s.batch * pieces) { task, _ in
      let (image, piece) = (task / pieces, task % pieces)
      let part = s.tokens * piece / pieces..<s.tokens * (piece + 1) / pieces
      if context.input(0).element == .f64 {
        average(image, part, s, context, Double.self)
      } else {
        average(image, part, s, context, Float.self)
      }
    }
    pool.run(tasks: s.batch * pieces) { task, _ in
      let (image, piece) = (task / pieces, task % pieces)
      kept.rank(
        context.scratch[4].f64 + (image &* s.tokens &+ prefix), patches: patches,
        part: patches * piece / pieces..<patches * (piece + 1) / pieces,
        into: context.scratch[5].i64 + (image &* s.tokens &+ prefix))
    }
    let table = PlaceTable(
      context.optionalInput(Self.table), places: s.places, prefix: prefix, tokens: s.tokens)
    pool.run(tasks: s.batch) { image, _ in
      kept.number(
        image, table, context.scratch[5].i64 + image &* s.tokens, into: context.output.i64 + image &* s.places
      )
    }
  }

  private var kept: KeptPatches { KeptPatches(count: count, prefix: prefix) }

  /// The maps of the tokens that attend, `scratch[3]`: keys act on the side of the queries, as in `vit.prefix_attention`.
  private func attend(_ context: KernelContext, _ s: Sizes) {
    let (first, q, z, p) = (
      context.scratch[0], context.scratch[1], context.scratch[2], context.scratch[3]
    )
    let (x, pool) = (context.input(0), context.pool)
    for image in 0..<s.batch {
      first.part(image * s.rows * s.dim, of: s.rows * s.dim)
        .copy(from: x.part(image * s.tokens * s.dim, of: s.rows * s.dim))
    }
    Self.queries.forward(context, first, into: q)
    let shared = heads / kvHeads
    Kernel.batchedGemm(
      outer: kvHeads, inner: shared, m: s.batch * s.rows, n: s.dim, k: s.rank, a: q, lda: heads * s.rank,
      aStride: BatchStride(outer: shared * s.rank, inner: s.rank), b: context.input(Self.keys),
      bStride: BatchStride(outer: s.rank * s.dim, inner: 0), c: z, ldc: heads * s.dim,
      cStride: BatchStride(outer: shared * s.dim, inner: s.dim), pool: pool)
    let queries = s.rows * heads
    Kernel.batchedGemm(
      inner: s.batch, transB: true, m: queries, n: s.tokens, k: s.dim, a: z,
      aStride: BatchStride(inner: queries * s.dim), b: x, bStride: BatchStride(inner: s.tokens * s.dim), c: p,
      cStride: BatchStride(inner: queries * s.tokens), pool: pool)
    Kernel.softmax(p, scale: scale, into: p, pool: pool)
  }

  private func average<T: Real>(
    _ image: Int, _ part: Range<Int>, _ s: Sizes, _ context: KernelContext, _ type: T.Type
  ) {
    let queries = s.rows * heads
    let maps = context.scratch[3].pointer(as: T.self) + image &* queries &* s.tokens
    let means = context.scratch[4].f64 + image &* s.tokens
    for token in part {
      var sum = 0.0
      for query in 0..<queries { sum += Double(maps[query &* s.tokens &+ token]) }
      means[token] = (sum / Double(queries) * 0x1p24).rounded(.toNearestOrEven)
    }
  }

  /// Products, the greatest of a row, and running sums for the numbers of what stays.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    let types = builder.operands(operands)
    let (type, wq) = (try types.type(0, "x"), try types.type(1, "wq"))
    guard let x = operands[0], let keys = operands[Self.keys], let tokens = type.shape[1].fixedValue,
      let dim = type.shape[2].fixedValue, let queries = wq.shape[0].fixedValue
    else { throw VitError("'x' is \(type), expected a known number of tokens", code: "dynamic-shape") }
    let rows = asksFirst ? 1 : tokens
    let first = try ScanLowering.slice(x, 0..<rows, of: tokens, axis: 1, into: &builder)
    let q = try builder.add(
      "onnx.Transpose",
      [
        try builder.add(
          "onnx.Reshape",
          [
            try Self.queries.lower(first, operands, into: &builder),
            builder.integers([0, rows, heads, queries / heads]),
          ])
      ], [("perm", .ints([0, 2, 1, 3]))])
    var maps = try builder.add("onnx.Reshape", [keys, builder.integers([kvHeads, queries / heads, dim])])
    if kvHeads != heads {
      let sources = (0..<heads).map { $0 / (heads / kvHeads) }
      maps = try builder.add("onnx.Gather", [maps, builder.integers(sources)], [("axis", .int(0))])
    }
    let factor = builder.constant([scale], shape: [], element: type.element)
    let z = try builder.add("onnx.Mul", [try builder.add("onnx.MatMul", [q, maps]), factor])
    let columns = try builder.add(
      "onnx.Transpose", [try builder.add("onnx.Unsqueeze", [x, builder.integers([1])])],
      [("perm", .ints([0, 1, 3, 2]))])
    let p = try builder.add(
      "onnx.Softmax", [try builder.add("onnx.MatMul", [z, columns])], [("axis", .int(-1))])
    let mean = try builder.add(
      "onnx.ReduceMean", [p, builder.integers([1, 2])], [("keepdims", .bool(false))])
    let patches = try ScanLowering.slice(mean, prefix..<tokens, of: tokens, axis: 1, into: &builder)
    let steps = builder.constant([0x1p24], shape: [], element: type.element)
    let scores = try builder.add("onnx.Round", [try builder.add("onnx.Mul", [patches, steps])])
    let before = operands.count > Self.table ? operands[Self.table] : nil
    return [try kept.lower(scores, patches: tokens - prefix, table: before, into: &builder)]
  }
}
