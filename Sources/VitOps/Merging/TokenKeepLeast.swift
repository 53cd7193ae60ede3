public import VitIR
internal import VitRuntime

/// `vit.keep_least(scores, table?)`: which patches go on: the table of places in which only the `count` patches with the least
/// scores have a token.
///
/// `scores` is `[batch, tokens, 1]`; `table` and the result are i64 `[batch, places]`, as in `vit.keep`: for each place the token that stands for
/// it, and behind the last token, `prefix + count`, where none does. The first `prefix` tokens stay, whatever their scores, and the
/// others keep their order.
///
/// Scores are rounded to multiples of 2⁻²⁰; of equal ones the first counts. There is no gradient: a small change of the scores changes
/// no choice.
public struct TokenKeepLeast: Operation {
  /// The operation's name.
  public static let name = "vit.keep_least"
  /// What it computes.
  public static let summary = "Which patches have the least scores, and go on"
  /// A use of it.
  public static let example = "(f32[1, 6, 1], i64[1, 8]) {count = 3, prefix = 1}"

  /// How many patches stay.
  public let count: Int
  /// The tokens before the patches.
  public let prefix: Int

  private static let steps = 0x1p20

  /// The `count` patches behind `prefix` tokens that have the least scores.
  public init(count: Int, prefix: Int) { (self.count, self.prefix) = (count, prefix) }

  /// Takes `count` and `prefix` (0).
  public init(attributes: inout AttributeReader) throws(VitError) {
    count = try attributes.tokens("count", from: 1)
    prefix = try attributes.tokens("prefix", default: 0)
  }

  /// All of them.
  public var attributes: Attributes { Attributes([("count", .int(count)), ("prefix", .int(prefix))]) }

  /// `[batch, places]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...2)
    try operands.expectOneResult()
    let scores = try operands.float(0, "scores", rank: 3...3)
    guard let tokens = scores.shape[1].fixedValue, tokens >= prefix + count,
      tokens <= ScanOrder.maximumTokens, scores.shape[2] == 1
    else {
      throw VitError(
        "'scores' is \(scores), expected one number for each of a known number of tokens, from \(prefix + count)",
        code: "operand-shape")
    }
    operands.note(1, "table")
    let places =
      operands.has(1)
      ? try operands.places(1, "table", images: scores.shape[0]).shape[1] : .fixed(tokens - prefix)
    return [TensorType(.i64, [scores.shape[0], places])]
  }

  /// Images.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    AxisMap([AxisMap.Letter(.parallel, operands.has(1) ? [0, 0] : [0], [0])])
  }

  /// The table is an index.
  public func role(of index: Int) -> OperandRole { index == 1 ? .index : .data }

  /// The numbers that are compared, and whether each token stays.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let scores = operands[0], scores.rank == 3 else { return [] }
    let shape = Array(scores.extents.prefix(2))
    return [TensorType(.f64, fixed: shape), TensorType(.i64, fixed: shape)]
  }

  /// Nothing is computed.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    Cost(bytes: operands.bytes(results))
  }

  private var kept: KeptPatches { KeptPatches(count: count, prefix: prefix) }

  /// Computes the table.
  public func forward(_ context: KernelContext) {
    let (scores, output) = (context.input(0), context.output)
    let (tokens, places, kept) = (scores.shape[1], output.shape[1], kept)
    let table = PlaceTable(context.optionalInput(1), places: places, prefix: prefix, tokens: tokens)
    context.pool.run(tasks: scores.shape[0]) { image, _ in
      let numbers = context.scratch[0].f64 + image &* tokens
      let isKept = context.scratch[1].i64 + image &* tokens
      for token in 0..<tokens {
        let place = image &* tokens &+ token
        let score = scores.element == .f64 ? scores.f64[place] : Double(scores.f32[place])
        numbers[token] = -(score * Self.steps).rounded(.toNearestOrEven)
      }
      kept.rank(
        numbers + prefix, patches: tokens - prefix, part: 0..<tokens - prefix, into: isKept + prefix)
      kept.number(image, table, isKept, into: output.i64 + image &* places)
    }
  }

  /// The greatest of the rounded scores with the other sign, and running sums for the numbers of what stays.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    guard let scores = operands[0] else { throw VitError("expected scores", code: "operand-missing") }
    let type = builder.graph.type(scores)
    guard let tokens = type.shape[1].fixedValue else {
      throw VitError("'scores' is \(type), expected a known number of tokens", code: "dynamic-shape")
    }
    let own = try ScanLowering.slice(scores, prefix..<tokens, of: tokens, axis: 1, into: &builder)
    let row = try builder.add("onnx.Squeeze", [own, builder.integers([2])])
    let steps = builder.constant([-Self.steps], shape: [], element: type.element)
    let numbers = try builder.add("onnx.Round", [try builder.add("onnx.Mul", [row, steps])])
    return [
      try kept.lower(
        numbers, patches: tokens - prefix, table: operands.count > 1 ? operands[1] : nil, into: &builder)
    ]
  }
}
