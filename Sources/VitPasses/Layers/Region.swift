internal import VitIR
internal import VitOps

/// The part of a graph between the normalised tokens and what is added to the residual, around one attention
/// core.
struct Region {
  /// The tokens that queries, keys and values all come from, and what gates the attended values.
  private(set) var input: ValueID?
  /// The result of the output projection.
  private(set) var output: ValueID?
  /// What makes it no region that a mixer can fill.
  private(set) var obstacle: String?

  init(_ finder: LayerFinder, queries: ValueID, keys: ValueID, values: ValueID, core: ValueID) {
    let projections = [queries, keys, values]
    let descent = Descent(finder, below: core, projections: Set(projections.map(finder.source)))
    output = descent.output
    input = Region.cut(finder, above: projections + descent.sides)
    guard let input else {
      let isGated = !descent.sides.isEmpty && Region.cut(finder, above: projections) != nil
      obstacle =
        isGated
        ? "what its attended values are multiplied with does not come from its tokens"
        : "its queries, keys and values have no common tokens of the form [batch, tokens, width]"
      return
    }
    let shape = finder.shape(input)
    guard shape.count == 3, shape[0] == finder.batch else {
      obstacle =
        shape.count == 3 && shape[1] == finder.batch && shape[0] != shape[1]
        ? "its tokens lie as [tokens, batch, width]" : "it works within windows or groups of tokens"
      return
    }
    if output == nil { obstacle = "no linear map follows it: \(descent.end)" }
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
        // Where tokens come before the batch, the layer begins before they were turned so.
        guard finder.shape(only)[0] != finder.batch, let tokens = finder.turned(only),
          finder.shape(tokens)[0] == finder.batch
        else { return only }
        return tokens
      }
      guard
        let last = frontier.max(by: { (finder.node(defining: $0) ?? -1) < (finder.node(defining: $1) ?? -1) }
        ),
        let place = finder.node(defining: last)
      else { return nil }
      frontier.remove(last)
      for case let operand? in finder.nodeAt(place).operands
      where !finder.isConstant(operand) && finder.dependsOnInput(operand) && !finder.isShape(operand) {
        frontier.insert(operand)
      }
      if frontier.isEmpty { return nil }
    }
    return nil
  }

  /// Whether a value is a linear map of the tokens, or a bias on one, its elements moved or not: queries, keys and values
  /// packed into one value.
  private static func isProjection(_ finder: LayerFinder, _ id: ValueID) -> Bool {
    guard let place = finder.node(defining: finder.source(of: id)) else { return false }
    let node = finder.nodeAt(place)
    return node.operation is VitLinear || node.isAny(Onnx.matMul)
      || (node.isAny(Onnx.add)
        && node.operands.contains { $0.map { finder.isConstant($0) && finder.shape($0).count == 1 } ?? false })
  }
}

/// The way from attended values down to the linear map that all of it goes through.
private struct Descent {
  /// The linear map's result, as tokens.
  private(set) var output: ValueID?
  /// What the values are multiplied with on the way.
  private(set) var sides: [ValueID] = []
  /// What ends the way where there is no linear map.
  private(set) var end = "nothing reads what it gives"

  private let finder: LayerFinder
  /// What the layer's projections give.
  private let projections: Set<ValueID>

  init(_ finder: LayerFinder, below core: ValueID, projections: Set<ValueID>) {
    self.finder = finder
    self.projections = projections
    var inside: Set<ValueID> = [core]
    // What reads a value inside and was not passed yet: where one node is left, all goes through it.
    var pending = Set(finder.readers(of: core))
    /// Where branches with linear maps come together again.
    var joined: ValueID?
    var isMapped = false
    for _ in 0..<48 {
      guard let place = pending.min() else { break }
      pending.remove(place)
      let node = finder.nodeAt(place)
      guard let result = node.results.first else { break }
      let isMap = node.operation is VitLinear
      if pending.isEmpty, isMap, let data = node.operands[0], inside.contains(data) {
        output = tokens(result)
        if output == nil { end = "the linear map behind it gives no tokens" }
        return
      }
      let isBranch = isMap || node.operation is VitMLP && !pending.isEmpty
      guard isBranch || Descent.passes(node), let more = sides(of: node, inside) else {
        end = "'\(node.name)' does"
        break
      }
      sides += more
      isMapped = isMapped || isBranch
      inside.formUnion(node.results)
      for id in node.results { pending.formUnion(finder.readers(of: id)) }
      if isMapped, joined == nil, pending == Set(finder.readers(of: result)) { joined = tokens(result) }
    }
    output = joined
  }

  /// Whether tokens go on below a node: it moves them, computes each element by itself, or normalises each.
  private static func passes(_ node: Node) -> Bool {
    node.operation is any MovementOperation || node.operation is any PointwiseOperation
      || node.operation.memory == .alias(operand: 0)
      || node.isAny(
        Onnx.layerNormalization, VitLayerNorm.self, Onnx.batchNormalization, VitScale.self)
  }

  /// What a node reads from outside; `nil` where that makes its result more than attention: a residual.
  private func sides(of node: Node, _ inside: Set<ValueID>) -> [ValueID]? {
    var result: [ValueID] = []
    for (place, operand) in node.operands.enumerated() {
      guard let operand, !finder.isConstant(operand), !inside.contains(operand), !finder.isShape(operand),
        !finder.isShape(node, place), finder.dependsOnInput(operand)
      else { continue }
      let isFactor = (node.operation as? any PointwiseOperation)?.use(of: place) == .factor
      guard isFactor || comesFromProjections(operand) else { return nil }
      result.append(operand)
    }
    return result
  }

  /// Whether a value depends on the input through the layer's queries, keys and values alone.
  private func comesFromProjections(_ id: ValueID) -> Bool {
    var seen: Set<ValueID> = []
    var stack = [id]
    while let next = stack.popLast() {
      if projections.contains(next) || finder.isConstant(next) || !seen.insert(next).inserted { continue }
      guard let place = finder.node(defining: next), seen.count < 200 else { return false }
      let node = finder.nodeAt(place)
      for (index, operand) in node.operands.enumerated() where !finder.isShape(node, index) {
        if let operand { stack.append(operand) }
      }
    }
    return true
  }

  /// A linear map's result as `[batch, tokens, width]`: tokens flattened before the map come back as tokens behind it.
  private func tokens(_ id: ValueID) -> ValueID? {
    let next = finder.readers(of: id)
    if finder.shape(id).count == 3 {
      guard finder.shape(id)[0] != finder.batch, next.count == 1,
        let turned = finder.nodeAt(next[0]).results.first, finder.turned(turned) == id,
        finder.shape(turned)[0] == finder.batch
      else { return id }
      return turned
    }
    guard next.count == 1, finder.nodeAt(next[0]).operation.memory == .alias(operand: 0),
      let tokens = finder.nodeAt(next[0]).results.first, finder.shape(tokens).count == 3
    else { return nil }
    return tokens
  }
}
