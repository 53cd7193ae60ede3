internal import VitIR
internal import VitOps

/// A linear map of its own that two smaller ones can stand in for: a node's, or one of the two of a perceptron.
struct MapSite {
  /// Which map of the node it is.
  enum Place: Hashable {
    case only, first, last
  }

  /// The place of its node.
  let node: Int
  let place: Place
  /// `[outputs, inputs]`, read by nothing else.
  let weight: ValueID
  let bias: ValueID?
  /// What the outputs are scaled by behind it.
  let scales: Tensor?
  /// Its extents.
  let inputs, outputs: Int

  /// The maps of a kind in a model, in the order of its nodes.
  static func all(in hybrid: Hybrid, _ kind: Factorise.Maps) -> [MapSite] {
    let graph = hybrid.graph
    let consumers = graph.consumers()
    let outputs = Set(graph.outputs.map(\.value))
    let perceptrons = Set(ChannelSite.all(in: graph).flatMap { [$0.weight] + $0.constants.map(\.value) })
    let layers = Set(hybrid.layers.filter { !$0.isRemoved && !$0.isReplaced }.flatMap(graph.places))
    func site(_ node: Int, _ place: Place, _ operand: Int, scales: Tensor?) -> MapSite? {
      let operands = graph.nodes[node].operands
      guard let weight = operands[operand], let tensor = graph.tensor(weight), tensor.element == .f32,
        consumers[weight.index] == [node], !outputs.contains(weight)
      else { return nil }
      let bias = operand + 1 < operands.count ? operands[operand + 1] : nil
      guard bias.map({ graph.tensor($0) != nil && consumers[$0.index] == [node] }) ?? true else { return nil }
      return MapSite(
        node: node, place: place, weight: weight, bias: bias, scales: scales, inputs: tensor.shape[1],
        outputs: tensor.shape[0])
    }
    return graph.nodes.indices.flatMap { place -> [MapSite] in
      let node = graph.nodes[place]
      guard let result = node.results.first else { return [] }
      if node.operation is VitMLP, kind != .attention {
        return [
          site(place, .first, 1, scales: nil),
          site(place, .last, 3, scales: graph.scaled(result)?.factors),
        ].compactMap(\.self)
      }
      guard let operation = node.operation as? VitLinear, let weight = node.operands[1] else { return [] }
      let isPerceptrons = perceptrons.contains(weight)
      switch kind {
      case .all: break
      case .perceptrons where isPerceptrons: break
      case .attention where !isPerceptrons && layers.contains(place): break
      default: return []
      }
      let scales = operation.activation == .none ? graph.scaled(result)?.factors : nil
      return [site(place, .only, 1, scales: scales)].compactMap(\.self)
    }
  }

  /// The rank of two maps that have at most `part` of its weights, a multiple of `tile`; `nil` where none saves anything.
  func rank(part: Double, tile: Int) -> Int? {
    // There is a bias behind the two in any case.
    let (whole, each) = (inputs * outputs - (bias == nil ? outputs : 0), inputs + outputs)
    let most = min(Int(part * Double(inputs * outputs) / Double(each)), (whole - 1) / each)
    let rank = max(tile, most / tile * tile)
    return rank * each < whole ? rank : nil
  }

  /// What the map reads; adds the nodes that compute it where it is inside of one.
  func tap(_ builder: inout GraphBuilder) throws(VitError) -> ValueID {
    let operands = builder.graph.nodes[node].operands
    if place == .last, let perceptron = builder.graph.nodes[node].operation as? VitMLP {
      return try perceptron.hidden(into: &builder, operands: operands)
    }
    guard let input = operands[0] else { throw VitError("a map reads nothing", code: "invalid-graph") }
    return input
  }
}
