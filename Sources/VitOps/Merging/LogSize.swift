public import VitIR
internal import VitRuntime

/// `vit.log_size(table)`: the logarithm of how many places each token stands for (see `vit.match`), `[batch, 1, 1, tokens]`.
///
/// Added to the scores of attention it lets a token that stands for n equal ones count as these n would have counted. The
/// first `prefix` tokens stand for themselves. A token that stands for no place has a logarithm of minus infinity.
public struct LogSize: Operation {
  /// What the logarithms are computed in.
  public enum Precision: String, CaseIterable, Sendable {
    /// 32 and 64 bits.
    case f32, f64

    /// The type of the elements.
    public var element: ElementType { self == .f64 ? .f64 : .f32 }
  }

  /// The operation's name.
  public static let name = "vit.log_size"
  /// What it computes.
  public static let summary = "The logarithm of how many places each token stands for"
  /// A use of it.
  public static let example = "(i64[1, 8]) {prefix = 1, tokens = 5}"

  /// How many tokens there are.
  public let tokens: Int
  /// The tokens before the patches.
  public let prefix: Int
  /// What the result holds.
  public let precision: Precision

  /// The logarithms for `tokens` tokens, of which the first `prefix` were never merged.
  public init(tokens: Int, prefix: Int, precision: Precision = .f32) {
    self.tokens = tokens
    self.prefix = prefix
    self.precision = precision
  }

  /// Takes `tokens`, `prefix` (0) and `element` (f32).
  public init(attributes: inout AttributeReader) throws(VitError) {
    prefix = try attributes.tokens("prefix", default: 0)
    tokens = try attributes.tokens("tokens", from: prefix)
    precision = try attributes.choice("element", default: .f32)
  }

  /// All of them.
  public var attributes: Attributes {
    Attributes([
      ("tokens", .int(tokens)), ("prefix", .int(prefix)), ("element", .string(precision.rawValue)),
    ])
  }

  /// `[batch, 1, 1, tokens]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectOneResult()
    let table = try operands.places(0, "table", images: nil)
    return [TensorType(precision.element, [table.shape[0], 1, 1, .fixed(tokens)])]
  }

  /// Images.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    AxisMap([AxisMap.Letter(.parallel, [0], [0])])
  }

  /// The table is an index.
  public func role(of index: Int) -> OperandRole { .index }

  /// Computes the logarithms.
  public func forward(_ context: KernelContext) {
    if precision == .f64 { fill(context, Double.self) } else { fill(context, Float.self) }
  }

  private func fill<T: Real>(_ context: KernelContext, _ type: T.Type) {
    let (view, y) = (context.input(0), context.output.pointer(as: T.self))
    let table = PlaceTable(view, places: view.shape[1], prefix: prefix, tokens: tokens)
    context.pool.run(tasks: view.shape[0]) { image, _ in
      let row = y + image &* tokens
      for token in 0..<tokens { row[token] = token < prefix ? 1 : 0 }
      for place in 0..<table.places {
        if let token = table.token(image, place) { row[token] += 1 }
      }
      for token in 0..<tokens { row[token] = T.log(row[token]) }
    }
  }

  /// Sums of ones, and their logarithm.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    guard let table = operands[0] else {
      throw VitError("input 0 ('table') is missing", code: "operand-missing")
    }
    let sizes = try PlaceLowering.sizes(table, of: 0..<tokens, precision.element, into: &builder)
    let own = builder.constant(
      (0..<tokens).map { $0 < prefix ? 1 : 0 }, shape: [1, tokens], element: precision.element)
    let logs = try builder.add("onnx.Log", [try builder.add("onnx.Add", [sizes, own])])
    return [try builder.add("onnx.Unsqueeze", [logs, builder.integers([1, 2])])]
  }
}
