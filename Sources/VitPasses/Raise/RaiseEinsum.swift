internal import VitIR

/// An `Einsum` of two operands that is one matrix product becomes transposes and a `MatMul`, which the other patterns know.
///
/// One label only on the left, one only on the right, one summed over; any number on both sides and in the result.
enum RaiseEinsum: Pattern {
  static let name = "einsum"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    for node in rewriter.nodes where node.name == "onnx.Einsum" && node.operands.count == 2 {
      guard case .string(let equation)? = node.operation.attributes["equation"], let a = node.operands[0],
        let b = node.operands[1], let result = node.results.first, let plan = Plan(equation)
      else { continue }
      rewriter.tryReplace(result, at: node) { builder throws(VitError) in
        func moved(_ id: ValueID, _ order: [Int]) throws(VitError) -> ValueID {
          if order == Array(order.indices) { return id }
          return try builder.add("onnx.Transpose", [id], [("perm", .ints(order))])
        }
        let product = try builder.add("onnx.MatMul", [try moved(a, plan.left), try moved(b, plan.right)])
        return try moved(product, plan.result)
      }
    }
  }

  /// The transposes around the product.
  private struct Plan {
    let left: [Int]
    let right: [Int]
    let result: [Int]

    init?(_ equation: String) {
      let sides = equation.filter { $0 != " " }.split(separator: ">", omittingEmptySubsequences: false)
      guard sides.count == 2, sides[0].hasSuffix("-") else { return nil }
      let operands = sides[0].dropLast().split(separator: ",", omittingEmptySubsequences: false).map(
        Array.init)
      let output = Array(sides[1])
      guard operands.count == 2 else { return nil }
      let (x, y) = (operands[0], operands[1])
      for labels in [x, y, output] {
        guard labels.allSatisfy(\.isLetter), Set(labels).count == labels.count else { return nil }
      }
      let shared = output.filter { x.contains($0) && y.contains($0) }
      let summed = x.filter { y.contains($0) && !output.contains($0) }
      let onlyLeft = x.filter { !y.contains($0) }
      let onlyRight = y.filter { !x.contains($0) }
      guard summed.count == 1, onlyLeft.count == 1, onlyRight.count == 1, output.count == shared.count + 2,
        output.contains(onlyLeft[0]), output.contains(onlyRight[0])
      else { return nil }
      let product = shared + onlyLeft + onlyRight
      left = (shared + onlyLeft + summed).compactMap { x.firstIndex(of: $0) }
      right = (shared + summed + onlyRight).compactMap { y.firstIndex(of: $0) }
      result = output.compactMap { product.firstIndex(of: $0) }
    }
  }
}
