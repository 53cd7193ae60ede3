public import VitIR

/// Raises ONNX operators to the operations of a vision transformer, following the dataflow.
public struct Raise: GraphPass {
  /// `raise`.
  public static let name = "raise"
  /// See `Pass`.
  public static let summary = "Recognises attention, MLPs, norms and patch embeddings among ONNX operators"

  /// After how many rewrites it stops, or `nil` for all: the least number with which a result is wrong finds the
  /// rewrite that makes it so.
  public var maximumRewrites: Int?

  /// The pass.
  public init(maximumRewrites: Int? = nil) { self.maximumRewrites = maximumRewrites }
  /// Takes `max-rewrites` (by default there is no limit).
  public init(options: inout OptionReader) throws(VitError) {
    maximumRewrites = try options.optional("max-rewrites")
  }
  /// `max-rewrites`, where there is a limit.
  public var options: [(name: String, value: String)] {
    maximumRewrites.map { [("max-rewrites", "\($0)")] } ?? []
  }

  /// Throws where the limit is below zero.
  public func check() throws(VitError) {
    guard let maximumRewrites, maximumRewrites < 0 else { return }
    throw VitError(
      "raise: option 'max-rewrites' cannot be '\(maximumRewrites)' (expected a number of at least 0)",
      kind: .usage, code: "option-value")
  }

  /// The patterns in the order in which they build on each other.
  private static let patterns: [any Pattern.Type] = [
    SimplifyMoves.self, SplitEinsum.self, RaiseEinsum.self, RaiseMatMul.self, RaiseBias.self,
    RaiseActivation.self, RaiseNorm.self, RaisePatchEmbed.self, RaiseSoftmax.self, RaiseTurnedProduct.self,
    SimplifyMoves.self, RaiseCore.self, RaiseAttention.self, RaiseMLP.self, RaiseResidual.self,
    SimplifyMoves.self,
  ]

  /// Runs the patterns, and looks for the layers of what they make.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    let result = try run(on: &hybrid.graph, context: context)
    hybrid.findLayers()
    return result
  }

  /// Runs the patterns once each.
  public func run(on graph: inout Graph, context: PassContext) throws -> PassResult {
    try Raise.apply(to: &graph, registry: context.registry, limit: maximumRewrites ?? .max).result
  }

  /// Runs the patterns, up to `limit` rewrites, and tells also where one nearly matched.
  public static func apply(
    to graph: inout Graph, registry: Registry, limit: Int = .max
  ) throws(VitError) -> (result: PassResult, misses: [NearMiss]) {
    var result = PassResult()
    var misses: [NearMiss] = []
    for pattern in patterns {
      var rewriter = Rewriter(graph, registry: registry, limit: limit - result.changes)
      try pattern.sweep(&rewriter)
      misses += rewriter.misses
      guard rewriter.changes > 0 else { continue }
      graph = try rewriter.finish()
      result.changes += rewriter.changes
      result.notes.append("\(pattern.name): \(rewriter.changes)")
    }
    _ = graph.shareConstants()
    return (result, misses)
  }
}
