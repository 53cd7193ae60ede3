package import VitIR

/// Quantised numbers among the operands of an operation, with what says which numbers they stand for.
package struct QuantisedOperand: Sendable {
  /// The operand with the numbers.
  package let value: Int
  /// The operand with their scale; `nil` where they count as they are, less the zero point.
  package let scale: Int?
  /// The operand with their zero point, which may be absent.
  package let zero: Int?
  /// The axis with whose entries scales and zero points go, where they are several.
  package let axis: Int
  /// How many entries of the axis share a scale; 0 where each has its own.
  package let block: Int

  init(_ value: Int, scale: Int?, zero: Int?, axis: Int = -1, block: Int = 0) {
    self.value = value
    self.scale = scale
    self.zero = zero
    self.axis = axis
    self.block = block
  }
}

/// What the result of an operation on quantised numbers is.
package enum QuantisedResult: Sendable {
  /// A float.
  case float
  /// A sum of products of whole numbers.
  case whole
  /// Quantised again, by the scale and zero point that these operands hold.
  case steps(scale: Int, zero: Int)
  /// Quantised by the scale and zero point of its own range, which are its further results.
  case ownRange
}

/// An operation on quantised numbers, which knows what it is on the numbers that they stand for.
package protocol QuantisedOperation: Operation {
  /// The operands that are quantised numbers.
  func quantisedOperands(_ operands: [ValueID?]) -> [QuantisedOperand]
  /// What the result is.
  func quantisedResult(_ operands: [ValueID?]) -> QuantisedResult
  /// Adds the operation on floats; `operands` holds floats in the place of quantised numbers. Throws where it has no such
  /// form.
  func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
}

extension QuantisedOperation {
  package func quantisedOperands(_ operands: [ValueID?]) -> [QuantisedOperand] { [] }
  package func quantisedResult(_ operands: [ValueID?]) -> QuantisedResult { .float }
}

extension [ValueID?] {
  /// The operand at a place, which may be absent.
  fileprivate func at(_ index: Int) -> ValueID? { index < count ? self[index] : nil }

  /// The operand at a place where the type rule wants one.
  fileprivate func needed(_ index: Int) throws(VitError) -> ValueID {
    guard let id = at(index) else { throw VitError("input \(index) is missing", code: "operand-missing") }
    return id
  }
}

extension GraphBuilder {
  /// A bias of whole numbers in steps of the product of `scales`, as floats.
  fileprivate mutating func bias(_ bias: ValueID, scales: [ValueID], factor: Double = 1) throws(VitError)
    -> ValueID
  {
    var step = constant([factor], shape: [])
    for scale in scales { step = try add(OnnxBinary<MulFunction>.self, [step, scale]) }
    let number = try add(OnnxCast.self, [bias], [("to", .int(ElementType.f32.onnx))])
    return try add(OnnxBinary<MulFunction>.self, [number, step])
  }
}

// MARK: Numbers

extension QuantisingOperation {
  package func quantisedResult(_ operands: [ValueID?]) -> QuantisedResult { .steps(scale: 1, zero: 2) }

  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    try operands.needed(0)
  }
}

extension DequantisingOperation {
  package func quantisedOperands(_ operands: [ValueID?]) -> [QuantisedOperand] {
    [QuantisedOperand(0, scale: 1, zero: 2, axis: parameters.axis, block: parameters.block)]
  }

  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    try operands.needed(0)
  }
}

extension OnnxDynamicQuantizeLinear: QuantisedOperation {
  package func quantisedResult(_ operands: [ValueID?]) -> QuantisedResult { .ownRange }

  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    try operands.needed(0)
  }
}

// MARK: Products

extension WholeProductOperation {
  /// Both factors, quantised, with their scales.
  fileprivate func factors(leftScale: Int?) -> [QuantisedOperand] {
    [
      QuantisedOperand(factors.left, scale: leftScale, zero: zeros.left),
      QuantisedOperand(factors.right, scale: columnScale, zero: zeros.right, axis: transposesRight ? 0 : -1),
    ]
  }

  /// The product, and a bias added to each row.
  fileprivate func product(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    let product = try builder.add(
      OnnxMatMul.self, [operands.needed(factors.left), operands.needed(factors.right)])
    guard let bias = bias.flatMap(operands.at) else { return product }
    return try builder.add(OnnxBinary<AddFunction>.self, [product, bias])
  }
}

extension OnnxMatMulInteger: QuantisedOperation {
  package func quantisedOperands(_ operands: [ValueID?]) -> [QuantisedOperand] { factors(leftScale: nil) }
  package func quantisedResult(_ operands: [ValueID?]) -> QuantisedResult { .whole }
  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    try product(operands, &builder)
  }
}

extension OnnxQLinearMatMul: QuantisedOperation {
  package func quantisedOperands(_ operands: [ValueID?]) -> [QuantisedOperand] { factors(leftScale: 1) }
  package func quantisedResult(_ operands: [ValueID?]) -> QuantisedResult { .steps(scale: 6, zero: 7) }
  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    try product(operands, &builder)
  }
}

extension MicrosoftMatMulIntegerToFloat: QuantisedOperation {
  package func quantisedOperands(_ operands: [ValueID?]) -> [QuantisedOperand] { factors(leftScale: 2) }
  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    try product(operands, &builder)
  }
}

extension MicrosoftDynamicQuantizeMatMul: QuantisedOperation {
  package func quantisedOperands(_ operands: [ValueID?]) -> [QuantisedOperand] {
    Array(factors(leftScale: nil).dropFirst())
  }
  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    try product(operands, &builder)
  }
}

extension MicrosoftQGemm: QuantisedOperation {
  package func quantisedOperands(_ operands: [ValueID?]) -> [QuantisedOperand] { factors(leftScale: 1) }

  package func quantisedResult(_ operands: [ValueID?]) -> QuantisedResult {
    operands.at(7) == nil ? .float : .steps(scale: 7, zero: 8)
  }

  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    let (left, right) = (try operands.needed(1), try operands.needed(4))
    let bias = try operands.at(6).map { id throws(VitError) in
      try builder.bias(id, scales: [left, right], factor: alpha)
    }
    return try builder.add(
      OnnxGemm.self, [operands.needed(0), operands.needed(3), bias],
      [("alpha", .float(alpha)), ("transA", .bool(flags.transA)), ("transB", .bool(flags.transB))])
  }
}

extension MicrosoftMatMulNBits: QuantisedOperation {
  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    guard let packed = builder.graph.tensor(try operands.needed(1)),
      let scales = builder.graph.tensor(try operands.needed(2))
    else { throw VitError("expected a constant weight") }
    let (zeros, places) = (operands.at(3), operands.at(4))
    guard zeros.map({ builder.graph[$0].isConstant }) ?? true else {
      throw VitError("expected constant zero points")
    }
    let weight = try unpacked(
      packed, scales: scales, zeros: zeros.flatMap(builder.graph.tensor),
      places: places.flatMap(builder.graph.tensor))
    let matrix = builder.graph.addConstant(weight, name: builder.graph[try operands.needed(1)].name)
    let product = try builder.add(OnnxMatMul.self, [operands.needed(0), matrix])
    guard let bias = operands.at(5) else { return product }
    return try builder.add(OnnxBinary<AddFunction>.self, [product, bias])
  }
}

extension MicrosoftQAttention: QuantisedOperation {
  package func quantisedOperands(_ operands: [ValueID?]) -> [QuantisedOperand] {
    [QuantisedOperand(0, scale: 3, zero: 6), QuantisedOperand(1, scale: 4, zero: 7)]
  }

  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    let attributes: [(String, Attribute)] =
      [("num_heads", .int(heads))] + (scale.map { [("scale", .float($0))] } ?? [])
    return try builder.add(
      MicrosoftAttention.self, [operands.needed(0), operands.needed(1), operands.needed(2)], attributes)
  }
}

// MARK: Convolutions

extension OnnxConvInteger: QuantisedOperation {
  package func quantisedOperands(_ operands: [ValueID?]) -> [QuantisedOperand] {
    [QuantisedOperand(0, scale: nil, zero: 2), QuantisedOperand(1, scale: nil, zero: 3, axis: 0)]
  }
  package func quantisedResult(_ operands: [ValueID?]) -> QuantisedResult { .whole }
  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    try builder.add(
      OnnxConv(window: window, groups: groups), [operands.needed(0), operands.needed(1)])[0]
  }
}

extension OnnxQLinearConv: QuantisedOperation {
  package func quantisedOperands(_ operands: [ValueID?]) -> [QuantisedOperand] {
    [QuantisedOperand(0, scale: 1, zero: 2), QuantisedOperand(3, scale: 4, zero: 5, axis: 0)]
  }
  package func quantisedResult(_ operands: [ValueID?]) -> QuantisedResult { .steps(scale: 6, zero: 7) }
  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    let (left, right) = (try operands.needed(1), try operands.needed(4))
    let bias = try operands.at(8).map { id throws(VitError) in
      try builder.bias(id, scales: [left, right])
    }
    return try builder.add(
      OnnxConv(window: window, groups: groups), [operands.needed(0), operands.needed(3), bias])[0]
  }
}

// MARK: Elementwise

extension QuantisedBinary {
  package func quantisedOperands(_ operands: [ValueID?]) -> [QuantisedOperand] {
    [QuantisedOperand(0, scale: 1, zero: 2), QuantisedOperand(3, scale: 4, zero: 5)]
  }
  package func quantisedResult(_ operands: [ValueID?]) -> QuantisedResult { .steps(scale: 6, zero: 7) }
  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    try builder.add(Self.floatForm, [operands.needed(0), operands.needed(3)])
  }
}

extension QuantisedUnary {
  package func quantisedOperands(_ operands: [ValueID?]) -> [QuantisedOperand] {
    [QuantisedOperand(0, scale: 1, zero: 2)]
  }
  package func quantisedResult(_ operands: [ValueID?]) -> QuantisedResult { .steps(scale: 3, zero: 4) }
  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    try builder.add(Self.floatForm, [operands.needed(0)], attributes.entries.map { ($0.name, $0.value) })
  }
}

// MARK: Whole axes

extension MicrosoftQLinearSoftmax: QuantisedOperation {
  package func quantisedOperands(_ operands: [ValueID?]) -> [QuantisedOperand] {
    [QuantisedOperand(0, scale: 1, zero: 2)]
  }
  package func quantisedResult(_ operands: [ValueID?]) -> QuantisedResult { .steps(scale: 3, zero: 4) }
  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    try builder.add(
      OnnxSoftmax<SoftmaxRows>.self, [operands.needed(0)],
      [("axis", .int(axis)), ("coerce2d", .bool(version < 13))])
  }
}

extension MicrosoftQLinearGlobalAveragePool: QuantisedOperation {
  package func quantisedOperands(_ operands: [ValueID?]) -> [QuantisedOperand] {
    [QuantisedOperand(0, scale: 1, zero: 2)]
  }
  package func quantisedResult(_ operands: [ValueID?]) -> QuantisedResult { .steps(scale: 3, zero: 4) }
  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    let image = try operands.needed(0)
    let rank = builder.graph.type(image).rank
    let axes = channelsLast ? Array(1..<rank - 1) : Array(2..<rank)
    return try builder.add(OnnxReduction<ReduceMeanFunction>.self, [image], [("axes", .ints(axes))])
  }
}

extension MicrosoftQLinearConcat: QuantisedOperation {
  private func parts(_ operands: [ValueID?]) -> [Int] {
    Array(Swift.stride(from: 2, to: operands.count, by: 3))
  }
  package func quantisedOperands(_ operands: [ValueID?]) -> [QuantisedOperand] {
    parts(operands).map { QuantisedOperand($0, scale: $0 + 1, zero: $0 + 2) }
  }
  package func quantisedResult(_ operands: [ValueID?]) -> QuantisedResult { .steps(scale: 0, zero: 1) }
  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    try builder.add(OnnxConcat.self, parts(operands).map { operands[$0] }, [("axis", .int(axis))])
  }
}

extension MicrosoftQLinearWhere: QuantisedOperation {
  package func quantisedOperands(_ operands: [ValueID?]) -> [QuantisedOperand] {
    [QuantisedOperand(1, scale: 2, zero: 3), QuantisedOperand(4, scale: 5, zero: 6)]
  }
  package func quantisedResult(_ operands: [ValueID?]) -> QuantisedResult { .steps(scale: 7, zero: 8) }
  package func addFloatForm(_ operands: [ValueID?], _ builder: inout GraphBuilder) throws(VitError) -> ValueID
  {
    try builder.add(OnnxWhere.self, [operands.needed(0), operands.needed(1), operands.needed(4)])
  }
}
