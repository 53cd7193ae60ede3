internal import Glibc
internal import VitIR

/// A scale and a zero point of one number each, among the operands of an operation.
struct QuantisedScalar {
  /// The operands' places; the zero point's operand may be absent.
  let scale: Int
  /// See `scale`.
  let zero: Int

  /// The scale at run time.
  func unit(_ context: KernelContext) -> Float { Float(context.input(scale).number(0)) }

  /// The zero point at run time.
  func offset(_ context: KernelContext) -> Float {
    context.optionalInput(zero).map { Float($0.number(0)) } ?? 0
  }

  /// The rule; returns the type of the numbers that they belong to, `u8` where nothing says otherwise.
  func check(_ operands: Operands, of element: ElementType? = nil) throws(VitError) -> ElementType {
    var found = element ?? .u8
    if element == nil, operands.has(zero) { found = try operands.bytes(zero, "zero_point").element }
    try operands.expectScalar(scale: scale, zero: zero, of: found)
    return found
  }
}

extension View {
  /// The element at `index` of a view of `u8` or `i8`.
  @inline(__always) func byte(_ index: Int) -> Int {
    element == .i8 ? Int(pointer(as: Int8.self)[index]) : Int(pointer(as: UInt8.self)[index])
  }

  /// Stores a number that is in range as element `index` of a view of `u8` or `i8`; no number becomes 0.
  @inline(__always) func setByte(_ index: Int, _ value: Float) {
    if element == .i8 {
      pointer(as: Int8.self)[index] = Int8(clamping: Double(value))
    } else {
      pointer(as: UInt8.self)[index] = UInt8(clamping: Double(value))
    }
  }

  /// Stores `value` quantised as element `index` of a view of `u8` or `i8`.
  @inline(__always) func setQuantised(_ index: Int, _ value: Float, unit: Float, offset: Float) {
    let (low, high): (Float, Float) = element == .i8 ? (-128, 127) : (0, 255)
    setByte(index, quantised(value / unit, zero: offset, low: low, high: high))
  }
}

/// `QLinearAdd` and `QLinearMul`: `(a, a_scale, a_zero?, b, b_scale, b_zero?, c_scale, c_zero?)`, broadcast.
protocol QuantisedBinary: PointwiseOperation, QuantisedOperation {
  /// The operation on floats.
  static var floatForm: any Operation.Type { get }
  /// The result in steps of `c` for operands in theirs, before it is rounded.
  static func steps(_ a: Int, _ b: Int, _ factors: QuantisedFactors) -> Float
}

/// Scales and zero points of two operands and a result.
struct QuantisedFactors {
  let a: (unit: Float, offset: Float)
  let b: (unit: Float, offset: Float)
  let c: (unit: Float, offset: Float)
}

extension QuantisedBinary {
  private var parameters: (a: QuantisedScalar, b: QuantisedScalar, c: QuantisedScalar) {
    (
      QuantisedScalar(scale: 1, zero: 2), QuantisedScalar(scale: 4, zero: 5),
      QuantisedScalar(scale: 6, zero: 7)
    )
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(7...8)
    try operands.expectResults()
    let (a, b) = (try operands.bytes(0, "a"), try operands.bytes(3, "b"))
    _ = try parameters.a.check(operands, of: a.element)
    _ = try parameters.b.check(operands, of: b.element)
    _ = try parameters.c.check(operands, of: a.element)
    return [TensorType(a.element, try broadcast(a.shape, b.shape))]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .pointwise(operands, results, of: [0, 3])
  }

  func role(of index: Int) -> OperandRole { index == 0 || index == 3 ? .data : .quantisation }

  func forward(_ context: KernelContext) {
    let (a, b, output) = (context.input(0), context.input(3), context.output)
    func pair(_ scalar: QuantisedScalar) -> (Float, Float) { (scalar.unit(context), scalar.offset(context)) }
    let factors = QuantisedFactors(a: pair(parameters.a), b: pair(parameters.b), c: pair(parameters.c))
    let (low, high): (Float, Float) = output.element == .i8 ? (-128, 127) : (0, 255)
    let places = BroadcastTriple([a.shape, b.shape, b.shape], to: output.shape)
    let (columns, steps) = places.row
    places.forEachRow { element, i, j, _ in
      for column in 0..<columns {
        let sum = Self.steps(a.byte(i + column * steps.0), b.byte(j + column * steps.1), factors)
        output.setByte(element + column, min(max(sum.rounded(.toNearestOrEven), low), high))
      }
    }
  }
}

/// `com.microsoft.QLinearAdd`.
struct MicrosoftQLinearAdd: QuantisedBinary {
  static let name = "com.microsoft.QLinearAdd"
  static let summary = "Sum of quantised numbers, quantised again"
  static let example = "(u8[1, 2, 3], f32[], u8[], u8[2, 1], f32[], u8[], f32[], u8[])"
  static let floatForm: any Operation.Type = OnnxBinary<AddFunction>.self
  let attributes = Attributes()
  init(attributes: inout AttributeReader) throws(VitError) {}

  static func steps(_ a: Int, _ b: Int, _ factors: QuantisedFactors) -> Float {
    let (p, q) = (factors.a.unit / factors.c.unit, factors.b.unit / factors.c.unit)
    let fixed = factors.c.offset - (p * factors.a.offset + q * factors.b.offset)
    return fixed + p * Float(a) + q * Float(b)
  }
}

/// `com.microsoft.QLinearMul`.
struct MicrosoftQLinearMul: QuantisedBinary {
  static let name = "com.microsoft.QLinearMul"
  static let summary = "Product of quantised numbers, quantised again"
  static let example = "(u8[1, 2, 3], f32[], u8[], u8[2, 1], f32[], u8[], f32[], u8[])"
  static let floatForm: any Operation.Type = OnnxBinary<MulFunction>.self
  let attributes = Attributes()
  init(attributes: inout AttributeReader) throws(VitError) {}

  static func steps(_ a: Int, _ b: Int, _ factors: QuantisedFactors) -> Float {
    let factor = factors.a.unit * factors.b.unit / factors.c.unit
    let product = (Float(a) - factors.a.offset) * (Float(b) - factors.b.offset)
    return product * factor + factors.c.offset
  }
}

/// A function of one quantised operand: `(x, x_scale, x_zero?, y_scale, y_zero?)`, by a table of its 256
/// results.
protocol QuantisedUnary: PointwiseOperation, QuantisedOperation {
  /// The operation on floats, which has the same attributes.
  static var floatForm: any Operation.Type { get }
  func apply(_ x: Float) -> Float
}

extension QuantisedUnary {
  private var parameters: (x: QuantisedScalar, y: QuantisedScalar) {
    (QuantisedScalar(scale: 1, zero: 2), QuantisedScalar(scale: 3, zero: 4))
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(4...5)
    try operands.expectResults()
    let x = try operands.bytes(0, "x")
    _ = try parameters.x.check(operands, of: x.element)
    _ = try parameters.y.check(operands, of: x.element)
    return [x]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .pointwise(operands, results, of: [0])
  }

  func role(of index: Int) -> OperandRole { index == 0 ? .data : .quantisation }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    operands[0].map { [TensorType($0.element, [256])] } ?? []
  }

  func forward(_ context: KernelContext) {
    let (x, y, table) = (context.input(0), context.output, context.scratch[0])
    let (xUnit, xOffset) = (parameters.x.unit(context), parameters.x.offset(context))
    let (unit, offset) = (parameters.y.unit(context), parameters.y.offset(context))
    for entry in 0..<256 {
      let number = x.element == .i8 ? Int(Int8(truncatingIfNeeded: entry)) : entry
      table.setQuantised(entry, apply((Float(number) - xOffset) * xUnit), unit: unit, offset: offset)
    }
    let (from, to) = (x.pointer(as: UInt8.self), y.pointer(as: UInt8.self))
    let entries = table.pointer(as: UInt8.self)
    for index in 0..<x.count { to[index] = entries[Int(from[index])] }
  }
}

/// `com.microsoft.QLinearSigmoid`.
struct MicrosoftQLinearSigmoid: QuantisedUnary {
  static let name = "com.microsoft.QLinearSigmoid"
  static let summary = "Logistic function of quantised numbers, quantised again"
  static let example = "(u8[1, 2, 3], f32[], u8[], f32[], u8[])"
  let attributes = Attributes()
  static let floatForm: any Operation.Type = OnnxSigmoid.self
  init(attributes: inout AttributeReader) throws(VitError) {}
  func apply(_ x: Float) -> Float { 1 / (1 + Glibc.expf(-x)) }
}

/// `com.microsoft.QLinearLeakyRelu`.
struct MicrosoftQLinearLeakyRelu: QuantisedUnary {
  static let name = "com.microsoft.QLinearLeakyRelu"
  static let summary = "Leaky rectifier of quantised numbers, quantised again"
  static let example = "(u8[1, 2, 3], f32[], u8[], f32[], u8[]) {alpha = 0.1}"
  static let floatForm: any Operation.Type = OnnxLeakyRelu.self
  let alpha: Double
  init(attributes: inout AttributeReader) throws(VitError) {
    alpha = try attributes.float("alpha", default: 0.01)
  }
  var attributes: Attributes { Attributes([("alpha", .float(alpha))]) }
  func apply(_ x: Float) -> Float { x < 0 ? Float(alpha) * x : x }
}

/// `com.microsoft.QLinearGlobalAveragePool(x, x_scale, x_zero, y_scale, y_zero)`.
struct MicrosoftQLinearGlobalAveragePool: Operation {
  static let name = "com.microsoft.QLinearGlobalAveragePool"
  static let summary = "The mean of each quantised channel, quantised again"
  static let example = "(u8[1, 3, 2, 3], f32[], u8[], f32[], u8[])"
  let channelsLast: Bool
  private let x = QuantisedScalar(scale: 1, zero: 2)
  private let y = QuantisedScalar(scale: 3, zero: 4)

  init(attributes: inout AttributeReader) throws(VitError) {
    channelsLast = try attributes.bool("channels_last", default: false)
  }

  var attributes: Attributes { Attributes([("channels_last", .int(channelsLast ? 1 : 0))]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(5...5)
    try operands.expectResults()
    let image = try operands.bytes(0, "x")
    _ = try x.check(operands, of: image.element)
    _ = try y.check(operands, of: image.element)
    guard image.rank >= 3 else { throw VitError("x is \(image), expected [n, c, …]", code: "shape-mismatch") }
    let ones = Shape(repeating: 1, count: image.rank - 2)
    let channels = channelsLast ? image.shape[image.rank - 1] : image.shape[1]
    return [
      TensorType(image.element, [image.shape[0]] + (channelsLast ? ones + [channels] : [channels] + ones))
    ]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let channels = channelsLast ? results[0].rank - 1 : 1
    return AxisMap([
      AxisMap.Letter(.parallel, [0], [0]), AxisMap.Letter(.parallel, [channels], [channels]),
    ])
  }

  func role(of index: Int) -> OperandRole { index == 0 ? .data : .quantisation }

  func forward(_ context: KernelContext) {
    let (image, output) = (context.input(0), context.output)
    guard output.count > 0 else { return }
    let pixels = image.count / output.count
    let channels = channelsLast ? output.shape[output.rank - 1] : output.shape[1]
    let (unit, offset) = (x.unit(context), x.offset(context))
    for plane in 0..<output.count {
      let (item, channel) = (plane / channels, plane % channels)
      let first = channelsLast ? item * pixels * channels + channel : plane * pixels
      let step = channelsLast ? channels : 1
      var sum = 0
      for pixel in 0..<pixels { sum += image.byte(first + pixel * step) }
      let mean = (Float(sum) - offset * Float(pixels)) * unit / Float(pixels)
      output.setQuantised(plane, mean, unit: y.unit(context), offset: y.offset(context))
    }
  }
}

/// `com.microsoft.QLinearConcat(y_scale, y_zero, x, x_scale, x_zero, …)`.
struct MicrosoftQLinearConcat: Operation {
  static let name = "com.microsoft.QLinearConcat"
  static let summary = "Joins quantised operands of different scales"
  static let example = "(f32[], u8[], u8[1, 2, 3], f32[], u8[], u8[1, 2, 3], f32[], u8[]) {axis = 1}"
  let axis: Int
  private let y = QuantisedScalar(scale: 0, zero: 1)

  init(attributes: inout AttributeReader) throws(VitError) { axis = try attributes.int("axis") }

  var attributes: Attributes { Attributes([("axis", .int(axis))]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectResults()
    guard operands.count >= 5, operands.count % 3 == 2 else {
      throw VitError("expected 2 inputs and 3 for each part, found \(operands.count)", code: "operand-count")
    }
    let element = try y.check(operands)
    var result = try operands.bytes(2, "x")
    let place = try normalisedAxis(axis, rank: result.rank)
    for index in stride(from: 2, to: operands.count, by: 3) {
      let part = try operands.bytes(index, "x")
      _ = try QuantisedScalar(scale: index + 1, zero: index + 2).check(operands, of: part.element)
      guard part.element == element, part.rank == result.rank,
        part.shape.indices.allSatisfy({ $0 == place || mayBeEqual(part.shape[$0], result.shape[$0]) })
      else {
        throw VitError(
          "input \(index) is \(part), which cannot be joined to \(result)", code: "shape-mismatch")
      }
      if index > 2 { result.shape[place] = result.shape[place] + part.shape[place] }
    }
    return [result]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let place = axis < 0 ? axis + results[0].rank : axis
    return .joined(
      operands, results[0], along: place, parts: Array(stride(from: 2, to: operands.count, by: 3)))
  }

  func role(of index: Int) -> OperandRole { index >= 2 && index % 3 == 2 ? .data : .quantisation }

  func forward(_ context: KernelContext) {
    let output = context.output
    let place = axis < 0 ? axis + output.rank : axis
    let inner = output.shape[(place + 1)...].reduce(1, *)
    let (unit, offset) = (y.unit(context), y.offset(context))
    var start = 0
    for index in stride(from: 2, to: context.inputs.count, by: 3) {
      let part = context.input(index)
      let own = QuantisedScalar(scale: index + 1, zero: index + 2)
      let (partUnit, partOffset) = (own.unit(context), own.offset(context))
      let run = part.shape[place] * inner
      for element in 0..<part.count {
        let target =
          element / max(1, run) * output.shape[place] * inner + start * inner + element % max(1, run)
        let value = (Float(part.byte(element)) - partOffset) * partUnit
        output.setQuantised(target, value, unit: unit, offset: offset)
      }
      start += part.shape[place]
    }
  }
}

/// `com.microsoft.QLinearSoftmax(x, x_scale, x_zero?, y_scale, y_zero)`; before operator set 13 over all axes
/// from `axis` on.
struct MicrosoftQLinearSoftmax: Operation {
  static let name = "com.microsoft.QLinearSoftmax"
  static let summary = "Softmax of quantised numbers, quantised again"
  static let example = "(u8[1, 2, 3], f32[], u8[], f32[], u8[]) {axis = -1, opset = 13}"
  let axis: Int
  let version: Int
  private let x = QuantisedScalar(scale: 1, zero: 2)
  private let y = QuantisedScalar(scale: 3, zero: 4)

  init(attributes: inout AttributeReader) throws(VitError) {
    axis = try attributes.int("axis", default: -1)
    version = try attributes.int("opset")
  }

  var attributes: Attributes { Attributes([("axis", .int(axis)), ("opset", .int(version))]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(5...5)
    try operands.expectResults()
    let input = try operands.bytes(0, "x")
    _ = try x.check(operands, of: input.element)
    _ = try y.check(operands, of: input.element)
    _ = try normalisedAxis(axis, rank: input.rank)
    return [input]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let place = axis < 0 ? axis + results[0].rank : axis
    // Before opset 13 all axes from this one on were normalised as one.
    return .rows(operands, results) { version < 13 ? $0 >= place : $0 == place }
  }

  func role(of index: Int) -> OperandRole { index == 0 ? .scores : .quantisation }

  func forward(_ context: KernelContext) {
    let (input, output) = (context.input(0), context.output)
    let place = axis < 0 ? axis + input.rank : axis
    let isOld = version < 13
    let extent = isOld ? input.shape[place...].reduce(1, *) : input.shape[place]
    let inner = isOld ? 1 : input.shape[(place + 1)...].reduce(1, *)
    guard input.count > 0 else { return }
    let (scale, offset) = (x.unit(context), y.offset(context))
    // ONNX Runtime counts in whole steps to one.
    let steps = (1 / y.unit(context)).rounded(.down)
    for line in 0..<input.count / extent {
      let first = line / inner * extent * inner + line % inner
      var (greatest, sum) = (Int.min, Float(0))
      for entry in 0..<extent { greatest = max(greatest, input.byte(first + entry * inner)) }
      func power(_ entry: Int) -> Float {
        Glibc.expf(Float(input.byte(first + entry * inner) - greatest) * scale)
      }
      for entry in 0..<extent { sum += power(entry) }
      for entry in 0..<extent {
        output.setQuantised(first + entry * inner, power(entry) * steps / sum, unit: 1, offset: offset)
      }
    }
  }
}
