internal import VitIR
internal import VitRuntime

/// A product of stacks of 8-bit matrices in whole numbers.
struct WholeProduct {
  private let flags: MatrixFlags

  init(_ flags: MatrixFlags = MatrixFlags()) { self.flags = flags }

  /// Copies of operands that are used transposed, and the sums.
  func scratch(_ operands: Operands, a: Int, b: Int, result: Shape) -> [TensorType] {
    func copy(_ index: Int, _ isNeeded: Bool) -> TensorType {
      guard isNeeded, let type = operands[index] else { return TensorType(.u8, [0]) }
      return TensorType(type.element, type.shape.reversed())
    }
    return [copy(a, flags.transA), copy(b, flags.transB), TensorType(.i32, result)]
  }

  /// `into ← (a − aZero)·(b − bZero)`, as `i32`.
  ///
  /// A zero point has one element, one for each row of `a` (column of `b`), or as many for each matrix.
  func run(
    _ a: View, _ aZero: View?, _ b: View, _ bZero: View?, into: View, scratch: [View], _ pool: any WorkPool
  ) {
    let (a, b) = (
      flags.transA ? turned(a, scratch[0], pool) : a, flags.transB ? turned(b, scratch[1], pool) : b
    )
    guard into.count > 0 else { return }
    let product = MatrixProduct(a.shape, b.shape).forward
    let (m, n, k) = (product.m, product.n, product.k)
    let items = into.count / (m * n)
    if items > 1, product.axes.allSatisfy({ $0.b == 0 || $0.extent == 1 }), a.count == items * m * k,
      aZero.map({ $0.count == 1 }) ?? true
    {
      // A right side that all items share makes a single product.
      return Kernel.gemmBytes(
        m: items * m, n: n, k: k, a: a, aZero: aZero, b: b, bZero: bZero, c: into, pool: pool)
    }
    for item in 0..<items {
      var (rest, left, right) = (item, 0, 0)
      for axis in product.axes.reversed() {
        left += rest % axis.extent * axis.a
        right += rest % axis.extent * axis.b
        rest /= axis.extent
      }
      Kernel.gemmBytes(
        m: m, n: n, k: k, a: part(a, left, m * k), aZero: zero(aZero, left, m, k), b: part(b, right, k * n),
        bZero: zero(bZero, right, n, k), c: part(into, item * m * n, m * n), pool: pool)
    }
  }

  private func turned(_ matrix: View, _ copy: View, _ pool: any WorkPool) -> View {
    Kernel.transpose(matrix, permutation: [1, 0], into: copy, pool: pool)
    return copy
  }

  private func part(_ view: View, _ offset: Int, _ count: Int) -> View {
    View(base: view.base + offset * view.element.size, element: view.element, shape: [count])
  }

  /// The zero points of the matrix that begins at `offset` and has `count` rows (columns) of `k`.
  private func zero(_ zero: View?, _ offset: Int, _ count: Int, _ k: Int) -> View? {
    guard let zero, zero.count > count else { return zero }
    return part(zero, offset / max(1, k), count)
  }
}

/// The rule for zero points of a matrix: one, one for each row or column, or one for each of every matrix.
private func expectMatrixZero(
  _ operands: Operands, _ index: Int, _ matrix: TensorType, axis: Int
) throws(VitError) {
  guard let zero = operands[index] else { return }
  var every = matrix.shape
  if matrix.rank > 1 { every[matrix.rank + (axis == -1 ? -2 : -1)] = 1 }
  let single = matrix.rank >= -axis ? [matrix.shape[matrix.rank + axis]] : []
  guard zero.element == matrix.element,
    zero.rank == 0 || zero.shape == [1] || zero.shape == single || zero.shape == every
  else {
    throw VitError(
      "input \(index) ('zero_point') is \(zero), expected one or \(single) of type "
        + matrix.element.rawValue,
      code: "shape-mismatch")
  }
}

/// The rule for a scale that is one number or one for each column of the result.
private func expectColumnScale(_ operands: Operands, _ index: Int, _ columns: Dimension) throws(VitError)
  -> TensorType
{
  let scale = try operands.floats(index, "scale")
  guard scale.elements == 1 || scale.shape.last == columns && scale.elements == columns else {
    throw VitError(
      "input \(index) ('scale') is \(scale), expected one number or \(columns)", code: "shape-mismatch")
  }
  return scale
}

/// A product of 8-bit matrices that are summed in whole numbers.
protocol WholeProductOperation: MatrixProductOperation {
  /// Which operands are multiplied.
  static var factors: (a: Int, b: Int) { get }
}

extension WholeProductOperation {
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let types = try? resultTypes(operands) else { return [] }
    return WholeProduct().scratch(operands, a: Self.factors.a, b: Self.factors.b, result: types[0].shape)
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let a = operands[Self.factors.a], let b = operands[Self.factors.b] else { return Cost() }
    let bytes = (operands.types.compactMap { $0 } + results).reduce(0) { $0 + $1.count * $1.element.size }
    return Cost(flops: MatrixProduct(a.extents, b.extents).flops, bytes: bytes)
  }
}

/// `onnx.MatMulInteger(a, b, a_zero?, b_zero?)`.
struct OnnxMatMulInteger: WholeProductOperation {
  static let name = "onnx.MatMulInteger"
  static let summary = "Product of 8-bit matrices in whole numbers"
  static let factors = (a: 0, b: 1)
  let attributes = Attributes()

  init(attributes: inout AttributeReader) throws(VitError) {}

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...4)
    try operands.expectResults()
    let (a, b) = (try operands.bytes(0, "a"), try operands.bytes(1, "b"))
    try expectMatrixZero(operands, 2, a, axis: -2)
    try expectMatrixZero(operands, 3, b, axis: -1)
    return [TensorType(.i32, try MatrixProduct.shape(a.shape, b.shape))]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    MatrixAxes(rowParameters: [2], columnParameters: [3]).map(operands, results)
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 0, 1: .weight
    default: .quantisation
    }
  }

  func forward(_ context: KernelContext) {
    let (a, b) = (context.input(0), context.input(1))
    WholeProduct().run(
      a, context.optionalInput(2), b, context.optionalInput(3), into: context.output,
      scratch: context.scratch,
      context.pool)
  }
}

/// Calls `body` for each element of `[…, columns]` with its column.
@inline(__always) private func forEachColumn(
  _ count: Int, _ columns: Int, _ body: (_ index: Int, _ column: Int) -> Void
) {
  guard columns > 0 else { return }
  for row in 0..<count / columns {
    for column in 0..<columns { body(row * columns + column, column) }
  }
}

extension View {
  /// One number, or one for each column, as `Float`s.
  func columnNumbers(_ columns: Int) -> [Float] {
    count == 1
      ? [Float](repeating: Float(number(0)), count: columns) : (0..<columns).map { Float(number($0)) }
  }
}

/// `onnx.QLinearMatMul(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero)`.
struct OnnxQLinearMatMul: WholeProductOperation {
  static let name = "onnx.QLinearMatMul"
  static let summary = "Product of quantised matrices, quantised again"
  static let factors = (a: 0, b: 3)
  let attributes = Attributes()

  init(attributes: inout AttributeReader) throws(VitError) {}

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(8...8)
    try operands.expectResults()
    let (a, b) = (try operands.bytes(0, "a"), try operands.bytes(3, "b"))
    try expectMatrixZero(operands, 2, a, axis: -2)
    try expectMatrixZero(operands, 5, b, axis: -1)
    let shape = try MatrixProduct.shape(a.shape, b.shape)
    guard try operands.floats(1, "a_scale").elements == 1 else {
      throw VitError("input 1 ('a_scale') is not one number, which is not supported", code: "shape-mismatch")
    }
    _ = try expectColumnScale(operands, 4, shape.last ?? 1)
    let y = try operands.bytes(7, "y_zero_point")
    try operands.expectScalar(scale: 6, zero: 7, of: y.element)
    return [TensorType(y.element, shape)]
  }

  var factors: (left: Int, right: Int) { (0, 3) }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    MatrixAxes(right: 3, rowParameters: [2], columnParameters: [4, 5]).map(operands, results)
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 0, 3: .weight
    default: .quantisation
    }
  }

  func forward(_ context: KernelContext) {
    let (a, b) = (context.input(0), context.input(3))
    let sums = context.scratch[2]
    WholeProduct().run(
      a, context.input(2), b, context.input(5), into: sums, scratch: context.scratch, context.pool)
    let columns = b.rank > 1 ? b.shape[b.rank - 1] : 1
    let (left, step) = (Float(context.input(1).number(0)), Float(context.input(6).number(0)))
    let factors = context.input(4).columnNumbers(columns).map { left * $0 / step }
    requantise(sums, factors: factors, per: 1, zero: context.input(7), into: context.output)
  }
}

/// `to ← saturate(round(sums·factor) + zero)`; there is one factor for each of `factors.count` channels,
/// whose elements stand in runs of `per`.
func requantise(_ sums: View, factors: [Float], per: Int, zero: View?, into to: View) {
  let offset = zero.map { Float($0.number(0)) } ?? 0
  let range = to.element.quantisedRange ?? 0...255
  let (low, high) = (Float(range.lowerBound), Float(range.upperBound))
  let from = sums.pointer(as: Int32.self)
  func run<T: FixedWidthInteger>(_ y: UnsafeMutablePointer<T>) {
    for index in 0..<sums.count {
      let factor = factors[index / per % factors.count]
      let value = quantised(Float(from[index]) * factor, zero: offset, low: low, high: high)
      y[index] = T(clamping: Double(value))
    }
  }
  if to.element == .i8 { run(to.pointer(as: Int8.self)) } else { run(to.pointer(as: UInt8.self)) }
}

/// `com.microsoft.MatMulIntegerToFloat(a, b, a_scale, b_scale, a_zero?, b_zero?, bias?)`.
struct MicrosoftMatMulIntegerToFloat: WholeProductOperation {
  static let name = "com.microsoft.MatMulIntegerToFloat"
  static let summary = "Product of quantised matrices as floats"
  static let factors = (a: 0, b: 1)
  let attributes = Attributes()

  init(attributes: inout AttributeReader) throws(VitError) {}

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(4...7)
    try operands.expectResults()
    let (a, b) = (try operands.bytes(0, "a"), try operands.bytes(1, "b"))
    let shape = try MatrixProduct.shape(a.shape, b.shape)
    guard try operands.floats(2, "a_scale").elements == 1 else {
      throw VitError("input 2 ('a_scale') is not one number, which is not supported", code: "shape-mismatch")
    }
    let columns = b.rank > 1 ? b.shape[b.rank - 1] : 1
    let scale = try expectColumnScale(operands, 3, columns)
    try expectMatrixZero(operands, 4, a, axis: -2)
    try expectMatrixZero(operands, 5, b, axis: -1)
    try operands.expectShape(6, "bias", [columns])
    try operands.expect(6, "bias", scale.element)
    return [TensorType(scale.element, shape)]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    MatrixAxes(rowParameters: [4], columnParameters: [3, 5, 6]).map(operands, results)
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 0, 1: .weight
    case 6: .bias
    default: .quantisation
    }
  }

  func forward(_ context: KernelContext) {
    let (a, b) = (context.input(0), context.input(1))
    WholeProduct().run(
      a, context.optionalInput(4), b, context.optionalInput(5), into: context.scratch[2],
      scratch: context.scratch,
      context.pool)
    let columns = b.rank > 1 ? b.shape[b.rank - 1] : 1
    let left = Float(context.input(2).number(0))
    let factors = context.input(3).columnNumbers(columns).map { left * $0 }
    rescale(context.scratch[2], factors, bias: context.optionalInput(6), into: context.output)
  }
}

/// `into ← sums·factor + bias`, with a factor and a bias for each column.
func rescale(_ sums: View, _ factors: [Float], bias: View?, into: View) {
  let from = sums.pointer(as: Int32.self)
  let offsets = bias?.columnNumbers(factors.count) ?? [Float](repeating: 0, count: factors.count)
  func run<T: BinaryFloatingPoint>(_ to: UnsafeMutablePointer<T>) {
    forEachColumn(into.count, factors.count) { index, column in
      to[index] = T(Float(from[index]) * factors[column] + offsets[column])
    }
  }
  if into.element == .f64 { run(into.f64) } else { run(into.f32) }
}

/// `com.microsoft.DynamicQuantizeMatMul(a, b, b_scale, b_zero?, bias?)`: quantises `a` by its range first.
struct MicrosoftDynamicQuantizeMatMul: WholeProductOperation {
  static let name = "com.microsoft.DynamicQuantizeMatMul"
  static let summary = "Product with a quantised matrix, the left side quantised on the way"
  static let factors = (a: 0, b: 1)
  let attributes = Attributes()

  init(attributes: inout AttributeReader) throws(VitError) {}

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...5)
    try operands.expectResults()
    let (a, b) = (try operands.type(0, "a"), try operands.bytes(1, "b"))
    guard a.element == .f32 else {
      throw VitError("input 0 ('a') is \(a), expected f32", code: "element-type")
    }
    let columns = b.rank > 1 ? b.shape[b.rank - 1] : 1
    _ = try expectColumnScale(operands, 2, columns)
    try expectMatrixZero(operands, 3, b, axis: -1)
    try operands.expectShape(4, "bias", [columns])
    return [TensorType(.f32, try MatrixProduct.shape(a.shape, b.shape))]
  }

  /// The columns of the right factor alone: the left one is quantised by all that is in it.
  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let b = operands[1], b.rank > 1 else { return .mixed }
    let rank = results[0].rank
    return AxisMap(
      MatrixAxes(columnParameters: [2, 3, 4]).map(operands, results).letters.filter {
        $0.axis(ofResult: 0) == rank - 1 && $0.axis(ofOperand: 0) == nil
      })
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 0, 1: .weight
    case 4: .bias
    default: .quantisation
    }
  }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let types = try? resultTypes(operands), let a = operands[0] else { return [] }
    return WholeProduct().scratch(operands, a: 0, b: 1, result: types[0].shape)
      + [TensorType(.u8, a.shape), TensorType(.f32, [1]), TensorType(.u8, [1])]
  }

  func forward(_ context: KernelContext) {
    let (a, b) = (context.input(0), context.input(1))
    let (narrow, scale, zero) = (context.scratch[3], context.scratch[4], context.scratch[5])
    let range = dynamicRange(a)
    scale.f32[0] = range.scale
    zero.setNumber(Double(range.zero))
    quantise(a, scale: scale, zero: zero, into: narrow, as: .u8, context.pool)
    WholeProduct().run(
      narrow, zero, b, context.optionalInput(3), into: context.scratch[2], scratch: context.scratch,
      context.pool)
    let columns = b.rank > 1 ? b.shape[b.rank - 1] : 1
    let factors = context.input(2).columnNumbers(columns).map { range.scale * $0 }
    rescale(context.scratch[2], factors, bias: context.optionalInput(4), into: context.output)
  }
}

/// `com.microsoft.QGemm(a, a_scale, a_zero, b, b_scale, b_zero, c?, y_scale?, y_zero?)`: without `y_scale`,
/// as floats.
struct MicrosoftQGemm: MatrixProductOperation {
  static let name = "com.microsoft.QGemm"
  static let summary = "Product of quantised matrices with a bias in whole numbers"
  let flags: MatrixFlags
  let alpha: Double

  init(attributes: inout AttributeReader) throws(VitError) {
    let transA = try attributes.bool("transA", default: false)
    flags = MatrixFlags(transA: transA, transB: try attributes.bool("transB", default: false))
    alpha = try attributes.float("alpha", default: 1)
  }

  var attributes: Attributes {
    Attributes([
      ("alpha", .float(alpha)), ("transA", .int(flags.transA ? 1 : 0)),
      ("transB", .int(flags.transB ? 1 : 0)),
    ])
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(6...9)
    try operands.expectResults()
    let (a, b) = (try operands.bytes(0, "a"), try operands.bytes(3, "b"))
    guard a.rank == 2, b.rank == 2 else { throw VitError("a is \(a) and b is \(b), expected two matrices") }
    let shape = try MatrixProduct.shape(a.shape, b.shape, flags)
    try operands.expectScalar(scale: 1, zero: 2, of: a.element)
    let scale = try expectColumnScale(operands, 4, shape[1])
    try operands.expectZero(5, of: b.element, elements: scale.elements)
    if let bias = operands[6] {
      guard bias.element == .i32, try broadcast(bias.shape, shape) == shape else {
        throw VitError(
          "input 6 ('c') is \(bias), expected i32 that broadcasts to \(shape)", code: "shape-mismatch")
      }
    }
    guard operands.has(7) else { return [TensorType(.f32, shape)] }
    let y = operands.has(8) ? try operands.bytes(8, "y_zero_point").element : a.element
    try operands.expectScalar(scale: 7, zero: 8, of: y)
    return [TensorType(y, shape)]
  }

  var factors: (left: Int, right: Int) { (0, 3) }
  var transposesRight: Bool { flags.transB }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    MatrixAxes(right: 3, flags: flags, columnParameters: [4, 5], summand: operands.has(6) ? 6 : nil)
      .map(operands, results)
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 0, 3: .weight
    case 6: .bias
    default: .quantisation
    }
  }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let types = try? resultTypes(operands) else { return [] }
    return WholeProduct(flags).scratch(operands, a: 0, b: 3, result: types[0].shape)
  }

  func forward(_ context: KernelContext) {
    let (a, b, output) = (context.input(0), context.input(3), context.output)
    let sums = context.scratch[2]
    WholeProduct(flags).run(
      a, context.input(2), b, context.input(5), into: sums, scratch: context.scratch, context.pool)
    let columns = output.shape[1]
    if let bias = context.optionalInput(6) {
      let strides = broadcastStrides(bias.shape, to: output.shape)
      let (from, to) = (bias.pointer(as: Int32.self), sums.pointer(as: Int32.self))
      forEachColumn(sums.count, columns) { index, column in
        to[index] &+= from[index / columns * strides[0] + column * strides[1]]
      }
    }
    let left = Float(alpha) * Float(context.input(1).number(0))
    let factors = context.input(4).columnNumbers(columns).map { left * $0 }
    guard let step = context.optionalInput(7).map({ Float($0.number(0)) }) else {
      return rescale(sums, factors, bias: nil, into: output)
    }
    requantise(
      sums, factors: factors.map { $0 / step }, per: 1, zero: context.optionalInput(8), into: output)
  }
}
