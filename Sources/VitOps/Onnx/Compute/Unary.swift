internal import VitIR
internal import VitRuntime

/// An operation that applies one function to each element of one operand.
///
/// On floats the function is a kernel of `Kernel.unary`, with its gradient; on whole numbers, where there is
/// such a form, `whole`.
protocol UnaryOperation: PointwiseOperation {
  /// The element types taken. Default: floats.
  static var elements: [ElementType] { get }
  /// The function on floats.
  var kind: UnaryKind { get }
  /// The function on whole numbers. Default: the identity, which no operation of floats alone reaches.
  func whole<T: FixedWidthInteger>(_ x: T) -> T
  /// The function on a polynomial, where that is one. Default: none.
  func dimension(_ x: Dimension) -> Dimension?
}

extension UnaryOperation {
  static var elements: [ElementType] { ElementType.reals }
  func whole<T: FixedWidthInteger>(_ x: T) -> T { x }
  func dimension(_ x: Dimension) -> Dimension? { nil }
  var attributes: Attributes { Attributes() }
  var memory: ResultMemory { .inPlace(operands: [0]) }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    return [try operands.typed(0, "X", Self.elements)]
  }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    operands.mapped(results[0], dimension)
  }

  func forward(_ context: KernelContext) {
    let (x, y) = (context.input(0), context.output)
    if x.element.isFloat {
      Kernel.unary(kind, x, into: y, pool: context.pool)
    } else {
      mapWhole(x, y, context.pool)
    }
  }

  /// Applies `whole`.
  func mapWhole(_ x: View, _ y: View, _ pool: any WorkPool) {
    let plan = Broadcasting(x.shape, x.shape, to: y.shape)
    func run<T: FixedWidthInteger>(_ type: T.Type) {
      plan.map(x, x, y, pool, as: (type, type, type)) { x, _ in whole(x) }
    }
    switch x.element {
    case .i64: run(Int64.self)
    case .i32: run(Int32.self)
    case .i8: run(Int8.self)
    default: run(UInt8.self)
    }
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dx = operandGradients[0] else { return }
    Kernel.unaryGradient(kind, x: context.input(0), y: context.output, dy: dy, adding: dx, pool: context.pool)
  }
}

extension Operands {
  /// What is known of an elementwise result of operand 0, from what is known of it.
  func mapped(_ result: TensorType, _ function: (Dimension) -> Dimension?) -> [KnownValue?] {
    guard let shape = result.fixedShape, let values = value(0)?.dimensions else { return [] }
    let results = values.compactMap(function)
    return results.count == values.count ? known(result, shape, results) : []
  }
}

/// An operation of one operand without attributes, on floats only.
protocol PlainUnary: UnaryOperation {
  init()
  static var kind: UnaryKind { get }
}

extension PlainUnary {
  init(attributes: inout AttributeReader) throws(VitError) { self.init() }
  var kind: UnaryKind { Self.kind }
}

struct OnnxExp: PlainUnary {
  static let (name, summary) = ("onnx.Exp", "The exponential of each element")
  static let kind = UnaryKind.exp
}

struct OnnxLog: PlainUnary {
  static let (name, summary) = ("onnx.Log", "The natural logarithm of each element")
  static let kind = UnaryKind.log
}

struct OnnxSqrt: PlainUnary {
  static let (name, summary) = ("onnx.Sqrt", "The square root of each element")
  static let kind = UnaryKind.sqrt
}

struct OnnxReciprocal: PlainUnary {
  static let (name, summary) = ("onnx.Reciprocal", "One over each element")
  static let kind = UnaryKind.reciprocal
}

struct OnnxErf: PlainUnary {
  static let (name, summary) = ("onnx.Erf", "The error function of each element")
  static let kind = UnaryKind.erf
}

struct OnnxTanh: PlainUnary {
  static let (name, summary) = ("onnx.Tanh", "The hyperbolic tangent of each element")
  static let kind = UnaryKind.tanh
}

struct OnnxSigmoid: PlainUnary {
  static let (name, summary) = ("onnx.Sigmoid", "1/(1 + e⁻ˣ) of each element")
  static let kind = UnaryKind.sigmoid
}

struct OnnxHardSwish: PlainUnary {
  static let (name, summary) = ("onnx.HardSwish", "x·clip(x/6 + 1/2, 0, 1) of each element")
  static let kind = UnaryKind.hardSwish
}

struct OnnxSoftplus: PlainUnary {
  static let (name, summary) = ("onnx.Softplus", "log(1 + eˣ) of each element")
  static let kind = UnaryKind.softplus
}

struct OnnxSoftsign: PlainUnary {
  static let (name, summary) = ("onnx.Softsign", "x/(1 + |x|) of each element")
  static let kind = UnaryKind.softsign
}

struct OnnxMish: PlainUnary {
  static let (name, summary) = ("onnx.Mish", "x·tanh(log(1 + eˣ)) of each element")
  static let kind = UnaryKind.mish
}

struct OnnxSin: PlainUnary {
  static let (name, summary) = ("onnx.Sin", "The sine of each element")
  static let kind = UnaryKind.sin
}

struct OnnxCos: PlainUnary {
  static let (name, summary) = ("onnx.Cos", "The cosine of each element")
  static let kind = UnaryKind.cos
}

struct OnnxTan: PlainUnary {
  static let (name, summary) = ("onnx.Tan", "The tangent of each element")
  static let kind = UnaryKind.tan
}

struct OnnxFloor: PlainUnary {
  static let (name, summary) = ("onnx.Floor", "Each element rounded down")
  static let kind = UnaryKind.floor
  func dimension(_ x: Dimension) -> Dimension? { x }
}

struct OnnxCeil: PlainUnary {
  static let (name, summary) = ("onnx.Ceil", "Each element rounded up")
  static let kind = UnaryKind.ceil
  func dimension(_ x: Dimension) -> Dimension? { x }
}

struct OnnxRound: PlainUnary {
  static let (name, summary) = (
    "onnx.Round", "Each element rounded to the nearest whole number, halves to the even one"
  )
  static let kind = UnaryKind.round
  func dimension(_ x: Dimension) -> Dimension? { x }
}

struct OnnxAbs: PlainUnary {
  static let (name, summary) = ("onnx.Abs", "The absolute value of each element")
  static let kind = UnaryKind.abs
  static let elements = ElementType.numbers
  func whole<T: FixedWidthInteger>(_ x: T) -> T { x < 0 ? 0 &- x : x }
  func dimension(_ x: Dimension) -> Dimension? {
    if isKnownNonnegative(x) { return x }
    return isKnownNonnegative(0 - x) ? 0 - x : nil
  }
}

struct OnnxNeg: PlainUnary {
  static let (name, summary) = ("onnx.Neg", "Each element with the other sign")
  static let kind = UnaryKind.negate
  static let elements: [ElementType] = [.f32, .f64, .i64, .i32, .i8]
  func whole<T: FixedWidthInteger>(_ x: T) -> T { 0 &- x }
  func dimension(_ x: Dimension) -> Dimension? { 0 - x }
  func use(of index: Int) -> PointwiseUse? { .negatedTerm }
}

struct OnnxSign: PlainUnary {
  static let (name, summary) = ("onnx.Sign", "-1, 0 or 1 as each element is negative, zero or positive")
  static let kind = UnaryKind.sign
  static let elements = ElementType.numbers
  func whole<T: FixedWidthInteger>(_ x: T) -> T { x.signum() }
  func dimension(_ x: Dimension) -> Dimension? { x.isPositive ? 1 : (0 - x).isPositive ? -1 : nil }
}

struct OnnxRelu: PlainUnary {
  static let (name, summary) = ("onnx.Relu", "Each element, or zero where it is negative")
  static let kind = UnaryKind.relu
  static let elements: [ElementType] = [.f32, .f64, .i64, .i32, .i8]
  func whole<T: FixedWidthInteger>(_ x: T) -> T { x < 0 ? 0 : x }
  func dimension(_ x: Dimension) -> Dimension? {
    if isKnownNonnegative(x) { return x }
    return isKnownNonnegative(0 - x) ? 0 : nil
  }
}
