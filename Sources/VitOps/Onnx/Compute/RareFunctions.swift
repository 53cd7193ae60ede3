internal import VitIR

/// A function of floats that models rarely use, computed element by element with the C library.
protocol RareFunction: Sendable {
  /// The ONNX operator.
  static var name: String { get }
  /// One line of what it computes.
  static var summary: String { get }
  /// Its value.
  static func value<T: Real>(_ x: T) -> T
  /// Its derivative.
  static func slope<T: Real>(_ x: T) -> T
}

/// `onnx.Asin` and the like.
struct OnnxRare<Function: RareFunction>: PointwiseOperation {
  static var name: String { Function.name }
  static var summary: String { Function.summary }

  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  var memory: ResultMemory { .inPlace(operands: [0]) }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    return [try operands.typed(0, "input", ElementType.reals)]
  }

  func forward(_ context: KernelContext) {
    let (x, y) = (context.input(0), context.output)
    let plan = Broadcasting(x.shape, x.shape, to: y.shape)
    func run<T: Real>(_ type: T.Type) {
      plan.map(x, x, y, context.pool, as: (type, type, type)) { x, _ in Function.value(x) }
    }
    x.element == .f64 ? run(Double.self) : run(Float.self)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dx = operandGradients[0] else { return }
    let x = context.input(0)
    let plan = Broadcasting(x.shape, x.shape, to: x.shape)
    func run<T: Real>(_ type: T.Type) {
      plan.accumulate(x, x, dy, into: dx, context.pool, as: (type, type)) { x, _ in Function.slope(x) }
    }
    x.element == .f64 ? run(Double.self) : run(Float.self)
  }
}

enum AsinFunction: RareFunction {
  static let (name, summary) = ("onnx.Asin", "The arc sine of each element")
  static func value<T: Real>(_ x: T) -> T { T.asin(x) }
  static func slope<T: Real>(_ x: T) -> T { 1 / (1 - x * x).squareRoot() }
}

enum AcosFunction: RareFunction {
  static let (name, summary) = ("onnx.Acos", "The arc cosine of each element")
  static func value<T: Real>(_ x: T) -> T { T.acos(x) }
  static func slope<T: Real>(_ x: T) -> T { -1 / (1 - x * x).squareRoot() }
}

enum AtanFunction: RareFunction {
  static let (name, summary) = ("onnx.Atan", "The arc tangent of each element")
  static func value<T: Real>(_ x: T) -> T { T.atan(x) }
  static func slope<T: Real>(_ x: T) -> T { 1 / (1 + x * x) }
}

enum SinhFunction: RareFunction {
  static let (name, summary) = ("onnx.Sinh", "The hyperbolic sine of each element")
  static func value<T: Real>(_ x: T) -> T { T.sinh(x) }
  static func slope<T: Real>(_ x: T) -> T { T.cosh(x) }
}

enum CoshFunction: RareFunction {
  static let (name, summary) = ("onnx.Cosh", "The hyperbolic cosine of each element")
  static func value<T: Real>(_ x: T) -> T { T.cosh(x) }
  static func slope<T: Real>(_ x: T) -> T { T.sinh(x) }
}

enum AsinhFunction: RareFunction {
  static let (name, summary) = ("onnx.Asinh", "The inverse hyperbolic sine of each element")
  static func value<T: Real>(_ x: T) -> T { T.asinh(x) }
  static func slope<T: Real>(_ x: T) -> T { 1 / (x * x + 1).squareRoot() }
}

enum AcoshFunction: RareFunction {
  static let (name, summary) = ("onnx.Acosh", "The inverse hyperbolic cosine of each element")
  static func value<T: Real>(_ x: T) -> T { T.acosh(x) }
  static func slope<T: Real>(_ x: T) -> T { 1 / (x * x - 1).squareRoot() }
}

enum AtanhFunction: RareFunction {
  static let (name, summary) = ("onnx.Atanh", "The inverse hyperbolic tangent of each element")
  static func value<T: Real>(_ x: T) -> T { T.atanh(x) }
  static func slope<T: Real>(_ x: T) -> T { 1 / (1 - x * x) }
}
