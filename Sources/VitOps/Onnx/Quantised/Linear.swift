internal import VitIR

/// Attributes of `QuantizeLinear` and `DequantizeLinear`.
struct QuantisedParameters: Sendable {
  let axis: Int
  let block: Int
  let output: ElementType?

  init(_ reader: inout AttributeReader) throws(VitError) {
    axis = try reader.int("axis", default: 1)
    block = try reader.int("block_size", default: 0)
    output = try reader.optionalElement("output_dtype")
    guard block >= 0 else { throw VitError("attribute 'block_size' is \(block), expected a positive number") }
    reader.ignore("saturate", "precision")
  }

  var attributes: Attributes {
    Attributes(
      [("axis", .int(axis))] + (block == 0 ? [] : [("block_size", .int(block))])
        + (output.map { [("output_dtype", .int($0.onnx))] } ?? []))
  }

  /// All axes run side by side; steps and zero points go with the axis that they are for.
  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let shape = operands[0]?.shape, let scale = operands[1]?.shape else { return .mixed }
    let place = axis < 0 ? axis + shape.count : axis
    return AxisMap(
      shape.indices.map { axis in
        var own: Int?
        var kind = AxisMap.Letter.Kind.parallel
        if scale.count == shape.count, shape.count > 1 || block > 0 {
          // Blocks of an axis share their parameters.
          if axis == place, scale[axis] != shape[axis] { kind = .aligned } else { own = axis }
        } else if scale.count == 1, axis == place, scale[0] == shape[axis] {
          own = 0
        }
        return AxisMap.Letter(kind, [axis, own, operands.has(2) ? own : nil], results.map { _ in axis })
      })
  }
}

/// Numbers, a scale and a zero point for all, for each entry of an axis, or for each block of its entries.
protocol LinearQuantisation: PointwiseOperation {
  var parameters: QuantisedParameters { get }
  init(parameters: QuantisedParameters)
}

extension LinearQuantisation {
  init(attributes: inout AttributeReader) throws(VitError) {
    self.init(parameters: try QuantisedParameters(&attributes))
  }

  var attributes: Attributes { parameters.attributes }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    parameters.axes(operands, results)
  }

  func role(of index: Int) -> OperandRole { index == 0 ? .data : .quantisation }

  /// The rule for the scale of the numbers `x`.
  fileprivate func scale(_ operands: Operands, of x: TensorType) throws(VitError) -> TensorType {
    let scale = try operands.floats(1, "scale")
    try QuantisedGrid.check(x, scale, axis: parameters.axis, block: parameters.block)
    return scale
  }
}

/// `QuantizeLinear(x, scale, zero_point?)`: `saturate(round(x/scale) + zero_point)`, halves to even.
protocol QuantisingOperation: LinearQuantisation, QuantisedOperation {}

extension QuantisingOperation {
  static var summary: String { "Rounds to multiples of a scale, as small whole numbers" }
  static var example: String { "(f32[2, 3], f32[], u8[])" }

  /// The type that is meant. 16-bit numbers are computed as `i64`, so there the attribute, or the constant
  /// zero point's stored type, tells which.
  private func target(_ operands: Operands) throws(VitError) -> ElementType {
    if let output = parameters.output { return output }
    guard let zero = operands[2] else { return .u8 }
    if zero.element != .i64 { return zero.element }
    throw VitError(
      "input 2 ('zero_point') is \(zero), expected u8 or i8, or attribute 'output_dtype' to name the type",
      code: "element-type")
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...3)
    try operands.expectResults()
    let x = try operands.type(0, "x")
    guard x.element.isFloat || x.element == .i32 else {
      throw VitError("input 0 ('x') is \(x), expected a float type or i32", code: "element-type")
    }
    let scale = try scale(operands, of: x)
    let target = try target(operands)
    guard target.quantisedRange != nil else {
      throw VitError(
        "cannot quantise to \(target.rawValue), expected u8, i8, u16, i16 or i32", code: "element-type")
    }
    try operands.expectZero(2, of: target.computed, elements: scale.elements)
    return [TensorType(target.computed, x.shape)]
  }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let x = operands[0], x.element == .i32 else { return [] }
    return [TensorType(.f32, x.shape)]
  }

  func forward(_ context: KernelContext) {
    let (x, output) = (context.input(0), context.output)
    let (scale, zero) = (context.input(1), context.optionalInput(2))
    if let wide = context.scratch.first { cast(x, into: wide, as: .f32, context.pool) }
    quantise(
      context.scratch.first ?? x, scale: scale, zero: zero, axis: parameters.axis,
      block: parameters.block, into: output, as: parameters.output ?? output.element, context.pool)
  }
}

/// `onnx.QuantizeLinear`.
struct OnnxQuantizeLinear: QuantisingOperation {
  static let name = "onnx.QuantizeLinear"
  let parameters: QuantisedParameters
}

/// `com.microsoft.QuantizeLinear`.
struct MicrosoftQuantizeLinear: QuantisingOperation {
  static let name = "com.microsoft.QuantizeLinear"
  let parameters: QuantisedParameters
}

/// `DequantizeLinear(x, scale, zero_point?)`: `(x − zero_point)·scale`.
protocol DequantisingOperation: LinearQuantisation, QuantisedOperation {}

extension DequantisingOperation {
  static var summary: String { "The numbers that quantised whole numbers stand for" }
  static var example: String { "(u8[2, 3], f32[], u8[])" }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...3)
    try operands.expectResults()
    let x = try operands.type(0, "x")
    guard x.element.isInteger else {
      throw VitError("input 0 ('x') is \(x), expected whole numbers", code: "element-type")
    }
    let scale = try scale(operands, of: x)
    try operands.expectZero(2, of: x.element, elements: scale.elements)
    let element = parameters.output?.computed ?? scale.element
    guard element.isFloat else {
      throw VitError(
        "attribute 'output_dtype' is \(element.rawValue), expected a float type", code: "element-type")
    }
    return [TensorType(element, x.shape)]
  }

  func forward(_ context: KernelContext) {
    let (x, scale) = (context.input(0), context.input(1))
    dequantise(
      x, scale: scale, zero: context.optionalInput(2), axis: parameters.axis, block: parameters.block,
      into: context.output, context.pool)
  }
}

/// `onnx.DequantizeLinear`.
struct OnnxDequantizeLinear: DequantisingOperation {
  static let name = "onnx.DequantizeLinear"
  let parameters: QuantisedParameters
}

/// `com.microsoft.DequantizeLinear`.
struct MicrosoftDequantizeLinear: DequantisingOperation {
  static let name = "com.microsoft.DequantizeLinear"
  let parameters: QuantisedParameters
}

/// The scale and zero point with which the range of a tensor, and zero, fits 8 bits.
func dynamicRange(_ x: View) -> (scale: Float, zero: Float) {
  var (low, high): (Float, Float) = (0, 0)
  for index in 0..<x.count {
    low = min(low, x.f32[index])
    high = max(high, x.f32[index])
  }
  let scale = high == low ? 1 : (high - low) / 255
  let zero = min(max(-low / scale, 0), 255).rounded(.toNearestOrEven)
  return (scale, zero)
}

/// `onnx.DynamicQuantizeLinear(x)`: 8-bit numbers, and the scale and zero point that fit the range of the
/// data.
struct OnnxDynamicQuantizeLinear: Operation {
  static let name = "onnx.DynamicQuantizeLinear"
  static let summary = "Quantises to 8 bits by the range of the data"
  static let example = "(f32[2, 3]) -> 3"
  let attributes = Attributes()

  init(attributes: inout AttributeReader) throws(VitError) {}

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults(3)
    let x = try operands.type(0, "x")
    guard x.element == .f32 else {
      throw VitError("input 0 ('x') is \(x), expected f32", code: "element-type")
    }
    return Array(
      [TensorType(.u8, x.shape), TensorType(.f32, []), TensorType(.u8, [])].prefix(operands.resultCount))
  }

  /// The step is found from all that is there.
  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    AxisMap(
      (0..<results[0].rank).map { axis in
        AxisMap.Letter(.aligned, [axis], results.indices.map { $0 == 0 ? axis : nil })
      })
  }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    [TensorType(.f32, [1]), TensorType(.u8, [1])]
  }

  func forward(_ context: KernelContext) {
    let (x, output) = (context.input(0), context.output)
    let range = dynamicRange(x)
    let (scale, zero) = (context.scratch[0], context.scratch[1])
    scale.f32[0] = range.scale
    zero.setNumber(Double(range.zero))
    quantise(x, scale: scale, zero: zero, into: output, as: .u8, context.pool)
    if context.outputs.count > 1 { context.outputs[1].f32[0] = range.scale }
    if context.outputs.count > 2 { context.outputs[2].setNumber(Double(range.zero)) }
  }
}
