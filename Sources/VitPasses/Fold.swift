public import VitIR
internal import VitOps
internal import VitRuntime

/// Computes once, at compile time, what does not depend on the input; drops what does nothing.
public struct Fold: GraphPass {
  /// `fold`.
  public static let name = "fold"
  /// See `Pass`.
  public static let summary = "Folds constants and shape arithmetic, drops operations that change nothing"
  /// See `Pass`.
  public static let example = "open-batch,fold"

  /// The pass; it has no options.
  public init() {}
  /// The pass; it takes no options.
  public init(options: inout OptionReader) throws(VitError) {}
  /// None.
  public var options: [(name: String, value: String)] { [] }

  /// The most elements of a folded constant: more than that is computed when it is needed.
  private static let limit = 1 << 24

  /// Walks the nodes once, in order.
  public func run(on graph: inout Graph, context: PassContext) throws -> PassResult {
    var builder = GraphBuilder(graph, registry: context.registry)
    let nodes = graph.nodes
    builder.graph.nodes = []
    var replaced: [Int: ValueID] = [:]
    var changes = 0
    /// The constants that were made of constants: the same operation on the same ones gives the same, not another.
    var made: [Derivation: [ValueID]] = [:]
    let folder = ConstantFolder(pool: context.pool, limit: Fold.limit)
    for var node in nodes {
      node.operands = node.operands.map { id in id.map { replaced[$0.index] ?? $0 } }
      let (operands, types, results) = try builder.visit(node) {
        node, operands, types throws(VitError) in
        identity(node, operands, types) == nil ? try folder.fold(node, operands, types) : []
      }
      if let same = identity(node, operands, types), let result = node.results.first {
        replaced[result.index] = same
        changes += 1
        // Somebody may read another result.
        if node.results.count > 1 { builder.graph.nodes.append(node) }
        continue
      }
      var isConstant = !results.isEmpty && results.count == node.results.count
      for (place, value) in results.enumerated() {
        guard let value else {
          isConstant = false
          continue
        }
        if constantTensor(value, types[place]) == nil { isConstant = false }
      }
      let derivation = Derivation(node, builder.graph)
      if isConstant, let derivation, let earlier = made[derivation] {
        for (id, same) in zip(node.results, earlier) { replaced[id.index] = same }
        changes += 1
      } else if isConstant {
        defer {
          if let derivation { made[derivation] = node.results.map { replaced[$0.index] ?? $0 } }
        }
        for (place, id) in node.results.enumerated() {
          guard let value = results[place], let tensor = constantTensor(value, types[place]) else { continue }
          replaced[id.index] = builder.graph.addConstant(tensor, name: builder.graph[id].name)
        }
        changes += 1
      } else {
        builder.graph.nodes.append(simplified(node, operands, types, &builder, &changes))
      }
    }
    for index in builder.graph.outputs.indices {
      let id = builder.graph.outputs[index].value
      builder.graph.outputs[index].value = replaced[id.index] ?? id
    }
    builder.graph.removeDeadNodes()
    graph = builder.graph
    return PassResult(changes: changes)
  }

  /// What a constant was computed from, where that is constants alone.
  private struct Derivation: Hashable {
    let operation: String
    let operands: [ValueID?]
    let resultCount: Int

    init?(_ node: Node, _ graph: Graph) {
      let operands = node.operands
      guard operands.contains(where: { $0 != nil }),
        operands.allSatisfy({ $0.map { graph[$0].isConstant } ?? true })
      else { return nil }
      operation = node.name + node.operation.attributes.text
      self.operands = operands
      resultCount = node.results.count
    }
  }

  private func constantTensor(_ value: KnownValue, _ type: TensorType) -> Tensor? {
    switch value {
    case .tensor(let tensor): return tensor
    case .integers(let shape, _):
      guard let numbers = value.integers else { return nil }
      return Tensor(type.element, shape: shape, values: numbers.map(Double.init))
    }
  }

  /// The operand that a node's first result is.
  private func identity(_ node: Node, _ operands: Operands, _ types: [TensorType]) -> ValueID? {
    guard let index = node.operation.identity(operands, types), operands[index] == types.first else {
      return nil
    }
    return node.operands[index]
  }

  /// A reshape whose computed target holds one symbol gets a constant target with −1 in its place.
  private func simplified(
    _ node: Node, _ operands: Operands, _ types: [TensorType], _ builder: inout GraphBuilder,
    _ changes: inout Int
  ) -> Node {
    guard node.isAny(Onnx.reshape), node.operands.count == 2, let target = node.operands[1],
      !builder.graph[target].isConstant,
      case .integers? = operands.value(1), let type = types.first,
      type.shape.filter({ !$0.isFixed }).count <= 1, !type.shape.contains(0)
    else { return node }
    var node = node
    node.operands[1] = builder.integers(
      type.shape.map { $0.fixedValue ?? -1 }, name: builder.graph[target].name)
    changes += 1
    return node
  }
}
