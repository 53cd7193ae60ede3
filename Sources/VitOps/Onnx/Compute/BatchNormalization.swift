internal import VitIR
internal import VitRuntime

/// `onnx.BatchNormalization` in inference: each channel normalised by statistics that are operands.
struct OnnxBatchNormalization: Operation {
  static let name = "onnx.BatchNormalization"
  static let summary = "Each channel normalised by a given mean and variance, then scale and bias"
  static let example = "(f32[1, 3, 2, 3], f32[3], f32[3], f32[3], f32[3])"
  let epsilon: Double

  init(attributes: inout AttributeReader) throws(VitError) {
    epsilon = try attributes.float("epsilon", default: 1e-5)
    // How running statistics are updated matters in training only.
    _ = try attributes.optionalFloat("momentum")
    guard try !attributes.bool("training_mode", default: false) else {
      throw VitError(
        "the node takes its statistics from the batch ('training_mode' is 1), expected a model for inference",
        code: "training-mode", help: "export the model in evaluation mode")
    }
  }
  var attributes: Attributes { Attributes([("epsilon", .float(epsilon))]) }
  var memory: ResultMemory { .inPlace(operands: [0]) }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(5...5)
    try operands.expectResults()
    let x = try operands.typed(0, "X", ElementType.reals)
    guard x.rank >= 1 else { throw VitError("the input is a scalar, expected at least one axis") }
    // An operand of one axis is a batch of a single channel.
    let channels = x.rank == 1 ? 1 : x.shape[1]
    for (index, role) in [(1, "scale"), (2, "B"), (3, "input_mean"), (4, "input_var")] {
      _ = try operands.typed(index, role, ElementType.reals)
      try operands.expectSame(index, role, as: x.element)
      try operands.expectShape(index, role, [channels])
    }
    return [x]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    AxisMap(
      (0..<results[0].rank).map { axis in
        AxisMap.Letter(.parallel, axis == 1 ? [1, 0, 0, 0, 0] : [axis], [axis])
      })
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .gain
    case 2: .bias
    case 3, 4: .statistic
    default: .data
    }
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    let type = results[0]
    return Cost(flops: 2 * type.count, bytes: 2 * type.count * type.element.size)
  }

  private func extents(_ shape: [Int]) -> (items: Int, channels: Int, plane: Int) {
    shape.count == 1 ? (shape[0], 1, 1) : (shape[0], shape[1], shape[2...].reduce(1, *))
  }

  func forward(_ context: KernelContext) {
    let (x, y) = (context.input(0), context.output)
    let (items, channels, plane) = extents(x.shape)
    func run<T: Real>(_ type: T.Type) {
      func parameter(_ index: Int) -> UnsafeMutablePointer<T> { context.input(index).pointer(as: T.self) }
      let (scale, bias, mean, variance) = (parameter(1), parameter(2), parameter(3), parameter(4))
      let (source, target) = (x.pointer(as: T.self), y.pointer(as: T.self))
      context.pool.run(tasks: items * channels) { task, _ in
        let channel = task % channels
        let factor = scale[channel] / (variance[channel] + T(epsilon)).squareRoot()
        let offset = bias[channel] - mean[channel] * factor
        for index in task * plane..<(task + 1) * plane { target[index] = source[index] * factor + offset }
      }
    }
    x.element == .f64 ? run(Double.self) : run(Float.self)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (items, channels, plane) = extents(context.input(0).shape)
    func run<T: Real>(_ type: T.Type) {
      let inputs = context.inputs.map { $0?.pointer(as: T.self) }
      guard let x = inputs[0], let scale = inputs[1], let mean = inputs[3], let variance = inputs[4] else {
        return
      }
      let sinks = operandGradients.map { $0?.pointer(as: T.self) }
      let source = dy.pointer(as: T.self)
      context.pool.run(tasks: channels) { channel, _ in
        let deviation = 1 / (variance[channel] + T(epsilon)).squareRoot()
        let factor = scale[channel] * deviation
        var (sum, product): (T, T) = (0, 0)
        for item in 0..<items {
          let start = (item * channels + channel) * plane
          for index in start..<start + plane {
            sum += source[index]
            product += source[index] * (x[index] - mean[channel])
            sinks[0]?[index] += source[index] * factor
          }
        }
        sinks[1]?[channel] += product * deviation
        sinks[2]?[channel] += sum
        sinks[3]?[channel] -= sum * factor
        sinks[4]?[channel] -= product * factor * deviation * deviation / 2
      }
    }
    dy.element == .f64 ? run(Double.self) : run(Float.self)
  }
}
