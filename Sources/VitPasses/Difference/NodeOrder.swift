package import VitIR

extension Graph {
  /// The nodes that outputs depend on, each behind those whose results it reads, in an order that follows from the flow of data
  /// alone: neither names nor the order of a file decide. Linear time.
  ///
  /// From each output in turn, back along the operands of each node: those first that lie behind the most other nodes,
  /// so that the two sides of a sum may be written in either order.
  package func nodesByDataflow() -> [Int] {
    let producer = producers()
    var depth = [Int](repeating: 0, count: nodes.count)
    func operands(of node: Int) -> [Int] {
      nodes[node].operands.compactMap { $0.flatMap { producer[$0.index] } }
    }
    for node in nodes.indices {
      depth[node] = 1 + (operands(of: node).map { depth[$0] }.max() ?? -1)
    }
    var order: [Int] = []
    var isEntered = [Bool](repeating: false, count: nodes.count)
    var stack = outputs.reversed().compactMap { producer[$0.value.index] }.map { (node: $0, isLeft: false) }
    while let (node, isLeft) = stack.popLast() {
      if isLeft {
        order.append(node)
      } else if !isEntered[node] {
        isEntered[node] = true
        stack.append((node, true))
        // The last that is put on the stack comes first; among equals that is the first operand.
        let ahead = operands(of: node).enumerated().sorted {
          (depth[$0.element], $1.offset) < (depth[$1.element], $0.offset)
        }
        for (_, operand) in ahead where !isEntered[operand] { stack.append((operand, false)) }
      }
    }
    return order
  }
}
