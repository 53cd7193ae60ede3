internal import VitIR
internal import VitRuntime

/// `onnx.ConvTranspose(x, w, bias?)`: the gradient of a convolution with weights `w`, `[c, m/group, …]`, for
/// its image.
struct OnnxConvTranspose: ConvolutionOperation {
  static let name = "onnx.ConvTranspose"
  static let summary = "Transposed convolution"
  static let example = "(f32[1, 4, 5, 5], f32[4, 3, 2, 2], f32[3]) {strides = [2, 2]}"
  let window: WindowParameters
  let groups: Int
  let outputPadding: [Int]?
  let outputShape: [Int]?

  init(attributes: inout AttributeReader) throws(VitError) {
    window = try WindowParameters(&attributes)
    groups = try attributes.groups()
    outputPadding = try attributes.optionalInts("output_padding")
    outputShape = try attributes.optionalInts("output_shape")
    for (name, values) in [("output_padding", outputPadding), ("output_shape", outputShape)] {
      for value in values ?? [] where value < 0 || value > 1 << 31 {
        throw VitError("attribute '\(name)' holds \(value), expected numbers of at least 0")
      }
    }
  }

  var attributes: Attributes {
    var entries = window.entries + [("group", .int(groups))]
    if let outputPadding { entries.append(("output_padding", .ints(outputPadding))) }
    if let outputShape { entries.append(("output_shape", .ints(outputShape))) }
    return Attributes(entries)
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...3)
    try operands.expectResults()
    let image = try operands.floats(0, "x")
    let weight = try operands.type(1, "w")
    try operands.expect(1, "w", image.element)
    try operands.expect(2, "bias", image.element)
    let axes = image.rank - 2
    guard (1...3).contains(axes), weight.rank == image.rank else {
      throw VitError(
        "x is \(image) and w is \(weight), expected [n, c, …] and [c, m/group, …] with one to "
          + "three more axes",
        code: "shape-mismatch")
    }
    try window.expect(axes: axes)
    for (name, values) in [("output_padding", outputPadding), ("output_shape", outputShape)] {
      guard let values, values.count != axes else { continue }
      throw VitError("attribute '\(name)' is \(values), expected \(axes) numbers", code: "attribute-count")
    }
    guard let kernel = TensorType(weight.element, Array(weight.shape[2...])).fixedShape,
      kernel.allSatisfy({ $0 > 0 }), window.kernel.map({ $0 == kernel }) ?? true
    else {
      throw VitError("w is \(weight), expected windows of \(window.kernel ?? [1])", code: "shape-mismatch")
    }
    guard mayBeEqual(weight.shape[0], image.shape[1]),
      weight.shape[0].exactlyDivided(by: .fixed(groups)) != nil
    else {
      throw VitError(
        "x has \(image.shape[1]) channels and w is \(weight), expected as many, a multiple of \(groups)",
        code: "shape-mismatch")
    }
    let filters = weight.shape[1] * .fixed(groups)
    if let bias = operands[2], bias.shape != [filters] {
      throw VitError("the bias is \(bias), expected \(filters) elements", code: "shape-mismatch")
    }
    var shape: Shape = [image.shape[0], filters]
    for axis in 0..<axes {
      let extent = extent(axis: axis, of: image.shape[axis + 2], kernel: kernel[axis], axes: axes)
      if let fixed = extent.fixedValue, fixed < 0 {
        throw VitError(
          "the result would have the extent \(fixed) along axis \(axis + 2)", code: "shape-mismatch")
      }
      shape.append(extent)
    }
    return [TensorType(image.element, shape)]
  }

  var windows: Int { 1 }
  /// Windows lie as close as pixels; strides spread them in the result.
  var steps: [Int]? { nil }
  func channels(_ windows: Shape) -> Dimension { windows[0] }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    imageAxes(operands, results, parameters: [2], filterAxis: 1)
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .weight
    case 2: .bias
    default: .data
    }
  }

  /// What all windows reach over, with the padding that is added at the end.
  private func reach(axis: Int, of positions: Dimension, kernel: Int) -> Dimension {
    let stride = Dimension.fixed(window.strides?[axis] ?? 1)
    return (positions - 1) * stride
      + .fixed(window.reach(axis: axis, kernel: kernel) + (outputPadding?[axis] ?? 0))
  }

  private func extent(axis: Int, of positions: Dimension, kernel: Int, axes: Int) -> Dimension {
    if let outputShape { return .fixed(outputShape[axis]) }
    if window.autoPad == .upper || window.autoPad == .lower {
      return positions * .fixed(window.strides?[axis] ?? 1)
    }
    let pads = (window.pads?[axis] ?? 0) + (window.pads?[axis + axes] ?? 0)
    return reach(axis: axis, of: positions, kernel: kernel) - .fixed(pads)
  }

  /// The padding that is cut off before the image.
  private func cutBefore(axis: Int, positions: Int, kernel: Int, extent: Int) -> Int {
    guard outputShape != nil || window.autoPad == .upper || window.autoPad == .lower else {
      return window.pads?[axis] ?? 0
    }
    let total = max(
      0, (reach(axis: axis, of: .fixed(positions), kernel: kernel) - .fixed(extent)).fixedValue ?? 0)
    return window.autoPad == .upper ? total / 2 : total - total / 2
  }

  /// The windows over the result, whose positions are the operand's elements.
  private func windows(_ image: [Int], _ weight: [Int], _ result: [Int]) -> Window {
    let (positions, kernel, extents) = (Array(image[2...]), Array(weight[2...]), Array(result[2...]))
    let before = positions.indices.map {
      cutBefore(axis: $0, positions: positions[$0], kernel: kernel[$0], extent: extents[$0])
    }
    return Window(window, image: extents, kernel: kernel, positions: positions, before: before)
  }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let types = try? resultTypes(operands), let image = operands[0], let weight = operands[1] else {
      return []
    }
    let window = windows(image.extents, weight.extents, types[0].extents)
    let filters = weight.extents[1] * groups
    return [
      TensorType(image.element, fixed: [filters * window.kernelCount, window.positionCount]),
      TensorType(image.element, fixed: [window.paddedCount(channels: filters)]),
    ]
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let image = operands[0], let weight = operands[1] else { return Cost() }
    let bytes = (operands.types.compactMap { $0 } + results).reduce(0) { $0 + $1.count * $1.element.size }
    return Cost(flops: 2 * image.count * weight.extents.dropFirst().reduce(1, *), bytes: bytes)
  }

  func forward(_ context: KernelContext) {
    let (image, weight, output) = (context.input(0), context.input(1), context.output)
    fillChannels(output, with: context.optionalInput(2), context.pool)
    guard image.count > 0, output.count > 0 else { return }
    let window = windows(image.shape, weight.shape, output.shape)
    let rows = weight.shape[1] * window.kernelCount
    let (channels, places) = (image.shape[1] / groups, window.positionCount)
    for item in 0..<image.shape[0] {
      Kernel.batchedGemm(
        inner: groups, transA: true, m: rows, n: places, k: channels, a: weight,
        aStride: BatchStride(inner: channels * rows), b: image.slice(item),
        bStride: BatchStride(inner: channels * places), c: context.scratch[0],
        cStride: BatchStride(inner: rows * places), pool: context.pool)
      window.scatter(
        context.scratch[0], addingTo: output.slice(item), padded: context.scratch[1],
        channels: output.shape[1],
        context.pool)
    }
  }

  var isDifferentiable: Bool { true }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (image, weight) = (context.input(0), context.input(1))
    if context.optionalInput(2) != nil, let db = operandGradients[2] {
      sumChannels(dy, into: db, context.pool)
    }
    guard image.count > 0, dy.count > 0 else { return }
    let window = windows(image.shape, weight.shape, dy.shape)
    let rows = weight.shape[1] * window.kernelCount
    let (channels, places) = (image.shape[1] / groups, window.positionCount)
    let (imageStride, weightStride) = (
      BatchStride(inner: channels * places), BatchStride(inner: channels * rows)
    )
    for item in 0..<image.shape[0] {
      window.gather(
        dy.slice(item), into: context.scratch[0], padded: context.scratch[1], channels: dy.shape[1],
        context.pool)
      if let dx = operandGradients[0] {
        Kernel.batchedGemm(
          inner: groups, m: channels, n: places, k: rows, a: weight, aStride: weightStride,
          b: context.scratch[0],
          bStride: BatchStride(inner: rows * places), beta: 1, c: dx.slice(item), cStride: imageStride,
          pool: context.pool)
      }
      if let dw = operandGradients[1] {
        Kernel.batchedGemm(
          inner: groups, transB: true, m: channels, n: rows, k: places, a: image.slice(item),
          aStride: imageStride,
          b: context.scratch[0], bStride: BatchStride(inner: rows * places), beta: 1, c: dw,
          cStride: weightStride,
          pool: context.pool)
      }
    }
  }
}
