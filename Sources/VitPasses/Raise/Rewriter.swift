public import VitIR

/// One sweep of a pattern over a graph: what matches is looked up in the graph as it was, what replaces it is
/// collected in a `Patch`.
struct Rewriter {
  /// The replacements so far.
  private var patch: Patch
  private let original: Graph
  private let producer: [Int?]
  private let consumers: [[Int]]
  private let isOutput: [Bool]
  private var replaced: Set<ValueID> = []
  /// How many values may be replaced.
  private let limit: Int
  /// Where a pattern nearly matched and what stopped it.
  private(set) var misses: [NearMiss] = []

  init(_ graph: Graph, registry: Registry, limit: Int = .max) {
    self.limit = limit
    patch = Patch(graph, registry: registry)
    original = graph
    producer = graph.producers()
    consumers = graph.consumers()
    var isOutput = [Bool](repeating: false, count: graph.values.count)
    for output in graph.outputs { isOutput[output.value.index] = true }
    self.isOutput = isOutput
  }

  /// The nodes as they were.
  var nodes: [Node] { original.nodes }

  /// How many values were replaced.
  var changes: Int { patch.rewrites.count }

  /// Adds nodes to the graph.
  var builder: GraphBuilder {
    get { patch.builder }
    _modify { yield &patch.builder }
  }

  /// The graph as it was, with new values behind.
  var graph: Graph { builder.graph }

  /// The old node that defines a value.
  func producer(of id: ValueID?) -> (index: Int, node: Node)? {
    guard let id, id.index < producer.count, let index = producer[id.index] else { return nil }
    return (index, original.nodes[index])
  }

  /// The old node that defines a value, where it is of that type of operation.
  func node(_ type: any Operation.Type, defining id: ValueID?) -> Node? {
    guard let found = producer(of: id), found.node.isAny(type) else { return nil }
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
  func isReplaced(_ id: ValueID) -> Bool { replaced.contains(id) }

  /// Lets every reader of `old` read `new`, where the limit is not reached; throws where the types differ.
  mutating func replace(_ old: ValueID, with new: ValueID, by name: String) throws(VitError) {
    guard changes < limit else { return patch.drop() }
    if try patch.replace(old, with: new, by: name) { replaced.insert(old) }
  }

  /// The same for two values in one rewrite.
  mutating func replace(
    _ first: (old: ValueID, new: ValueID), _ second: (old: ValueID, new: ValueID), by name: String
  ) throws(VitError) {
    guard changes < limit else { return patch.drop() }
    if try patch.replace([first.old, second.old], with: [first.new, second.new], by: name) {
      replaced.formUnion([first.old, second.old])
    }
  }

  /// Notes where a pattern nearly matched.
  mutating func miss(_ pattern: String, at node: Node, _ reason: String) {
    misses.append(NearMiss(pattern: pattern, location: node.location, reason: reason))
  }

  /// The graph with all replacements made.
  func finish() throws(VitError) -> Graph {
    var graph = original
    try graph.apply(patch)
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
