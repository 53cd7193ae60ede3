/// What the values of a graph are for, found from what reads them.
///
/// An operation knows its operands' roles. Where it works on data element by element, or only moves it, a
/// constant there is for what the result is for: a table that is added to scores hides or favours tokens, a
/// number that is cast and then gathered with is an index.
public struct ValueRoles: Sendable {
  private var roles: [OperandRoles]

  /// Walks the nodes of `graph` twice.
  public init(_ graph: Graph) {
    roles = [OperandRoles](repeating: [], count: graph.values.count)
    for output in graph.outputs { roles[output.value.index].insert(OperandRoles(.data)) }
    let images = ValueRoles.images(graph)
    for node in graph.nodes.reversed() {
      let wanted = node.results.reduce(into: OperandRoles()) { $0.formUnion(roles[$1.index]) }
      let readsImage =
        node.operation is any PointwiseOperation
        && node.operands.contains { $0.map { images[$0.index] } ?? false }
      for (index, operand) in node.operands.enumerated() {
        guard let operand else { continue }
        roles[operand.index].formUnion(
          ValueRoles.passed(node.operation, node.operation.role(of: index), wanted))
        if readsImage, graph[operand].isConstant, ValueRoles.isPerChannel(graph.type(operand)) {
          roles[operand.index].insert(OperandRoles(.statistic))
        }
      }
    }
  }

  /// The roles of a value.
  public subscript(id: ValueID) -> OperandRoles { roles[id.index] }

  /// What an operand is for, where the results are for `wanted`.
  private static func passed(
    _ operation: any Operation, _ role: OperandRole, _ wanted: OperandRoles
  ) -> OperandRoles {
    guard role == .data else { return OperandRoles(role) }
    if operation is any MovementOperation { return wanted }
    guard operation is any PointwiseOperation else { return OperandRoles(.data) }
    // Nothing that is learned depends on it: it is for what the result is for.
    if wanted.isDisjoint(with: .learned) { return wanted }
    let isScore = wanted.contains(.scores) || wanted.contains(.mask)
    return isScore ? [OperandRoles(.data), OperandRoles(.mask)] : OperandRoles(.data)
  }

  /// For each value whether it is an image as it came in, normalised or not.
  private static func images(_ graph: Graph) -> [Bool] {
    var result = [Bool](repeating: false, count: graph.values.count)
    for id in graph.inputs where graph.type(id).rank == 4 { result[id.index] = true }
    for node in graph.nodes
    where node.operation is any PointwiseOperation || node.operation is any MovementOperation {
      guard node.operands.contains(where: { $0.map { result[$0.index] } ?? false }) else { continue }
      for id in node.results where graph.type(id).rank == 4 { result[id.index] = true }
    }
    return result
  }

  /// Whether a type holds one number for each channel, or one for all: what images are normalised with.
  private static func isPerChannel(_ type: TensorType) -> Bool { type.shape.count { $0 != 1 } <= 1 }
}

extension Graph {
  /// The constants that a layer has learned, in the order of `values`, each once however many read it, with
  /// their roles: weights, biases, gains and tables. Masks, statistics, shapes, indices and quantisation
  /// parameters are none.
  public func parameters() -> [(id: ValueID, roles: OperandRoles)] {
    let roles = ValueRoles(self)
    return values.indices.compactMap { index in
      let id = ValueID(index)
      guard values[index].isConstant, !roles[id].isEmpty, isLearned(id, roles[id]) else { return nil }
      return (id, roles[id])
    }
  }

  /// Whether a constant is learned, in these roles.
  func isLearned(_ id: ValueID, _ roles: OperandRoles) -> Bool {
    guard roles.subtracting(OperandRoles(.mask)).isSubset(of: .learned) else { return false }
    guard roles.contains(.mask) || roles.contains(.scores) else { return true }
    return !(tensor(id)?.hidesScores ?? false)
  }
}

extension Tensor {
  /// Whether these numbers, in the scores of a softmax or added to them, take entries out of it: far below what
  /// a learned table holds, or zeros and ones to multiply with.
  public var hidesScores: Bool {
    guard element.isFloat else { return true }
    guard let numbers = try? floats(), !numbers.isEmpty else { return false }
    // e⁻⁵⁰ beside 1 is nothing in 32 bits; biases of positions stay within a few units.
    if numbers.contains(where: { !($0 > -50) || $0.isInfinite }) { return true }
    return numbers.contains(0) && numbers.contains(1) && numbers.allSatisfy { $0 == 0 || $0 == 1 }
  }
}
