internal import VitIR

/// What a comparison of two broadcast operands says of one pair.
protocol ComparisonFunction: Sendable {
  /// The ONNX operator.
  static var name: String { get }
  /// One line of what it computes.
  static var summary: String { get }
  /// The element types it takes.
  static var elements: [ElementType] { get }
  /// Its value.
  static func holds<T: Comparable>(_ a: T, _ b: T) -> Bool
  /// Its value on polynomials, where it is the same for all values of their symbols.
  static func decided(_ a: Dimension, _ b: Dimension) -> Bool?
}

/// `onnx.Equal` and the like: a comparison of operands of one type that broadcast; the result is `bool`.
struct OnnxComparison<Function: ComparisonFunction>: PointwiseOperation {
  static var name: String { Function.name }
  static var summary: String { Function.summary }
  static var example: String { "(f32[2, 3], f32[3])" }

  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    [TensorType(.bool, try operands.broadcastPair(Function.elements).shape)]
  }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    operands.combined(results[0]) { a, b in Function.decided(a, b).map { $0 ? 1 : 0 } }
  }

  func forward(_ context: KernelContext) {
    let (a, b, y) = (context.input(0), context.input(1), context.output)
    let plan = Broadcasting(a.shape, b.shape, to: y.shape)
    func run<T: Comparable>(_ type: T.Type) {
      plan.map(a, b, y, context.pool, as: (type, type, UInt8.self)) { Function.holds($0, $1) ? 1 : 0 }
    }
    switch a.element {
    case .f32: run(Float.self)
    case .f64: run(Double.self)
    case .i64: run(Int64.self)
    case .i32: run(Int32.self)
    case .i8: run(Int8.self)
    default: run(UInt8.self)
    }
  }
}

enum EqualFunction: ComparisonFunction {
  static let name = "onnx.Equal"
  static let summary = "Whether elements are equal, broadcast"
  static let elements = ElementType.numbers + [.bool]
  static func holds<T: Comparable>(_ a: T, _ b: T) -> Bool { a == b }
  static func decided(_ a: Dimension, _ b: Dimension) -> Bool? {
    if a == b { return true }
    if a.isFixed && b.isFixed { return false }
    return (a - b).isPositive || (b - a).isPositive ? false : nil
  }
}

enum LessFunction: ComparisonFunction {
  static let name = "onnx.Less"
  static let summary = "Whether elements of the first are less, broadcast"
  static let elements = ElementType.numbers
  static func holds<T: Comparable>(_ a: T, _ b: T) -> Bool { a < b }
  static func decided(_ a: Dimension, _ b: Dimension) -> Bool? {
    if (b - a).isPositive { return true }
    return isKnownNonnegative(a - b) ? false : nil
  }
}

enum LessOrEqualFunction: ComparisonFunction {
  static let name = "onnx.LessOrEqual"
  static let summary = "Whether elements of the first are less or equal, broadcast"
  static let elements = ElementType.numbers
  static func holds<T: Comparable>(_ a: T, _ b: T) -> Bool { a <= b }
  static func decided(_ a: Dimension, _ b: Dimension) -> Bool? { LessFunction.decided(b, a).map { !$0 } }
}

enum GreaterFunction: ComparisonFunction {
  static let name = "onnx.Greater"
  static let summary = "Whether elements of the first are greater, broadcast"
  static let elements = ElementType.numbers
  static func holds<T: Comparable>(_ a: T, _ b: T) -> Bool { a > b }
  static func decided(_ a: Dimension, _ b: Dimension) -> Bool? { LessFunction.decided(b, a) }
}

enum GreaterOrEqualFunction: ComparisonFunction {
  static let name = "onnx.GreaterOrEqual"
  static let summary = "Whether elements of the first are greater or equal, broadcast"
  static let elements = ElementType.numbers
  static func holds<T: Comparable>(_ a: T, _ b: T) -> Bool { a >= b }
  static func decided(_ a: Dimension, _ b: Dimension) -> Bool? { LessFunction.decided(a, b).map { !$0 } }
}
