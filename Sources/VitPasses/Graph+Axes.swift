internal import VitIR

extension Graph {
  /// What a node reads, constants being known.
  func operands(of node: Node) -> Operands {
    Operands(
      node.operands.map { $0.map(type) },
      values: node.operands.map { $0.flatMap(tensor).map(KnownValue.tensor) },
      resultCount: node.results.count)
  }

  /// Which axes of a node's operands and results run side by side, constants being known.
  func axes(of node: Node) -> AxisMap { node.operation.axes(operands(of: node), node.results.map(type)) }
}
