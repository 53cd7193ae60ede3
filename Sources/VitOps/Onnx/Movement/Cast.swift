internal import VitIR

/// `onnx.Cast(x)`: numbers of another type.
///
/// Floats become whole numbers by dropping the fraction, saturated, no number becoming 0; whole numbers are
/// cut to the bits there are; to `f16` and `bf16` values are rounded, and computed with as `f32`; whatever is
/// not zero is true.
struct OnnxCast: PointwiseOperation {
  static let name = "onnx.Cast"
  static let summary = "The elements as another type"
  static let example = "(f32[2, 3]) {to = 7}"
  let to: ElementType

  init(attributes: inout AttributeReader) throws(VitError) {
    guard let to = try attributes.optionalElement("to") else {
      throw VitError("attribute 'to' (int) is missing", code: "attribute-missing")
    }
    self.to = to
    attributes.ignore("saturate", "round_mode")
  }

  var attributes: Attributes { Attributes([("to", .int(to.onnx))]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    return [TensorType(to.computed, try operands.type(0, "input").shape)]
  }

  func identity(_ operands: Operands, _ results: [TensorType]) -> Int? {
    // A type that is computed in a wider one rounds, or cuts bits off.
    to == to.computed ? 0 : nil
  }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    castKnown(operands.value(0), to: to)
  }

  func forward(_ context: KernelContext) {
    cast(context.input(0), into: context.output, as: to, context.pool)
  }

  var isDifferentiable: Bool { to.isFloat }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    addCastGradient(resultGradients[0], operandGradients[0])
  }
}

/// `onnx.CastLike(x, like)`.
struct OnnxCastLike: PointwiseOperation {
  static let name = "onnx.CastLike"
  static let summary = "The elements as the type of another value"
  static let example = "(f32[2, 3], i32[])"
  let attributes = Attributes()

  init(attributes: inout AttributeReader) throws(VitError) { attributes.ignore("saturate", "round_mode") }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectResults()
    let like = try operands.type(1, "target_type")
    return [TensorType(like.element, try operands.type(0, "input").shape)]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .pointwise(operands, results, of: [0])
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .form
    default: .data
    }
  }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    castKnown(operands.value(0), to: results[0].element)
  }

  func forward(_ context: KernelContext) {
    cast(context.input(0), into: context.output, as: context.output.element, context.pool)
  }

  var isDifferentiable: Bool { true }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    addCastGradient(resultGradients[0], operandGradients[0])
  }
}

/// What is known of a cast value: whole numbers stay what they are where they fit; numbers without symbols
/// are cast.
private func castKnown(_ value: KnownValue?, to element: ElementType) -> [KnownValue?] {
  guard let value else { return [] }
  if case .integers(let shape, let elements) = value, !element.isFloat, element != .bool {
    let allFit = elements.allSatisfy { $0.fixedValue.map { fits($0, element) } ?? (element.size >= 4) }
    return allFit ? [.integers(shape: shape, elements)] : []
  }
  guard let numbers = value.numbers else { return [] }
  if element.isFloat {
    return [
      .tensor(Tensor(element.computed, shape: value.shape, values: numbers.map { rounded($0, element) }))
    ]
  }
  if element == .bool { return [.integers(shape: value.shape, numbers.map { $0 == 0 ? 0 : 1 })] }
  let whole = value.integers ?? numbers.map { Int(clamping: $0) }
  guard whole.allSatisfy({ fits($0, element) }) else { return [] }
  return [.integers(shape: value.shape, whole.map(Dimension.fixed))]
}

private func fits(_ value: Int, _ element: ElementType) -> Bool {
  switch element {
  case .i32: Int32(exactly: value) != nil
  case .u32: UInt32(exactly: value) != nil
  case .i16: Int16(exactly: value) != nil
  case .u16: UInt16(exactly: value) != nil
  case .i8: Int8(exactly: value) != nil
  case .u8: UInt8(exactly: value) != nil
  case .u64: value >= 0
  default: true
  }
}

private func rounded(_ value: Double, _ element: ElementType) -> Double {
  switch element {
  case .f16: Double(Float(half: Float(value).halfBits))
  case .bf16: Double(roundedToBrain(Float(value)))
  case .f32: Double(Float(value))
  default: value
  }
}

@inline(__always) private func roundedToBrain(_ value: Float) -> Float {
  Float(bitPattern: UInt32(value.brainBits) << 16)
}

private func addCastGradient(_ from: View?, _ to: View?) {
  guard let from, let to else { return }
  func add<A: BinaryFloatingPoint, B: BinaryFloatingPoint>(
    _ a: UnsafePointer<A>, _ b: UnsafeMutablePointer<B>
  ) {
    for index in 0..<from.count { b[index] += B(a[index]) }
  }
  switch (from.element, to.element) {
  case (.f64, .f64): add(from.f64, to.f64)
  case (.f64, _): add(from.f64, to.f32)
  case (_, .f64): add(from.f32, to.f64)
  default: add(from.f32, to.f32)
  }
}

/// Casts every element of `input`; `target` is the type that is meant, whose computed type the output has.
func cast(_ input: View, into output: View, as target: ElementType, _ pool: any WorkPool) {
  if input.element == output.element && (input.element == target || target == .i64) {
    flat(input.count).copy(input, to: output, pool)
    return
  }
  let grain = 1 << 14
  let count = input.count
  pool.run(tasks: (count + grain - 1) / grain) { task, _ in
    let range = task * grain..<min((task + 1) * grain, count)
    switch input.element {
    case .f64: castRun(input.pointer(as: Double.self), range, output, target)
    case .i64: castRun(input.pointer(as: Int64.self), range, output, target)
    case .i32: castRun(input.pointer(as: Int32.self), range, output, target)
    case .i8: castRun(input.pointer(as: Int8.self), range, output, target)
    case .u8, .bool: castRun(input.pointer(as: UInt8.self), range, output, target)
    default: castRun(input.pointer(as: Float.self), range, output, target)
    }
  }
}

/// A number that is cast.
private protocol CastSource: AdditiveArithmetic, BitwiseCopyable {
  var single: Float { get }
  var double: Double { get }
  /// The whole number: of floats without their fraction, saturated; of whole numbers the lowest bits.
  func whole<U: FixedWidthInteger>(as type: U.Type) -> U
}

extension BinaryFloatingPoint {
  @inline(__always) fileprivate var single: Float { Float(self) }
  @inline(__always) fileprivate var double: Double { Double(self) }
  @inline(__always) fileprivate func whole<U: FixedWidthInteger>(as type: U.Type) -> U {
    U(clamping: Double(self))
  }
}

extension FixedWidthInteger {
  @inline(__always) fileprivate var single: Float { Float(self) }
  @inline(__always) fileprivate var double: Double { Double(self) }
  @inline(__always) fileprivate func whole<U: FixedWidthInteger>(as type: U.Type) -> U {
    U(truncatingIfNeeded: self)
  }
}

extension Float: CastSource {}
extension Double: CastSource {}
extension Int64: CastSource {}
extension Int32: CastSource {}
extension Int8: CastSource {}
extension UInt8: CastSource {}

private func castRun<T: CastSource>(
  _ from: UnsafePointer<T>, _ range: Range<Int>, _ output: View, _ target: ElementType
) {
  func whole<U: FixedWidthInteger, V: FixedWidthInteger>(_ narrow: U.Type, _ wide: V.Type) {
    let to = output.pointer(as: V.self)
    for index in range { to[index] = V(truncatingIfNeeded: from[index].whole(as: U.self)) }
  }
  switch target {
  case .f64:
    let to = output.f64
    for index in range { to[index] = from[index].double }
  case .f32, .q8, .w8, .w4:
    let to = output.f32
    for index in range { to[index] = from[index].single }
  case .f16:
    let to = output.f32
    for index in range { to[index] = Float(half: from[index].single.halfBits) }
  case .bf16:
    let to = output.f32
    for index in range { to[index] = roundedToBrain(from[index].single) }
  case .bool:
    let to = output.pointer(as: UInt8.self)
    for index in range { to[index] = from[index] == .zero ? 0 : 1 }
  case .i64: whole(Int64.self, Int64.self)
  case .u64: whole(UInt64.self, Int64.self)
  case .u32: whole(UInt32.self, Int64.self)
  case .i16: whole(Int16.self, Int64.self)
  case .u16: whole(UInt16.self, Int64.self)
  case .i32: whole(Int32.self, Int32.self)
  case .i8: whole(Int8.self, Int8.self)
  case .u8: whole(UInt8.self, UInt8.self)
  }
}
