internal import VitIR
internal import VitRuntime

/// `onnx.LeakyRelu`: `x`, or `alpha·x` where it is negative.
struct OnnxLeakyRelu: UnaryOperation {
  static let (name, summary) = ("onnx.LeakyRelu", "Each element, or alpha times it where it is negative")
  static let example = "(f32[1, 2, 3]) {alpha = 0.2}"
  let alpha: Double
  init(attributes: inout AttributeReader) throws(VitError) {
    alpha = try attributes.float("alpha", default: 0.01)
  }
  var attributes: Attributes { Attributes([("alpha", .float(alpha))]) }
  var kind: UnaryKind { .leakyRelu(slope: alpha) }
}

/// `onnx.Elu`: `x`, or `alpha·(eˣ − 1)` where it is negative.
struct OnnxElu: UnaryOperation {
  static let (name, summary) = ("onnx.Elu", "Each element, or alpha·(eˣ − 1) where it is negative")
  static let example = "(f32[1, 2, 3]) {alpha = 0.7}"
  let alpha: Double
  init(attributes: inout AttributeReader) throws(VitError) {
    alpha = try attributes.float("alpha", default: 1)
  }
  var attributes: Attributes { Attributes([("alpha", .float(alpha))]) }
  var kind: UnaryKind { .elu(alpha: alpha, scale: 1) }
}

/// `onnx.Selu`: `gamma·x`, or `gamma·alpha·(eˣ − 1)` where it is negative.
struct OnnxSelu: UnaryOperation {
  static let (name, summary) = (
    "onnx.Selu", "gamma times each element, or gamma·alpha·(eˣ − 1) where it is negative"
  )
  let alpha: Double
  let gamma: Double
  init(attributes: inout AttributeReader) throws(VitError) {
    alpha = try attributes.float("alpha", default: 1.67326319217681884765625)
    gamma = try attributes.float("gamma", default: 1.05070102214813232421875)
  }
  var attributes: Attributes { Attributes([("alpha", .float(alpha)), ("gamma", .float(gamma))]) }
  var kind: UnaryKind { .elu(alpha: alpha, scale: gamma) }
}

/// `onnx.Celu`: `x`, or `alpha·(e^(x/alpha) − 1)` where it is negative.
struct OnnxCelu: UnaryOperation {
  static let (name, summary) = ("onnx.Celu", "Each element, or alpha·(e^(x/alpha) − 1) where it is negative")
  static let example = "(f32[1, 2, 3]) {alpha = 0.7}"
  let alpha: Double
  init(attributes: inout AttributeReader) throws(VitError) {
    alpha = try attributes.float("alpha", default: 1)
  }
  var attributes: Attributes { Attributes([("alpha", .float(alpha))]) }
  var kind: UnaryKind { .celu(alpha: alpha) }
}

/// `onnx.HardSigmoid`: `alpha·x + beta` clipped to [0, 1].
struct OnnxHardSigmoid: UnaryOperation {
  static let (name, summary) = ("onnx.HardSigmoid", "alpha·x + beta clipped to 0 and 1")
  static let example = "(f32[1, 2, 3]) {alpha = 0.3}"
  let alpha: Double
  let beta: Double
  init(attributes: inout AttributeReader) throws(VitError) {
    alpha = try attributes.float("alpha", default: 0.2)
    beta = try attributes.float("beta", default: 0.5)
  }
  var attributes: Attributes { Attributes([("alpha", .float(alpha)), ("beta", .float(beta))]) }
  var kind: UnaryKind { .hardSigmoid(alpha: alpha, beta: beta) }
}

/// `onnx.ThresholdedRelu`: `x`, or zero where it is not above `alpha`.
struct OnnxThresholdedRelu: UnaryOperation {
  static let (name, summary) = ("onnx.ThresholdedRelu", "Each element, or zero where it is not above alpha")
  static let example = "(f32[1, 2, 3]) {alpha = 0.4}"
  let alpha: Double
  init(attributes: inout AttributeReader) throws(VitError) {
    alpha = try attributes.float("alpha", default: 1)
  }
  var attributes: Attributes { Attributes([("alpha", .float(alpha))]) }
  var kind: UnaryKind { .thresholdedRelu(threshold: alpha) }
}

/// `onnx.Swish`: `x·σ(alpha·x)`.
struct OnnxSwish: UnaryOperation {
  static let (name, summary) = ("onnx.Swish", "x/(1 + e^(-alpha·x)) of each element")
  static let example = "(f32[1, 2, 3]) {alpha = 1.3}"
  let alpha: Double
  init(attributes: inout AttributeReader) throws(VitError) {
    alpha = try attributes.float("alpha", default: 1)
  }
  var attributes: Attributes { Attributes([("alpha", .float(alpha))]) }
  var kind: UnaryKind { alpha == 1 ? .silu : .quickGelu(alpha: alpha) }
}

/// `onnx.Gelu`: `x·Φ(x)`, exactly or by the hyperbolic tangent.
struct OnnxGelu: UnaryOperation {
  static let (name, summary) = ("onnx.Gelu", "x times the normal distribution function of x")
  static let example = #"(f32[1, 2, 3]) {approximate = "tanh"}"#
  /// How Φ is computed.
  enum Approximation: String, CaseIterable { case none, tanh }
  let approximate: Approximation
  init(attributes: inout AttributeReader) throws(VitError) {
    approximate = try attributes.choice("approximate", default: .none)
  }
  var attributes: Attributes { Attributes([("approximate", .string(approximate.rawValue))]) }
  var kind: UnaryKind { approximate == .tanh ? .geluTanh : .gelu }
}

/// `onnx.Dropout` in inference: the first operand unchanged, and a mask of ones if it is asked for.
struct OnnxDropout: MovementOperation {
  static let (name, summary) = ("onnx.Dropout", "In inference its input unchanged")
  static let example = "(f32[1, 2, 3]) -> 2"

  init(attributes: inout AttributeReader) throws(VitError) {
    // What is dropped in training does not matter here.
    _ = try attributes.optionalFloat("ratio")
    _ = try attributes.optionalInt("seed")
  }
  var attributes: Attributes { Attributes() }
  var memory: ResultMemory { .inPlace(operands: [0]) }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...3)
    try operands.expectResults(2)
    let type = try operands.typed(0, "data", ElementType.reals)
    if operands.has(2) {
      guard let training = operands.value(2)?.integers?.first else {
        throw VitError(
          "input 2 ('training_mode') is computed from data, expected a constant", code: "dynamic-mode")
      }
      guard training == 0 else {
        throw VitError(
          "the node drops elements at random ('training_mode' is true), expected a model for inference",
          code: "training-mode", help: "export the model in evaluation mode")
      }
    }
    return Array([type, TensorType(.bool, type.shape)].prefix(operands.resultCount))
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .pointwise(operands, results, of: [0])
  }

  func identity(_ operands: Operands, _ results: [TensorType]) -> Int? {
    0
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1, 2: .setting
    default: .data
    }
  }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] { [operands.value(0)] }

  func forward(_ context: KernelContext) {
    if context.input(0).base != context.output.base { context.output.copy(from: context.input(0)) }
    guard context.outputs.count > 1 else { return }
    let mask = context.outputs[1]
    mask.base.initializeMemory(as: UInt8.self, repeating: 1, count: mask.byteCount)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dx = operandGradients[0] else { return }
    Kernel.unaryGradient(.identity, x: dy, y: dy, dy: dy, adding: dx, pool: context.pool)
  }
}
