public import VitIR
internal import VitRuntime

/// What running a graph costs, node by node.
public struct ModelCost: Sendable {
  /// The cost of each node of `Graph.nodes`; nothing for what does not depend on the input.
  public let nodes: [Cost]
  /// The sum of the nodes, with the parameters of the graph.
  public let total: Cost

  /// The cost for inputs of these shapes, which hold so many samples, for one of them; throws where a type rule refuses them.
  public init(_ graph: Graph, inputShapes: [[Int]], samples: Int = 1, pool: any WorkPool) throws {
    let inputs = zip(graph.inputs, inputShapes).map { TensorType(graph.type($0).element, fixed: $1) }
    let (types, known) = try GraphBuilder.infer(
      graph, inputTypes: inputs, fold: ConstantFolder(pool: pool).fold)
    nodes = graph.nodes.map { node in
      guard node.results.contains(where: { known[$0.index] == nil }),
        node.results.allSatisfy({ types[$0.index].fixedShape != nil })
      else { return Cost() }
      let operands = Operands(
        node.operands.map { $0.map { types[$0.index] } },
        values: node.operands.map { $0.flatMap { known[$0.index] } },
        resultCount: node.results.count)
      var cost = node.operation.cost(operands, node.results.map { types[$0.index] })
      cost.flops /= samples
      cost.bytes /= samples
      return cost
    }
    var total = nodes.reduce(Cost(), +)
    total.parameters = graph.parameterCount
    self.total = total
  }
}

extension Graph {
  /// The number of weights: of the elements of what `parameters` lists.
  public var parameterCount: Int { weightCounts().values.reduce(0, +) }

  /// The elements of each constant that a layer has learned (see `Graph.parameters`), whole numbers that stand for
  /// quantised ones among them; not masks, statistics and tables of rotary positions, nor 64-bit integers and truth
  /// values, with which shapes are computed.
  func weightCounts() -> [ValueID: Int] {
    var counts: [ValueID: Int] = [:]
    for (id, _) in parameters() {
      guard let tensor = tensor(id), tensor.element != .i64, tensor.element != .bool else { continue }
      counts[id] = tensor.count
    }
    return counts
  }
}
