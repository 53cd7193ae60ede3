internal import VitIR

/// An operation that turns each element of one operand into its opposite.
protocol NegatingOperation: PointwiseOperation {
  init()
  /// The element types taken.
  static var elements: [ElementType] { get }
}

extension NegatingOperation {
  init(attributes: inout AttributeReader) throws(VitError) { self.init() }
  var attributes: Attributes { Attributes() }
  var memory: ResultMemory { .inPlace(operands: [0]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    return [try operands.typed(0, "X", Self.elements)]
  }
}

/// `onnx.Not`: the other truth value.
struct OnnxNot: NegatingOperation {
  static let (name, summary) = ("onnx.Not", "The other truth value of each element")
  static let example = "(bool[1, 2, 3])"
  static let elements = [ElementType.bool]

  func forward(_ context: KernelContext) {
    let (x, y) = (context.input(0), context.output)
    Broadcasting(x.shape, x.shape, to: y.shape)
      .map(x, x, y, context.pool, as: (UInt8.self, UInt8.self, UInt8.self)) { x, _ in x == 0 ? 1 : 0 }
  }
}

/// `onnx.BitwiseNot`: all bits inverted.
struct OnnxBitwiseNot: NegatingOperation {
  static let (name, summary) = ("onnx.BitwiseNot", "Each whole number with its bits inverted")
  static let example = "(i64[1, 2, 3])"
  static let elements = ElementType.wholes

  func forward(_ context: KernelContext) {
    let (x, y) = (context.input(0), context.output)
    for index in 0..<x.byteCount { y.pointer(as: UInt8.self)[index] = ~x.pointer(as: UInt8.self)[index] }
  }
}
