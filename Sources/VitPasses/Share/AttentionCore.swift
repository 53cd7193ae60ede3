internal import VitIR
internal import VitOps

/// The heart of an attention layer, with queries, keys and values as values of the graph.
struct AttentionCore {
  /// The layer's number.
  let layer: Int
  /// Queries, keys and values, `[batch, heads, tokens, width of a head]`.
  let queries, keys, values: ValueID
  /// What is added to the scores.
  let bias: ValueID?
  /// What is done with them.
  let operation: VitSDPA

  /// The heart of a layer whose attention is not one operation with its maps; `nil` for another.
  private init?(_ layer: Layer, in graph: Graph) {
    guard let place = graph.place(defining: layer.core),
      let operation = graph.nodes[place].operation as? VitSDPA
    else { return nil }
    let operands = graph.nodes[place].operands
    guard let queries = operands[0], let keys = operands[1], let values = operands[2] else { return nil }
    self.layer = layer.index
    (self.queries, self.keys, self.values) = (queries, keys, values)
    bias = operands.count > 3 ? operands[3] : nil
    self.operation = operation
  }

  /// The heart of a layer; where its attention is one operation with its maps, that is taken apart first, which changes no number
  /// but by the rounding of other product sizes. Throws what is in the way.
  static func laidOpen(
    _ index: Int, in hybrid: inout Hybrid, registry: Registry
  ) throws -> AttentionCore {
    let unfit = VitError("its attention is no single operation of queries, keys and values")
    guard let place = hybrid.place(of: index),
      let node = hybrid.graph.place(defining: hybrid.layers[place].core)
    else { throw unfit }
    if let attention = hybrid.graph.nodes[node].operation as? VitAttention {
      try layOpen(attention, at: node, of: place, in: &hybrid, registry)
    }
    guard let core = AttentionCore(hybrid.layers[place], in: hybrid.graph) else { throw unfit }
    return core
  }

  private static func layOpen(
    _ attention: VitAttention, at node: Int, of place: Int, in hybrid: inout Hybrid, _ registry: Registry
  ) throws(VitError) {
    var rewriter = Rewriter(hybrid.graph, registry: registry)
    let node = hybrid.graph.nodes[node]
    rewriter.builder.location = node.location
    func operand(_ index: Int) -> ValueID? { index < node.operands.count ? node.operands[index] : nil }
    func map(_ x: ValueID?, _ weight: Int, _ name: String) throws(VitError) -> ValueID {
      try rewriter.builder.add(VitLinear(), [x, operand(weight), operand(weight + 1)], names: [name])[0]
    }
    let x = operand(0)
    let q = try rewriter.builder.splitHeads(try map(x, 1, "queries"), attention.heads)
    let k = try rewriter.builder.splitHeads(try map(x, 3, "keys"), attention.kvHeads)
    let v = try rewriter.builder.splitHeads(try map(x, 5, "values"), attention.kvHeads)
    let core = try rewriter.builder.core(
      [q, k, v], bias: operand(9), scale: attention.scale, causal: attention.isCausal,
      guarded: attention.isGuarded)
    let result = try map(try rewriter.builder.mergeHeads(core), 7, "attended")
    try rewriter.replace(node.results[0], with: result, by: Share.name)
    hybrid.graph = try rewriter.finish()
    hybrid.layers[place].core = core
    hybrid.layers[place].output = hybrid.layers[place].output.map { $0 == node.results[0] ? result : $0 }
  }

  /// Why this cannot be computed with the queries and keys of `other`; `nil` where it can.
  func obstacle(to other: AttentionCore, in graph: Graph) -> String? {
    func rows(_ id: ValueID) -> Shape { graph.type(id).shape.dropLast() }
    if rows(queries) != rows(other.queries) || rows(keys) != rows(other.keys) {
      return
        "its queries and keys are \(graph.type(queries)) and \(graph.type(keys)), those of layer \(other.layer) "
        + "\(graph.type(other.queries)) and \(graph.type(other.keys)): heads or tokens differ"
    }
    return operation.isCausal != other.operation.isCausal
      ? "of it and layer \(other.layer) one hides later tokens" : nil
  }
}
