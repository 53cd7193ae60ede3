internal import VitIR
package import VitOps

/// How the tokens of a layer lie on the image: the grid of patches, the tokens before them, and which of
/// those a head reads.
package struct TokenGeometry: Equatable {
  package var grid: ScanOrder.Grid
  package var prefix: Int
  package var outputs: Int

  /// A geometry that is known.
  package init(grid: ScanOrder.Grid, prefix: Int, outputs: Int) {
    self.grid = grid
    self.prefix = prefix
    self.outputs = outputs
  }

  /// The geometry of `tokens` tokens.
  ///
  /// The grid is that of the patch embedding with the most patches that fit; without one, a square where the
  /// count is one, else one row. Tokens that are left after a merge are one row, too.
  init(_ graph: Graph, tokens: Int) {
    let merged = graph.mergedTokens
    if let merged, tokens < merged.all, tokens >= merged.prefix {
      grid = .init(rows: 1, columns: tokens - merged.prefix)
      prefix = merged.prefix
      outputs = TokenGeometry.outputTokens(graph, tokens: merged.counts, prefix: prefix)
      return
    }
    var best: ScanOrder.Grid?
    for node in graph.nodes where node.operation is VitPatchEmbed {
      guard let grid = TokenGeometry.grid(node, graph), grid.count <= tokens else { continue }
      if let current = best, current.count >= grid.count { continue }
      best = grid
    }
    if let best {
      grid = best
    } else {
      let side = Int(Double(tokens).squareRoot())
      grid = side * side == tokens ? .init(rows: side, columns: side) : .init(rows: 1, columns: tokens)
    }
    prefix = tokens - grid.count
    outputs = TokenGeometry.outputTokens(
      graph, tokens: (merged?.counts ?? []).union([tokens]), prefix: prefix)
  }

  private static func grid(_ node: Node, _ graph: Graph) -> ScanOrder.Grid? {
    guard let image = node.operands[0], let weight = node.operands[1],
      let kernel = graph.type(weight).fixedShapeTail(2),
      let size = graph.type(image).fixedShapeTail(2), kernel[0] > 0, kernel[1] > 0
    else { return nil }
    return .init(rows: size[0] / kernel[0], columns: size[1] / kernel[1])
  }

  /// How many of the tokens before the patches something picks out; one where nobody picks any token.
  private static func outputTokens(_ graph: Graph, tokens: Set<Int>, prefix: Int) -> Int {
    guard prefix > 0 else { return 0 }
    var picked: Set<Int> = []
    var isPicking = false
    for node in graph.nodes where node.operation is any MovementOperation && node.results.count == 1 {
      guard let input = node.operands[0], graph.type(input).rank == 3,
        let count = graph.type(input).shape[1].fixedValue, tokens.contains(count),
        let entries = entries(node, graph, tokens: count)
      else { continue }
      isPicking = true
      picked.formUnion(entries)
    }
    let read = picked.filter { $0 < prefix }
    return isPicking ? (read.max().map { $0 + 1 } ?? 0) : min(1, prefix)
  }

  /// The tokens that a node picks out of `[batch, tokens, width]`; `nil` where it does no such thing, or takes all.
  private static func entries(_ node: Node, _ graph: Graph, tokens: Int) -> [Int]? {
    if node.isAny(Onnx.gather), node.operation.attributes["axis"] == .int(1), let index = node.operands[1] {
      return (try? graph.tensor(index)?.integers())?.map { $0.map { $0 < 0 ? $0 + tokens : $0 } } ?? nil
    }
    let type = graph.type(node.results[0])
    let map = graph.axes(of: node)
    guard type.rank == 3, let kept = type.shape[1].fixedValue, kept < tokens,
      let letter = map.letter(ofResult: 0, axis: 1), letter.kind == .ranges,
      letter.axis(ofOperand: 0) == 1, let start = letter.resultStarts[0].fixedValue
    else { return nil }
    return Array(start..<start + kept)
  }
}

extension TokenGeometry {
  /// What each token's rows weigh in least squares: those that a head reads as much as all patches together, since the damage is
  /// done there; the first `unread` nothing.
  func rowWeights(tokens: Int, unread: Int = 0) -> [Double] {
    (0..<tokens).map { token in
      if token < unread { return 0 }
      guard token < outputs else { return 1 }
      return max(1, Double(grid.count) / Double(outputs))
    }
  }

  /// The same for rows of that shape; 1 where they are no tokens.
  static func rowWeights(of shape: [Int], in graph: Graph) -> [Double] {
    guard shape.count == 3 else { return [1] }
    return TokenGeometry(graph, tokens: shape[1]).rowWeights(tokens: shape[1])
  }
}
