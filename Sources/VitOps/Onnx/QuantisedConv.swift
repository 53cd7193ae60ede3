internal import VitIR
internal import VitRuntime

/// The exact product of convolution weights and columns, both whole numbers held as `f32`.
private struct WholeConvolution {
  let convolution: Convolution

  init(_ window: WindowParameters, groups: Int, image: [Int], weight: [Int]) {
    convolution = Convolution(window, groups: groups, image: image, weight: weight)
  }

  /// Image and weights as floats, columns and padded copy of an image, a group's partial and whole sums.
  static func scratch(
    _ window: WindowParameters, groups: Int, _ image: TensorType, _ weight: TensorType
  ) -> [TensorType] {
    let whole = WholeConvolution(window, groups: groups, image: image.extents, weight: weight.extents)
    let (convolution, places) = (whole.convolution, whole.convolution.window.positionCount)
    let channels = convolution.groups * convolution.channels
    return [
      TensorType(.f32, image.shape), TensorType(.f32, weight.shape),
      TensorType(.f32, fixed: [channels * convolution.window.kernelCount, places]),
      TensorType(.f32, fixed: [convolution.window.paddedCount(channels: channels)]),
      TensorType(.f32, fixed: [convolution.filters, places]),
    ]
  }

  /// `into ← image ∗ weight`, `[n, m, …]` as `i32`.
  func run(into: View, scratch: [View], _ pool: any WorkPool) {
    let window = convolution.window
    let (groups, channels, filters) = (convolution.groups, convolution.channels, convolution.filters)
    let (rows, places) = (channels * window.kernelCount, window.positionCount)
    guard into.count > 0 else { return }
    for item in 0..<convolution.batch {
      window.gather(
        scratch[0].slice(item), into: scratch[2], padded: scratch[3], channels: groups * channels, pool)
      for group in 0..<groups {
        let target = View(
          base: into.base + (item * groups + group) * filters * places * into.element.size,
          element: into.element,
          shape: [filters, places])
        WholeProduct([filters, rows], [rows, places]).run(
          scratch[1].from(group * filters * rows), scratch[2].from(group * rows * places), into: target,
          partial: scratch[4], pool)
      }
    }
  }
}

/// The rule for quantised images and weights; returns the shape of the result.
private func quantisedConvolution(
  _ operands: Operands, _ image: Int, _ weight: Int, zeros: (Int, Int), window: WindowParameters, groups: Int
) throws(VitError) -> Shape {
  let (x, w) = (try operands.bytes(image, "x"), try operands.bytes(weight, "w"))
  let shape = try convolutionShape(x, w, nil, window: window, groups: groups)
  try operands.expectZero(zeros.0, of: x.element, elements: 1)
  if let zero = operands[zeros.1], zero.elements != 1 {
    try operands.expectZero(zeros.1, of: w.element, elements: w.shape[0])
  } else {
    try operands.expectZero(zeros.1, of: w.element, elements: 1)
  }
  return shape
}

private func widen(_ view: View, _ zero: View?, into: View) {
  let grid = QuantisedGrid(view.shape, parameters: zero?.shape ?? [], axis: 0, block: 0)
  dequantise(view, scale: nil, zero: zero, grid: grid, into: into)
}

/// `onnx.ConvInteger(x, w, x_zero?, w_zero?)`.
struct OnnxConvInteger: Operation {
  static let name = "onnx.ConvInteger"
  static let summary = "Convolution of 8-bit numbers in whole numbers"
  let window: WindowParameters
  let groups: Int

  init(attributes: inout AttributeReader) throws(VitError) {
    window = try WindowParameters(&attributes)
    groups = try attributes.int("group", default: 1)
    guard groups > 0 else { throw VitError("attribute 'group' is \(groups), expected a positive number") }
  }

  var attributes: Attributes { Attributes(window.entries + [("group", .int(groups))]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...4)
    try operands.expectResults()
    let shape = try quantisedConvolution(operands, 0, 1, zeros: (2, 3), window: window, groups: groups)
    return [TensorType(.i32, shape)]
  }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let image = operands[0], let weight = operands[1] else { return [] }
    return WholeConvolution.scratch(window, groups: groups, image, weight)
  }

  func forward(_ context: KernelContext) {
    let (image, weight) = (context.input(0), context.input(1))
    widen(image, context.optionalInput(2), into: context.scratch[0])
    widen(weight, context.optionalInput(3), into: context.scratch[1])
    WholeConvolution(window, groups: groups, image: image.shape, weight: weight.shape)
      .run(into: context.output, scratch: context.scratch, context.pool)
  }
}

/// `onnx.QLinearConv(x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias?)`.
struct OnnxQLinearConv: Operation {
  static let name = "onnx.QLinearConv"
  static let summary = "Convolution of quantised numbers, quantised again"
  let window: WindowParameters
  let groups: Int

  init(attributes: inout AttributeReader) throws(VitError) {
    window = try WindowParameters(&attributes)
    groups = try attributes.int("group", default: 1)
    guard groups > 0 else { throw VitError("attribute 'group' is \(groups), expected a positive number") }
  }

  var attributes: Attributes { Attributes(window.entries + [("group", .int(groups))]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(8...9)
    try operands.expectResults()
    let shape = try quantisedConvolution(operands, 0, 3, zeros: (2, 5), window: window, groups: groups)
    guard try operands.floats(1, "x_scale").elements == 1 else {
      throw VitError("input 1 ('x_scale') is not one number", code: "shape-mismatch")
    }
    let scale = try operands.floats(4, "w_scale")
    guard scale.elements == 1 || scale.shape == [shape[1]] else {
      throw VitError(
        "input 4 ('w_scale') is \(scale), expected one number or \(shape[1])", code: "shape-mismatch")
    }
    let y = try operands.bytes(7, "y_zero_point")
    try operands.expectScalar(scale: 6, zero: 7, of: y.element)
    try operands.expectShape(8, "bias", [shape[1]])
    try operands.expect(8, "bias", .i32)
    return [TensorType(y.element, shape)]
  }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let image = operands[0], let weight = operands[3], let types = try? resultTypes(operands) else {
      return []
    }
    return WholeConvolution.scratch(window, groups: groups, image, weight) + [
      TensorType(.i32, types[0].shape)
    ]
  }

  func forward(_ context: KernelContext) {
    let (image, weight, output) = (context.input(0), context.input(3), context.output)
    let sums = context.scratch[5]
    widen(image, context.input(2), into: context.scratch[0])
    widen(weight, context.input(5), into: context.scratch[1])
    WholeConvolution(window, groups: groups, image: image.shape, weight: weight.shape)
      .run(into: sums, scratch: context.scratch, context.pool)
    let (filters, places) = (output.shape[1], output.shape[2...].reduce(1, *))
    guard output.count > 0 else { return }
    let to = sums.pointer(as: Int32.self)
    if let bias = context.optionalInput(8)?.pointer(as: Int32.self) {
      for index in 0..<sums.count { to[index] &+= bias[index / places % filters] }
    }
    let (left, step) = (Float(context.input(1).number(0)), Float(context.input(6).number(0)))
    let factors = context.input(4).columnNumbers(filters).map { left * $0 / step }
    requantise(sums, factors: factors, per: places, zero: context.input(7), into: output)
  }
}
