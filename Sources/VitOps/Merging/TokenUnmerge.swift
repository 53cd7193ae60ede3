public import VitIR
internal import VitRuntime

/// `vit.unmerge(x, table)`: a token for each place again: the one that stands for it (see `vit.match`).
///
/// `x` is `[batch, tokens, dim]`, `table` i64 `[batch, places]`, the result `[batch, prefix + places, dim]`: the first `prefix`
/// tokens, and behind them the places in their order.
public struct TokenUnmerge: Operation {
  /// The operation's name.
  public static let name = "vit.unmerge"
  /// What it computes.
  public static let summary = "For each place the token that stands for it"
  /// A use of it.
  public static let example = "(f32[1, 5, 4], i64[1, 8]) {prefix = 1}"

  /// The tokens before the patches.
  public let prefix: Int

  /// The way back behind `prefix` tokens that were never merged.
  public init(prefix: Int) { self.prefix = prefix }

  /// Takes `prefix` (0).
  public init(attributes: inout AttributeReader) throws(VitError) {
    prefix = try attributes.tokens("prefix", default: 0)
  }

  /// All of them.
  public var attributes: Attributes { Attributes([("prefix", .int(prefix))]) }

  /// `[batch, prefix + places, dim]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectOneResult()
    let x = try operands.float(0, "x", rank: 3...3)
    let table = try operands.places(1, "table", images: x.shape[0])
    guard let tokens = x.shape[1].fixedValue, tokens >= prefix, let places = table.shape[1].fixedValue else {
      throw VitError("'x' is \(x), expected at least \(prefix) tokens", code: "operand-shape")
    }
    return [x.with([x.shape[0], .fixed(prefix + places), x.shape[2]])]
  }

  /// Images and channels.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    AxisMap([AxisMap.Letter(.parallel, [0, 0], [0]), AxisMap.Letter(.parallel, [2], [2])])
  }

  /// The table is an index.
  public func role(of index: Int) -> OperandRole { index == 0 ? .data : .index }

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
    table(context).spread(context.input(0), into: context.output, pool: context.pool)
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds to each token the gradients of its places.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dx = operandGradients[0] else { return }
    table(context).addSpread(dy, to: dx, pool: context.pool)
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
    let rows = try PlaceLowering.rows(x, table, into: &builder)
    guard prefix > 0 else { return [rows] }
    let first = try ScanLowering.slice(x, 0..<prefix, of: tokens, axis: 1, into: &builder)
    return [try ScanLowering.join([first, rows], axis: 1, into: &builder)]
  }
}
