internal import VitIR
internal import VitOps
internal import Glibc

/// The chains by which exporters write GELU, its relatives and SiLU become one operation.
enum RaiseActivation: Pattern {
  static let name = "activation"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    for (index, node) in rewriter.nodes.enumerated() where node.isAny(Onnx.mul) {
      guard let result = node.results.first, rewriter.type(result).element == .f32 else { continue }
      if let match = product(index, node, rewriter) {
        rewriter.tryReplace(result, at: node) { builder throws(VitError) in
          try builder.add(match.operation, [match.x], match.attributes)
        }
      }
    }
  }

  private struct Match {
    let operation: any Operation.Type
    let x: ValueID
    var attributes: [(String, Attribute)] = []
  }

  /// The factors of a product of any nesting, scalars multiplied together.
  private static func factors(_ id: ValueID, _ rewriter: Rewriter, depth: Int = 0) -> (
    scalar: Double, values: [ValueID]
  ) {
    if let value = rewriter.scalar(id) { return (value, []) }
    if depth < 4, let (_, node) = rewriter.producer(of: id), depth == 0 || rewriter.isUsedOnce(id),
      node.operands.count == 2, let a = node.operands[0], let b = node.operands[1]
    {
      if node.isAny(Onnx.mul) {
        let (left, right) = (factors(a, rewriter, depth: depth + 1), factors(b, rewriter, depth: depth + 1))
        return (left.scalar * right.scalar, left.values + right.values)
      }
      if node.isAny(Onnx.div), let divisor = rewriter.scalar(b), divisor != 0 {
        let left = factors(a, rewriter, depth: depth + 1)
        return (left.scalar / divisor, left.values)
      }
    }
    return (1, [id])
  }

  private static func close(_ a: Double, _ b: Double) -> Bool { abs(a - b) <= 1e-4 * abs(b) }

  private static func product(_ index: Int, _ node: Node, _ rewriter: Rewriter) -> Match? {
    guard let result = node.results.first else { return nil }
    let (scalar, values) = factors(result, rewriter)
    guard values.count == 2 else { return nil }
    for (x, gate) in [(values[0], values[1]), (values[1], values[0])] {
      if close(scalar, 0.5), let inner = onePlus(gate, rewriter) {
        if let erf = rewriter.node(Onnx.erf, defining: inner), let argument = erf.operands[0] {
          let (factor, of) = factors(argument, rewriter)
          if of == [x], close(factor, 0.5.squareRoot()) {
            return Match(operation: Onnx.gelu, x: x, attributes: [("approximate", .string("none"))])
          }
        }
        if let tanh = rewriter.node(Onnx.tanh, defining: inner), let argument = tanh.operands[0],
          isTanhArgument(argument, x, rewriter)
        {
          return Match(operation: Onnx.gelu, x: x, attributes: [("approximate", .string("tanh"))])
        }
      }
      if close(scalar, 1), let sigmoid = rewriter.node(Onnx.sigmoid, defining: gate),
        let argument = sigmoid.operands[0]
      {
        let (factor, of) = factors(argument, rewriter)
        if of == [x] {
          return Match(operation: Microsoft.quickGelu, x: x, attributes: [("alpha", .float(factor))])
        }
      }
    }
    return nil
  }

  /// `v` of `v + 1`.
  private static func onePlus(_ id: ValueID, _ rewriter: Rewriter) -> ValueID? {
    guard let add = rewriter.node(Onnx.add, defining: id),
      let (value, one, _) = rewriter.operandAndScalar(add),
      one == 1
    else { return nil }
    return value
  }

  /// √(2/π)·(x + 0.044715·x³), in any nesting of products and powers.
  private static func isTanhArgument(_ id: ValueID, _ x: ValueID, _ rewriter: Rewriter) -> Bool {
    let (outer, values) = factors(id, rewriter)
    let root = (2 / Double.pi).squareRoot()
    guard close(outer, root) else { return false }
    if values.count == 1, let add = rewriter.node(Onnx.add, defining: values[0]),
      let a = add.operands[0], let b = add.operands[1]
    {
      for (linear, cubic) in [(a, b), (b, a)] where linear == x {
        let (factor, of) = factors(cubic, rewriter)
        return close(factor, 0.044715) && degree(of, x, rewriter) == 3
      }
    }
    // x·(1 + 0.044715·x²)
    guard values.count == 2, values.contains(x), let rest = values.first(where: { $0 != x }),
      let inner = onePlus(rest, rewriter)
    else { return false }
    let (factor, of) = factors(inner, rewriter)
    return close(factor, 0.044715) && degree(of, x, rewriter) == 2
  }

  private static func degree(_ values: [ValueID], _ x: ValueID, _ rewriter: Rewriter) -> Int? {
    var total = 0
    for value in values {
      if value == x {
        total += 1
      } else if let power = rewriter.node(Onnx.pow, defining: value), power.operands[0] == x,
        let exponent = rewriter.scalar(power.operands[1]), exponent == exponent.rounded()
      {
        total += Int(exponent)
      } else {
        return nil
      }
    }
    return total
  }
}
