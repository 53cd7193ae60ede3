internal import VitIR
internal import VitRuntime

/// A convolution of 8-bit numbers in whole numbers.
private struct WholeConvolution {
  let convolution: Convolution

  init(_ window: WindowParameters, groups: Int, image: [Int], weight: [Int]) {
    convolution = Convolution(window, groups: groups, image: image, weight: weight)
  }

  /// Columns and padded copy of an image.
  static func scratch(
    _ window: WindowParameters, groups: Int, _ image: TensorType, _ weight: TensorType
  ) -> [TensorType] {
    let whole = WholeConvolution(window, groups: groups, image: image.extents, weight: weight.extents)
    let (convolution, places) = (whole.convolution, whole.convolution.window.positionCount)
    let channels = convolution.groups * convolution.channels
    return [
      TensorType(image.element, fixed: [channels * convolution.window.kernelCount, places]),
      TensorType(image.element, fixed: [convolution.window.paddedCount(channels: channels)]),
    ]
  }

  /// `into ← (image − zero) ∗ (weight − weightZero)`, `[n, m, …]` as `i32`; outside the image is its zero
  /// point.
  func run(
    _ image: View, _ zero: View?, _ weight: View, _ weightZero: View?, into: View, scratch: [View],
    _ pool: any WorkPool
  ) {
    let window = convolution.window
    let (groups, channels, filters) = (convolution.groups, convolution.channels, convolution.filters)
    let (rows, places) = (channels * window.kernelCount, window.positionCount)
    guard into.count > 0 else { return }
    func part(_ view: View, _ index: Int, _ count: Int) -> View {
      View(base: view.base + index * count * view.element.size, element: view.element, shape: [count])
    }
    for item in 0..<convolution.batch {
      window.gather(
        image.slice(item), into: scratch[0], padded: scratch[1], channels: groups * channels,
        border: zero?.number(0) ?? 0, pool)
      for group in 0..<groups {
        Kernel.gemmBytes(
          m: filters, n: places, k: rows, a: part(weight, group, filters * rows),
          aZero: weightZero.map { $0.count == 1 ? $0 : part($0, group, filters) },
          b: part(scratch[0], group, rows * places), bZero: zero,
          c: part(into, item * groups + group, filters * places), pool: pool)
      }
    }
  }
}

/// A convolution of 8-bit numbers that are summed in whole numbers.
private protocol WholeConvolvingOperation: ConvolvingOperation {
  /// The zero points of the image, one, and of the weights, one or one for each filter.
  var zeros: (image: Int, weight: Int) { get }
}

extension WholeConvolvingOperation {
  /// The rule for quantised images and weights; returns the shape of the result.
  fileprivate func shape(_ operands: Operands) throws(VitError) -> Shape {
    let (x, w) = (try operands.bytes(0, "x"), try operands.bytes(windows, "w"))
    let shape = try convolutionShape(x, w, nil, window: window, groups: groups)
    try operands.expectZero(zeros.image, of: x.element, elements: 1)
    let isSingle = operands[zeros.weight].map { $0.elements == 1 } ?? true
    try operands.expectZero(zeros.weight, of: w.element, elements: isSingle ? 1 : w.shape[0])
    return shape
  }

  /// Working memory of `sum`.
  fileprivate func sumScratch(_ operands: Operands) -> [TensorType] {
    guard let image = operands[0], let weight = operands[windows] else { return [] }
    return WholeConvolution.scratch(window, groups: groups, image, weight)
  }

  /// The convolution in whole numbers.
  fileprivate func sum(_ context: KernelContext, into sums: View) {
    let (image, weight) = (context.input(0), context.input(windows))
    WholeConvolution(window, groups: groups, image: image.shape, weight: weight.shape).run(
      image, context.optionalInput(zeros.image), weight, context.optionalInput(zeros.weight), into: sums,
      scratch: context.scratch, context.pool)
  }
}

/// `onnx.ConvInteger(x, w, x_zero?, w_zero?)`.
struct OnnxConvInteger: WholeConvolvingOperation {
  static let name = "onnx.ConvInteger"
  static let summary = "Convolution of 8-bit numbers in whole numbers"
  static let example = "(u8[1, 2, 2, 3], u8[3, 2, 3, 2], u8[], u8[]) {pads = [1, 1, 1, 1]}"
  let window: WindowParameters
  let groups: Int
  var windows: Int { 1 }
  var bias: Int? { nil }
  fileprivate var zeros: (image: Int, weight: Int) { (2, 3) }
  var filterParameters: [Int] { [zeros.weight] }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...4)
    try operands.expectResults()
    return [TensorType(.i32, try shape(operands))]
  }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] { sumScratch(operands) }

  func forward(_ context: KernelContext) { sum(context, into: context.output) }
}

/// `onnx.QLinearConv(x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias?)`.
struct OnnxQLinearConv: WholeConvolvingOperation {
  static let name = "onnx.QLinearConv"
  static let summary = "Convolution of quantised numbers, quantised again"
  static let example =
    "(u8[1, 2, 2, 3], f32[], u8[], i8[3, 2, 3, 2], f32[], i8[], f32[], u8[], i32[3]) {pads = [1, "
    + "1, 1, 1]}"
  let window: WindowParameters
  let groups: Int
  var windows: Int { 3 }
  var bias: Int? { 8 }
  fileprivate var zeros: (image: Int, weight: Int) { (2, 5) }
  var filterParameters: [Int] { [4, zeros.weight, 8] }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(8...9)
    try operands.expectResults()
    let shape = try shape(operands)
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
    guard let types = try? resultTypes(operands) else { return [] }
    return sumScratch(operands) + [TensorType(.i32, types[0].shape)]
  }

  func forward(_ context: KernelContext) {
    let output = context.output
    let sums = context.scratch[2]
    sum(context, into: sums)
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
