internal import VitIR

/// `onnx.Col2Im(columns, image_shape, block_shape)`: adds columns `[n, c·block, positions]` up to images.
struct OnnxCol2Im: Operation {
  static let name = "onnx.Col2Im"
  static let summary = "Adds what windows hold to the image that they lie over"
  static let example = "(f32[1, 18, 1], i64[2] = [2, 3], i64[2] = [2, 3])"
  let window: WindowParameters

  init(attributes: inout AttributeReader) throws(VitError) { window = try WindowParameters(&attributes) }

  var attributes: Attributes { Attributes(window.entries) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...3)
    try operands.expectResults()
    let columns = try operands.floats(0, "input")
    let image = try operands.integers(1, "image_shape")
    let block = try operands.integers(2, "block_shape")
    let axes = image.count
    guard (1...3).contains(axes), block.count == axes, (image + block).allSatisfy({ $0 > 0 && $0 < 1 << 31 })
    else {
      throw VitError(
        "image_shape is \(image) and block_shape \(block), expected one to three positive extents each")
    }
    try window.expect(axes: axes)
    let count = TensorType(.u8, fixed: block)
    try count.validate()
    var positions = 1
    for axis in 0..<axes {
      let places = window.positions(axis: axis, extent: .fixed(image[axis]), kernel: block[axis], axes: axes)
      let (product, overflow) = positions.multipliedReportingOverflow(by: max(0, places.fixedValue ?? 0))
      positions = overflow ? 0 : product
    }
    guard columns.rank == 3, let channels = columns.shape[1].exactlyDivided(by: .fixed(count.count)),
      mayBeEqual(columns.shape[2], .fixed(positions))
    else {
      throw VitError(
        "input 0 is \(columns), expected [n, c·\(count.count), \(positions)]", code: "shape-mismatch")
    }
    return [TensorType(columns.element, [columns.shape[0], channels] + image.map(Dimension.fixed))]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .leading(1, results)
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1, 2: .setting
    default: .data
    }
  }

  private func windows(_ image: [Int], _ block: [Int]) -> Window {
    let axes = image.count
    let positions = image.indices.map {
      window.positions(axis: $0, extent: .fixed(image[$0]), kernel: block[$0], axes: axes).fixedValue ?? 0
    }
    return Window(
      window, image: image, kernel: block, positions: positions,
      before: image.indices.map { window.pads?[$0] ?? 0 })
  }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let types = try? resultTypes(operands), let block = operands.value(2)?.integers else { return [] }
    let shape = types[0].extents
    let window = windows(Array(shape[2...]), block)
    return [
      TensorType(types[0].element, fixed: [window.paddedCount(channels: shape[1])]),
      TensorType(
        types[0].element, fixed: [mode.training ? shape[1] * window.kernelCount * window.positionCount : 0]),
    ]
  }

  func forward(_ context: KernelContext) {
    let output = context.output
    let window = windows(Array(output.shape[2...]), context.input(2).wholeNumbers)
    output.zero()
    for item in 0..<output.shape[0] {
      window.scatter(
        context.input(0).slice(item), addingTo: output.slice(item), padded: context.scratch[0],
        channels: output.shape[1], context.pool)
    }
  }

  var isDifferentiable: Bool { true }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dx = operandGradients[0] else { return }
    let window = windows(Array(dy.shape[2...]), context.input(2).wholeNumbers)
    let columns = context.scratch[1]
    for item in 0..<dy.shape[0] {
      window.gather(
        dy.slice(item), into: columns, padded: context.scratch[0], channels: dy.shape[1], context.pool)
      flat(columns.count).add(columns, to: dx.slice(item), context.pool)
    }
  }
}
