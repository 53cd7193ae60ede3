internal import VitIR
internal import VitRuntime

/// A linear map `y = x·weightᵀ + bias` inside an operation: which operands are its weight and bias.
///
/// The one place where products with a weight, their gradients and their packed form are written down.
struct LinearMap {
  /// The operand that is the weight, `[out, in]`.
  let weight: Int
  /// The operand that is the bias, `[out]`, which may be absent.
  let bias: Int

  /// Throws unless weight and bias fit rows of `x`; the type of the result.
  func resultType(
    _ x: TensorType, _ operands: Operands, weightRole: String = "weight", biasRole: String = "bias"
  ) throws(VitError) -> TensorType {
    let type = try operands.float(weight, weightRole, rank: 2...2)
    guard type.element == x.element, type.shape[1] == x.shape.last else {
      throw VitError(
        "'\(weightRole)' is \(type), expected \(x.element.rawValue)[out, \(x.shape.last ?? 1)]",
        code: "operand-shape")
    }
    try operands.expectOptional(bias, biasRole, type.with([type.shape[0]]))
    return x.with(x.shape.dropLast() + [type.shape[0]])
  }

  /// The type of the result on operand 0, once it has been checked.
  func result(_ operands: Operands, of x: TensorType? = nil) -> TensorType {
    guard let x = x ?? operands[0], let type = operands[weight] else { preconditionFailure("checked before") }
    return x.with(x.shape.dropLast() + [type.shape[0]])
  }

  /// The packed weight, where it is constant.
  func packings(_ operands: Operands, _ stored: [ElementType?]) -> [Packing] {
    guard stored[weight] != nil, let type = operands[weight] else { return [] }
    return [
      .weights([weight], type.element, rows: type.extents[0], columns: type.extents[1], stored: stored)
    ]
  }

  /// `y ← activation(x·weightᵀ + bias)`, and `epilogue` on top.
  func forward(
    _ context: KernelContext, _ x: View, activation: UnaryKind = .identity, epilogue: Epilogue = Epilogue(),
    into y: View, prepared: View? = nil
  ) {
    let (weight, bias) = (context.input(weight), context.optionalInput(bias))
    if let prepared {
      Kernel.linear(
        x, rows: weight.shape[0], columns: weight.shape[1], packed: prepared, bias: bias,
        activation: activation, epilogue: epilogue,
        into: y, pool: context.pool)
    } else {
      Kernel.linear(
        x, weight: weight, bias: bias, activation: activation, epilogue: epilogue, into: y, pool: context.pool
      )
    }
  }

  /// Adds to the gradients of `x`, weight and bias those that follow from `dy`; skips what is absent.
  func gradients(_ context: KernelContext, x: View, dy: View, adding dx: View?, _ operandGradients: [View?]) {
    let n = context.input(weight).shape[0]
    gradients(context, x: x, dy: dy, row: n, rows: n > 0 ? dy.count / n : 0, adding: dx, operandGradients)
  }

  /// The same, but the gradient of `x` is written.
  func gradients(_ context: KernelContext, x: View, dy: View, writing dx: View, _ operandGradients: [View?]) {
    let n = context.input(weight).shape[0]
    gradients(
      context, x: x, dy: dy, row: n, rows: n > 0 ? dy.count / n : 0, adding: dx, keeping: 0, operandGradients)
  }

  /// The same for rows of `dy` that are `row` elements apart.
  func gradients(
    _ context: KernelContext, x: View, dy: View, row: Int, rows: Int, adding dx: View?, keeping: Double = 1,
    _ operandGradients: [View?]
  ) {
    let w = context.input(weight)
    let (n, k) = (w.shape[0], w.shape[1])
    if let dx {
      Kernel.gemm(m: rows, n: k, k: n, a: dy, lda: row, b: w, beta: keeping, c: dx, pool: context.pool)
    }
    if let dw = operandGradients[weight] {
      Kernel.gemm(
        transA: true, m: n, n: k, k: rows, a: dy, lda: row, b: x, beta: 1, c: dw, pool: context.pool)
    }
    if bias < operandGradients.count, let db = operandGradients[bias] {
      Kernel.addColumnSums(of: dy, row: row, rows: rows, to: db, pool: context.pool)
    }
  }

  /// Operations of the map that gives `result`.
  static func flops(_ result: TensorType, _ operands: Operands, weight: Int = 1) -> Int {
    2 * result.count * (operands[weight]?.extents[1] ?? 0)
  }

  /// The map as ONNX operators.
  func lower(_ x: ValueID, _ operands: [ValueID?], into builder: inout GraphBuilder) throws(VitError)
    -> ValueID
  {
    let transposed = try builder.add("onnx.Transpose", [operands[weight]], [("perm", .ints([1, 0]))])
    let product = try builder.add("onnx.MatMul", [x, transposed])
    guard bias < operands.count, let bias = operands[bias] else { return product }
    return try builder.add("onnx.Add", [product, bias])
  }

  /// All axes of operand 0 but the last run side by side, and so do the channels of the result.
  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let last = results.first.map({ $0.rank - 1 }) else { return .mixed }
    var channels = [Int?](repeating: nil, count: operands.count)
    channels[weight] = 0
    if operands.has(bias) { channels[bias] = 0 }
    return AxisMap.leading(last, results).adding(AxisMap.Letter(.parallel, channels, [last]))
  }
}
