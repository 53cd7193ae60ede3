public import VitIR

/// What one layer of a model costs: its attention, or the mixer that stands there.
public struct LayerCost: Hashable, Sendable {
  /// Weights.
  public var parameters: Int
  /// Floating-point operations for the inputs that the costs are of.
  public var flops: Int
}

extension ModelCost {
  /// The cost of a layer of the graph that this is the cost of: of all that lies between its tokens and its output.
  public func layer(_ layer: Layer, of graph: Graph) -> LayerCost {
    LayerCost(
      parameters: layer.parameters, flops: graph.places(of: layer).reduce(0) { $0 + nodes[$1].flops })
  }
}

extension Report {
  /// Layers that were replaced in the same way: by mixers of one kind and cost, of attention of one cost.
  public struct Exchange: Hashable, Sendable {
    /// The kind of mixer.
    public var kind: String
    /// The numbers of the layers.
    public var layers: [Int]
    /// What the attention costs.
    public var attention: LayerCost
    /// What the mixer costs.
    public var mixer: LayerCost
  }

  /// What the mixers cost beside the attention that they replace, in the order of the first layer of each kind.
  public var exchanges: [Exchange] {
    var result: [Exchange] = []
    for layer in layers {
      guard layer.isSelected, let attention = layer.attention, let mixer = layer.cost else { continue }
      if let place = result.firstIndex(where: {
        $0.kind == layer.kind && $0.attention == attention && $0.mixer == mixer
      }) {
        result[place].layers.append(layer.index)
      } else {
        result.append(
          Exchange(kind: layer.kind, layers: [layer.index], attention: attention, mixer: mixer))
      }
    }
    return result
  }
}
