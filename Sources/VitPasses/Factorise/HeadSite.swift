internal import VitIR
internal import VitOps

/// An attention layer whose heads can do with fewer channels, or that can do with fewer heads: one operation with maps of its own.
struct HeadSite {
  /// The layer's number.
  let layer: Int
  /// The place of its node.
  let node: Int
  /// Its maps; of none but it.
  let weights: AttentionWeights
  /// The factor of its scores.
  let scale: Double
  /// The normalised tokens that it reads.
  let input: ValueID
  /// What it gives.
  let result: ValueID

  /// All sites of a model, in the order of its layers.
  static func all(in graph: Graph, layers: [Layer]) throws -> [HeadSite] {
    let (consumers, outputs) = (graph.consumers(), Set(graph.outputs.map(\.value)))
    return try layers.compactMap { layer in
      guard layer.isAttention, let place = graph.place(defining: layer.core) else { return nil }
      let node = graph.nodes[place]
      guard let operation = node.operation as? VitAttention,
        let weights = try AttentionWeights(layer, node, graph, directions: 0),
        let input = node.operands[0], let result = node.results.first,
        node.operands[1..<min(9, node.operands.count)].allSatisfy({ operand in
          operand.map { consumers[$0.index] == [place] && !outputs.contains($0) } ?? true
        })
      else { return nil }
      return HeadSite(
        layer: layer.index, node: place, weights: weights,
        scale: operation.scale ?? 1 / Double(max(1, weights.headDim)).squareRoot(), input: input,
        result: result)
    }
  }

  /// Adds what the output map reads to a graph: the attended values, `[batch, tokens, heads · valueDim]`.
  func tap(_ builder: inout GraphBuilder) throws -> ValueID {
    let node = builder.graph.nodes[self.node]
    let width = weights.heads * weights.valueDim
    let identity = try Tensor.identity(width)
    var operands = node.operands
    operands[7] = builder.graph.addConstant(identity, name: "identity")
    if operands.count > 8 { operands[8] = nil }
    return try builder.add(node.operation, operands)[0]
  }
}
