internal import VitIR
internal import VitOps

/// A model whose tokens halt, all of them there: what halted is hidden from attention, and its blocks add nothing to it.
struct HaltedGraph {
  /// The model; values and weights are those of the one that it is made of.
  let graph: Graph
  /// The scores behind each block but the last, and their sums.
  let scores, sums: [ValueID]

  /// The model of `hybrid`, of which `blocks` are the residual blocks, in order.
  init(_ hybrid: Hybrid, blocks: [ResidualBlock], rule: Halting.Rule, prefix: Int, registry: Registry) throws
  {
    var halting = HaltingNodes(rule)
    var rewriter = Rewriter(hybrid.graph, registry: registry)
    var (scores, sums): ([ValueID], [ValueID]) = ([], [])
    var mask: ValueID?
    for (place, (layer, block)) in zip(hybrid.layers, blocks).enumerated() {
      var stream = block.after
      if let mask {
        if let attention = try HaltedGraph.hiding(mask, layer, in: hybrid.graph, &rewriter) {
          try rewriter.replace(attention.old, with: attention.new, by: "halt")
        }
        let middle = hybrid.graph.residual(behind: layer.output)
        for sum in [middle?.after, block.after].compactMap(\.self) {
          let before = sum == block.after ? middle?.after : middle?.before
          guard let before, let node = hybrid.graph.nodes.first(where: { $0.results == [sum] }) else {
            continue
          }
          let operands = try node.operands.map { operand throws(VitError) in
            operand == before ? operand : try rewriter.builder.add(Onnx.mul, [operand, mask])
          }
          let masked = try rewriter.builder.add(node.operation, operands)[0]
          if sum == block.after {
            stream = masked
          } else {
            try rewriter.replace(sum, with: masked, by: "halt")
          }
        }
      }
      if place + 1 < blocks.count {
        if stream != block.after { try rewriter.replace(block.after, with: stream, by: "halt") }
        scores.append(try halting.add(stream, into: &rewriter.builder))
        sums += [halting.sums].compactMap(\.self)
        mask = try halting.mask(prefix: prefix, into: &rewriter.builder)
      } else {
        let last = try halting.finish(stream, into: &rewriter.builder)
        try rewriter.replace(block.after, with: last, by: "halt")
      }
    }
    (graph, self.scores, self.sums) = (try rewriter.finish(), scores, sums)
  }

  /// A layer's attention, or that of its first tokens, which does not see masked tokens; `nil` for what has no keys.
  private static func hiding(
    _ mask: ValueID, _ layer: Layer, in graph: Graph, _ rewriter: inout Rewriter
  ) throws(VitError) -> (old: ValueID, new: ValueID)? {
    let node = graph.nodes.first { node in
      node.operation is VitAttention && node.results == [layer.core]
        || node.operation is PrefixAttention && node.results.first == layer.output
    }
    guard let node, let old = node.results.first else { return nil }
    let hidden = try HaltingNodes.hiding(mask, into: &rewriter.builder)
    let padding = [ValueID?](repeating: nil, count: max(0, 9 - node.operands.count))
    let new = try rewriter.builder.add(node.operation, node.operands.prefix(9) + padding + [hidden])[0]
    return (old, new)
  }
}
