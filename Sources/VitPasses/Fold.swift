public import VitIR
internal import VitRuntime

/// Computes once, at compile time, what does not depend on the input; drops what does nothing.
public struct Fold: GraphPass {
  /// `fold`.
  public static let name = "fold"
  /// See `Pass`.
  public static let summary = "Folds constants and shape arithmetic, drops operations that change nothing"

  /// The pass; it has no options.
  public init() {}
  /// The pass; it takes no options.
  public init(options: inout OptionReader) throws(VitError) {}
  /// None.
  public var options: [(name: String, value: String)] { [] }

  /// The most elements of a folded constant: more than that is computed when it is needed.
  private static let limit = 1 << 24

  /// ONNX's numbers of f16, bf16, u16, i16, u32 and u64.
  private static let narrowTypes: Set<Int> = [10, 16, 4, 5, 12, 13]

  /// Walks the nodes once, in order.
  public func run(on graph: inout Graph, context: PassContext) throws -> PassResult {
    var builder = GraphBuilder(graph, registry: context.registry)
    let nodes = graph.nodes
    builder.graph.nodes = []
    var known: [Int: KnownValue] = [:]
    var replaced: [Int: ValueID] = [:]
    var changes = 0
    let folder = ConstantFolder(pool: context.pool, limit: Fold.limit)
    for var node in nodes {
      node.operands = node.operands.map { id in id.map { replaced[$0.index] ?? $0 } }
      let values = node.operands.map { id -> KnownValue? in
        guard let id else { return nil }
        return builder.graph.tensor(id).map(KnownValue.tensor) ?? known[id.index]
      }
      let operands = Operands(
        node.operands.map { $0.map(builder.graph.type) }, values: values, resultCount: node.results.count)
      let types: [TensorType]
      do { types = try node.operation.resultTypes(operands) } catch { throw error.at(node.location) }
      for (id, type) in zip(node.results, types) { builder.graph.setType(type, of: id) }
      if let same = identity(node, operands, types, builder.graph) {
        if let result = node.results.first { replaced[result.index] = same }
        changes += 1
        continue
      }
      var results = node.operation.knownResults(operands, types)
      if results.allSatisfy({ $0 == nil }), node.operands.contains(where: { $0 != nil }) || isGenerator(node)
      {
        results = try folder.fold(node, operands, types)
      }
      var isConstant = !results.isEmpty && results.count == node.results.count
      for (place, value) in results.enumerated() {
        guard let value else {
          isConstant = false
          continue
        }
        known[node.results[place].index] = value
        if constantTensor(value, types[place]) == nil { isConstant = false }
      }
      if isConstant {
        for (place, id) in node.results.enumerated() {
          guard let value = results[place], let tensor = constantTensor(value, types[place]) else { continue }
          replaced[id.index] = builder.graph.addConstant(tensor, name: builder.graph[id].name)
        }
        changes += 1
      } else {
        builder.graph.nodes.append(simplified(node, values, types, &builder, &changes))
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

  private func isGenerator(_ node: Node) -> Bool { node.operands.isEmpty }

  private func constantTensor(_ value: KnownValue, _ type: TensorType) -> Tensor? {
    switch value {
    case .tensor(let tensor): return tensor
    case .integers(let shape, _):
      guard let numbers = value.integers else { return nil }
      return Tensor(type.element, shape: shape, values: numbers.map(Double.init))
    }
  }

  /// The operand that a node's only result equals.
  private func identity(_ node: Node, _ operands: Operands, _ types: [TensorType], _ graph: Graph) -> ValueID?
  {
    guard node.results.count == 1 || node.name == "onnx.Dropout", let type = types.first else { return nil }
    func same(_ index: Int) -> ValueID? {
      guard index < node.operands.count, let id = node.operands[index], operands[index] == type else {
        return nil
      }
      return id
    }
    func isAll(_ index: Int, _ number: Double) -> Bool {
      guard case .tensor(let tensor)? = operands.value(index), tensor.count <= Fold.limit,
        let numbers = try? tensor.doubles()
      else { return false }
      return numbers.allSatisfy { $0 == number }
    }
    switch node.name {
    case "onnx.Identity", "onnx.Dropout", "onnx.Reshape", "onnx.Expand", "onnx.Flatten", "onnx.Squeeze",
      "onnx.Unsqueeze":
      return same(0)
    case "onnx.Slice":
      // Slicing keeps the shape only where it takes everything, forwards: with negative steps it would
      // reverse.
      return isForward(operands) ? same(0) : nil
    case "onnx.Cast":
      // A type that is computed in a wider one rounds, or cuts bits off.
      guard case .int(let code)? = node.operation.attributes["to"] else { return nil }
      return Fold.narrowTypes.contains(code) ? nil : same(0)
    case "onnx.Where":
      if isAll(0, 1) { return same(1) }
      return isAll(0, 0) ? same(2) : nil
    case "onnx.Add":
      if isAll(1, 0) { return same(0) }
      return isAll(0, 0) ? same(1) : nil
    case "onnx.Sub": return isAll(1, 0) ? same(0) : nil
    case "onnx.Mul":
      if isAll(1, 1) { return same(0) }
      return isAll(0, 1) ? same(1) : nil
    case "onnx.Div": return isAll(1, 1) ? same(0) : nil
    default: return nil
    }
  }

  private func isForward(_ operands: Operands) -> Bool {
    guard operands.has(4) else { return true }
    return operands.value(4)?.integers?.allSatisfy { $0 > 0 } ?? false
  }

  /// A reshape whose computed target holds one symbol gets a constant target with −1 in its place.
  private func simplified(
    _ node: Node, _ values: [KnownValue?], _ types: [TensorType], _ builder: inout GraphBuilder,
    _ changes: inout Int
  ) -> Node {
    guard node.name == "onnx.Reshape", node.operands.count == 2, let target = node.operands[1],
      !builder.graph[target].isConstant,
      case .integers? = values[1], let type = types.first,
      type.shape.filter({ !$0.isFixed }).count <= 1, !type.shape.contains(0)
    else { return node }
    var node = node
    node.operands[1] = builder.integers(
      type.shape.map { $0.fixedValue ?? -1 }, name: builder.graph[target].name)
    changes += 1
    return node
  }
}
