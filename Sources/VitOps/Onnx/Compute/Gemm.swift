internal import VitIR
internal import VitRuntime

/// `alpha·op(A)·op(B) + beta·C` of two matrices, `C` broadcast to the result or absent; then an activation.
struct Gemm: Sendable {
  let transA: Bool
  let transB: Bool
  let alpha: Double
  let beta: Double

  init(attributes: inout AttributeReader) throws(VitError) {
    transA = try attributes.bool("transA", default: false)
    transB = try attributes.bool("transB", default: false)
    alpha = try attributes.float("alpha", default: 1)
    beta = try attributes.float("beta", default: 1)
  }

  var attributes: Attributes {
    Attributes([
      ("alpha", .float(alpha)), ("beta", .float(beta)), ("transA", .bool(transA)), ("transB", .bool(transB)),
    ])
  }

  var flags: MatrixFlags { MatrixFlags(transA: transA, transB: transB) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...3)
    try operands.expectResults()
    let a = try operands.typed(0, "A", ElementType.reals)
    let b = try operands.typed(1, "B", ElementType.reals)
    try operands.expectSame(1, "B", as: a.element)
    try operands.expectSame(2, "C", as: a.element)
    guard a.rank == 2, b.rank == 2 else {
      throw VitError("the operands have the shapes \(a.shape) and \(b.shape), expected two axes each")
    }
    let shape = try MatrixProduct.shape(a.shape, b.shape, flags)
    if let c = operands[2], try broadcast(c.shape, shape) != shape {
      throw VitError("input 2 ('C') has the shape \(c.shape), which does not broadcast to \(shape)")
    }
    return [TensorType(a.element, shape)]
  }

  /// Rows and columns run side by side.
  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    MatrixAxes(flags: flags, summand: operands.has(2) ? 2 : nil).map(operands, results)
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let a = operands[0], let b = operands[1] else { return Cost() }
    let read = operands.types.reduce(0) { $0 + ($1?.count ?? 0) }
    return Cost(
      flops: MatrixProduct(a.extents, b.extents, flags).flops + (operands.has(2) ? results[0].count : 0),
      bytes: (read + results[0].count) * a.element.size)
  }

  func packings(_ operands: Operands, _ stored: [ElementType?]) -> [Packing] {
    packedWeight(operands, stored, flags)
  }

  func forward(_ context: KernelContext, into y: View, activation: UnaryKind = .identity) {
    let (a, b) = (context.input(0), context.input(1))
    let product = MatrixProduct(a.shape, b.shape, flags)
    var bias: View?
    var factor = 0.0
    if let c = context.optionalInput(2), beta != 0 {
      if c.count == product.n, c.shape.last == product.n, beta == 1 {
        bias = c
      } else {
        factor = beta
        let plan = Broadcasting(c.shape, c.shape, to: y.shape)
        if y.element == .f64 {
          plan.map(c, c, y, context.pool, as: (Double.self, Double.self, Double.self)) { c, _ in c }
        } else {
          plan.map(c, c, y, context.pool, as: (Float.self, Float.self, Float.self)) { c, _ in c }
        }
      }
    }
    product.forward.run(
      alpha: alpha, a: a, b: b, packed: context.prepared.first, beta: factor, c: y, bias: bias,
      activation: activation, pool: context.pool)
  }

  func accumulate(_ context: KernelContext, _ dy: View, _ gradients: [View?]) {
    let (a, b) = (context.input(0), context.input(1))
    MatrixProduct(a.shape, b.shape, flags).accumulate(
      alpha: alpha, a: a, b: b, dy: dy, into: gradients[0], gradients[1], pool: context.pool)
    guard gradients.count > 2, let dc = gradients[2] else { return }
    let plan = Broadcasting(dc.shape, dy.shape, to: dy.shape)
    if dy.element == .f64 {
      let beta = beta
      plan.accumulate(dc, dy, dy, into: dc, context.pool, as: (Double.self, Double.self)) { _, _ in beta }
    } else {
      let beta = Float(beta)
      plan.accumulate(dc, dy, dy, into: dc, context.pool, as: (Float.self, Float.self)) { _, _ in beta }
    }
  }
}

/// `onnx.Gemm`: `alpha·op(A)·op(B) + beta·C` of two matrices.
struct OnnxGemm: MatrixProductOperation {
  static let (name, summary) = ("onnx.Gemm", "alpha·A·B + beta·C of matrices that may be transposed")
  static let example = "(f32[2, 3], f32[4, 3], f32[4]) {transB = 1}"
  let gemm: Gemm

  init(attributes: inout AttributeReader) throws(VitError) { gemm = try Gemm(attributes: &attributes) }
  var attributes: Attributes { gemm.attributes }
  var isDifferentiable: Bool { true }
  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] { try gemm.resultTypes(operands) }

  var transposesRight: Bool { gemm.transB }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap { gemm.axes(operands, results) }

  func role(of index: Int) -> OperandRole { index < 2 ? .weight : .bias }
  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost { gemm.cost(operands, results) }
  func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing] { gemm.packings(operands, stored) }
  func forward(_ context: KernelContext) { gemm.forward(context, into: context.output) }
  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    gemm.accumulate(context, dy, operandGradients)
  }
}
