internal import VitIR

/// What an operation of any number of broadcast operands does to two of them.
protocol VariadicFunction: Sendable {
  /// The ONNX operator.
  static var name: String { get }
  /// One line of what it computes.
  static var summary: String { get }
  /// The element types it takes.
  static var elements: [ElementType] { get }
  /// Two floats joined.
  static func real<T: Real>(_ a: T, _ b: T) -> T
  /// Two whole numbers joined.
  static func whole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T
  /// Two polynomials joined, where that is decided.
  static func dimension(_ a: Dimension, _ b: Dimension) -> Dimension?
  /// Whether the result is one of the operands' elements, which then gets all of the gradient.
  static var selects: Bool { get }
  /// Whether the result is divided by the number of operands.
  static var averages: Bool { get }
}

/// `onnx.Sum`, `Mean`, `Max` and `Min`: one or more operands of one type that broadcast, joined element by
/// element.
struct OnnxVariadic<Function: VariadicFunction>: PointwiseOperation {
  static var name: String { Function.name }
  static var summary: String { Function.summary }
  static var example: String { "(f32[2, 3], f32[3])" }

  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...Int(Int32.max))
    try operands.expectResults()
    let first = try operands.typed(0, "data_0", Function.elements)
    var shape = first.shape
    for index in 1..<max(1, operands.count) {
      let type = try operands.typed(index, "data_\(index)", Function.elements)
      try operands.expectSame(index, "data_\(index)", as: first.element)
      shape = try broadcast(shape, type.shape)
    }
    return [TensorType(first.element, shape)]
  }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    guard operands.count == 2, !Function.averages else { return [] }
    return operands.combined(results[0], Function.dimension)
  }

  /// For `Max` and `Min`: which elements have found the operand that they came from.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard mode.training, Function.selects,
      let shape = try? broadcastAll(operands.types.compactMap { $0?.shape })
    else { return [] }
    return [TensorType(.u8, shape)]
  }

  func forward(_ context: KernelContext) {
    let y = context.output
    let inputs = context.inputs.compactMap { $0 }
    func join<T>(_ type: T.Type, _ function: (T, T) -> T) {
      let (a, b) = (inputs[0], inputs.count > 1 ? inputs[1] : inputs[0])
      let plan = Broadcasting(a.shape, b.shape, to: y.shape)
      if inputs.count == 1 {
        plan.map(a, b, y, context.pool, as: (type, type, type)) { a, _ in a }
      } else {
        plan.map(a, b, y, context.pool, as: (type, type, type), function)
      }
      for c in inputs.dropFirst(2) {
        Broadcasting(y.shape, c.shape, to: y.shape)
          .map(y, c, y, context.pool, as: (type, type, type), function)
      }
    }
    func floats<T: Real>(_ type: T.Type) {
      join(type) { Function.real($0, $1) }
      guard Function.averages, inputs.count > 1 else { return }
      let count = T(inputs.count)
      Broadcasting(y.shape, y.shape, to: y.shape)
        .map(y, y, y, context.pool, as: (type, type, type)) { a, _ in a / count }
    }
    func wholes<T: FixedWidthInteger>(_ type: T.Type) { join(type) { Function.whole($0, $1) } }
    switch y.element {
    case .f32: floats(Float.self)
    case .f64: floats(Double.self)
    case .i64: wholes(Int64.self)
    case .i32: wholes(Int32.self)
    case .i8: wholes(Int8.self)
    default: wholes(UInt8.self)
    }
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    func run<T: Real>(_ type: T.Type) {
      let share: T = Function.averages ? 1 / T(context.inputs.count) : 1
      if Function.selects { context.scratch[0].zero() }
      for (input, gradient) in zip(context.inputs, operandGradients) {
        guard let input else { continue }
        let plan = Broadcasting(input.shape, dy.shape, to: dy.shape)
        if Function.selects {
          select(input, context, dy, plan, into: gradient, as: type)
        } else if let gradient {
          plan.accumulate(input, dy, dy, into: gradient, context.pool, as: (type, type)) { _, _ in share }
        }
      }
    }
    dy.element == .f64 ? run(Double.self) : run(Float.self)
  }

  /// Gives the gradient of elements that came from `input`, and from no operand before it, to `input`.
  private func select<T: Real>(
    _ input: View, _ context: KernelContext, _ dy: View, _ plan: Broadcasting, into gradient: View?,
    as type: T.Type
  ) {
    let (x, y, source) = (
      input.pointer(as: T.self), context.output.pointer(as: T.self), dy.pointer(as: T.self)
    )
    let taken = context.scratch[0].pointer(as: UInt8.self)
    let sink = gradient?.pointer(as: T.self)
    let step = plan.steps.0
    plan.forEachPieceOwningFirst(context.pool) { at, i, _, count in
      for k in 0..<count where taken[at + k] == 0 && x[i + k * step] == y[at + k] {
        taken[at + k] = 1
        if let sink { sink[i + k * step] += source[at + k] }
      }
    }
  }
}

enum SumFunction: VariadicFunction {
  static let name = "onnx.Sum"
  static let summary = "The sum of any number of tensors, broadcast"
  static let elements = ElementType.reals
  static let (selects, averages) = (false, false)
  static func real<T: Real>(_ a: T, _ b: T) -> T { a + b }
  static func whole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a &+ b }
  static func dimension(_ a: Dimension, _ b: Dimension) -> Dimension? { a + b }
}

enum MeanFunction: VariadicFunction {
  static let name = "onnx.Mean"
  static let summary = "The mean of any number of tensors, broadcast"
  static let elements = ElementType.reals
  static let (selects, averages) = (false, true)
  static func real<T: Real>(_ a: T, _ b: T) -> T { a + b }
  static func whole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a &+ b }
  static func dimension(_ a: Dimension, _ b: Dimension) -> Dimension? { nil }
}

enum MaxFunction: VariadicFunction {
  static let name = "onnx.Max"
  static let summary = "The largest of any number of tensors, broadcast; NaN where one is"
  static let elements = ElementType.numbers
  static let (selects, averages) = (true, false)
  static func real<T: Real>(_ a: T, _ b: T) -> T { a > b || a != a ? a : b }
  static func whole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a > b ? a : b }
  static func dimension(_ a: Dimension, _ b: Dimension) -> Dimension? {
    LessFunction.decided(a, b).map { $0 ? b : a }
  }
}

enum MinFunction: VariadicFunction {
  static let name = "onnx.Min"
  static let summary = "The smallest of any number of tensors, broadcast; NaN where one is"
  static let elements = ElementType.numbers
  static let (selects, averages) = (true, false)
  static func real<T: Real>(_ a: T, _ b: T) -> T { a < b || a != a ? a : b }
  static func whole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a < b ? a : b }
  static func dimension(_ a: Dimension, _ b: Dimension) -> Dimension? {
    LessFunction.decided(a, b).map { $0 ? a : b }
  }
}
