internal import VitIR

extension Graph {
  /// Which axes of a node's operands and results run side by side, constants being known.
  func axes(of node: Node) -> AxisMap {
    let operands = Operands(
      node.operands.map { $0.map(type) },
      values: node.operands.map { $0.flatMap(tensor).map(KnownValue.tensor) },
      resultCount: node.results.count)
    return node.operation.axes(operands, node.results.map(type))
  }
}
