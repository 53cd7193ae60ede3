internal import VitIR
internal import VitOps

/// Layer normalisation over the last axis, as one operator or as the chain that older exporters write,
/// becomes `vit.layer_norm`.
enum RaiseNorm: Pattern {
  static let name = "layer-norm"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    for node in rewriter.nodes {
      guard let result = node.results.first, rewriter.type(result).element == .f32 else { continue }
      if node.isAny(Onnx.layerNormalization) {
        operatorForm(node, result, &rewriter)
      } else if node.isAny(Onnx.add), let a = node.operands[0], let b = node.operands[1] {
        for (scaled, bias) in [(a, b), (b, a)]
        where rewriter.constant(bias) != nil && rewriter.isUsedOnce(scaled) {
          guard
            let multiply = rewriter.node(Onnx.mul, defining: scaled)
              ?? rewriter.node(VitScale.self, defining: scaled),
            let c = multiply.operands[0], let d = multiply.operands[1]
          else { continue }
          for (normal, gain) in [(c, d), (d, c)] where rewriter.constant(gain) != nil {
            if let (x, epsilon) = standardised(normal, rewriter) {
              emit(node, result, x, gain, bias, epsilon, &rewriter)
            }
          }
        }
      }
    }
  }

  private static func operatorForm(_ node: Node, _ result: ValueID, _ rewriter: inout Rewriter) {
    guard let x = node.operands[0], let gain = node.operands[1] else { return }
    for extra in node.results.dropFirst() where !rewriter.users(of: extra).isEmpty { return }
    let attributes = node.operation.attributes
    var axis = -1
    if case .int(let value)? = attributes["axis"] { axis = value }
    guard axis == -1 || axis == rewriter.type(x).rank - 1, rewriter.constant(gain) != nil else { return }
    var epsilon = 1e-5
    if case .float(let value)? = attributes["epsilon"] { epsilon = value }
    emit(node, result, x, gain, node.operands.count > 2 ? node.operands[2] : nil, epsilon, &rewriter)
  }

  private static func emit(
    _ node: Node, _ result: ValueID, _ x: ValueID, _ gain: ValueID, _ bias: ValueID?, _ epsilon: Double,
    _ rewriter: inout Rewriter
  ) {
    guard let width = rewriter.type(x).shape.last else { return }
    for vector in [gain, bias].compactMap({ $0 }).map(rewriter.type)
    where vector.elements != width || vector.shape.last != width { return }
    rewriter.tryReplace(result, at: node) { builder throws(VitError) in
      let (gain, bias) = (
        try builder.vector(gain), try bias.map { id throws(VitError) in try builder.vector(id) }
      )
      return try builder.add(VitLayerNorm.self, [x, gain, bias], [("epsilon", .float(epsilon))])
    }
  }

  /// `x` and ε of `(x − mean x) / √(mean (x − mean x)² + ε)`.
  private static func standardised(_ id: ValueID, _ rewriter: Rewriter) -> (x: ValueID, epsilon: Double)? {
    guard let divide = rewriter.node(Onnx.div, defining: id), let centred = divide.operands[0],
      let root = rewriter.node(Onnx.sqrt, defining: divide.operands[1]),
      let add = rewriter.node(Onnx.add, defining: root.operands[0]),
      let (variance, epsilon, _) = rewriter.operandAndScalar(add),
      let x = centring(centred, rewriter), let mean = lastAxisMean(variance, rewriter)
    else { return nil }
    if let power = rewriter.node(Onnx.pow, defining: mean), rewriter.scalar(power.operands[1]) == 2,
      let base = power.operands[0]
    {
      guard base == centred || centring(base, rewriter) == x else { return nil }
      return (x, epsilon)
    }
    if let square = rewriter.node(Onnx.mul, defining: mean), square.operands[0] == square.operands[1],
      square.operands[0] == centred
    {
      return (x, epsilon)
    }
    return nil
  }

  /// `x` of `x − mean x`.
  private static func centring(_ id: ValueID, _ rewriter: Rewriter) -> ValueID? {
    guard let subtract = rewriter.node(Onnx.sub, defining: id), let x = subtract.operands[0],
      lastAxisMean(subtract.operands[1], rewriter) == x
    else { return nil }
    return x
  }

  /// The operand of a mean over the last axis that keeps it.
  private static func lastAxisMean(_ id: ValueID?, _ rewriter: Rewriter) -> ValueID? {
    guard let mean = rewriter.node(Onnx.reduceMean, defining: id), let x = mean.operands[0],
      let result = mean.results.first, let operandShape = Optional(rewriter.type(x).shape)
    else { return nil }
    let shape = rewriter.type(result).shape
    guard shape.count == operandShape.count, shape.last == 1, shape.dropLast() == operandShape.dropLast()
    else {
      return nil
    }
    return x
  }
}
