internal import VitIR
internal import VitOps

/// A softmax spelled as exponentials over their sum becomes the operator; one over the rows of scores, keys standing
/// there, is taken over their columns.
enum RaiseSoftmax: Pattern {
  static let name = "softmax"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    for node in rewriter.nodes {
      guard let result = node.results.first, rewriter.type(result).element.isFloat else { continue }
      switch node.name {
      case Onnx.div.name, Onnx.mul.name:
        guard let (logits, axis) = quotient(node, rewriter) else { continue }
        rewriter.tryReplace(result, at: node) { builder throws(VitError) in
          try builder.add(Onnx.softmax, [logits], [("axis", .int(axis))])
        }
      case Onnx.softmax.name:
        guard let scores = node.operands[0], let rank = turnedRank(node, scores, rewriter) else { continue }
        rewriter.tryReplace(result, at: node) { builder throws(VitError) in
          let turned = try builder.turned(scores, rank: rank)
          let weights = try builder.add(Onnx.softmax, [turned], [("axis", .int(-1))])
          return try builder.turned(weights, rank: rank)
        }
      default: continue
      }
    }
  }

  /// What `e/Σe` or `e·(1/Σe)` is the softmax of, `e` being exponentials, and along which axis.
  private static func quotient(_ node: Node, _ rewriter: Rewriter) -> (logits: ValueID, axis: Int)? {
    guard node.operands.count == 2, let a = node.operands[0], let b = node.operands[1] else { return nil }
    var pairs = [(a, b)]
    if node.isAny(Onnx.mul) {
      pairs = [(a, b), (b, a)].compactMap { weight, inverse in
        let reciprocal = rewriter.node(Onnx.reciprocal, defining: inverse)
        return reciprocal?.operands[0].map { (weight, $0) }
      }
    }
    for (weights, total) in pairs {
      guard let exponential = rewriter.node(Onnx.exp, defining: weights),
        let logits = exponential.operands[0],
        let axis = axis(of: Onnx.reduceSum, total, over: weights, rewriter)
      else { continue }
      // The greatest logit is subtracted so that no exponential overflows, which the operator does itself.
      if let difference = rewriter.node(Onnx.sub, defining: logits), let raw = difference.operands[0],
        let greatest = difference.operands[1],
        self.axis(of: Onnx.reduceMax, greatest, over: raw, rewriter) == axis
      {
        return (raw, axis)
      }
      return (logits, axis)
    }
    return nil
  }

  /// The axis of a reduction of `operand` along one axis, which stays with the extent one.
  private static func axis(
    of reduction: any Operation.Type, _ id: ValueID, over operand: ValueID, _ rewriter: Rewriter
  ) -> Int? {
    guard let node = rewriter.node(reduction, defining: id), node.operands[0] == operand,
      rewriter.type(id).rank == rewriter.type(operand).rank
    else { return nil }
    var axes: [Int]?
    if case .ints(let values)? = node.operation.attributes["axes"] { axes = values }
    if node.operands.count > 1, let tensor = rewriter.constant(node.operands[1]) {
      axes = (try? tensor.integers()).flatMap { $0 }
    }
    guard let axes, axes.count == 1 else { return nil }
    return axes[0] < 0 ? axes[0] + rewriter.type(operand).rank : axes[0]
  }

  /// The rank of scores whose softmax runs along the last axis but one.
  private static func turnedRank(_ node: Node, _ scores: ValueID, _ rewriter: Rewriter) -> Int? {
    let rank = rewriter.type(scores).rank
    guard rank >= 3, case .int(let axis)? = node.operation.attributes["axis"],
      axis == -2 || axis == rank - 2, RaiseCore.leadsToProduct(scores, rewriter)
    else { return nil }
    return rank
  }
}

/// Values times transposed probabilities, as models write that keep channels before tokens, become probabilities times
/// transposed values, transposed.
enum RaiseTurnedProduct: Pattern {
  static let name = "turned-product"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    for node in rewriter.nodes where node.isAny(Onnx.matMul) {
      guard let values = node.operands[0], let weights = node.operands[1], let result = node.results.first,
        let turned = rewriter.node(Onnx.transpose, defining: weights), turned.turnsLastAxes,
        let probabilities = turned.operands[0], isSoftmax(probabilities, rewriter),
        rewriter.constant(values) == nil, rewriter.type(values).rank == rewriter.type(weights).rank
      else { continue }
      let rank = rewriter.type(weights).rank
      rewriter.tryReplace(result, at: node) { builder throws(VitError) in
        let product = try builder.add(Onnx.matMul, [probabilities, try builder.turned(values, rank: rank)])
        return try builder.turned(product, rank: rank)
      }
    }
  }

  private static func isSoftmax(_ id: ValueID, _ rewriter: Rewriter) -> Bool {
    var value = id
    for _ in 0..<4 {
      guard let (_, node) = rewriter.producer(of: value) else { return false }
      if node.isAny(Onnx.softmax) { return true }
      guard node.isAny(Onnx.identity, Onnx.dropout, Onnx.cast), let operand = node.operands[0]
      else { return false }
      value = operand
    }
    return false
  }
}

extension Node {
  /// Whether this transposes the last two axes and nothing else.
  var turnsLastAxes: Bool {
    guard isAny(Onnx.transpose), case .ints(let order)? = operation.attributes["perm"], order.count >= 2
    else { return false }
    return order == GraphBuilder.turn(rank: order.count)
  }
}

extension GraphBuilder {
  /// The order of axes in which the last two have changed places.
  static func turn(rank: Int) -> [Int] {
    var order = Array(0..<rank)
    order.swapAt(rank - 1, rank - 2)
    return order
  }

  /// A value with its last two axes in each other's place.
  mutating func turned(_ x: ValueID, rank: Int) throws(VitError) -> ValueID {
    try add(Onnx.transpose, [x], [("perm", .ints(GraphBuilder.turn(rank: rank)))])
  }
}
