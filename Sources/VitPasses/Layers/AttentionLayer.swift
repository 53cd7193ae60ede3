public import VitIR

/// A place where tokens of an image are mixed: a self-attention layer of the teacher, or the mixer that
/// replaced one.
public struct AttentionLayer: Sendable {
  /// Its number among the graph's layers, from 0 in order; replaced ones keep theirs.
  public let index: Int
  /// `attention`, or the mixer's kind.
  public let kind: String
  /// Heads of the queries, or of the mixer.
  public let heads: Int
  /// The node's name in the file it came from.
  public let node: String
  /// Its place in `graph.nodes`: the attention operation, its core or its softmax.
  public let place: Int
  /// The normalised tokens that go in, [batch, tokens, width], where there is one such value.
  public let input: ValueID?
  /// What is added to the residual, [batch, tokens, width], where there is one such value.
  public let output: ValueID?
  /// The weights between the two.
  public let parameters: Int
  /// Why no mixer can stand in for it, or `nil`.
  public let obstacle: String?

  /// Whether a mixer can stand in for it.
  public var isReplaceable: Bool { obstacle == nil }
}

/// The attention-like units of a graph.
public struct AttentionLayers: Sendable {
  /// Self-attention layers and mixers, in order.
  public let layers: [AttentionLayer]
  /// Units that look like attention but are none among the tokens of one set: pooling by a learned query,
  /// keys on a coarser grid. The node's name and what was found.
  public let others: [(node: String, reason: String)]

  /// Finds the units of a graph.
  public static func find(in graph: Graph) -> AttentionLayers {
    var finder = LayerFinder(graph)
    finder.run()
    return AttentionLayers(layers: finder.layers, others: finder.others)
  }
}
