/// What the values of a graph are for, found from what reads them.
///
/// An operation knows its operands' roles. Where it works on data element by element, or only moves it, a
/// constant there is for what the result is for: a table that is added to scores hides or favours tokens, a
/// number that is cast and then gathered with is an index. Cosines and sines that turn pairs of channels are
/// settings.
public struct ValueRoles: Sendable {
  private var roles: [OperandRoles]
  /// For each value whether something on its way subtracts it.
  private var isSubtracted: [Bool]

  /// Walks the nodes of `graph` twice.
  public init(_ graph: Graph) {
    roles = [OperandRoles](repeating: [], count: graph.values.count)
    isSubtracted = [Bool](repeating: false, count: graph.values.count)
    for output in graph.outputs { roles[output.value.index].insert(OperandRoles(.data)) }
    let images = ValueRoles.images(graph)
    for node in graph.nodes.reversed() {
      let wanted = node.results.reduce(into: OperandRoles()) { $0.formUnion(roles[$1.index]) }
      let pointwise = node.operation as? any PointwiseOperation
      let passesOn = pointwise != nil || node.operation is any MovementOperation
      let isNegated = passesOn && node.results.contains { isSubtracted[$0.index] }
      let readsImage =
        pointwise != nil
        && node.operands.contains { $0.map { images[$0.index] } ?? false }
      for (index, operand) in node.operands.enumerated() {
        guard let operand else { continue }
        roles[operand.index].formUnion(
          ValueRoles.passed(node.operation, node.operation.role(of: index), wanted))
        if isNegated || pointwise?.use(of: index) == .negatedTerm { isSubtracted[operand.index] = true }
        if readsImage, graph[operand].isConstant, ValueRoles.isPerChannel(graph.type(operand)) {
          roles[operand.index].insert(OperandRoles(.statistic))
        }
      }
    }
    for id in ValueRoles.rotations(graph) { roles[id.index].insert(OperandRoles(.setting)) }
  }

  /// The roles of a value.
  public subscript(id: ValueID) -> OperandRoles { roles[id.index] }

  /// Whether a constant is learned: all its roles are, and it hides no scores. One that nobody reads is.
  func isLearned(_ id: ValueID, of graph: Graph) -> Bool {
    let roles = self[id]
    guard roles.subtracting(OperandRoles(.mask)).isSubset(of: .learned) else { return false }
    guard roles.contains(.mask) || roles.contains(.scores) else { return true }
    return !(graph.tensor(id)?.hidesScores(subtracted: isSubtracted[id.index]) ?? false)
  }

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

  /// The constants with which pairs of channels are turned, as rotary positions do: the factors c and s of a sum
  /// `x·c ± y·s` where every c and s are cosine and sine of one angle, which no two learned tables are.
  private static func rotations(_ graph: Graph) -> Set<ValueID> {
    let producers = graph.producers()
    func producer(_ id: ValueID) -> Node? { producers[id.index].map { graph.nodes[$0] } }
    /// The two operands of a node that all enter its result in one of these ways.
    func operands(_ node: Node?, _ uses: Set<PointwiseUse>) -> [ValueID] {
      guard let node, node.operands.count == 2, let operation = node.operation as? any PointwiseOperation,
        (0..<2).allSatisfy({ operation.use(of: $0).map(uses.contains) ?? false })
      else { return [] }
      return node.operands.compactMap { $0 }
    }
    /// The constant that a value is, or was before its elements were moved.
    func constant(_ id: ValueID) -> ValueID? {
      var id = id
      while let node = producer(id) {
        guard node.operation is any MovementOperation else { return nil }
        let data = zip(node.operands.indices, node.operands).filter { node.operation.role(of: $0.0) == .data }
        guard data.count == 1, let moved = data[0].1 else { return nil }
        id = moved
      }
      return graph[id].isConstant ? id : nil
    }
    var result: Set<ValueID> = []
    for node in graph.nodes {
      let factors = operands(node, [.term, .negatedTerm]).map {
        operands(producer($0), [.factor]).compactMap(constant)
      }
      guard factors.count == 2, factors.allSatisfy({ $0.count == 1 }) else { continue }
      let pair = Set(factors.joined())
      guard pair.count == 2, !pair.isSubset(of: result), let cosines = graph.tensor(factors[0][0]),
        let sines = graph.tensor(factors[1][0]), cosines.isOnUnitCircle(with: sines)
      else { continue }
      result.formUnion(pair)
    }
    return result
  }

  /// Whether a type holds one number for each channel, or one for all: what images are normalised with.
  private static func isPerChannel(_ type: TensorType) -> Bool { type.shape.count { $0 != 1 } <= 1 }
}

extension Graph {
  /// The constants that a layer has learned, in the order of `values`, each once however many read it, with
  /// their roles: weights, biases, gains and tables. Masks, statistics, shapes, indices, quantisation parameters and the
  /// cosines and sines of rotary positions are none.
  public func parameters() -> [(id: ValueID, roles: OperandRoles)] {
    let roles = ValueRoles(self)
    return values.indices.map { ValueID($0) }.filter {
      self[$0].isConstant && !roles[$0].isEmpty && roles.isLearned($0, of: self)
    }.map { ($0, roles[$0]) }
  }
}

extension Tensor {
  /// Whether these numbers, in the scores of a softmax or added to them (or `subtracted` from them, or the one or the
  /// other), take entries out of it: far below what a learned table holds, or zeros and ones to multiply with.
  public func hidesScores(subtracted: Bool = false) -> Bool {
    guard element.isFloat else { return true }
    guard let numbers = try? floats(), !numbers.isEmpty else { return false }
    // e⁻⁵⁰ beside 1 is nothing in 32 bits; biases of positions stay within a few units.
    if numbers.contains(where: { !($0 > -50) || $0.isInfinite || subtracted && $0 >= 50 }) { return true }
    return numbers.contains(0) && numbers.contains(1) && numbers.allSatisfy { $0 == 0 || $0 == 1 }
  }

  /// Whether each element and that of `other` at its place are cosine and sine of an angle, and not all of one.
  fileprivate func isOnUnitCircle(with other: Tensor) -> Bool {
    guard shape == other.shape, element.isFloat, other.element.isFloat, let c = try? floats(),
      let s = try? other.floats(), let first = c.first, c.contains(where: { $0 != first })
    else { return false }
    // As far as numbers of 16 bits tell.
    return zip(c, s).allSatisfy { abs($0 * $0 + $1 * $1 - 1) < 0.02 }
  }
}
