internal import VitIR
internal import VitOps

/// The part of a graph between the normalised tokens and what is added to the residual, around one attention
/// core.
struct Region {
  /// The tokens that queries, keys and values all come from.
  private(set) var input: ValueID?
  /// The result of the output projection.
  private(set) var output: ValueID?
  /// What makes it no region that a mixer can fill.
  private(set) var obstacle: String?

  init(_ finder: LayerFinder, queries: ValueID, keys: ValueID, values: ValueID, core: ValueID) {
    input = Region.cut(finder, above: [queries, keys, values])
    output = Region.projection(finder, below: core)
    guard let input else {
      obstacle = "its queries, keys and values have no common tokens of the form [batch, tokens, width]"
      return
    }
    let shape = finder.shape(input)
    guard shape.count == 3, shape[0] == finder.batch else {
      obstacle = "it works within windows or groups of tokens"
      return
    }
    if output == nil { obstacle = "no linear map follows it" }
  }

  /// The nearest value through which everything goes that the given values depend on.
  ///
  /// The last node of the frontier is replaced by what it reads until one value is left: values are numbered
  /// by nodes in order, so nothing that is still needed is passed.
  private static func cut(_ finder: LayerFinder, above start: [ValueID]) -> ValueID? {
    var frontier = Set(start.filter { !finder.isConstant($0) })
    for _ in 0..<200 {
      if frontier.count == 1, let only = frontier.first, finder.shape(only).count == 3,
        !isProjection(finder, only)
      {
        return only
      }
      guard
        let last = frontier.max(by: { (finder.node(defining: $0) ?? -1) < (finder.node(defining: $1) ?? -1) }
        ),
        let place = finder.node(defining: last)
      else { return nil }
      frontier.remove(last)
      for case let operand? in finder.nodeAt(place).operands
      where !finder.isConstant(operand) && finder.dependsOnInput(operand) && !isShape(finder, operand) {
        frontier.insert(operand)
      }
      if frontier.isEmpty { return nil }
    }
    return nil
  }

  /// Whether a value is a linear map of the tokens, or a bias on one: queries, keys and values packed into one value.
  private static func isProjection(_ finder: LayerFinder, _ id: ValueID) -> Bool {
    guard let place = finder.node(defining: id) else { return false }
    let node = finder.nodeAt(place)
    return node.operation is VitLinear || node.isAny(Onnx.matMul)
      || (node.isAny(Onnx.add)
        && node.operands.contains { $0.map { finder.isConstant($0) && finder.shape($0).count == 1 } ?? false })
  }

  /// Whether a value is made of shapes only: integers that say how to reshape.
  private static func isShape(_ finder: LayerFinder, _ id: ValueID) -> Bool {
    guard let place = finder.node(defining: id) else { return false }
    return finder.nodeAt(place).operation.role(of: 0) == .form
  }

  /// The first linear map below the core, as tokens.
  private static func projection(_ finder: LayerFinder, below core: ValueID) -> ValueID? {
    var value = core
    for _ in 0..<12 {
      let readers = finder.readers(of: value)
      guard readers.count == 1 else { return nil }
      let node = finder.nodeAt(readers[0])
      guard let result = node.results.first else { return nil }
      if node.operation is VitLinear {
        if finder.shape(result).count == 3 { return result }
        // Tokens flattened before the map come back as tokens behind it.
        let next = finder.readers(of: result)
        guard next.count == 1, isReshape(finder.nodeAt(next[0])),
          let tokens = finder.nodeAt(next[0]).results.first, finder.shape(tokens).count == 3
        else { return nil }
        return tokens
      }
      guard passes(node) else { return nil }
      value = result
    }
    return nil
  }

  /// Whether the tokens go on below a node: it regroups or turns them, or normalises each.
  private static func passes(_ node: Node) -> Bool {
    isReshape(node) || node.operation is VitLayerNorm
      || node.isAny(Onnx.transpose, Onnx.cast, Onnx.layerNormalization)
  }

  /// Whether a node gives the elements of its operand, in their order.
  private static func isReshape(_ node: Node) -> Bool { node.operation.memory == .alias(operand: 0) }
}
