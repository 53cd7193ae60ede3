internal import VitIR
internal import VitRuntime

/// `onnx.MatMulInteger(a, b, a_zero?, b_zero?)`.
struct OnnxMatMulInteger: WholeProductOperation {
  static let name = "onnx.MatMulInteger"
  static let summary = "Product of 8-bit matrices in whole numbers"
  static let example = "(u8[1, 2, 7], i8[7, 3], u8[], i8[])"
  let attributes = Attributes()
  var zeros: (left: Int?, right: Int) { (2, 3) }

  init(attributes: inout AttributeReader) throws(VitError) {}

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...4)
    try operands.expectResults()
    return [TensorType(.i32, try productShape(operands))]
  }

  func forward(_ context: KernelContext) { sum(context, into: context.output) }
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
  static let example = "(u8[1, 2, 7], f32[], u8[], i8[7, 3], f32[], i8[], f32[], u8[])"
  let attributes = Attributes()
  var factors: (left: Int, right: Int) { (0, 3) }
  var zeros: (left: Int?, right: Int) { (2, 5) }
  var columnScale: Int? { 4 }

  init(attributes: inout AttributeReader) throws(VitError) {}

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(8...8)
    try operands.expectResults()
    let shape = try productShape(operands)
    try expectOneScale(operands, 1)
    _ = try expectColumnScale(operands, 4, columns(operands))
    let y = try operands.bytes(7, "y_zero_point")
    try operands.expectScalar(scale: 6, zero: 7, of: y.element)
    return [TensorType(y.element, shape)]
  }

  func forward(_ context: KernelContext) {
    let sums = context.scratch[2]
    sum(context, into: sums)
    let step = Float(context.input(6).number(0))
    let factors = columnFactors(context, left: Float(context.input(1).number(0))).map { $0 / step }
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
  static let example = "(u8[1, 2, 7], i8[7, 3], f32[], f32[3], u8[], _, f32[3])"
  let attributes = Attributes()
  var zeros: (left: Int?, right: Int) { (4, 5) }
  var columnScale: Int? { 3 }
  var bias: Int? { 6 }

  init(attributes: inout AttributeReader) throws(VitError) {}

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(4...7)
    try operands.expectResults()
    let shape = try productShape(operands)
    try expectOneScale(operands, 2)
    let scale = try expectColumnScale(operands, 3, columns(operands))
    try operands.expectShape(6, "bias", [columns(operands)])
    try operands.expect(6, "bias", scale.element)
    return [TensorType(scale.element, shape)]
  }

  func forward(_ context: KernelContext) {
    sum(context, into: context.scratch[2])
    let factors = columnFactors(context, left: Float(context.input(2).number(0)))
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
  static let example = "(f32[1, 2, 7], i8[7, 3], f32[], i8[])"
  let attributes = Attributes()
  var zeros: (left: Int?, right: Int) { (nil, 3) }
  var columnScale: Int? { 2 }
  var bias: Int? { 4 }

  init(attributes: inout AttributeReader) throws(VitError) {}

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...5)
    try operands.expectResults()
    let a = try operands.type(0, "a")
    guard a.element == .f32 else {
      throw VitError("input 0 ('a') is \(a), expected f32", code: "element-type")
    }
    let shape = try productShape(operands)
    _ = try expectColumnScale(operands, 2, columns(operands))
    try operands.expectShape(4, "bias", [columns(operands)])
    return [TensorType(.f32, shape)]
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

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let types = try? resultTypes(operands), let a = operands[0] else { return [] }
    return WholeProduct(flags).scratch(operands, a: 0, b: 1, result: types[0].shape)
      + [TensorType(.u8, a.shape), TensorType(.f32, [1]), TensorType(.u8, [1])]
  }

  func forward(_ context: KernelContext) {
    let (narrow, scale, zero) = (context.scratch[3], context.scratch[4], context.scratch[5])
    let range = dynamicRange(context.input(0))
    scale.f32[0] = range.scale
    zero.setNumber(Double(range.zero))
    quantise(context.input(0), scale: scale, zero: zero, into: narrow, as: .u8, context.pool)
    sum(context, left: (narrow, zero), into: context.scratch[2])
    rescale(
      context.scratch[2], columnFactors(context, left: range.scale), bias: context.optionalInput(4),
      into: context.output)
  }
}

/// `com.microsoft.QGemm(a, a_scale, a_zero, b, b_scale, b_zero, c?, y_scale?, y_zero?)`: without `y_scale`,
/// as floats.
struct MicrosoftQGemm: WholeProductOperation {
  static let name = "com.microsoft.QGemm"
  static let summary = "Product of quantised matrices with a bias in whole numbers"
  static let example = "(u8[2, 7], f32[], u8[], i8[7, 3], f32[], i8[], i32[3], f32[], u8[])"
  let flags: MatrixFlags
  let alpha: Double
  var factors: (left: Int, right: Int) { (0, 3) }
  var zeros: (left: Int?, right: Int) { (2, 5) }
  var columnScale: Int? { 4 }
  var bias: Int? { 6 }

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
    for (index, role) in [
      (1, "a_scale"), (2, "a_zero_point"), (5, "b_zero_point"), (6, "bias"), (7, "y_scale"),
    ] {
      operands.note(index, role)
    }
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

  /// The bias broadcasts, and the left factor has one zero point.
  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    MatrixAxes(right: 3, flags: flags, columnParameters: [4, 5], summand: operands.has(6) ? 6 : nil)
      .map(operands, results)
  }

  func forward(_ context: KernelContext) {
    let (output, sums) = (context.output, context.scratch[2])
    sum(context, into: sums)
    let columns = output.shape[1]
    if let bias = context.optionalInput(6) {
      let strides = broadcastStrides(bias.shape, to: output.shape)
      let (from, to) = (bias.pointer(as: Int32.self), sums.pointer(as: Int32.self))
      forEachColumn(sums.count, columns) { index, column in
        to[index] &+= from[index / columns * strides[0] + column * strides[1]]
      }
    }
    let factors = columnFactors(context, left: Float(alpha) * Float(context.input(1).number(0)))
    guard let step = context.optionalInput(7).map({ Float($0.number(0)) }) else {
      return rescale(sums, factors, bias: nil, into: output)
    }
    requantise(
      sums, factors: factors.map { $0 / step }, per: 1, zero: context.optionalInput(8), into: output)
  }
}
