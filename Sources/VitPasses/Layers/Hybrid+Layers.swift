public import VitIR

extension Hybrid {
  /// A model whose layers are looked for: self-attention layers and mixers, in order.
  public init(finding graph: Graph) {
    self.init(graph)
    findLayers()
  }

  /// Looks for the layers of the graph as it is now, the only place where that is done; what was known of a layer stays
  /// known where there are as many as before, and so do those whose blocks are gone.
  public mutating func findLayers() {
    var finder = LayerFinder(graph)
    finder.run()
    others = finder.others
    let old = layers
    layers = finder.layers
    guard finder.layers.count == old.count(where: { !$0.isRemoved }) else { return }
    var next = finder.layers.makeIterator()
    layers = old.map { old in
      guard !old.isRemoved, var layer = next.next()?.remembering(old) else { return old }
      layer.index = old.index
      return layer
    }
    if (try? checkInvariants()) == nil { layers = finder.layers }
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
