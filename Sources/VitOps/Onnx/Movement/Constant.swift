public import VitIR

extension ElementType {
  /// The type of that number in ONNX's enumeration of element types, where vitc has it.
  init?(onnx code: Int) {
    switch code {
    case 1: self = .f32
    case 2: self = .u8
    case 3: self = .i8
    case 4: self = .u16
    case 5: self = .i16
    case 6: self = .i32
    case 7: self = .i64
    case 9: self = .bool
    case 10: self = .f16
    case 11: self = .f64
    case 12: self = .u32
    case 13: self = .u64
    case 16: self = .bf16
    default: return nil
    }
  }

  /// Its number in ONNX's enumeration of element types; whole numbers with scales are what they stand for.
  public var onnx: Int {
    switch self {
    case .f32, .q8, .w8, .w4: 1
    case .u8: 2
    case .i8: 3
    case .u16: 4
    case .i16: 5
    case .i32: 6
    case .i64: 7
    case .bool: 9
    case .f16: 10
    case .f64: 11
    case .u32: 12
    case .u64: 13
    case .bf16: 16
    }
  }
}

extension AttributeReader {
  /// An element type by its ONNX number, or `nil` where the attribute is absent (or 0, which ONNX calls
  /// undefined).
  mutating func optionalElement(_ name: String) throws(VitError) -> ElementType? {
    guard let code = try optionalInt(name), code != 0 else { return nil }
    guard let element = ElementType(onnx: code) else {
      throw VitError(
        "attribute '\(name)' is element type \(code), which is not supported", code: "element-type")
    }
    return element
  }
}

/// Writes numbers into views of any element type.
extension View {
  /// Sets every element to a number that its type can hold.
  func fill(_ value: Double, _ pool: any WorkPool) {
    func fill<T>(_ value: T) {
      let target = pointer(as: T.self)
      let grain = 1 << 16
      pool.run(tasks: (count + grain - 1) / grain) { task, _ in
        (target + task * grain).update(repeating: value, count: min(grain, count - task * grain))
      }
    }
    switch element {
    case .f64: fill(value)
    case .i64: fill(Int64(clamping: value))
    case .i32: fill(Int32(truncatingIfNeeded: Int64(clamping: value)))
    case .i8: fill(Int8(truncatingIfNeeded: Int64(clamping: value)))
    case .u8: fill(UInt8(truncatingIfNeeded: Int64(clamping: value)))
    case .bool: fill(value != 0 ? UInt8(1) : 0)
    default: fill(Float(value))
    }
  }

  /// The element at `index` as a number.
  func number(_ index: Int) -> Double {
    switch element {
    case .f64: f64[index]
    case .i64: Double(i64[index])
    case .i32: Double(pointer(as: Int32.self)[index])
    case .i8: Double(pointer(as: Int8.self)[index])
    case .u8, .bool: Double(pointer(as: UInt8.self)[index])
    default: Double(f32[index])
    }
  }
}

extension FixedWidthInteger {
  /// The nearest whole number towards zero; zero for no number.
  @inline(__always) init(clamping value: Double) {
    if let exact = Self(exactly: value.rounded(.towardZero)) {
      self = exact
    } else {
      self = value.isNaN ? 0 : value < 0 ? .min : .max
    }
  }
}

/// `onnx.ConstantOfShape(shape)`: one number everywhere.
///
/// The attribute `value`, a tensor of one element in ONNX, is a number here and `element` the code of its
/// type.
struct OnnxConstantOfShape: Operation {
  static let name = "onnx.ConstantOfShape"
  static let summary = "A tensor of one number"
  static let example = "(i64[2] = [2, 3]) {element = 1, value = 0.5}"
  let value: Double
  let element: ElementType

  init(attributes: inout AttributeReader) throws(VitError) {
    value = try attributes.float("value", default: 0)
    element = try attributes.optionalElement("element") ?? .f32
  }

  var attributes: Attributes {
    Attributes([("element", .int(element.onnx)), ("value", .float(value))])
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    return [TensorType(element.computed, try shapeOperand(operands, 0, "input"))]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    AxisMap((0..<results[0].rank).map { AxisMap.Letter(.parallel, [nil], [$0]) })
  }

  func role(of index: Int) -> OperandRole { .shape }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    guard !element.isFloat, let whole = Int(exactly: value), let shape = results[0].fixedShape,
      let count = boundedCount(shape)
    else { return [] }
    return [.integers(shape: shape, [Dimension](repeating: .fixed(whole), count: count))]
  }

  func forward(_ context: KernelContext) { context.output.fill(value, context.pool) }
}

/// The number of elements, where they are few enough to be known one by one.
func boundedCount(_ shape: [Int]) -> Int? {
  var count = 1
  for extent in shape {
    let (product, overflow) = count.multipliedReportingOverflow(by: extent)
    guard !overflow else { return nil }
    count = product
  }
  return count <= KnownValue.maximumIntegers ? count : nil
}

/// The extents that an operand holds, none of them negative.
func shapeOperand(_ operands: Operands, _ index: Int, _ role: String) throws(VitError) -> Shape {
  let shape = try operands.dimensions(index, role)
  for extent in shape.compactMap(\.fixedValue) where extent < 0 {
    throw VitError("input \(index) ('\(role)') is \(shape), which holds the negative extent \(extent)")
  }
  return shape
}

/// `onnx.Range(start, limit, delta)`.
struct OnnxRange: Operation {
  static let name = "onnx.Range"
  static let summary = "Numbers from a start, in equal steps, to before a limit"
  static let example = "(i64[] = [0], i64[] = [6], i64[] = [2])"
  let attributes = Attributes()

  init(attributes: inout AttributeReader) throws(VitError) {}

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...3)
    try operands.expectResults()
    let start = try operands.type(0, "start")
    for (index, role) in ["start", "limit", "delta"].enumerated() {
      try operands.expect(index, role, start.element)
      guard try operands.type(index, role).elements == 1 else {
        throw VitError("input \(index) ('\(role)') is \(try operands.type(index, role)), expected a scalar")
      }
    }
    return [TensorType(start.element, [try length(operands, start.element)])]
  }

  func role(of index: Int) -> OperandRole { .setting }

  private func length(_ operands: Operands, _ element: ElementType) throws(VitError) -> Dimension {
    if element.isFloat {
      guard let start = operands.value(0)?.numbers?.first, let limit = operands.value(1)?.numbers?.first,
        let delta = operands.value(2)?.numbers?.first
      else {
        throw VitError(
          "the bounds are computed from data, expected ones that are known when the model is compiled",
          code: "dynamic-shape")
      }
      guard delta != 0, !delta.isNaN else { throw VitError("the step is \(delta)") }
      return .fixed(max(0, Int(clamping: ((limit - start) / delta).rounded(.up))))
    }
    let start = try operands.dimensions(0, "start")[0]
    let limit = try operands.dimensions(1, "limit")[0]
    let delta = try operands.integers(2, "delta")[0]
    guard delta != 0 else { throw VitError("the step is 0") }
    let distance = delta < 0 ? start - limit : limit - start
    if isKnownNonnegative(-1 * distance) { return 0 }
    return distance.ceilingDivided(by: .fixed(Int(clamping: delta.magnitude)))
  }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    guard !results[0].element.isFloat, let count = results[0].fixedShape?[0],
      count <= KnownValue.maximumIntegers, let start = operands.value(0)?.dimensions?.first,
      let delta = operands.value(2)?.dimensions?.first
    else { return [] }
    return [.integers(shape: [count], (0..<count).map { start + delta * .fixed($0) })]
  }

  func forward(_ context: KernelContext) {
    let (start, delta, output) = (context.input(0), context.input(2), context.output)
    func range<T: BinaryFloatingPoint>(_ type: T.Type) {
      let (a, d, to) = (
        start.pointer(as: T.self)[0], delta.pointer(as: T.self)[0], output.pointer(as: T.self)
      )
      for index in 0..<output.count { to[index] = a + T(index) * d }
    }
    func range<T: FixedWidthInteger>(_ type: T.Type) {
      let (a, d, to) = (
        start.pointer(as: T.self)[0], delta.pointer(as: T.self)[0], output.pointer(as: T.self)
      )
      for index in 0..<output.count { to[index] = a &+ T(truncatingIfNeeded: index) &* d }
    }
    switch output.element {
    case .f64: range(Double.self)
    case .i64: range(Int64.self)
    case .i32: range(Int32.self)
    case .i8: range(Int8.self)
    case .u8, .bool: range(UInt8.self)
    default: range(Float.self)
    }
  }
}

/// `onnx.EyeLike(x)`: ones on a diagonal of a matrix.
struct OnnxEyeLike: Operation {
  static let name = "onnx.EyeLike"
  static let summary = "A matrix with ones on a diagonal"
  static let example = "(f32[2, 3]) {k = 0}"
  let element: ElementType?
  let diagonal: Int

  init(attributes: inout AttributeReader) throws(VitError) {
    element = try attributes.optionalElement("dtype")
    diagonal = try attributes.int("k", default: 0)
  }

  var attributes: Attributes {
    Attributes([("k", .int(diagonal))] + (element.map { [("dtype", .int($0.onnx))] } ?? []))
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    let like = try operands.type(0, "input")
    guard like.rank == 2 else { throw VitError("input 0 is \(like), expected a matrix") }
    return [TensorType((element ?? like.element).computed, like.shape)]
  }

  func role(of index: Int) -> OperandRole { .form }

  func forward(_ context: KernelContext) {
    let output = context.output
    output.zero()
    let (rows, columns) = (output.shape[0], output.shape[1])
    for row in 0..<rows {
      let (column, overflow) = row.addingReportingOverflow(diagonal)
      guard !overflow, column >= 0, column < columns else { continue }
      let place = View(
        base: output.base + (row * columns + column) * output.element.size, element: output.element,
        shape: [1])
      place.setNumber(1)
    }
  }
}

extension View {
  /// Sets the first element to a number that its type can hold.
  func setNumber(_ value: Double) {
    switch element {
    case .f64: f64[0] = value
    case .i64: i64[0] = Int64(clamping: value)
    case .i32: pointer(as: Int32.self)[0] = Int32(clamping: value)
    case .i8: pointer(as: Int8.self)[0] = Int8(clamping: value)
    case .u8: pointer(as: UInt8.self)[0] = UInt8(clamping: value)
    case .bool: pointer(as: UInt8.self)[0] = value != 0 ? 1 : 0
    default: f32[0] = Float(value)
    }
  }
}
