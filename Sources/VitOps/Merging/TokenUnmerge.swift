public import VitIR
internal import VitRuntime

/// `vit.unmerge(x, table, base?)`: a token for each place again: the one that stands for it (see `vit.match`).
///
/// `x` is `[batch, tokens, dim]`, `table` i64 `[batch, places]`, `base` and the result `[batch, prefix + places, dim]`: the first `prefix`
/// tokens, and behind them the places in their order. With `gaps` some places have no token, and the number behind the last
/// (see `vit.keep`): there stands what `base` has, else zero.
public struct TokenUnmerge: Operation {
  /// The operation's name.
  public static let name = "vit.unmerge"
  /// What it computes.
  public static let summary = "For each place the token that stands for it"
  /// A use of it.
  public static let example = "(f32[1, 5, 4], i64[1, 8]) {prefix = 1}"

  /// The tokens before the patches.
  public let prefix: Int

  /// Whether the table may name no token for a place.
  public let hasGaps: Bool

  /// The way back behind `prefix` tokens that were never merged.
  public init(prefix: Int, hasGaps: Bool = false) {
    self.prefix = prefix
    self.hasGaps = hasGaps
  }

  /// Takes `prefix` (0) and `gaps` (false).
  public init(attributes: inout AttributeReader) throws(VitError) {
    prefix = try attributes.tokens("prefix", default: 0)
    hasGaps = try attributes.bool("gaps", default: false)
  }

  /// All of them; without gaps nothing is said of them.
  public var attributes: Attributes {
    Attributes([("prefix", .int(prefix))] + (hasGaps ? [("gaps", .bool(true))] : []))
  }

  /// `[batch, prefix + places, dim]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...3)
    try operands.expectOneResult()
    let x = try operands.float(0, "x", rank: 3...3)
    let table = try operands.places(1, "table", images: x.shape[0])
    guard let tokens = x.shape[1].fixedValue, tokens >= prefix, let places = table.shape[1].fixedValue else {
      throw VitError("'x' is \(x), expected at least \(prefix) tokens", code: "operand-shape")
    }
    let result = x.with([x.shape[0], .fixed(prefix + places), x.shape[2]])
    try operands.expectOptional(2, "base", result)
    return [result]
  }

  /// Images and channels.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let hasBase = operands.has(2)
    return AxisMap([
      AxisMap.Letter(.parallel, hasBase ? [0, 0, 0] : [0, 0], [0]),
      AxisMap.Letter(.parallel, hasBase ? [2, nil, 2] : [2], [2]),
    ])
  }

  /// The table is an index.
  public func role(of index: Int) -> OperandRole { index == 1 ? .index : .data }

  /// Nothing is computed.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    Cost(bytes: operands.bytes(results))
  }

  private func table(_ context: KernelContext) -> PlaceTable {
    let (x, table) = (context.input(0), context.input(1))
    return PlaceTable(table, places: table.shape[1], prefix: prefix, tokens: x.shape[1])
  }

  /// Copies the rows.
  public func forward(_ context: KernelContext) {
    table(context).spread(
      context.input(0), base: context.optionalInput(2), into: context.output, pool: context.pool)
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds to each token the gradients of its places, and to `base` those of places that have none.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    if let dx = operandGradients[0] { table(context).addSpread(dy, to: dx, pool: context.pool) }
    if operandGradients.count > 2, let base = operandGradients[2] {
      table(context).addGaps(dy, to: base, pool: context.pool)
    }
  }

  /// A gather behind the first tokens.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    guard let x = operands[0], let table = operands[1] else {
      throw VitError("expected tokens and a table", code: "operand-missing")
    }
    guard let tokens = builder.graph.type(x).shape[1].fixedValue else {
      throw VitError("the number of tokens is not known", code: "dynamic-shape")
    }
    var rows = try PlaceLowering.rows(x, table, gaps: hasGaps, into: &builder)
    if hasGaps, operands.count > 2, let base = operands[2],
      let places = builder.graph.type(table).shape[1].fixedValue
    {
      let isGone = try builder.add(
        "onnx.Equal",
        [
          try builder.add("onnx.Unsqueeze", [table, builder.integers([2])]),
          builder.integers([tokens], shape: []),
        ])
      let old = try ScanLowering.slice(
        base, prefix..<prefix + places, of: prefix + places, axis: 1, into: &builder)
      rows = try builder.add("onnx.Where", [isGone, old, rows])
    }
    guard prefix > 0 else { return [rows] }
    let first = try ScanLowering.slice(x, 0..<prefix, of: tokens, axis: 1, into: &builder)
    return [try ScanLowering.join([first, rows], axis: 1, into: &builder)]
  }
}
