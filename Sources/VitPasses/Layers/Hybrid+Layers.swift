public import VitIR

extension Hybrid {
  /// A model whose layers are looked for: self-attention layers and mixers, in order.
  public init(finding graph: Graph) {
    self.init(graph)
    findLayers()
  }

  /// Looks for the layers of the graph as it is now, the only place where that is done; what was known of a layer stays
  /// known where there are as many as before.
  public mutating func findLayers() {
    var finder = LayerFinder(graph)
    finder.run()
    let isSame = finder.layers.count == layers.count
    layers =
      isSame ? zip(finder.layers, layers).map { $0.remembering($1) } : finder.layers
    others = finder.others
  }
}

extension Graph {
  /// The places in `nodes` of the operations that a mixer stands in for.
  public func places(of layer: Layer) -> [Int] {
    if let input = layer.input, let output = layer.output { return nodes(from: input, to: output) }
    return place(defining: layer.core).map { [$0] } ?? []
  }

  /// The weights that are read between two values.
  func parameterCount(from input: ValueID, to output: ValueID) -> Int {
    let counts = weightCounts()
    let read = Set(nodes(from: input, to: output).flatMap { nodes[$0].operands.compactMap { $0 } })
    return read.reduce(0) { $0 + (counts[$1] ?? 0) }
  }

  /// The places in `nodes` of all nodes between two values: what depends on `input` and what `output` depends on.
  public func nodes(from input: ValueID, to output: ValueID) -> [Int] {
    var reached: Set<ValueID> = [input]
    var candidates: [Int] = []
    for (place, node) in nodes.enumerated()
    where node.operands.contains(where: { $0.map(reached.contains) ?? false }) {
      reached.formUnion(node.results)
      candidates.append(place)
    }
    var needed: Set<ValueID> = [output]
    var result: [Int] = []
    for place in candidates.reversed() where nodes[place].results.contains(where: needed.contains) {
      for case let id? in nodes[place].operands where id != input { needed.insert(id) }
      result.append(place)
    }
    return result.reversed()
  }
}
