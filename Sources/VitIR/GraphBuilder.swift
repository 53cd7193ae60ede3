/// Adds nodes to a graph, inferring types and carrying what is known of values on the way.
///
/// The one place where `resultTypes` and `knownResults` are called: decoders, rewrites and lowering build
/// through it, folding and planning walk with it. Given a `fold`, it also knows what follows from constants alone.
public struct GraphBuilder: Sendable {
  /// Computes the results of a node whose operands are all known, or gives nothing; see `ConstantFolder`.
  public typealias Fold = @Sendable (Node, Operands, [TensorType]) throws(VitError) -> [KnownValue?]

  /// The graph so far.
  public var graph: Graph
  /// The operations that `add(name:)` knows.
  public let registry: Registry
  /// What is known of values, over `ValueID.index`; constants are not listed.
  private var known: [Int: KnownValue] = [:]
  /// The location given to nodes that are added without one.
  public var location = Location()
  /// Computes what the operations themselves do not say about results.
  public var fold: Fold?

  private static let foldsNothing: Fold = { _, _, _ throws(VitError) in [] }

  /// A builder on a graph.
  public init(_ graph: Graph, registry: Registry) {
    self.graph = graph
    self.registry = registry
  }

  /// What is known of a value.
  public func known(_ id: ValueID) -> KnownValue? {
    if let tensor = graph.tensor(id) { return tensor.isElided ? nil : .tensor(tensor) }
    return known[id.index]
  }

  /// The operands' types and values as a type rule sees them.
  public func operands(_ ids: [ValueID?], resultCount: Int = 1) -> Operands {
    Operands(
      ids.map { $0.map(graph.type) }, values: ids.map { $0.flatMap(known) }, resultCount: resultCount)
  }

  /// Adds a node; throws what its type rule throws, with the location filled in.
  public mutating func add(
    _ operation: any Operation, _ ids: [ValueID?], resultCount: Int = 1, names: [String] = [],
    location: Location? = nil
  ) throws(VitError) -> [ValueID] {
    let place = location ?? self.location
    let node = Node(operation, operands: ids, results: [], location: place)
    let (types, values) = try GraphBuilder.results(
      of: node, operands(ids, resultCount: resultCount), fold: fold ?? GraphBuilder.foldsNothing)
    let fallback = type(of: operation).name.split(separator: ".").last.map(String.init) ?? "value"
    var results: [ValueID] = []
    for (index, type) in types.enumerated() {
      let id = graph.addValue(type, name: index < names.count ? names[index] : fallback)
      if index < values.count { known[id.index] = values[index] }
      results.append(id)
    }
    graph.nodes.append(Node(operation, operands: ids, results: results, location: place))
    return results
  }

  /// Takes up what `node`, which the graph has, gives: notes its results' types and what is known of them.
  ///
  /// `fold` computes what the operation does not say. The node's operands have been taken up before.
  public mutating func visit(
    _ node: Node, fold: (Node, Operands, [TensorType]) throws(VitError) -> [KnownValue?]
  ) throws(VitError) -> (operands: Operands, types: [TensorType], known: [KnownValue?]) {
    let operands = operands(node.operands, resultCount: node.results.count)
    let (types, values) = try GraphBuilder.results(of: node, operands, fold: fold)
    for (index, id) in node.results.enumerated() {
      graph.setType(types[index], of: id)
      if index < values.count { known[id.index] = values[index] }
    }
    return (operands, types, values)
  }

  /// The types of a node's results and what is known of them: the type rule, what the operation itself knows,
  /// else what `fold` computes. Throws with the node's location filled in.
  private static func results(
    of node: Node, _ operands: Operands,
    fold: (Node, Operands, [TensorType]) throws(VitError) -> [KnownValue?]
  ) throws(VitError) -> (types: [TensorType], known: [KnownValue?]) {
    do throws(VitError) {
      let types = try node.operation.resultTypes(operands)
      for type in types { try type.validate() }
      guard types.count == operands.resultCount else {
        throw VitError(
          "'\(node.name)' has \(types.count) results, expected \(operands.resultCount)",
          code: "result-count")
      }
      var values = node.operation.knownResults(operands, types)
      if values.allSatisfy({ $0 == nil }) { values = try fold(node, operands, types) }
      return (types, values)
    } catch { throw error.at(node.location) }
  }

  /// Adds a node with one result, by the operation's name.
  public mutating func add(
    _ name: String, _ ids: [ValueID?], _ attributes: [(String, Attribute)] = [], location: Location? = nil
  ) throws(VitError) -> ValueID {
    let operation = try registry.make(name, Attributes(attributes))
    return try add(operation, ids, location: location)[0]
  }

  /// Adds a node with one result, of that type of operation.
  public mutating func add(
    _ type: any Operation.Type, _ ids: [ValueID?], _ attributes: [(String, Attribute)] = [],
    location: Location? = nil
  ) throws(VitError) -> ValueID {
    var reader = AttributeReader(Attributes(attributes))
    let operation = try type.init(attributes: &reader)
    try reader.finish()
    return try add(operation, ids, location: location)[0]
  }

  /// Adds a constant of numbers.
  public mutating func constant(
    _ values: [Double], shape: [Int], element: ElementType = .f32, name: String = "constant"
  )
    -> ValueID
  {
    graph.addConstant(Tensor(element, shape: shape, values: values), name: name)
  }

  /// Adds a constant of 64-bit integers.
  public mutating func integers(_ values: [Int], shape: [Int]? = nil, name: String = "constant") -> ValueID {
    graph.addConstant(Tensor(shape: shape ?? [values.count], integers: values), name: name)
  }

  /// The types of a graph whose symbols are given values, and what is then known: what a plan starts from.
  ///
  /// Walks the nodes once. Returns, over `ValueID.index`, the types (only the given inputs' symbols must be
  /// bound) and values.
  public static func infer(
    _ graph: Graph, inputTypes: [TensorType],
    fold: (Node, Operands, [TensorType]) throws(VitError) -> [KnownValue?] = { _, _, _ throws(VitError) in []
    }
  ) throws(VitError) -> (types: [TensorType], known: [KnownValue?]) {
    var builder = GraphBuilder(graph, registry: Registry([]))
    for (id, type) in zip(graph.inputs, inputTypes) { builder.graph.setType(type, of: id) }
    for node in graph.nodes { _ = try builder.visit(node, fold: fold) }
    let ids = graph.values.indices.map(builder.graph.valueID)
    return (ids.map(builder.graph.type), ids.map(builder.known))
  }
}
