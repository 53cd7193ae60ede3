public import VitIR
internal import VitRuntime

/// `vit.merge(x, table, before?)`: each token becomes the mean over the places that it stands for.
///
/// `table` is i64 `[batch, places]`: for each place the one of the `tokens` tokens that stands for it from here on (see
/// `vit.match`); `before` is the same for the tokens of `x`, `[batch, …, dim]`; without it each place has a token of its own. A
/// token that stood for several places counts as many times. The first `prefix` tokens stay as they are. With `gaps` some
/// places have no token, and the number behind the last (see `vit.keep`).
public struct TokenMerge: Operation {
  /// The operation's name.
  public static let name = "vit.merge"
  /// What it computes.
  public static let summary = "Tokens that are the means over the places that they stand for"
  /// A use of it.
  public static let example = "(f32[1, 6, 4], i64[1, 8], i64[1, 8]) {prefix = 1, tokens = 5}"

  /// How many tokens there are then.
  public let tokens: Int
  /// The tokens before the patches.
  public let prefix: Int

  /// Whether tables may name no token for a place.
  public let hasGaps: Bool

  /// A merge to `tokens` tokens, of which the first `prefix` stay as they are.
  public init(tokens: Int, prefix: Int, hasGaps: Bool = false) {
    self.tokens = tokens
    self.prefix = prefix
    self.hasGaps = hasGaps
  }

  /// Takes `tokens`, `prefix` (0) and `gaps` (false).
  public init(attributes: inout AttributeReader) throws(VitError) {
    prefix = try attributes.tokens("prefix", default: 0)
    tokens = try attributes.tokens("tokens", from: prefix)
    hasGaps = try attributes.bool("gaps", default: false)
  }

  /// All of them; without gaps nothing is said of them.
  public var attributes: Attributes {
    Attributes(
      [("tokens", .int(tokens)), ("prefix", .int(prefix))] + (hasGaps ? [("gaps", .bool(true))] : []))
  }

  /// `[batch, tokens, dim]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...3)
    try operands.expectOneResult()
    let x = try operands.float(0, "x", rank: 3...3)
    let table = try operands.places(1, "table", images: x.shape[0])
    operands.note(2, "before")
    if operands.has(2) { try operands.expect(2, "before", table) }
    guard let own = x.shape[1].fixedValue, let places = table.shape[1].fixedValue, tokens <= own,
      operands.has(2) ? own >= prefix : own == prefix + places
    else {
      throw VitError(
        "'x' is \(x), which does not make \(tokens) tokens of \(table.shape[1]) places behind \(prefix)",
        code: "operand-shape")
    }
    return [x.with([x.shape[0], .fixed(tokens), x.shape[2]])]
  }

  /// Images and channels.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    AxisMap([
      AxisMap.Letter(.parallel, operands.has(2) ? [0, 0, 0] : [0, 0], [0]),
      AxisMap.Letter(.parallel, [2], [2]),
    ])
  }

  /// Tables are indices.
  public func role(of index: Int) -> OperandRole { index == 0 ? .data : .index }

  /// That of the means.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let table = operands[1], table.rank == 2 else { return [] }
    return [PlaceMeans.memoryType(images: table.extents[0], tokens: tokens, places: table.extents[1])]
  }

  /// A sum and a quotient for each channel of a place.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let table = operands[1] else { return Cost() }
    return Cost(flops: 2 * table.count * results[0].width, bytes: operands.bytes(results))
  }

  private func means(_ context: KernelContext) -> PlaceMeans {
    let places = context.input(1).shape[1]
    return PlaceMeans(
      PlaceTable(context.input(1), places: places, prefix: prefix, tokens: tokens),
      of: PlaceTable(
        context.optionalInput(2), places: places, prefix: prefix, tokens: context.input(0).shape[1]),
      memory: context.scratch[0])
  }

  /// Computes the means.
  public func forward(_ context: KernelContext) {
    means(context).mean(context.input(0), into: context.output, pool: context.pool)
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds to each token the gradients of the means that it is part of; the tables are constants to it.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dx = operandGradients[0] else { return }
    means(context).addGradient(dy, to: dx, pool: context.pool)
  }

  /// Rows gathered by place, added up by token, divided by how many they are.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    guard let x = operands[0], let table = operands[1] else {
      throw VitError("expected tokens and a table", code: "operand-missing")
    }
    let type = builder.graph.type(x)
    guard let own = type.shape[1].fixedValue, let width = type.shape[2].fixedValue else {
      throw VitError("'x' is \(type), expected a known number of tokens", code: "dynamic-shape")
    }
    let first = try ScanLowering.slice(x, 0..<prefix, of: own, axis: 1, into: &builder)
    guard prefix < tokens else { return [first] }
    let rows =
      operands.count > 2 && operands[2] != nil
      ? try PlaceLowering.rows(x, operands[2] ?? table, gaps: hasGaps, into: &builder)
      : try ScanLowering.slice(x, prefix..<own, of: own, axis: 1, into: &builder)
    let sizes = try builder.add(
      "onnx.Unsqueeze",
      [
        try PlaceLowering.sizes(table, of: prefix..<tokens, type.element, into: &builder),
        builder.integers([2]),
      ])
    let everyChannel = builder.integers([1, 1, width])
    let zero = builder.constant([0], shape: [], element: type.element)
    var nothing = try builder.add(
      "onnx.Expand", [try builder.add("onnx.Mul", [sizes, zero]), everyChannel])
    // What has no token is added up in a row behind the last, and cut off.
    if hasGaps { nothing = try PlaceLowering.withZeros(behind: nothing, into: &builder) }
    let places = try builder.add(
      "onnx.Unsqueeze",
      [
        try builder.add("onnx.Sub", [table, builder.integers([prefix], shape: [])]), builder.integers([2]),
      ])
    var sums = try builder.add(
      "onnx.ScatterElements", [nothing, try builder.add("onnx.Expand", [places, everyChannel]), rows],
      [("axis", .int(1)), ("reduction", .string("add"))])
    if hasGaps {
      sums = try ScanLowering.slice(
        sums, 0..<tokens - prefix, of: tokens - prefix + 1, axis: 1, into: &builder)
    }
    let means = try builder.add("onnx.Div", [sums, sizes])
    return [prefix == 0 ? means : try ScanLowering.join([first, means], axis: 1, into: &builder)]
  }
}
