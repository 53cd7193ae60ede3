internal import VitIR

/// The matrices of a graph that are read as weights alone, of maps with others before and behind them.
struct InnerMaps {
  /// The constants, in the order of the values.
  private(set) var ids: [ValueID] = []

  /// The first layer's block in which each is read, by that layer's place.
  private(set) var blocks: [ValueID: Int] = [:]

  /// Those of `graph`, whose layers these are.
  init(_ graph: Graph, layers: [Layer] = []) {
    let isEnd = InnerMaps.ends(graph)
    var (isInner, isOther) = (Set<ValueID>(), Set<ValueID>())
    for output in graph.outputs { isOther.insert(output.value) }
    for (node, isEnd) in zip(graph.nodes, isEnd) {
      for (place, id) in node.operands.enumerated() {
        guard let id, graph[id].isConstant else { continue }
        if !isEnd, InnerMaps.isMap(node, place, graph.type(id)) {
          isInner.insert(id)
        } else {
          isOther.insert(id)
        }
      }
    }
    // A block begins with its layer's attention, or what stands in its place.
    let starts = layers.map { graph.places(of: $0).min() ?? .max }
    for (place, node) in graph.nodes.enumerated() {
      guard let block = starts.lastIndex(where: { $0 <= place }) else { continue }
      for case let id? in node.operands where isInner.contains(id) && blocks[id] == nil { blocks[id] = block }
    }
    ids = graph.values.indices.map(graph.valueID).filter { isInner.contains($0) && !isOther.contains($0) }
  }

  /// Whether an operand is a matrix whose rows give one entry of the result each, as they do in all of vitc's own operations, and
  /// with enough elements that a scale pays.
  private static func isMap(_ node: Node, _ place: Int, _ type: TensorType) -> Bool {
    node.name.hasPrefix("vit.") && node.operation.role(of: place) == .weight && type.element == .f32
      && type.rank == 2 && type.shape[1].fixedValue ?? 0 >= 4
  }

  /// For each node whether it is a map that none with weights stands before, or none behind.
  private static func ends(_ graph: Graph) -> [Bool] {
    var isBehind = [Bool](repeating: false, count: graph.values.count)
    var isFirst = [Bool](repeating: false, count: graph.nodes.count)
    func hasWeight(_ node: Node) -> Bool {
      node.operands.enumerated().contains { place, id in
        id.map { graph[$0].isConstant && node.operation.role(of: place) == .weight } ?? false
      }
    }
    for (place, node) in graph.nodes.enumerated() {
      let isAfter = node.operands.contains { $0.map { isBehind[$0.index] } ?? false }
      isFirst[place] = !isAfter && hasWeight(node)
      for id in node.results { isBehind[id.index] = isAfter || isFirst[place] }
    }
    var isBefore = [Bool](repeating: false, count: graph.values.count)
    var isLast = [Bool](repeating: false, count: graph.nodes.count)
    for (place, node) in graph.nodes.enumerated().reversed() {
      let isFollowed = node.results.contains { isBefore[$0.index] }
      isLast[place] = !isFollowed && hasWeight(node)
      guard isFollowed || isLast[place] else { continue }
      for case let id? in node.operands { isBefore[id.index] = true }
    }
    return zip(isFirst, isLast).map { $0 || $1 }
  }
}
