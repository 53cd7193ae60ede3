internal import VitIR
internal import VitRuntime

/// What an operation of two broadcast operands computes for one element.
protocol BinaryFunction: Sendable {
  /// The ONNX operator.
  static var name: String { get }
  /// One line of what it computes.
  static var summary: String { get }
  /// The element types it takes.
  static var elements: [ElementType] { get }
  /// Its value on floats.
  static func real<T: Real>(_ a: T, _ b: T) -> T
  /// Its value on whole numbers.
  static func whole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T
  /// Its value on polynomials, where that is one. `isReal`: they stand for floats.
  static func dimension(_ a: Dimension, _ b: Dimension, isReal: Bool) -> Dimension?
  /// The derivatives by `a` and by `b`.
  static func slopes<T: Real>(_ a: T, _ b: T) -> (T, T)
  /// The kernel that computes it and its derivatives on floats, where there is one.
  static var kind: BinaryKind? { get }
  /// Whether the second operand must broadcast to the first's shape. Default: both broadcast.
  static var keepsFirst: Bool { get }
  /// The number that does nothing to the first operand. Default: none.
  static var neutral: Double? { get }
  /// Whether the operands may change places. Default: no.
  static var commutes: Bool { get }
  /// How the operands enter the value. Default: in some other way.
  static var uses: (PointwiseUse, PointwiseUse)? { get }
}

extension BinaryFunction {
  static var keepsFirst: Bool { false }
  static var kind: BinaryKind? { nil }
  static var neutral: Double? { nil }
  static var commutes: Bool { false }
  static var uses: (PointwiseUse, PointwiseUse)? { nil }
}

/// `onnx.Add` and the like: `f(a, b)` of operands of one type that broadcast.
struct OnnxBinary<Function: BinaryFunction>: PointwiseOperation {
  static var name: String { Function.name }
  static var summary: String { Function.summary }
  static var example: String {
    let element = (Function.elements.first ?? .f32).rawValue
    return "(\(element)[2, 3], \(element)[3])"
  }

  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  var memory: ResultMemory { .inPlace(operands: [0, 1]) }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    let result = try operands.broadcastPair(Function.elements)
    guard let first = operands[0]?.shape, !Function.keepsFirst || first == result.shape else {
      throw VitError(
        "the second input broadcasts with the first to \(result.shape), expected the first's shape",
        code: "shape-mismatch")
    }
    return [result]
  }

  func identity(_ operands: Operands, _ results: [TensorType]) -> Int? {
    guard let neutral = Function.neutral else { return nil }
    if operands.holdsOnly(neutral, at: 1), operands[0] == results[0] { return 0 }
    return Function.commutes && operands.holdsOnly(neutral, at: 0) ? 1 : nil
  }

  func use(of index: Int) -> PointwiseUse? { index == 0 ? Function.uses?.0 : Function.uses?.1 }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    let isReal = results[0].element.isFloat
    return operands.combined(results[0]) { Function.dimension($0, $1, isReal: isReal) }
  }

  func forward(_ context: KernelContext) {
    let (a, b, y) = (context.input(0), context.input(1), context.output)
    if let kind = Function.kind, y.element.isFloat {
      return Kernel.binary(kind, a, b, into: y, pool: context.pool)
    }
    let plan = Broadcasting(a.shape, b.shape, to: y.shape)
    switch y.element {
    case .f32:
      plan.map(a, b, y, context.pool, as: (Float.self, Float.self, Float.self)) { Function.real($0, $1) }
    case .f64:
      plan.map(a, b, y, context.pool, as: (Double.self, Double.self, Double.self)) { Function.real($0, $1) }
    case .i64:
      plan.map(a, b, y, context.pool, as: (Int64.self, Int64.self, Int64.self)) { Function.whole($0, $1) }
    case .i32:
      plan.map(a, b, y, context.pool, as: (Int32.self, Int32.self, Int32.self)) { Function.whole($0, $1) }
    case .i8:
      plan.map(a, b, y, context.pool, as: (Int8.self, Int8.self, Int8.self)) { Function.whole($0, $1) }
    default:
      plan.map(a, b, y, context.pool, as: (UInt8.self, UInt8.self, UInt8.self)) { Function.whole($0, $1) }
    }
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (a, b) = (context.input(0), context.input(1))
    if let kind = Function.kind {
      return Kernel.binaryGradient(
        kind, a, b, dy: dy, adding: operandGradients[0], operandGradients[1], pool: context.pool)
    }
    let plan = Broadcasting(a.shape, b.shape, to: dy.shape)
    func run<T: Real>(_ type: T.Type) {
      if let da = operandGradients[0] {
        plan.accumulate(a, b, dy, into: da, context.pool, as: (type, type)) { Function.slopes($0, $1).0 }
      }
      if let db = operandGradients[1] {
        plan.swapped.accumulate(b, a, dy, into: db, context.pool, as: (type, type)) {
          Function.slopes($1, $0).1
        }
      }
    }
    dy.element == .f64 ? run(Double.self) : run(Float.self)
  }
}

extension Operands {
  /// The type of the result of two operands of one of the allowed types, which broadcast.
  func broadcastPair(_ allowed: [ElementType], names: (String, String) = ("A", "B")) throws(VitError)
    -> TensorType
  {
    try expectCount(2...2)
    try expectResults()
    let a = try typed(0, names.0, allowed)
    let b = try typed(1, names.1, allowed)
    try expectSame(1, names.1, as: a.element)
    return TensorType(a.element, try broadcast(a.shape, b.shape))
  }

  /// What is known of an elementwise result of operands 0 and 1, from what is known of them.
  func combined(_ result: TensorType, _ function: (Dimension, Dimension) -> Dimension?) -> [KnownValue?] {
    guard let shape = result.fixedShape, shape.reduce(1, *) <= KnownValue.maximumIntegers,
      let a = wholeElements(0), let b = wholeElements(1), let x = self[0]?.fixedShape,
      let y = self[1]?.fixedShape
    else { return [] }
    let plan = Broadcasting(x, y, to: shape)
    var values: [Dimension] = []
    for run in 0..<plan.runs {
      let (i, j) = plan.offsets(run)
      for k in 0..<plan.length {
        guard let value = function(a[i + k * plan.steps.0], b[j + k * plan.steps.1]) else { return [] }
        values.append(value)
      }
    }
    return known(result, shape, values)
  }

  /// Polynomials as what is known of a result. Where they hold no symbol they are folded by running instead,
  /// in types that these sums would not wrap or round as.
  func known(_ result: TensorType, _ shape: [Int], _ values: [Dimension]) -> [KnownValue?] {
    switch result.element {
    case .i64, .bool: break
    case .i32 where values.allSatisfy { $0.fixedValue.map { Int32(exactly: $0) != nil } ?? true }: break
    default: if values.allSatisfy(\.isFixed) { return [] }
    }
    return [.integers(shape: shape, values)]
  }
}

// MARK: - The functions

enum AddFunction: BinaryFunction {
  static let name = "onnx.Add"
  static let kind: BinaryKind? = .add
  static let neutral: Double? = 0
  static let commutes = true
  static let uses: (PointwiseUse, PointwiseUse)? = (.term, .term)
  static let summary = "The sum of two tensors, broadcast"
  static let elements = ElementType.numbers
  static func real<T: Real>(_ a: T, _ b: T) -> T { a + b }
  static func whole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a &+ b }
  static func dimension(_ a: Dimension, _ b: Dimension, isReal: Bool) -> Dimension? { a + b }
  static func slopes<T: Real>(_ a: T, _ b: T) -> (T, T) { (1, 1) }
}

enum SubFunction: BinaryFunction {
  static let name = "onnx.Sub"
  static let kind: BinaryKind? = .subtract
  static let neutral: Double? = 0
  static let uses: (PointwiseUse, PointwiseUse)? = (.term, .negatedTerm)
  static let summary = "The difference of two tensors, broadcast"
  static let elements = ElementType.numbers
  static func real<T: Real>(_ a: T, _ b: T) -> T { a - b }
  static func whole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a &- b }
  static func dimension(_ a: Dimension, _ b: Dimension, isReal: Bool) -> Dimension? { a - b }
  static func slopes<T: Real>(_ a: T, _ b: T) -> (T, T) { (1, -1) }
}

enum MulFunction: BinaryFunction {
  static let name = "onnx.Mul"
  static let kind: BinaryKind? = .multiply
  static let neutral: Double? = 1
  static let commutes = true
  static let uses: (PointwiseUse, PointwiseUse)? = (.factor, .factor)
  static let summary = "The product of two tensors element by element, broadcast"
  static let elements = ElementType.numbers
  static func real<T: Real>(_ a: T, _ b: T) -> T { a * b }
  static func whole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a &* b }
  static func dimension(_ a: Dimension, _ b: Dimension, isReal: Bool) -> Dimension? { a * b }
  static func slopes<T: Real>(_ a: T, _ b: T) -> (T, T) { (b, a) }
}

/// Whole numbers are divided towards zero; what is divided by zero is zero.
enum DivFunction: BinaryFunction {
  static let name = "onnx.Div"
  static let kind: BinaryKind? = .divide
  static let neutral: Double? = 1
  static let summary = "The quotient of two tensors, broadcast; of whole numbers rounded towards zero"
  static let elements = ElementType.numbers
  static func real<T: Real>(_ a: T, _ b: T) -> T { a / b }
  static func whole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T {
    b == 0 ? 0 : a.dividedReportingOverflow(by: b).partialValue
  }
  static func dimension(_ a: Dimension, _ b: Dimension, isReal: Bool) -> Dimension? {
    if let x = a.fixedValue, let y = b.fixedValue, !isReal { return .fixed(whole(x, y)) }
    if let exact = a.exactlyDivided(by: b) { return exact }
    // Rounding down is rounding towards zero where nothing is negative.
    return !isReal && isKnownNonnegative(a) && b.isPositive ? a.floorDivided(by: b) : nil
  }
  static func slopes<T: Real>(_ a: T, _ b: T) -> (T, T) { (1 / b, -a / (b * b)) }
}

enum PReluFunction: BinaryFunction {
  static let name = "onnx.PRelu"
  static let summary = "The element, multiplied by a slope where it is negative; the slope broadcasts to it"
  static let elements: [ElementType] = [.f32, .f64, .i64, .i32]
  static let keepsFirst = true
  static func real<T: Real>(_ a: T, _ b: T) -> T { a < 0 ? a * b : a }
  static func whole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a < 0 ? a &* b : a }
  static func dimension(_ a: Dimension, _ b: Dimension, isReal: Bool) -> Dimension? { nil }
  static func slopes<T: Real>(_ a: T, _ b: T) -> (T, T) { a < 0 ? (b, a) : (1, 0) }
}

enum BitwiseAndFunction: WholeFunction {
  static let name = "onnx.BitwiseAnd"
  static let summary = "The bits that are set in both whole numbers, broadcast"
  static func whole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a & b }
}

enum BitwiseOrFunction: WholeFunction {
  static let name = "onnx.BitwiseOr"
  static let summary = "The bits that are set in either whole number, broadcast"
  static func whole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a | b }
}

enum BitwiseXorFunction: WholeFunction {
  static let name = "onnx.BitwiseXor"
  static let summary = "The bits that are set in one of the two whole numbers, broadcast"
  static func whole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a ^ b }
}

enum AndFunction: TruthFunction {
  static let name = "onnx.And"
  static let summary = "Whether both are true, broadcast"
  static func whole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a & b }
}

enum OrFunction: TruthFunction {
  static let name = "onnx.Or"
  static let summary = "Whether one or both are true, broadcast"
  static func whole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a | b }
}

enum XorFunction: TruthFunction {
  static let name = "onnx.Xor"
  static let summary = "Whether just one of the two is true, broadcast"
  static func whole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a ^ b }
}

/// A function of whole numbers only, which has no derivative.
protocol WholeFunction: BinaryFunction {}

extension WholeFunction {
  static var elements: [ElementType] { ElementType.wholes }
  static func real<T: Real>(_ a: T, _ b: T) -> T { a }
  static func dimension(_ a: Dimension, _ b: Dimension, isReal: Bool) -> Dimension? {
    guard let x = a.fixedValue, let y = b.fixedValue else { return nil }
    return .fixed(whole(x, y))
  }
  static func slopes<T: Real>(_ a: T, _ b: T) -> (T, T) { (0, 0) }
}

/// A function of truth values, which are the whole numbers 0 and 1.
protocol TruthFunction: WholeFunction {}

extension TruthFunction {
  static var elements: [ElementType] { [.bool] }
}
