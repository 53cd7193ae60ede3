internal import VitIR
internal import VitOps

/// The two maps that stand in for one, with what its bias becomes.
struct MapFactors {
  let site: MapSite
  /// `[rank, inputs]` and `[outputs, rank]`.
  let inner, outer: Tensor
  /// The bias behind both: the mean of what is given stays as it was.
  let bias: Tensor

  /// The maps for inputs of some moments; throws where those are no numbers.
  init(_ site: MapSite, rank: Int, moments: ChannelMoments, in graph: Graph, pool: any WorkPool) throws {
    guard let tensor = graph.tensor(site.weight) else {
      throw VitError("a map has no weight", code: "invalid-graph")
    }
    let (weight, mean) = (try tensor.doubles(), moments.mean)
    guard
      let map = try LowRankMap(
        weight, outputs: site.outputs, covariance: moments.covariance(centred: true),
        scales: site.scales?.doubles(), pool: pool)
    else {
      throw VitError(
        "factorise: what '\(graph.nodes[site.node].name)' reads is no number or does not vary",
        code: "solve-singular", location: graph.nodes[site.node].location)
    }
    let maps = map.maps(rank: rank, pool: pool)
    let low = ScoreFactors.product(maps.inner, mean, rank, site.inputs, 1)
    let old = try site.bias.flatMap(graph.tensor)?.doubles()
    let values = (0..<site.outputs).map { output in
      let before = (0..<site.inputs).reduce(0.0) { $0 + weight[output * site.inputs + $1] * mean[$1] }
      let after = (0..<rank).reduce(0.0) { $0 + maps.outer[output * rank + $1] * low[$1] }
      return (old?[output] ?? 0) + before - after
    }
    self.site = site
    inner = Tensor(.f32, shape: [rank, site.inputs], values: maps.inner)
    outer = Tensor(.f32, shape: [site.outputs, rank], values: maps.outer)
    bias = Tensor(.f32, shape: [site.outputs], values: values)
  }
}

extension Graph {
  /// Puts pairs of maps in the places of maps; what is new stands at the end, types do not follow yet.
  mutating func replaceMaps(by factors: [MapFactors]) {
    for (place, factors) in Dictionary(grouping: factors, by: \.site.node).sorted(by: { $0.key < $1.key }) {
      let node = nodes[place]
      guard let x = node.operands[0] else { continue }
      func map(_ wanted: MapSite.Place) -> MapFactors? { factors.first { $0.site.place == wanted } }
      if let perceptron = node.operation as? VitMLP {
        let operands = node.operands + [nil]
        let hidden = add(
          VitLinear(activation: perceptron.activation), x, (operands[1], operands[2]), map(.first), node)
        nodes[place] = last(VitLinear(), hidden, (operands[3], operands[4]), map(.last), node)
      } else {
        let operands = node.operands + [nil]
        nodes[place] = last(node.operation, x, (operands[1], operands[2]), map(.only), node)
      }
    }
  }

  private typealias Constants = (weight: ValueID?, bias: ValueID?)

  /// A map inside of what was one node, at the end.
  private mutating func add(
    _ operation: any Operation, _ x: ValueID, _ constants: Constants, _ factors: MapFactors?, _ node: Node
  ) -> ValueID {
    let width = constants.weight.map { type($0).shape[0] } ?? 1
    let name = node.results.first.map { self[$0].name } ?? "map"
    let result = addValue(
      TensorType(type(x).element, type(x).shape.dropLast() + [width]), name: "\(name).hidden")
    var inner = last(operation, x, constants, factors, node)
    inner.results = [result]
    nodes.append(inner)
    return result
  }

  /// The node of a map that gives what `node` gave, behind the other of the pair where there is one.
  private mutating func last(
    _ operation: any Operation, _ x: ValueID, _ constants: Constants, _ factors: MapFactors?, _ node: Node
  ) -> Node {
    guard let factors, let weight = constants.weight else {
      return Node(
        operation, operands: [x, constants.weight, constants.bias], results: node.results,
        location: node.location)
    }
    let name = self[weight].name
    let low = addValue(
      TensorType(type(x).element, type(x).shape.dropLast() + [.fixed(factors.inner.shape[0])]),
      name: "\(name).low")
    let inner = addConstant(factors.inner, name: "\(name).inner")
    nodes.append(
      Node(VitLinear(), operands: [x, inner], results: [low], location: node.location))
    setTensor(factors.outer, of: weight)
    let bias = constants.bias ?? addConstant(factors.bias, name: "\(name).bias")
    setTensor(factors.bias, of: bias)
    return Node(operation, operands: [low, weight, bias], results: node.results, location: node.location)
  }
}
