internal import VitIR

/// What runs at one place of a plan: a node, with the nodes behind it whose work it does while it writes its result.
struct FusionGroup {
  /// The places of its nodes in `Graph.nodes`, in order; the first computes.
  var nodes: [Int]
  let operation: any Operation
  /// The operands of the first node.
  let operands: [ValueID?]
  /// What the last node gives.
  var results: [ValueID]
  /// What the result is multiplied with, and then added to.
  var scale: ValueID?
  var residual: ValueID?

  /// Everything that it reads.
  var reads: [ValueID] { operands.compactMap { $0 } + [scale, residual].compactMap { $0 } }
  /// Whether it does the work of other nodes.
  var isFused: Bool { nodes.count > 1 }
  /// The value that its memory is, where it computes nothing.
  var alias: ValueID? {
    guard case .alias(let operand) = operation.memory, operand < operands.count else { return nil }
    return operands[operand]
  }
}

/// Cuts a graph into groups: in inference, a factor and a residual are applied by the operation whose result only they read.
struct FusionPlanner {
  private let graph: Graph
  private let types: [TensorType]
  private let known: [KnownValue?]
  private let consumers: [[Int]]
  private let isOutput: [Bool]

  private init(_ graph: Graph, types: [TensorType], known: [KnownValue?]) {
    (self.graph, self.types, self.known) = (graph, types, known)
    consumers = graph.consumers()
    var isOutput = [Bool](repeating: false, count: types.count)
    for output in graph.outputs { isOutput[output.value.index] = true }
    self.isOutput = isOutput
  }

  /// The groups in an order in which they can run.
  static func groups(of graph: Graph, types: [TensorType], known: [KnownValue?], fusing: Bool)
    -> [FusionGroup]
  {
    let schedule = FusionPlanner(graph, types: types, known: known)
    var taken = [Bool](repeating: false, count: graph.nodes.count)
    var groups = [FusionGroup?](repeating: nil, count: graph.nodes.count)
    for (place, node) in graph.nodes.enumerated() where !taken[place] {
      var group = FusionGroup(
        nodes: [place], operation: node.operation, operands: node.operands, results: node.results)
      if fusing { while schedule.extend(&group, taken: &taken) {} }
      // It runs where its last node did: what that reads is there by then.
      groups[group.nodes[group.nodes.count - 1]] = group
    }
    return groups.compactMap { $0 }
  }

  /// Takes in the node that reads the group's result, where the operation can do its work.
  private func extend(_ group: inout FusionGroup, taken: inout [Bool]) -> Bool {
    guard group.operation.takesEpilogue, group.residual == nil, group.results.count == 1,
      let value = group.results.first, known[value.index] == nil, !isOutput[value.index],
      consumers[value.index].count == 1, let place = consumers[value.index].first, !taken[place]
    else { return false }
    let node = graph.nodes[place]
    guard let role = node.operation.epilogueRole, node.operands.count == 2, node.results.count == 1,
      let a = node.operands[0], let b = node.operands[1], a != b,
      types[node.results[0].index] == types[value.index]
    else { return false }
    switch role {
    case .scale:
      guard a == value, group.scale == nil else { return false }
      group.scale = b
    case .residual:
      let other = a == value ? b : a
      guard types[other.index] == types[value.index] else { return false }
      group.residual = other
    }
    group.nodes.append(place)
    group.results = node.results
    taken[place] = true
    return true
  }
}
