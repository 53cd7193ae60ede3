internal import VitIR
internal import VitRuntime

/// A convolution, whatever its numbers are.
protocol ConvolvingOperation: ConvolutionOperation {
  var window: WindowParameters { get }
  /// The number of groups whose channels are apart.
  var groups: Int { get }
  /// The bias, where there is one.
  var bias: Int? { get }
  /// Operands with one number for each filter.
  var filterParameters: [Int] { get }
  init(window: WindowParameters, groups: Int)
}

extension ConvolvingOperation {
  init(attributes: inout AttributeReader) throws(VitError) {
    self.init(window: try WindowParameters(&attributes), groups: try attributes.groups())
  }

  var attributes: Attributes { Attributes(window.entries + [("group", .int(groups))]) }

  var steps: [Int]? { window.strides }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    imageAxes(operands, results, parameters: filterParameters)
  }

  /// What is none of image, windows and bias, says how numbers are quantised.
  func role(of index: Int) -> OperandRole {
    switch index {
    case 0: .data
    case windows: .weight
    case bias: .bias
    default: .quantisation
    }
  }
}

/// `onnx.Conv(x, w, bias?)`: `x` is `[n, c, …]`, `w` is `[m, c/group, …]`, with one to three spatial axes.
///
/// Windows are gathered as columns and multiplied with the weights; a window of one element needs no
/// gathering, and where each channel has its own weights they are applied directly.
struct OnnxConv: ConvolvingOperation {
  static let name = "onnx.Conv"
  static let summary = "Convolution"
  static let example = "(f32[1, 3, 8, 8], f32[4, 3, 3, 3], f32[4]) {pads = [1, 1, 1, 1], strides = [2, 2]}"
  let window: WindowParameters
  let groups: Int
  var windows: Int { 1 }
  var bias: Int? { 2 }
  var filterParameters: [Int] { [2] }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...3)
    try operands.expectResults()
    let image = try operands.floats(0, "x")
    let weight = try operands.type(1, "w")
    try operands.expect(1, "w", image.element)
    try operands.expect(2, "bias", image.element)
    let shape = try convolutionShape(
      image, weight, operands[2], window: window, groups: groups)
    return [TensorType(image.element, shape)]
  }

  func savedTypes(_ operands: Operands) -> [TensorType] { [] }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let image = operands[0]?.fixedShape, let weight = operands[1]?.fixedShape,
      let element = operands[0]?.element
    else { return [] }
    return Convolution(self, image: image, weight: weight).scratch(element)
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let weight = operands[1] else { return Cost() }
    let perElement = weight.extents.dropFirst().reduce(1, *)
    let bytes = (operands.types.compactMap { $0 } + results).reduce(0) { $0 + $1.count * $1.element.size }
    return Cost(flops: results[0].count * (2 * perElement + (operands.has(2) ? 1 : 0)), bytes: bytes)
  }

  func forward(_ context: KernelContext) {
    let (image, weight) = (context.input(0), context.input(1))
    let convolution = Convolution(self, image: image.shape, weight: weight.shape)
    convolution.forward(image, weight, context.optionalInput(2), into: context.output, context)
  }

  var isDifferentiable: Bool { true }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (image, weight) = (context.input(0), context.input(1))
    let convolution = Convolution(self, image: image.shape, weight: weight.shape)
    if context.optionalInput(2) != nil, let db = operandGradients[2] {
      sumChannels(dy, into: db, context.pool)
    }
    convolution.backward(image, weight, dy, operandGradients[0], operandGradients[1], context)
  }
}

/// Adds the sum over everything but axis 1 to `into`.
func sumChannels(_ view: View, into: View, _ pool: any WorkPool) {
  let inner = view.shape[2...].reduce(1, *)
  let shape = [view.shape[0], view.shape[1], inner]
  let target = Move.Region(strides: [0, 1, 0])
  Move(shape: shape, source: Move.Region(strides: rowMajorStrides(shape)), target: target)
    .add(view, to: into, pool)
}

/// Fills `[n, m, …]` with one number for each channel, or zero.
func fillChannels(_ view: View, with bias: View?, _ pool: any WorkPool) {
  guard let bias else { return view.zero() }
  let shape = [view.shape[0], view.shape[1], view.shape[2...].reduce(1, *)]
  Move(shape: shape, source: Move.Region(strides: [0, 1, 0])).copy(bias, to: view, pool)
}

/// The shape of a convolution's result, and the rule for its operands.
func convolutionShape(
  _ image: TensorType, _ weight: TensorType, _ bias: TensorType?, window: WindowParameters, groups: Int
) throws(VitError) -> Shape {
  let axes = image.rank - 2
  guard (1...3).contains(axes), weight.rank == image.rank else {
    throw VitError(
      "x is \(image) and w is \(weight), expected [n, c, …] and [m, c/group, …] with one to three more axes",
      code: "shape-mismatch")
  }
  try window.expect(axes: axes)
  guard let kernel = TensorType(weight.element, Array(weight.shape[2...])).fixedShape,
    kernel.allSatisfy({ $0 > 0 }), window.kernel.map({ $0 == kernel }) ?? true
  else {
    throw VitError("w is \(weight), expected windows of \(window.kernel ?? [1])", code: "shape-mismatch")
  }
  let (filters, channels) = (weight.shape[0], weight.shape[1] * .fixed(groups))
  guard filters.exactlyDivided(by: .fixed(groups)) != nil, mayBeEqual(channels, image.shape[1]) else {
    throw VitError(
      "x has \(image.shape[1]) channels and w is \(weight): with \(groups) groups it wants "
        + "\(channels) channels and a number of filters that \(groups) divides", code: "shape-mismatch")
  }
  if let bias, bias.shape != [filters] {
    throw VitError("the bias is \(bias), expected \(filters) elements", code: "shape-mismatch")
  }
  var shape: Shape = [image.shape[0], filters]
  for axis in 0..<axes {
    let count = window.positions(axis: axis, extent: image.shape[axis + 2], kernel: kernel[axis], axes: axes)
    if let fixed = count.fixedValue, fixed < 0 || fixed == 0 && image.shape[axis + 2] != 0 {
      throw VitError(
        "the image \(image) is smaller than the window \(kernel) along axis \(axis + 2)",
        code: "shape-mismatch")
    }
    shape.append(count)
  }
  return shape
}

/// A convolution of known extents.
struct Convolution {
  let window: Window
  let batch: Int
  let groups: Int
  /// Channels of the image and filters, of one group.
  let channels: Int
  let filters: Int

  init(_ operation: OnnxConv, image: [Int], weight: [Int]) {
    self.init(operation.window, groups: operation.groups, image: image, weight: weight)
  }

  init(_ parameters: WindowParameters, groups: Int, image: [Int], weight: [Int]) {
    let (extents, kernel) = (Array(image[2...]), Array(weight[2...]))
    let positions = extents.indices.map {
      parameters.positions(axis: $0, extent: .fixed(extents[$0]), kernel: kernel[$0], axes: extents.count)
        .fixedValue ?? 0
    }
    let before = extents.indices.map {
      parameters.before(axis: $0, extent: extents[$0], positions: positions[$0], kernel: kernel[$0])
    }
    window = Window(parameters, image: extents, kernel: kernel, positions: positions, before: before)
    batch = image[0]
    self.groups = groups
    channels = weight[1]
    filters = weight[0] / groups
  }

  /// Whether every channel has its own weights.
  var isDepthwise: Bool { channels == 1 && groups > 1 }
  /// Elements of the columns of one image.
  private var columnCount: Int { window.isIdentity ? 0 : groups * rows * window.positionCount }
  /// Rows of a group's columns.
  private var rows: Int { channels * window.kernelCount }
  /// Images whose columns are made at once.
  private var round: Int { max(1, min(batch, (1 << 20) / max(1, columnCount))) }

  /// Columns of a round, and the padded copy of one image.
  func scratch(_ element: ElementType) -> [TensorType] {
    isDepthwise || window.isIdentity
      ? [TensorType(element, [0]), TensorType(element, [0])]
      : [
        TensorType(element, fixed: [round, groups * rows, window.positionCount]),
        TensorType(element, fixed: [window.paddedCount(channels: groups * channels)]),
      ]
  }

  func forward(_ image: View, _ weight: View, _ bias: View?, into output: View, _ context: KernelContext) {
    fillChannels(output, with: bias, context.pool)
    guard output.count > 0, image.count > 0 else { return }
    if isDepthwise { return depthwise(image, weight, output, context.pool) }
    let places = window.positionCount
    for first in stride(from: 0, to: batch, by: round) {
      let count = min(round, batch - first)
      let columns = window.isIdentity ? image.slice(first..<first + count) : context.scratch[0]
      if !window.isIdentity {
        for item in 0..<count {
          window.gather(
            image.slice(first + item), into: columns.slice(item), padded: context.scratch[1],
            channels: groups * channels, context.pool)
        }
      }
      Kernel.batchedGemm(
        outer: count, inner: groups, m: filters, n: places, k: rows, a: weight,
        aStride: BatchStride(inner: filters * rows), b: columns,
        bStride: BatchStride(outer: groups * rows * places, inner: rows * places), beta: 1,
        c: output.slice(first..<first + count),
        cStride: BatchStride(outer: groups * filters * places, inner: filters * places), pool: context.pool)
    }
  }

  func backward(
    _ image: View, _ weight: View, _ dy: View, _ dx: View?, _ dw: View?, _ context: KernelContext
  ) {
    guard dy.count > 0, image.count > 0 else { return }
    if isDepthwise { return depthwiseGradient(image, weight, dy, dx, dw, context.pool) }
    let places = window.positionCount
    let (weightStride, columnStride) = (BatchStride(inner: filters * rows), BatchStride(inner: rows * places))
    let resultStride = BatchStride(inner: filters * places)
    for item in 0..<batch {
      let gradient = dy.slice(item)
      if let dw {
        let columns = window.isIdentity ? image.slice(item) : context.scratch[0].slice(0)
        if !window.isIdentity {
          window.gather(
            image.slice(item), into: columns, padded: context.scratch[1], channels: groups * channels,
            context.pool)
        }
        Kernel.batchedGemm(
          inner: groups, transB: true, m: filters, n: rows, k: places, a: gradient, aStride: resultStride,
          b: columns, bStride: columnStride, beta: 1, c: dw, cStride: weightStride, pool: context.pool)
      }
      guard let dx else { continue }
      let columns = window.isIdentity ? dx.slice(item) : context.scratch[0].slice(0)
      Kernel.batchedGemm(
        inner: groups, transA: true, m: rows, n: places, k: filters, a: weight, aStride: weightStride,
        b: gradient, bStride: resultStride, beta: window.isIdentity ? 1 : 0, c: columns,
        cStride: columnStride,
        pool: context.pool)
      if !window.isIdentity {
        window.scatter(
          columns, addingTo: dx.slice(item), padded: context.scratch[1], channels: groups * channels,
          context.pool)
      }
    }
  }
}

// MARK: - Own weights for every channel

extension Window {
  /// For each element of the window and each line of positions that sees some of the image there: the tap,
  /// where the line's first seen position is, the image element it sees, and how many positions there are.
  ///
  /// Along the line, positions are neighbours and image elements `strides[2]` apart.
  func forEachLine(_ body: (_ tap: Int, _ position: Int, _ pixel: Int, _ count: Int) -> Void) {
    for a in 0..<kernel[0] {
      let (depth, first) = span(axis: 0, tap: a)
      if depth.isEmpty { continue }
      for b in 0..<kernel[1] {
        let (rows, second) = span(axis: 1, tap: b)
        if rows.isEmpty { continue }
        for c in 0..<kernel[2] {
          let (columns, third) = span(axis: 2, tap: c)
          if columns.isEmpty { continue }
          for p in depth {
            for q in rows {
              let position = (p * positions[1] + q) * positions[2] + columns.lowerBound
              let line = (p * strides[0] + first) * image[1] + q * strides[1] + second
              let pixel = line * image[2] + columns.lowerBound * strides[2] + third
              body((a * kernel[1] + b) * kernel[2] + c, position, pixel, columns.count)
            }
          }
        }
      }
    }
  }

  /// The positions along an axis at which a tap of the kernel lies in the image, and where it lies at position zero.
  private func span(axis: Int, tap: Int) -> (Range<Int>, Int) {
    let offset = tap * dilations[axis] - before[axis]
    // Positions p with 0 ≤ p·stride + offset < extent.
    let step = strides[axis]
    let low = offset >= 0 ? 0 : (-offset + step - 1) / step
    let room = image[axis] - 1 - offset
    let high = room < 0 ? 0 : min(positions[axis], room / step + 1)
    return (low..<max(low, high), offset)
  }
}

extension Convolution {
  private func depthwise(_ image: View, _ weight: View, _ output: View, _ pool: any WorkPool) {
    func run<T: BinaryFloatingPoint>(_ type: T.Type) {
      let (x, w, y) = (image.pointer(as: T.self), weight.pointer(as: T.self), output.pointer(as: T.self))
      let step = window.strides[2]
      let (pixels, places, taps) = (window.imageCount, window.positionCount, window.kernelCount)
      pool.run(tasks: batch * groups * filters) { task, _ in
        let filter = task % (groups * filters)
        let from = x + (task / (groups * filters) * groups + filter / filters) * pixels
        let to = y + task * places
        window.forEachLine { tap, position, pixel, count in
          let factor = w[filter * taps + tap]
          let (a, b) = (from + pixel, to + position)
          if step == 1 {
            for index in 0..<count { b[index] += factor * a[index] }
          } else {
            for index in 0..<count { b[index] += factor * a[index &* step] }
          }
        }
      }
    }
    if image.element == .f64 { run(Double.self) } else { run(Float.self) }
  }

  private func depthwiseGradient(
    _ image: View, _ weight: View, _ dy: View, _ dx: View?, _ dw: View?, _ pool: any WorkPool
  ) {
    func run<T: BinaryFloatingPoint>(_ type: T.Type) {
      let (x, w, g) = (image.pointer(as: T.self), weight.pointer(as: T.self), dy.pointer(as: T.self))
      let (p, q) = (dx?.pointer(as: T.self), dw?.pointer(as: T.self))
      let step = window.strides[2]
      let (pixels, places, taps) = (window.imageCount, window.positionCount, window.kernelCount)
      // A task owns a channel and its filters in every image, so nothing is added to by two tasks.
      pool.run(tasks: groups) { group, _ in
        for item in 0..<batch {
          let channel = (item * groups + group) * pixels
          for filter in group * filters..<(group + 1) * filters {
            let gradient = g + (item * groups * filters + filter) * places
            window.forEachLine { tap, position, pixel, count in
              let (a, b) = (gradient + position, x + channel + pixel)
              if let q {
                var sum: T = 0
                for index in 0..<count { sum += a[index] * b[index &* step] }
                q[filter * taps + tap] += sum
              }
              if let p {
                let factor = w[filter * taps + tap]
                let c = p + channel + pixel
                for index in 0..<count { c[index &* step] += factor * a[index] }
              }
            }
          }
        }
      }
    }
    if image.element == .f64 { run(Double.self) } else { run(Float.self) }
  }
}

extension ConvolutionOperation {
  /// Images run side by side and, where channels come in one part, so do filters with their `parameters`;
  /// places of the image correspond where there is a window for each.
  func imageAxes(
    _ operands: Operands, _ results: [TensorType], parameters: [Int], filterAxis: Int = 0
  ) -> AxisMap {
    guard let image = operands[0]?.shape, let result = results.first?.shape, image.count == result.count
    else { return .mixed }
    var letters = [AxisMap.Letter(.parallel, [0], [0])]
    if groups == 1 {
      var axes = [Int?](repeating: nil, count: operands.count)
      axes[windows] = filterAxis
      for index in parameters where operands[index]?.shape == [result[1]] { axes[index] = 0 }
      letters.append(AxisMap.Letter(.parallel, axes, [1]))
    }
    for axis in 2..<max(2, image.count) where image[axis] == result[axis] {
      letters.append(AxisMap.Letter(.aligned, [axis], [axis]))
    }
    return AxisMap(letters)
  }
}
