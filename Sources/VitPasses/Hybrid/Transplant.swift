internal import VitIR

/// Puts mixers into the places of layers: a rewrite of a graph that keeps its layers up to date.
struct Transplant {
  private var rewriter: Rewriter
  private var layers: [Layer]
  /// What took the place of a layer's output.
  private var replaced: [ValueID: ValueID] = [:]

  /// Nothing replaced yet in a graph with these layers.
  init(_ graph: Graph, layers: [Layer], registry: Registry) {
    rewriter = Rewriter(graph, registry: registry)
    self.layers = layers
  }

  /// The layers as they will be.
  subscript(index: Int) -> Layer? {
    get { layers.first { $0.index == index } }
    set {
      guard let newValue, let place = layers.firstIndex(where: { $0.index == index }) else { return }
      layers[place] = newValue
    }
  }

  /// Lets a mixer stand in for a layer.
  mutating func replace(_ index: Int, with region: MixerRegion) throws(VitError) {
    guard var layer = self[index], let input = layer.input, let output = layer.output else { return }
    let results = try region.build(
      into: &rewriter.builder, tokens: input, places: rewriter.graph.placeTable(of: input),
      name: "mixer.\(index)"
    ).results
    guard let core = results.first, let result = results.last else { return }
    try rewriter.replace(output, with: result, by: "transplant")
    replaced[output] = result
    layer.kind = region.mixer.kind
    layer.heads = region.mixer.heads
    (layer.core, layer.output) = (core, result)
    layer.parameters = region.constants.reduce(0) { $0 + $1.tensor.count }
    layer.obstacle = "it is a mixer already"
    self[index] = layer
  }

  /// The graph with all mixers in it, and its layers.
  func finish() throws(VitError) -> (graph: Graph, layers: [Layer]) {
    let graph = try rewriter.finish()
    // A layer may read what the one before gives, with nothing between.
    return (
      graph,
      layers.map { layer in
        var layer = layer
        layer.input = layer.input.map { replaced[$0] ?? $0 }
        return layer
      }
    )
  }
}
