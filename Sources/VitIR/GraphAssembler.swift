/// Puts a graph together from the parts that a file lists: names must be new, operations known, types as the
/// rules say.
///
/// The one way by which a graph that was written before comes back, from text and from `.vmod` alike. The
/// declared types are compared with what the type rules find, so that a file cannot claim a shape that its
/// operations do not have.
public struct GraphAssembler {
  private var builder: GraphBuilder
  private var outputs: Set<String> = []

  /// The most axes that a declared type may have.
  public static let maximumRank = 64

  /// An empty graph of that name; `fold` computes what types depend on and operations do not say themselves.
  public init(name: String, registry: Registry, fold: GraphBuilder.Fold? = nil) {
    builder = GraphBuilder(Graph(name: name), registry: registry)
    builder.fold = fold
  }

  private func expectNew(_ name: String) throws(VitError) {
    guard builder.graph.value(named: name) == nil else {
      throw VitError("the name '\(name)' is defined twice", code: "duplicate-name")
    }
  }

  /// Throws unless the type is one that a value may have; `f16` and the like are only stored.
  private func validate(_ type: TensorType, of name: String) throws(VitError) {
    guard type.element == type.element.computed else {
      throw VitError(
        "'\(name)' has the element type \(type.element.rawValue), in which nothing is computed",
        code: "element-type")
    }
    try type.validate()
  }

  /// Adds an input; throws where the name is taken or the type impossible.
  public mutating func addInput(_ name: String, _ type: TensorType) throws(VitError) -> ValueID {
    try expectNew(name)
    try validate(type, of: name)
    return builder.graph.addInput(type, name: name)
  }

  /// Adds a constant; throws where the name is taken.
  public mutating func addConstant(_ name: String, _ tensor: Tensor) throws(VitError) -> ValueID {
    try expectNew(name)
    return builder.graph.addConstant(tensor, name: name)
  }

  /// Adds a node; throws for an unknown operation, attributes or operands that it refuses, results of other
  /// types.
  public mutating func addNode(
    _ operation: String, _ attributes: Attributes, operands: [ValueID?],
    results: [(name: String, type: TensorType)],
    location: Location
  ) throws(VitError) -> [ValueID] {
    do throws(VitError) {
      for result in results {
        try expectNew(result.name)
        try validate(result.type, of: result.name)
      }
      let operation = try builder.registry.make(operation, attributes)
      let ids = try builder.add(
        operation, operands, resultCount: results.count, names: results.map(\.name), location: location)
      for (id, result) in zip(ids, results) {
        // The graph numbers a name that is taken: here that can only be by another result of this node.
        guard builder.graph[id].name == result.name else {
          throw VitError("the name '\(result.name)' is defined twice", code: "duplicate-name")
        }
        guard builder.graph.type(id) != result.type else { continue }
        throw VitError(
          "'\(result.name)' is declared \(result.type), but '\(type(of: operation).name)' gives \(builder.graph.type(id))",
          code: "type-mismatch")
      }
      return ids
    } catch { throw error.at(location) }
  }

  /// Adds an output; throws where there is one of that name.
  public mutating func addOutput(_ name: String, _ value: ValueID) throws(VitError) {
    guard outputs.insert(name).inserted else {
      throw VitError("there are two outputs '\(name)'", code: "duplicate-name")
    }
    builder.graph.outputs.append((name, value))
  }

  /// What is known of the model as a whole.
  public mutating func setAnnotations(_ annotations: Attributes) { builder.graph.annotations = annotations }

  /// The value of that name.
  public func value(named name: String) -> ValueID? { builder.graph.value(named: name) }

  /// Whether that value is a constant.
  public func isConstant(_ id: ValueID) -> Bool { builder.graph[id].isConstant }

  /// The graph so far.
  public var graph: Graph { builder.graph }
}
