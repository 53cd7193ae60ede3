internal import VitIR
internal import VitOps

/// A layer behind which tokens are merged, or dropped.
struct MergeSite {
  /// What becomes of patches that do not go on.
  enum Fate {
    /// Each is merged into the one that it is most like.
    case merged
    /// They are dropped: those that the layer attends to least.
    case dropped
    /// They are dropped behind the layer's block: those that have halted, or are nearest to it.
    case halted
  }

  /// The number of the layer.
  let layer: Int
  /// What the layer reads.
  let input: ValueID
  /// The residual stream behind the layer, where tokens are merged.
  let stream: ValueID
  /// The tokens before the patches.
  let prefix: Int
  /// The patches that come to the layer, and how many of them do not go on.
  let patches, count: Int
  /// The map of values, with its bias and heads; `nil` where the layer has none.
  let values: (weight: ValueID, bias: ValueID?, heads: Int)?
  /// How the layer, or the last one before it that attends, finds out what it attends to; `nil` where patches are merged.
  var attention: RowAttention?
  /// Whether tokens halt here.
  var halts = false
  /// Whether tokens that do not go on are dropped.
  var hasGaps: Bool { attention != nil || halts }

  /// The sites of a model whose tokens halt, one for each layer: `streams` are those behind their blocks, `counts` how many patches do
  /// not go on.
  static func halting(
    in hybrid: Hybrid, counts: [Int], streams: [ValueID], _ geometry: TokenGeometry
  ) -> [MergeSite] {
    var left = geometry.grid.count
    return zip(zip(hybrid.layers, streams), counts).map { pair, count in
      defer { left -= count }
      let (layer, stream) = pair
      return MergeSite(
        layer: layer.index, input: layer.input ?? stream, stream: stream, prefix: geometry.prefix,
        patches: left, count: count, values: nil, halts: true)
    }
  }

  /// Throws where tokens of a model cannot halt: where they can go behind the first layer, they can behind blocks.
  static func checkHalting(_ hybrid: Hybrid) throws(VitError) {
    let counts = hybrid.layers.indices.map { $0 == 0 ? 1 : 0 }
    _ = try all(in: hybrid, counts: counts, from: 0, .halted)
  }

  /// The sites of the layers that have a count, of which `first` is the first. Throws where tokens of the model cannot be merged or dropped
  /// there, or not so many.
  static func all(
    in hybrid: Hybrid, counts: [Int], from first: Int, _ fate: Fate = .merged
  ) throws(VitError) -> [MergeSite] {
    let (graph, layers) = (hybrid.graph, hybrid.layers)
    let refusal = { (layer: Layer, reason: String) in MergeSite.refusal(layer, reason, fate) }
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
      if let reason = obstacle(layer, input, tokens, graph) { throw refusal(layer, reason) }
      if layer.isRemoved, count == 0 { continue }
      if layer.index != layers[first].index, let reason = obstacle(layer, graph) {
        throw refusal(layer, reason)
      }
      guard count > 0 else { continue }
      let most = fate == .merged ? TokenMatch.most(of: left) : left - 1
      guard count <= most else {
        throw VitError(
          "\(fate.pass): layer \(layer.index) cannot \(fate.verb) \(count) of \(left) patches, expected at most \(most)",
          kind: .usage, code: "option-value")
      }
      guard let stream = graph.residual(behind: output, consumers)?.after,
        graph.type(stream).shape[1] == .fixed(tokens)
      else { throw refusal(layer, "what it gives is not added to a residual stream of the same tokens") }
      var site = MergeSite(
        layer: layer.index, input: input, stream: stream, prefix: geometry.prefix, patches: left,
        count: count, values: values(layer, graph))
      if fate == .dropped {
        site.attention =
          layers.prefix { $0.index <= layer.index }.lazy.reversed()
          .compactMap { RowAttention($0, graph, prefix: geometry.prefix) }.first
        guard site.attention != nil else {
          throw refusal(layer, "neither it nor a layer before it attends with maps that are known")
        }
      }
      sites.append(site)
      left -= count
    }
    return sites
  }

  private static func refusal(_ layer: Layer, _ reason: String, _ fate: Fate) -> VitError {
    VitError(
      "\(fate.pass): tokens cannot be \(fate.word) at layer \(layer.index): \(reason)",
      code: "\(fate.pass)-impossible", location: Location(node: layer.node))
  }

  /// Why a layer has not all tokens of an image, or not images side by side; `nil` where it has.
  private static func obstacle(
    _ layer: Layer, _ input: ValueID, _ tokens: Int, _ graph: Graph
  ) -> String? {
    let shape = graph.type(input).shape
    guard shape[1] == .fixed(tokens) else {
      return "it has \(shape[1]) tokens where another layer has \(tokens)"
    }
    guard BatchForm(graph).isCounted, let images = graph.inputs.first.map({ graph.type($0).shape[0] }) else {
      return "the model has no batch axis"
    }
    return shape[0] == images ? nil : "its tokens are those of windows: \(shape[0]) for \(images) images"
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

extension MergeSite.Fate {
  /// The pass that decides so.
  fileprivate var pass: String { self == .merged ? Merge.name : Retain.name }
  /// What it does.
  fileprivate var verb: String { self == .merged ? "merge" : "drop" }
  /// What becomes of them.
  fileprivate var word: String { self == .merged ? "merged" : "dropped" }
}

/// The maps by which a layer, or its first rows, attend.
struct RowAttention {
  /// Queries, their bias, and keys.
  let queries: ValueID
  let bias: ValueID?
  let keys: ValueID
  let heads, kvHeads: Int
  let scale: Double
  /// Whether only the first token's row counts.
  let asksFirst: Bool

  /// Those of a layer with attention, or with attention for its first tokens; `nil` for others.
  init?(_ layer: Layer, _ graph: Graph, prefix: Int) {
    guard let place = graph.place(defining: layer.core) else { return nil }
    func operand(_ node: Node, _ index: Int) -> ValueID? {
      index < node.operands.count ? node.operands[index] : nil
    }
    asksFirst = prefix > 0
    if let attention = graph.nodes[place].operation as? VitAttention, !layer.isShared {
      let node = graph.nodes[place]
      // What hides tokens is no part of these maps.
      if attention.isCausal || operand(node, 9) != nil { return nil }
      guard let queries = operand(node, 1), let keys = operand(node, 3),
        let channels = graph.type(queries).shape[0].fixedValue
      else { return nil }
      (self.queries, bias, self.keys) = (queries, operand(node, 2), keys)
      (heads, kvHeads) = (attention.heads, attention.kvHeads)
      scale = attention.scale ?? 1 / Double(channels / attention.heads).squareRoot()
      return
    }
    // Rows of its own, of the first tokens: they read what the mixer reads.
    guard prefix > 0,
      let node = graph.nodes.first(where: { $0.operation is PrefixAttention && $0.operands[0] == layer.input }
      ),
      let attention = node.operation as? PrefixAttention, let queries = operand(node, 2),
      let keys = operand(node, 4)
    else { return nil }
    (self.queries, bias, self.keys) = (queries, operand(node, 3), keys)
    (heads, kvHeads, scale) = (attention.heads, attention.heads, attention.scale)
  }
}
