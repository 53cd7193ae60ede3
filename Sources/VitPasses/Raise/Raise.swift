public import VitIR

/// Raises ONNX operators to the operations of a vision transformer, following the dataflow.
public struct Raise: GraphPass {
  /// `raise`.
  public static let name = "raise"
  /// See `Pass`.
  public static let summary = "Recognises attention, MLPs, norms and patch embeddings among ONNX operators"
  /// See `Pass`.
  public static let example = "fold,raise,dce"

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

  /// The patterns in the order in which they build on each other: before linear maps of channel-major tokens are looked
  /// for, and after that.
  private static let patterns: (before: [any Pattern.Type], after: [any Pattern.Type]) = (
    [
      SimplifyMoves.self, RaiseFusedProduct.self, SplitEinsum.self, RaiseEinsum.self, RaiseMatMul.self,
      RaiseBias.self, RaiseSum.self,
      RaiseConvBias.self, RaiseActivation.self, RaiseNorm.self, RaisePatchEmbed.self, RaiseSoftmax.self,
      RaiseTurnedProduct.self, SimplifyMoves.self, RaiseCore.self,
    ], [RaiseAttention.self, RaiseMLP.self, RaiseResidual.self, SimplifyMoves.self]
  )

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
    var run = Run(registry: registry, limit: limit)
    try run.sweep(&graph, patterns.before)
    var (turned, other) = (graph, run)
    let count = other.result.changes
    try other.sweep(&turned, [RaiseChannelMajor.self])
    run.misses = other.misses
    try run.sweep(&graph, patterns.after)
    if other.result.changes > count {
      try other.sweep(&turned, patterns.after)
      if replaceable(turned) > replaceable(graph) { (graph, run) = (turned, other) }
    }
    (turned, other) = (graph, run)
    try other.sweep(&turned, [RaiseTokensFirst.self])
    if other.result.changes > run.result.changes, replaceable(turned) > replaceable(graph) {
      (graph, run) = (turned, other)
    }
    _ = graph.shareConstants()
    return (run.result, run.misses)
  }

  /// How many layers can be replaced: what is turned round for them costs transposes, and must pay.
  private static func replaceable(_ graph: Graph) -> Int {
    Hybrid(finding: graph).layers.count { $0.isReplaceable }
  }

  /// What patterns did so far.
  private struct Run {
    let registry: Registry
    let limit: Int
    var result = PassResult()
    var misses: [NearMiss] = []

    mutating func sweep(_ graph: inout Graph, _ patterns: [any Pattern.Type]) throws(VitError) {
      for pattern in patterns {
        var rewriter = Rewriter(graph, registry: registry, limit: limit - result.changes)
        try pattern.sweep(&rewriter)
        misses += rewriter.misses
        guard rewriter.changes > 0 else { continue }
        graph = try rewriter.finish()
        result.changes += rewriter.changes
        result.notes.append("\(pattern.name): \(rewriter.changes)")
      }
    }
  }
}
