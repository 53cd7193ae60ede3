internal import VitIR
internal import VitOps

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

  /// Lets `mixer`, whose operands after the tokens are `parameters`, stand in for a layer.
  mutating func replace(
    _ index: Int, with mixer: any Mixer, _ parameters: [(name: String, tensor: Tensor)], location: Location
  ) throws(VitError) {
    guard var layer = self[index], let input = layer.input, let output = layer.output else { return }
    let constants = parameters.map { rewriter.builder.graph.addConstant($0.tensor, name: $0.name) }
    let result = try rewriter.builder.add(
      mixer, [input] + constants, names: ["mixer.\(index)"], location: location)[0]
    try rewriter.replace(output, with: result, by: "transplant")
    replaced[output] = result
    layer.kind = mixer.kind
    layer.heads = 1
    if case .int(let heads)? = mixer.attributes["heads"] { layer.heads = heads }
    (layer.core, layer.output) = (result, result)
    layer.parameters = parameters.reduce(0) { $0 + $1.tensor.count }
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
