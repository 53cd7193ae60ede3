internal import VitIR
internal import VitRuntime

/// `com.microsoft.FusedGemm`: `alpha·op(A)·op(B) + beta·C`, then an activation.
struct MicrosoftFusedGemm: MatrixProductOperation {
  static let (name, summary) = (
    "com.microsoft.FusedGemm", "alpha·A·B + beta·C of matrices, then an activation"
  )
  static let example = #"(f32[2, 5], f32[3, 5], f32[3]) {activation = "Tanh", transB = 1}"#
  let gemm: Gemm
  /// The activation's ONNX operator; empty for none.
  let activation: String
  let parameters: [Double?]
  private let kind: UnaryKind

  private static let parameterNames = ["activation_alpha", "activation_beta", "activation_gamma"]

  init(attributes: inout AttributeReader) throws(VitError) {
    gemm = try Gemm(attributes: &attributes)
    activation = try attributes.string("activation", default: "")
    var parameters: [Double?] = []
    for name in Self.parameterNames { parameters.append(try attributes.optionalFloat(name)) }
    // An older form has a name of its own for the one parameter it knew.
    let slope = try attributes.optionalFloat("leaky_relu_alpha")
    if parameters[0] == nil { parameters[0] = slope }
    self.parameters = parameters
    kind = try fusedActivation(activation, parameters)
  }

  var attributes: Attributes {
    var result = gemm.attributes.merging(Attributes([("activation", .string(activation))]))
    for (name, value) in zip(Self.parameterNames, parameters) { result[name] = value.map(Attribute.float) }
    return result
  }
  var isDifferentiable: Bool { true }
  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] { try gemm.resultTypes(operands) }

  var transposesRight: Bool { gemm.transB }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap { gemm.axes(operands, results) }

  func role(of index: Int) -> OperandRole { index < 2 ? .weight : .bias }
  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost { gemm.cost(operands, results) }

  /// The sum before the activation, and its gradient.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard mode.training, let type = try? resultTypes(operands)[0] else { return [] }
    return [type, type]
  }

  func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing] { gemm.packings(operands, stored) }

  func forward(_ context: KernelContext) { gemm.forward(context, into: context.output, activation: kind) }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (sum, flow) = (context.scratch[0], context.scratch[1])
    gemm.forward(context, into: sum)
    flow.zero()
    Kernel.unaryGradient(kind, x: sum, y: context.output, dy: dy, adding: flow, pool: context.pool)
    gemm.accumulate(context, flow, operandGradients)
  }
}

/// The activation that a fused operator names by its ONNX operator, with the parameters in that one's order.
func fusedActivation(_ name: String, _ parameters: [Double?]) throws(VitError) -> UnaryKind {
  func parameter(_ index: Int, _ otherwise: Double) -> Double {
    (index < parameters.count ? parameters[index] : nil) ?? otherwise
  }
  switch name {
  case "": return .identity
  case "Relu": return .relu
  case "LeakyRelu": return .leakyRelu(slope: parameter(0, 0.01))
  case "Sigmoid": return .sigmoid
  case "Tanh": return .tanh
  case "Softplus": return .softplus
  case "Softsign": return .softsign
  case "HardSigmoid": return .hardSigmoid(alpha: parameter(0, 0.2), beta: parameter(1, 0.5))
  case "HardSwish": return .hardSwish
  case "Elu": return .elu(alpha: parameter(0, 1), scale: 1)
  case "Selu":
    let scale = parameter(2, parameter(1, 1.05070102214813232421875))
    return .elu(alpha: parameter(0, 1.67326319217681884765625), scale: scale)
  case "ThresholdedRelu": return .thresholdedRelu(threshold: parameter(0, 1))
  case "Clip": return .clip(low: parameter(0, -.infinity), high: parameter(1, .infinity))
  case "Gelu": return .gelu
  default: throw VitError("attribute 'activation' is '\(name)', which is no activation that vitc fuses")
  }
}
