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

/// `onnx.Not`: the other truth value.
struct OnnxNot: PointwiseOperation {
  static let (name, summary) = ("onnx.Not", "The other truth value of each element")

  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  var memory: ResultMemory { .inPlace(operands: [0]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    return [try operands.typed(0, "X", [.bool])]
  }

  func forward(_ context: KernelContext) {
    let (x, y) = (context.input(0), context.output)
    Broadcasting(x.shape, x.shape, to: y.shape)
      .map(x, x, y, context.pool, as: (UInt8.self, UInt8.self, UInt8.self)) { x, _ in x == 0 ? 1 : 0 }
  }
}

/// `onnx.BitwiseNot`: all bits inverted.
struct OnnxBitwiseNot: PointwiseOperation {
  static let (name, summary) = ("onnx.BitwiseNot", "Each whole number with its bits inverted")

  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  var memory: ResultMemory { .inPlace(operands: [0]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    return [try operands.typed(0, "X", ElementType.wholes)]
  }

  func forward(_ context: KernelContext) {
    let (x, y) = (context.input(0), context.output)
    for index in 0..<x.byteCount { y.pointer(as: UInt8.self)[index] = ~x.pointer(as: UInt8.self)[index] }
  }
}

/// `onnx.IsNaN`: whether each element is no number.
struct OnnxIsNaN: PointwiseOperation {
  static let (name, summary) = ("onnx.IsNaN", "Whether each element is no number")

  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    return [TensorType(.bool, try operands.typed(0, "X", ElementType.reals).shape)]
  }

  func forward(_ context: KernelContext) { context.test({ $0.isNaN }, { $0.isNaN }) }
}

/// `onnx.IsInf`: whether each element is infinite, of the signs asked for.
struct OnnxIsInf: PointwiseOperation {
  static let (name, summary) = ("onnx.IsInf", "Whether each element is infinite")
  let negative: Bool
  let positive: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    negative = try attributes.bool("detect_negative", default: true)
    positive = try attributes.bool("detect_positive", default: true)
  }
  var attributes: Attributes {
    Attributes([("detect_negative", .bool(negative)), ("detect_positive", .bool(positive))])
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    return [TensorType(.bool, try operands.typed(0, "X", ElementType.reals).shape)]
  }

  func forward(_ context: KernelContext) {
    let (negative, positive) = (negative, positive)
    context.test(
      { ($0 == -.infinity && negative) || ($0 == .infinity && positive) },
      { ($0 == -.infinity && negative) || ($0 == .infinity && positive) })
  }
}

extension KernelContext {
  /// Fills the first result with a truth value for each element of the first operand.
  fileprivate func test(_ single: (Float) -> Bool, _ double: (Double) -> Bool) {
    let (x, y) = (input(0), output)
    let plan = Broadcasting(x.shape, x.shape, to: y.shape)
    if x.element == .f64 {
      plan.map(x, x, y, pool, as: (Double.self, Double.self, UInt8.self)) { x, _ in double(x) ? 1 : 0 }
    } else {
      plan.map(x, x, y, pool, as: (Float.self, Float.self, UInt8.self)) { x, _ in single(x) ? 1 : 0 }
    }
  }
}
