internal import VitIR
internal import VitOps

/// A layer behind which tokens are merged.
struct MergeSite {
  /// The number of the layer.
  let layer: Int
  /// What the layer reads.
  let input: ValueID
  /// The residual stream behind the layer, where tokens are merged.
  let stream: ValueID
  /// The tokens before the patches.
  let prefix: Int
  /// The patches that come to the layer, and how many of them are merged.
  let patches, count: Int
  /// The map of values, with its bias and heads; `nil` where the layer has none.
  let values: (weight: ValueID, bias: ValueID?, heads: Int)?

  /// The sites of the layers that have a count, of which `first` is the first. Throws where tokens of the model cannot be merged there, or not so
  /// many.
  static func all(in hybrid: Hybrid, counts: [Int], from first: Int) throws(VitError) -> [MergeSite] {
    let (graph, layers) = (hybrid.graph, hybrid.layers)
    guard let input = layers[first].input, let tokens = graph.type(input).shape.dropFirst().first?.fixedValue
    else { throw refusal(layers[first], "it has no tokens whose number is known") }
    let geometry = TokenGeometry(graph, tokens: tokens)
    let consumers = graph.consumers()
    var left = geometry.grid.count
    var sites: [MergeSite] = []
    for (layer, count) in zip(layers, counts).dropFirst(first) {
      guard let input = layer.input, let output = layer.output, graph.type(input).rank == 3 else {
        throw refusal(layer, layer.obstacle ?? "it does not map tokens to tokens")
      }
      try checkTokens(layer, input, tokens, graph)
      if layer.isRemoved, count == 0 { continue }
      if layer.index != layers[first].index, let reason = obstacle(layer, graph) {
        throw refusal(layer, reason)
      }
      guard count > 0 else { continue }
      guard count <= TokenMatch.most(of: left) else {
        throw VitError(
          "merge: layer \(layer.index) cannot merge \(count) of \(left) patches, expected at most"
            + " \(TokenMatch.most(of: left))", kind: .usage, code: "option-value")
      }
      guard let stream = graph.residual(behind: output, consumers)?.after,
        graph.type(stream).shape[1] == .fixed(tokens)
      else { throw refusal(layer, "what it gives is not added to a residual stream of the same tokens") }
      sites.append(
        MergeSite(
          layer: layer.index, input: input, stream: stream, prefix: geometry.prefix, patches: left,
          count: count, values: values(layer, graph)))
      left -= count
    }
    return sites
  }

  private static func refusal(_ layer: Layer, _ reason: String) -> VitError {
    VitError(
      "merge: tokens cannot be merged at layer \(layer.index): \(reason)", code: "merge-impossible",
      location: Location(node: layer.node))
  }

  /// Throws unless a layer has all tokens of an image, and images side by side.
  private static func checkTokens(
    _ layer: Layer, _ input: ValueID, _ tokens: Int, _ graph: Graph
  ) throws(VitError) {
    let shape = graph.type(input).shape
    guard shape[1] == .fixed(tokens) else {
      throw refusal(layer, "it has \(shape[1]) tokens where another layer has \(tokens)")
    }
    guard BatchForm(graph).isCounted, let images = graph.inputs.first.map({ graph.type($0).shape[0] }) else {
      throw refusal(layer, "the model has no batch axis")
    }
    guard shape[0] == images else {
      throw refusal(layer, "its tokens are those of windows: \(shape[0]) for \(images) images")
    }
  }

  /// Why a layer cannot work on merged tokens; `nil` where it can.
  private static func obstacle(_ layer: Layer, _ graph: Graph) -> String? {
    guard !layer.isRemoved else { return layer.obstacle }
    guard let place = graph.place(defining: layer.core) else { return "its core is not known" }
    let node = graph.nodes[place]
    if let attention = node.operation as? VitAttention {
      if node.operands.count > 9, node.operands[9] != nil {
        return "its attention adds numbers to the scores by place (relative positions, or a mask)"
      }
      return attention.isCausal ? "its attention is causal" : nil
    }
    if let mixer = node.operation as? any Mixer {
      do { _ = try mixer.merged(patches: 1) } catch { return error.diagnostic.message }
      return nil
    }
    if node.operation is PrefixAttention { return nil }
    // It reads queries and keys of another layer, or that reads its own.
    if layer.isShared || node.operation is VitSDPA, let obstacle = layer.obstacle { return obstacle }
    let between = graph.places(of: layer).map { graph.nodes[$0] }
    if between.contains(where: { $0.name.hasSuffix("RotaryEmbedding") }) {
      return "its queries and keys have rotary positions"
    }
    return "between its maps and its scores are other operations (rotary positions, norms of heads)"
  }

  /// The values of a layer.
  private static func values(
    _ layer: Layer, _ graph: Graph
  ) -> (weight: ValueID, bias: ValueID?, heads: Int)? {
    guard let place = graph.place(defining: layer.core) else { return nil }
    let node = graph.nodes[place]
    func operand(_ index: Int) -> ValueID? { index < node.operands.count ? node.operands[index] : nil }
    if let attention = node.operation as? VitAttention, let weight = operand(5) {
      return (weight, operand(6), attention.kvHeads)
    }
    guard let map = (node.operation as? any Mixer)?.values, let weight = map.weight.flatMap(operand),
      let channels = graph.type(weight).shape[0].fixedValue, layer.heads > 0, channels % layer.heads == 0
    else { return nil }
    return (weight, operand(map.bias), layer.heads)
  }
}
