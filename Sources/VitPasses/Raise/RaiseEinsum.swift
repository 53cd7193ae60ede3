internal import VitIR
internal import VitOps

/// An `Einsum` of two operands that is one matrix product becomes transposes and a `MatMul`, which the other patterns know.
///
/// One label only on the left, one only on the right, one summed over; any number on both sides and in the result.
enum RaiseEinsum: Pattern {
  static let name = "einsum"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    for node in rewriter.nodes where node.isAny(Onnx.einsum) && node.operands.count == 2 {
      guard case .string(let equation)? = node.operation.attributes["equation"], let a = node.operands[0],
        let b = node.operands[1], let result = node.results.first
      else { continue }
      if let map = LinearPlan(equation, a, b, rewriter) {
        rewriter.tryReplace(result, at: node) { builder throws(VitError) in try map.emit(&builder) }
        continue
      }
      guard let plan = Plan(equation) else { continue }
      rewriter.tryReplace(result, at: node) { builder throws(VitError) in
        func moved(_ id: ValueID, _ order: [Int]) throws(VitError) -> ValueID {
          if order == Array(order.indices) { return id }
          return try builder.add(Onnx.transpose, [id], [("perm", .ints(order))])
        }
        let product = try builder.add(Onnx.matMul, [try moved(a, plan.left), try moved(b, plan.right)])
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
      guard let (operands, output) = Labels.parse(equation), operands.count == 2 else { return nil }
      let (x, y) = (operands[0], operands[1])
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

  /// A product with a constant whose labels are summed over or its own: a matrix product of flattened axes.
  private struct LinearPlan {
    private let x: ValueID
    private let weight: Tensor
    private let name: String
    /// The orders of the operands' axes, kept ones before summed ones, and summed ones before own ones.
    private let xOrder: [Int]
    private let weightOrder: [Int]
    private let resultOrder: [Int]
    private let kept: Int
    private let summed: Int

    init?(_ equation: String, _ a: ValueID, _ b: ValueID, _ rewriter: Rewriter) {
      guard let (operands, output) = Labels.parse(equation), operands.count == 2 else { return nil }
      guard (rewriter.constant(a) == nil) != (rewriter.constant(b) == nil) else { return nil }
      let isLeft = rewriter.constant(a) != nil
      let (id, constant) = isLeft ? (b, a) : (a, b)
      guard let tensor = rewriter.constant(constant), tensor.element == .f32 else { return nil }
      let (own, other) = isLeft ? (operands[1], operands[0]) : (operands[0], operands[1])
      let keptLabels = own.filter { output.contains($0) }
      let summedLabels = own.filter { !output.contains($0) }
      let newLabels = other.filter { output.contains($0) }
      guard !keptLabels.isEmpty, !summedLabels.isEmpty, !newLabels.isEmpty,
        Set(summedLabels) == Set(other.filter { !output.contains($0) }),
        !keptLabels.contains(where: { other.contains($0) }),
        output.count == keptLabels.count + newLabels.count
      else { return nil }
      x = id
      weight = tensor
      name = rewriter.graph[constant].name
      xOrder = (keptLabels + summedLabels).compactMap { own.firstIndex(of: $0) }
      weightOrder = (summedLabels + newLabels).compactMap { other.firstIndex(of: $0) }
      resultOrder = output.compactMap { (keptLabels + newLabels).firstIndex(of: $0) }
      kept = keptLabels.count
      summed = summedLabels.count
    }

    func emit(_ builder: inout GraphBuilder) throws(VitError) -> ValueID {
      func moved(_ id: ValueID, _ order: [Int]) throws(VitError) -> ValueID {
        if order == Array(order.indices) { return id }
        return try builder.add(Onnx.transpose, [id], [("perm", .ints(order))])
      }
      let extents = weightOrder.map { weight.shape[$0] }
      let (rows, columns) = (extents[..<summed].reduce(1, *), extents[summed...].reduce(1, *))
      let zeros = [Int](repeating: 0, count: kept)
      var value = try moved(x, xOrder)
      if summed > 1 { value = try builder.add(Onnx.reshape, [value, builder.integers(zeros + [rows])]) }
      let numbers = try rethrowing { try weight.permutedDoubles(weightOrder) }
      value = try builder.add(
        Onnx.matMul, [value, builder.constant(numbers, shape: [rows, columns], name: name)])
      if extents.count - summed > 1 {
        value = try builder.add(Onnx.reshape, [value, builder.integers(zeros + extents[summed...])])
      }
      return try moved(value, resultOrder)
    }
  }
}

/// An `Einsum` of many operands becomes one of two after another, from the left.
enum SplitEinsum: Pattern {
  static let name = "split-einsum"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    for node in rewriter.nodes where node.isAny(Onnx.einsum) && node.operands.count > 2 {
      guard case .string(let equation)? = node.operation.attributes["equation"],
        let (labels, output) = Labels.parse(equation), let result = node.results.first
      else { continue }
      let operands = node.operands.compactMap { $0 }
      guard operands.count == labels.count else { continue }
      rewriter.tryReplace(result, at: node) { builder throws(VitError) in
        var (value, own) = (operands[0], labels[0])
        for index in 1..<operands.count {
          let isLast = index == operands.count - 1
          let later = Set(output + labels[(index + 1)...].joined())
          let joined = own + labels[index].filter { !own.contains($0) }
          let next = isLast ? output : joined.filter { later.contains($0) }
          let step = "\(String(own)),\(String(labels[index]))->\(String(next))"
          value = try builder.add(Onnx.einsum, [value, operands[index]], [("equation", .string(step))])
          own = next
        }
        return value
      }
    }
  }
}

/// The labels of an einsum's operands and of its result.
private enum Labels {
  /// Those of an equation with an explicit result and no label twice in a term.
  static func parse(_ equation: String) -> (operands: [[Character]], output: [Character])? {
    let sides = equation.filter { $0 != " " }.split(separator: ">", omittingEmptySubsequences: false)
    guard sides.count == 2, sides[0].hasSuffix("-") else { return nil }
    let operands = sides[0].dropLast().split(separator: ",", omittingEmptySubsequences: false).map(Array.init)
    let output = Array(sides[1])
    for labels in operands + [output] {
      guard labels.allSatisfy(\.isLetter), Set(labels).count == labels.count else { return nil }
    }
    return (operands, output)
  }
}

extension Tensor {
  /// The numbers in the order that they have when the axes are moved.
  fileprivate func permutedDoubles(_ order: [Int]) throws -> [Double] {
    let numbers = try doubles()
    var strides = [Int](repeating: 1, count: shape.count)
    for axis in shape.indices.dropLast().reversed() { strides[axis] = strides[axis + 1] * shape[axis + 1] }
    var places = [0]
    for axis in order {
      places = places.flatMap { place in (0..<shape[axis]).map { place + $0 * strides[axis] } }
    }
    return places.map { numbers[$0] }
  }
}
