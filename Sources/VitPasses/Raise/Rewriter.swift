public import VitIR

/// One sweep of a pattern over a graph: matches against the graph as it was, collects replacements, applies
/// them at the end.
///
/// New nodes go behind the old ones, so indices stay valid; `finish` puts everything in order and drops what
/// is dead.
struct Rewriter {
  /// The graph with the new nodes behind the old ones.
  var builder: GraphBuilder
  /// The nodes as they were.
  let nodes: [Node]
  private let producer: [Int?]
  private let consumers: [[Int]]
  private let isOutput: [Bool]
  private var replacements: [Int: ValueID] = [:]
  /// Where a pattern nearly matched and what stopped it.
  private(set) var misses: [NearMiss] = []
  /// How many values were replaced.
  private(set) var changes = 0

  init(_ graph: Graph, registry: Registry) {
    builder = GraphBuilder(graph, registry: registry)
    nodes = graph.nodes
    producer = graph.producers()
    consumers = graph.consumers()
    var isOutput = [Bool](repeating: false, count: graph.values.count)
    for output in graph.outputs { isOutput[output.value.index] = true }
    self.isOutput = isOutput
  }

  /// The graph as it was, with new values behind.
  var graph: Graph { builder.graph }

  /// The old node that defines a value.
  func producer(of id: ValueID?) -> (index: Int, node: Node)? {
    guard let id, id.index < producer.count, let index = producer[id.index] else { return nil }
    return (index, nodes[index])
  }

  /// The old node that defines a value, where it is the operation of that name.
  func node(_ name: String, defining id: ValueID?) -> Node? {
    guard let found = producer(of: id), found.node.name == name else { return nil }
    return found.node
  }

  /// The old nodes that read a value.
  func users(of id: ValueID) -> [Int] { id.index < consumers.count ? consumers[id.index] : [] }

  /// Whether just one node reads a value, and no output is it.
  func isUsedOnce(_ id: ValueID) -> Bool { users(of: id).count == 1 && !isOutput[id.index] }

  /// The only node that reads a value.
  func onlyUser(of id: ValueID) -> (index: Int, node: Node)? {
    guard isUsedOnce(id), let index = users(of: id).first else { return nil }
    return (index, nodes[index])
  }

  func type(_ id: ValueID) -> TensorType { builder.graph.type(id) }

  /// The number that a constant of one element holds.
  func scalar(_ id: ValueID?) -> Double? {
    guard let id, let tensor = builder.graph.tensor(id), tensor.count == 1 else { return nil }
    return try? tensor.doubles().first
  }

  /// The constant's tensor.
  func constant(_ id: ValueID?) -> Tensor? { id.flatMap { builder.graph.tensor($0) } }

  /// Operand `index` of a node and, of a binary operation with a constant scalar on either side, the other
  /// one.
  func operandAndScalar(_ node: Node) -> (operand: ValueID, scalar: Double, isScalarSecond: Bool)? {
    guard node.operands.count == 2, let a = node.operands[0], let b = node.operands[1] else { return nil }
    if let value = scalar(b), type(a).rank >= type(b).rank { return (a, value, true) }
    if let value = scalar(a), type(b).rank >= type(a).rank { return (b, value, false) }
    return nil
  }

  /// Whether a value was replaced already in this sweep.
  func isReplaced(_ id: ValueID) -> Bool { replacements[id.index] != nil }

  /// Lets every reader of `old` read `new`, which has the same type.
  mutating func replace(_ old: ValueID, with new: ValueID) {
    precondition(type(old) == type(new), "\(type(old)) replaced by \(type(new))")
    replacements[old.index] = new
    changes += 1
  }

  /// Notes where a pattern nearly matched.
  mutating func miss(_ pattern: String, at node: Node, _ reason: String) {
    misses.append(NearMiss(pattern: pattern, location: node.location, reason: reason))
  }

  /// The graph with all replacements made.
  mutating func finish() throws(VitError) -> Graph {
    var graph = builder.graph
    guard !replacements.isEmpty else {
      return graph
    }
    func resolved(_ id: ValueID) -> ValueID {
      var id = id
      while let next = replacements[id.index] { id = next }
      return id
    }
    for index in graph.nodes.indices {
      for (place, id) in graph.nodes[index].operands.enumerated() {
        if let id { graph.nodes[index].operands[place] = resolved(id) }
      }
    }
    for index in graph.outputs.indices { graph.outputs[index].value = resolved(graph.outputs[index].value) }
    graph.removeDeadNodes()
    try graph.sortNodes()
    return graph
  }
}

/// Where a pattern nearly matched, and what was in the way: what `inspect --explain` shows.
public struct NearMiss: Hashable, Sendable {
  /// The pattern's name.
  public let pattern: String
  /// The node that stopped it.
  public let location: Location
  /// What was expected and what was found.
  public let reason: String
}
