internal import VitIR
internal import VitOps

/// Moves that end where they began go away; two transposes in a row become one, and so do two moves of the same value in the
/// same way.
enum SimplifyMoves: Pattern {
  static let name = "moves"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    let layouts = LayoutAnalysis(rewriter.graph)
    /// The moves that were seen, and the first value of each that are the same.
    var seen: [Move: ValueID] = [:]
    var same: [ValueID: ValueID] = [:]
    for node in rewriter.nodes {
      guard moves(node), let result = node.results.first, let input = node.operands[0] else {
        continue
      }
      let layout = layouts[result]
      if layout.source != result, layout.scale == 1, rewriter.type(layout.source) == rewriter.type(result),
        layouts[layout.source].axes.map(Layout.normalised) == layout.axes.map(Layout.normalised),
        rewriter.constant(layout.source) == nil, !rewriter.isReplaced(layout.source)
      {
        try rewriter.replace(result, with: layout.source, by: name)
      } else if node.isAny(Onnx.transpose), let before = rewriter.node(Onnx.transpose, defining: input),
        let source = before.operands[0], let first = order(before, rewriter),
        let second = order(node, rewriter)
      {
        rewriter.tryReplace(result, at: node) { builder throws(VitError) in
          try builder.add(Onnx.transpose, [source], [("perm", .ints(second.map { first[$0] }))])
        }
      } else if node.results.count == 1 {
        let move = Move(
          name: node.name, attributes: node.operation.attributes,
          operands: node.operands.map { id in id.map { same[$0] ?? $0 } })
        if let earlier = seen[move], !rewriter.isReplaced(earlier) {
          same[result] = earlier
          try rewriter.replace(result, with: earlier, by: name)
        } else {
          seen[move] = result
        }
      }
    }
  }

  /// What a node does, and to what.
  private struct Move: Hashable {
    let name: String
    let attributes: Attributes
    let operands: [ValueID?]
  }

  /// Whether a node only moves elements of its first operand, all of them in their order or some.
  private static func moves(_ node: Node) -> Bool {
    node.operation.memory == .alias(operand: 0)
      || node.isAny(Onnx.dropout, Onnx.cast, Onnx.transpose, Onnx.slice, Onnx.expand)
  }

  private static func order(_ node: Node, _ rewriter: Rewriter) -> [Int]? {
    guard let rank = node.operands[0].map({ rewriter.type($0).rank }) else { return nil }
    if case .ints(let order)? = node.operation.attributes["perm"] {
      return order.map { $0 < 0 ? $0 + rank : $0 }
    }
    return (0..<rank).reversed()
  }
}
