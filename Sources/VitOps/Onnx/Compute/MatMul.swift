internal import VitIR
internal import VitRuntime

/// `onnx.MatMul`: the matrix product of two stacks of matrices, with NumPy's rules for batch axes and
/// vectors.
struct OnnxMatMul: ProductOperation {
  static let (name, summary) = ("onnx.MatMul", "The matrix product, batch axes broadcast")
  static let example = "(f32[2, 3], f32[3, 4])"
  static let elements: [ElementType] = [.f32, .f64, .i64, .i32]

  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  var flags: MatrixFlags { MatrixFlags() }
  var alpha: Double { 1 }
}

/// A matrix product of two operands.
protocol ProductOperation: MatrixProductOperation {
  /// The element types taken.
  static var elements: [ElementType] { get }
  /// How the operands are read.
  var flags: MatrixFlags { get }
  /// What the product is multiplied with.
  var alpha: Double { get }
}

extension ProductOperation {
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectResults()
    let a = try operands.typed(0, "A", Self.elements)
    let b = try operands.typed(1, "B", Self.elements)
    try operands.expectSame(1, "B", as: a.element)
    return [TensorType(a.element, try MatrixProduct.shape(a.shape, b.shape, flags))]
  }

  var transposesRight: Bool { flags.transB }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    MatrixAxes(flags: flags).map(operands, results)
  }

  func role(of index: Int) -> OperandRole { .weight }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let a = operands[0], let b = operands[1] else { return Cost() }
    let bytes = (a.count + b.count + results[0].count) * a.element.size
    return Cost(flops: MatrixProduct(a.extents, b.extents, flags).flops, bytes: bytes)
  }

  /// The packed right operand, where it is constant.
  func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing] {
    packedWeight(operands, stored, flags)
  }

  func forward(_ context: KernelContext) {
    let (a, b, y) = (context.input(0), context.input(1), context.output)
    MatrixProduct(a.shape, b.shape, flags).forward
      .run(alpha: alpha, a: a, b: b, packed: context.prepared.first, c: y, pool: context.pool)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (a, b) = (context.input(0), context.input(1))
    MatrixProduct(a.shape, b.shape, flags).accumulate(
      alpha: alpha, a: a, b: b, dy: dy, into: operandGradients[0], operandGradients[1], pool: context.pool)
  }
}

/// The packed second operand of a product of operands 0 and 1, where it is constant.
func packedWeight(_ operands: Operands, _ stored: [ElementType?], _ flags: MatrixFlags) -> [Packing] {
  guard stored[1] != nil, let a = operands[0], let b = operands[1] else { return [] }
  let product = MatrixProduct(a.extents, b.extents, flags).forward
  return [product.packing(1, a.element)].compactMap { $0 }
}
