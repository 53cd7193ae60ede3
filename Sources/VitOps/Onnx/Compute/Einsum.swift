internal import VitIR
internal import VitRuntime

/// `onnx.Einsum`: products of elements of any number of operands, summed over the labels that the result
/// lacks.
struct OnnxEinsum: MatrixProductOperation {
  static let name = "onnx.Einsum"
  static let summary = "Sums of products of the operands' elements, by an equation of axis labels"
  static let example = #"(f32[1, 2, 3]) {equation = "btc->bct"}"#
  let equation: EinsumEquation

  init(attributes: inout AttributeReader) throws(VitError) {
    equation = try EinsumEquation(try attributes.string("equation"))
  }
  var attributes: Attributes { Attributes([("equation", .string(equation.text))]) }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...64)
    try operands.expectResults()
    var types: [TensorType] = []
    for index in 0..<operands.count {
      types.append(try operands.typed(index, "Inputs", [.f32, .f64, .i64, .i32]))
      try operands.expectSame(index, "Inputs", as: types[0].element)
    }
    let labels = try equation.labels(ranks: types.map(\.rank))
    var extents: [Int: Dimension] = [:]
    for (index, axes) in labels.operands.enumerated() {
      var own: [Int: Dimension] = [:]
      for (label, extent) in zip(axes, types[index].shape) {
        if let other = own.updateValue(extent, forKey: label), other != extent {
          throw VitError(
            "input \(index) has the extents \(other) and \(extent) along one label of '\(equation.text)'")
        }
        guard let other = extents[label], other != 1 else {
          extents[label] = extent
          continue
        }
        guard extent == other || extent == 1 else {
          throw VitError(
            "input \(index) has the extent \(extent) where another input has \(other) in '\(equation.text)'",
            code: "shape-mismatch")
        }
      }
    }
    guard labels.result.count <= 16 else {
      throw VitError("the result has \(labels.result.count) axes, expected at most 16")
    }
    return [TensorType(types[0].element, labels.result.map { extents[$0] ?? 1 })]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let labels = try? equation.labels(ranks: operands.types.map { $0?.rank ?? 0 }) else {
      return .mixed
    }
    var letters: [AxisMap.Letter] = []
    for (place, label) in labels.result.enumerated() {
      var axes: [Int?] = []
      var isDiagonal = false
      for (index, own) in labels.operands.enumerated() {
        let axis = own.firstIndex(of: label)
        isDiagonal = isDiagonal || axis != own.lastIndex(of: label)
        let extent = axis.flatMap { operands[index]?.shape[$0] }
        // One entry for all of the others'.
        axes.append(extent == 1 && results[0].shape[place] != 1 ? nil : axis)
      }
      if !isDiagonal { letters.append(AxisMap.Letter(.parallel, axes, [place])) }
    }
    return AxisMap(letters, broadcasts: true)
  }

  func role(of index: Int) -> OperandRole { .weight }

  /// The factors of a forward pass and the axes of operands and result.
  private func factors(_ shapes: [[Int]]) -> (factors: [EinsumFactor], axes: [[Int]], result: [Int]) {
    guard let labels = try? equation.labels(ranks: shapes.map(\.count)) else {
      preconditionFailure("the type rule has read the equation")
    }
    let factors = shapes.indices.map { EinsumFactor(labels.operands[$0], shapes[$0], .operand($0)) }
    return (factors, labels.operands, labels.result)
  }

  private func forwardPlan(_ shapes: [[Int]], _ resultShape: [Int]) -> EinsumPlan {
    let (factors, _, result) = factors(shapes)
    return EinsumPlan(factors, into: EinsumFactor(result, resultShape, .result))
  }

  /// The gradient of operand `index`: an Einstein sum of the result's gradient and the other operands over
  /// the labels that are to be had from them, and how its elements are added to the operand's.
  private func gradientPlan(_ index: Int, _ shapes: [[Int]], _ resultShape: [Int]) -> (
    plan: EinsumPlan, spread: Move
  ) {
    let (factors, axes, result) = factors(shapes)
    let flow = EinsumFactor(result, resultShape, .operand(shapes.count))
    let others = [flow] + factors.enumerated().filter { $0.offset != index }.map(\.element)
    let own = EinsumFactor(axes[index], shapes[index], .operand(index))
    let reachable = own.labels.filter { label in others.contains { $0.labels.contains(label) } }
    let target = EinsumFactor(dense: reachable, reachable.map(own.extent), .result)
    let spread = Move(
      shape: own.extents, source: Move.Region(strides: target.steps(own.labels)),
      target: Move.Region(strides: own.steps))
    return (EinsumPlan(others, into: target), spread)
  }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    let shapes = operands.types.compactMap { $0?.extents }
    guard let element = operands[0]?.element, let result = try? resultTypes(operands)[0].extents else {
      return []
    }
    var room = forwardPlan(shapes, result).scratch
    var largest = 0
    if mode.training {
      for index in shapes.indices {
        room = max(room, gradientPlan(index, shapes, result).plan.scratch)
        largest = max(largest, shapes[index].reduce(1, *))
      }
    }
    return [TensorType(element, fixed: [room]), TensorType(element, fixed: [largest])]
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    let shapes = operands.types.compactMap { $0?.extents }
    let size = results[0].element.size
    let read = shapes.reduce(0) { $0 + $1.reduce(1, *) }
    return Cost(
      flops: forwardPlan(shapes, results[0].extents).flops, bytes: (read + results[0].count) * size)
  }

  func forward(_ context: KernelContext) {
    let shapes = context.inputs.compactMap { $0?.shape }
    if shapes.contains(where: { $0.contains(0) }) { return context.output.zero() }
    forwardPlan(shapes, context.output.shape)
      .run(context.inputs, scratch: context.scratch[0], into: context.output, pool: context.pool)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let shapes = context.inputs.compactMap { $0?.shape }
    if shapes.contains(where: { $0.contains(0) }) { return }
    for index in shapes.indices {
      guard let gradient = operandGradients[index] else { continue }
      let (plan, spread) = gradientPlan(index, shapes, dy.shape)
      plan.run(
        context.inputs + [dy], scratch: context.scratch[0], into: context.scratch[1], pool: context.pool)
      spread.add(context.scratch[1], to: gradient, context.pool)
    }
  }
}
