internal import VitIR
internal import VitRuntime

/// `com.microsoft.FusedConv(x, w, bias?, z?)`: a convolution, to which `z` is added, then an activation.
struct MicrosoftFusedConv: ConvolutionOperation {
  static let (name, summary) = ("com.microsoft.FusedConv", "A convolution, a sum and an activation")
  static let example =
    #"(f32[1, 3, 2, 3], f32[4, 3, 3, 2], f32[4]) {activation = "Sigmoid", pads = [1, 1, 1, 1]}"#
  let convolution: OnnxConv
  /// The activation's ONNX operator; empty for none.
  let activation: String
  let parameters: [Double]
  private let kind: UnaryKind

  init(attributes: inout AttributeReader) throws(VitError) {
    convolution = try OnnxConv(attributes: &attributes)
    activation = try attributes.string("activation", default: "")
    parameters = try attributes.optionalFloats("activation_params") ?? []
    kind = try fusedActivation(activation, parameters)
  }

  var attributes: Attributes {
    var result = convolution.attributes.merging(Attributes([("activation", .string(activation))]))
    if !parameters.isEmpty { result["activation_params"] = .floats(parameters) }
    return result
  }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...4)
    for (index, role) in ["x", "w", "bias"].enumerated() { operands.note(index, role) }
    let first = Operands(
      Array(operands.types.prefix(3)), values: Array(operands.values.prefix(3)),
      resultCount: operands.resultCount)
    let types = try convolution.resultTypes(first)
    try operands.expectSame(3, "z", as: types[0].element)
    try operands.expectShape(3, "z", types[0].shape)
    return types
  }

  var windows: Int { convolution.windows }
  var groups: Int { convolution.groups }
  var steps: [Int]? { convolution.steps }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    var map = convolution.axes(operands, results)
    guard operands.has(3) else { return map }
    // What is added to the result has its axes.
    for index in map.letters.indices {
      while map.letters[index].operands.count < 4 { map.letters[index].operands.append(nil) }
      map.letters[index].operands[3] = map.letters[index].results[0]
    }
    return map
  }

  func role(of index: Int) -> OperandRole { index == 3 ? .data : convolution.role(of: index) }

  /// That of the convolution; in training the sum before the activation, and its gradient.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    let types = convolution.scratchTypes(operands, mode: mode)
    guard mode.training, let result = try? resultTypes(operands)[0] else { return types }
    return types + [result, result]
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost { convolution.cost(operands, results) }

  /// The sum before the activation.
  private func sum(_ context: KernelContext, into y: View) {
    let (image, weight) = (context.input(0), context.input(1))
    Convolution(convolution, image: image.shape, weight: weight.shape)
      .forward(image, weight, context.optionalInput(2), into: y, context)
    guard let other = context.optionalInput(3) else { return }
    Kernel.binary(.add, y, other, into: y, pool: context.pool)
  }

  func forward(_ context: KernelContext) {
    let y = context.output
    sum(context, into: y)
    if kind != .identity { Kernel.unary(kind, y, into: y, pool: context.pool) }
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (before, flow) = (
      context.scratch[context.scratch.count - 2], context.scratch[context.scratch.count - 1]
    )
    sum(context, into: before)
    flow.zero()
    Kernel.unaryGradient(kind, x: before, y: context.output, dy: dy, adding: flow, pool: context.pool)
    convolution.vjp(context, resultGradients: [flow], operandGradients: operandGradients)
    if operandGradients.count > 3, let dz = operandGradients[3] {
      Kernel.accumulate(flow, into: dz, pool: context.pool)
    }
  }
}
