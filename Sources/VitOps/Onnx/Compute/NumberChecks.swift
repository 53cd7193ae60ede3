internal import VitIR

/// An operation that asks the same of each element.
protocol CheckingOperation: PointwiseOperation {}

extension CheckingOperation {
  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    return [TensorType(.bool, try operands.typed(0, "X", ElementType.reals).shape)]
  }
}

/// `onnx.IsNaN`: whether each element is no number.
struct OnnxIsNaN: CheckingOperation {
  static let (name, summary) = ("onnx.IsNaN", "Whether each element is no number")

  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }

  func forward(_ context: KernelContext) { context.test({ $0.isNaN }, { $0.isNaN }) }
}

/// `onnx.IsInf`: whether each element is infinite, of the signs asked for.
struct OnnxIsInf: CheckingOperation {
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
