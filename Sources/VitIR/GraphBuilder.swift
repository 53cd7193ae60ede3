/// Adds nodes to a graph, inferring types and carrying what is known of values on the way.
///
/// The one place where `resultTypes` and `knownResults` are called when a graph is made: decoders, rewrites
/// and lowering all build through it. Given a `fold`, it also knows what follows from constants alone.
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
    let operands = operands(ids, resultCount: resultCount)
    let types: [TensorType]
    var values: [KnownValue?]
    do throws(VitError) {
      types = try operation.resultTypes(operands)
      for type in types { try type.validate() }
      guard types.count == resultCount else {
        throw VitError(
          "'\(type(of: operation).name)' has \(types.count) results, expected \(resultCount)",
          code: "result-count")
      }
      values = operation.knownResults(operands, types)
      if let fold, values.allSatisfy({ $0 == nil }) {
        values = try fold(Node(operation, operands: ids, results: [], location: place), operands, types)
      }
    } catch { throw error.at(place) }
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

  /// Adds a node with one result, by the operation's name.
  public mutating func add(
    _ name: String, _ ids: [ValueID?], _ attributes: [(String, Attribute)] = [], location: Location? = nil
  ) throws(VitError) -> ValueID {
    let operation = try registry.make(name, Attributes(attributes))
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
    var types = graph.values.map(\.type)
    var known = [KnownValue?](repeating: nil, count: types.count)
    for (index, value) in graph.values.enumerated() where value.isConstant {
      guard let tensor = graph.tensors[value.name], !tensor.isElided else { continue }
      known[index] = .tensor(tensor)
    }
    for (id, type) in zip(graph.inputs, inputTypes) { types[id.index] = type }
    for node in graph.nodes {
      let operands = Operands(
        node.operands.map { $0.map { types[$0.index] } },
        values: node.operands.map { $0.flatMap { known[$0.index] } },
        resultCount: node.results.count)
      do throws(VitError) {
        let results = try node.operation.resultTypes(operands)
        for type in results { try type.validate() }
        guard results.count == node.results.count else {
          throw VitError(
            "'\(node.name)' has \(results.count) results, expected \(node.results.count)",
            code: "result-count")
        }
        var values = node.operation.knownResults(operands, results)
        if values.allSatisfy({ $0 == nil }) { values = try fold(node, operands, results) }
        for (index, id) in node.results.enumerated() {
          types[id.index] = results[index]
          if index < values.count { known[id.index] = values[index] }
        }
      } catch { throw error.at(node.location) }
    }
    return (types, known)
  }
}
