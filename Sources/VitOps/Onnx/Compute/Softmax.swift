internal import VitIR
internal import VitRuntime

/// The axis that a softmax and its kin work along, or, in their form before opset 13, all axes from it on as
/// one.
struct SoftmaxAxis: Sendable {
  let axis: Int
  /// Whether the operand is taken as a matrix whose columns are the axes from `axis` on.
  let flattens: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    let isOld = attributes.isBefore(opset: 13)
    axis = try attributes.int("axis", default: isOld ? 1 : -1)
    flattens = try attributes.bool("coerce2d", default: isOld)
  }

  var attributes: Attributes {
    var result = Attributes([("axis", .int(axis))])
    if flattens { result["coerce2d"] = .bool(true) }
    return result
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    let type = try operands.typed(0, "input", ElementType.reals)
    // A scalar has one axis to be flattened along, before its first; else the axis must be there.
    if flattens, axis == type.rank { return [type] }
    _ = try normalisedAxis(axis, rank: type.rank)
    return [type]
  }

  /// All axes run side by side but those that the softmax goes over.
  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let place = axis < 0 ? axis + (operands[0]?.rank ?? 0) : axis
    return .rows(operands, results) { flattens ? $0 >= place : $0 == place }
  }

  /// The operand as `[outer, width, inner]`, the softmax going over the middle.
  func extents(_ shape: [Int]) -> (outer: Int, width: Int, inner: Int) {
    let place = axis < 0 ? axis + shape.count : axis
    let outer = shape[..<place].reduce(1, *)
    if flattens { return (outer, shape[place...].reduce(1, *), 1) }
    return (outer, shape[place], shape[(place + 1)...].reduce(1, *))
  }
}

/// What a softmax-like operation does with the elements along its axis.
protocol SoftmaxFunction: Sendable {
  /// The ONNX operator.
  static var name: String { get }
  /// One line of what it computes.
  static var summary: String { get }
  /// Computes it along the last axis of `x`.
  static func rows(_ x: View, into y: View, pool: any WorkPool)
  /// Adds its gradient along the last axis.
  static func rowGradient(y: View, dy: View, adding dx: View, pool: any WorkPool)
}

/// `onnx.Softmax`, `LogSoftmax` and `Hardmax`. Minus infinity all along the axis gives NaN, but for `Hardmax`.
struct OnnxSoftmax<Function: SoftmaxFunction>: Operation {
  static var name: String { Function.name }
  static var summary: String { Function.summary }
  static var example: String { "(f32[2, 3]) {axis = -1}" }
  let axis: SoftmaxAxis

  init(attributes: inout AttributeReader) throws(VitError) { axis = try SoftmaxAxis(attributes: &attributes) }
  var attributes: Attributes { axis.attributes }
  var memory: ResultMemory { .inPlace(operands: [0]) }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] { try axis.resultTypes(operands) }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap { axis.axes(operands, results) }

  func role(of index: Int) -> OperandRole { .scores }

  /// Room for operand and result with the axis last, where it is not; three times in training.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let type = operands[0], axis.extents(type.extents).inner != 1 else { return [] }
    return [TensorType](repeating: type, count: mode.training ? 3 : 1)
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    let type = results[0]
    return Cost(flops: 5 * type.count, bytes: 2 * type.count * type.element.size)
  }

  func forward(_ context: KernelContext) {
    let (x, y) = (context.input(0), context.output)
    let (outer, width, inner) = axis.extents(x.shape)
    guard x.count > 0 else { return }
    if inner == 1 {
      return Function.rows(
        x.reshaped([outer, width]), into: y.reshaped([outer, width]), pool: context.pool)
    }
    let toRows = Move.toRows(outer, width, inner)
    let rows = context.scratch[0].reshaped([outer * inner, width])
    toRows.copy(x, to: rows, context.pool)
    Function.rows(rows, into: rows, pool: context.pool)
    toRows.reversed.copy(rows, to: y, context.pool)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dx = operandGradients[0], dy.count > 0 else { return }
    let (outer, width, inner) = axis.extents(dx.shape)
    if inner == 1 {
      let shape = [outer, width]
      return Function.rowGradient(
        y: context.output.reshaped(shape), dy: dy.reshaped(shape), adding: dx.reshaped(shape),
        pool: context.pool)
    }
    let toRows = Move.toRows(outer, width, inner)
    let rows = context.scratch.map { $0.reshaped([outer * inner, width]) }
    toRows.copy(context.output, to: rows[0], context.pool)
    toRows.copy(dy, to: rows[1], context.pool)
    rows[2].zero()
    Function.rowGradient(y: rows[0], dy: rows[1], adding: rows[2], pool: context.pool)
    toRows.reversed.add(rows[2], to: dx, context.pool)
  }
}

extension Move {
  /// From `[outer, width, inner]` to `[outer, inner, width]`.
  static func toRows(_ outer: Int, _ width: Int, _ inner: Int) -> Move {
    Move(shape: [outer, inner, width], source: Region(strides: [width * inner, 1, inner]))
  }
}

enum SoftmaxRows: SoftmaxFunction {
  static let name = "onnx.Softmax"
  static let summary = "Exponentials along an axis, divided by their sum"
  static func rows(_ x: View, into y: View, pool: any WorkPool) {
    Kernel.softmax(x, guarded: false, into: y, pool: pool)
  }
  static func rowGradient(y: View, dy: View, adding dx: View, pool: any WorkPool) {
    Kernel.softmaxGradient(y: y, dy: dy, adding: dx, pool: pool)
  }
}

enum LogSoftmaxRows: SoftmaxFunction {
  static let name = "onnx.LogSoftmax"
  static let summary = "The logarithm of the softmax along an axis"
  static func rows(_ x: View, into y: View, pool: any WorkPool) {
    Kernel.logSoftmax(x, guarded: false, into: y, pool: pool)
  }
  static func rowGradient(y: View, dy: View, adding dx: View, pool: any WorkPool) {
    Kernel.logSoftmaxGradient(y: y, dy: dy, adding: dx, pool: pool)
  }
}

/// Its gradient is zero wherever there is one.
enum HardmaxRows: SoftmaxFunction {
  static let name = "onnx.Hardmax"
  static let summary = "One for the first of the largest elements along an axis, zero for the others"
  static func rows(_ x: View, into y: View, pool: any WorkPool) {
    let width = x.shape[1]
    func run<T: Real>(_ type: T.Type) {
      for row in 0..<x.shape[0] {
        let (source, target) = (x.pointer(as: T.self) + row * width, y.pointer(as: T.self) + row * width)
        var best = 0
        for index in 1..<max(1, width) where source[index] > source[best] { best = index }
        for index in 0..<width { target[index] = index == best ? 1 : 0 }
      }
    }
    x.element == .f64 ? run(Double.self) : run(Float.self)
  }
  static func rowGradient(y: View, dy: View, adding dx: View, pool: any WorkPool) {}
}
