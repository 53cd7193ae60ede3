internal import Glibc
internal import VitIR

/// The attributes that pools share: how windows lie, and whether a last one that does not fit is dropped or kept.
struct PoolParameters: Sendable {
  let window: WindowParameters
  let ceiling: Bool

  init(_ reader: inout AttributeReader) throws(VitError) {
    window = try WindowParameters(&reader)
    ceiling = try reader.bool("ceil_mode", default: false)
  }

  /// The attributes in canonical form.
  var entries: [(String, Attribute)] { window.entries + (ceiling ? [("ceil_mode", .int(1))] : []) }
}

/// What pools have in common: windows over each channel by itself.
protocol PoolingOperation: Operation {
  var parameters: PoolParameters { get }
}

extension PoolingOperation {
  /// Of floats, the same.
  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    let image = try operands.floats(0, "x")
    return [TensorType(image.element, try pooledShape(image))]
  }

  /// The shape of the result, and the rule for the operand.
  func pooledShape(_ image: TensorType) throws(VitError) -> Shape {
    let (axes, window) = (image.rank - 2, parameters.window)
    guard let kernel = window.kernel else {
      throw VitError("attribute 'kernel_shape' (ints) is missing", code: "attribute-missing")
    }
    guard (1...3).contains(axes) else {
      throw VitError("x is \(image), expected [n, c, …] with one to three more axes", code: "shape-mismatch")
    }
    try window.expect(axes: axes)
    var shape: Shape = [image.shape[0], image.shape[1]]
    for axis in 0..<axes {
      let reach = window.reach(axis: axis, kernel: kernel[axis])
      for pad in [window.pads?[axis] ?? 0, window.pads?[axis + axes] ?? 0] where pad >= reach {
        throw VitError("padding of \(pad) is not smaller than the window's reach of \(reach)")
      }
      let count = window.positions(
        axis: axis, extent: image.shape[axis + 2], kernel: kernel[axis], axes: axes,
        ceiling: parameters.ceiling
      )
      if let fixed = count.fixedValue, fixed < 1, image.shape[axis + 2] != 0 {
        throw VitError("the image \(image) is smaller than the window \(kernel)", code: "shape-mismatch")
      }
      shape.append(count)
    }
    return shape
  }

  /// The windows over an image of known extents.
  func windows(_ image: [Int], _ result: [Int]) -> Window {
    let (extents, positions) = (Array(image[2...]), Array(result[2...]))
    let window = parameters.window
    let kernel = window.kernel ?? []
    let before = extents.indices.map {
      window.before(axis: $0, extent: extents[$0], positions: positions[$0], kernel: kernel[$0])
    }
    return Window(window, image: extents, kernel: kernel, positions: positions, before: before)
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    let bytes = (operands.types.compactMap { $0 } + results).reduce(0) { $0 + $1.count * $1.element.size }
    return Cost(flops: results[0].count * (parameters.window.kernel ?? []).reduce(1, *), bytes: bytes)
  }

  /// Images and channels run side by side.
  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    // The places of the greatest pixels are counted over all images.
    guard results.count == 1, let image = operands[0]?.shape else { return .mixed }
    let places = image.indices.dropFirst(2).filter { image[$0] == results[0].shape[$0] }
    return AxisMap(
      AxisMap.leading(2, results).letters + places.map { AxisMap.Letter(.aligned, [$0], [$0]) })
  }
}

/// `onnx.MaxPool(x)`: the greatest element of each window; a second result says where it was.
struct OnnxMaxPool: PoolingOperation {
  static let name = "onnx.MaxPool"
  static let summary = "The greatest element of each window"
  static let example = "(f32[1, 3, 4, 4]) {kernel_shape = [2, 2], strides = [2, 2]}"
  let parameters: PoolParameters
  let countsColumns: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    parameters = try PoolParameters(&attributes)
    countsColumns = try attributes.bool("storage_order", default: false)
  }

  var attributes: Attributes {
    Attributes(parameters.entries + (countsColumns ? [("storage_order", .int(1))] : []))
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults(2)
    let image = try operands.type(0, "x")
    let shape = try pooledShape(image)
    return Array([TensorType(image.element, shape), TensorType(.i64, shape)].prefix(operands.resultCount))
  }

  func savedTypes(_ operands: Operands) -> [TensorType] {
    guard let types = try? resultTypes(operands) else { return [] }
    return [TensorType(.i64, types[0].shape)]
  }

  func forward(_ context: KernelContext) {
    switch context.input(0).element {
    case .f64: run(context, lowest: -Double.greatestFiniteMagnitude)
    case .i64: run(context, lowest: Int64.min)
    case .i32: run(context, lowest: Int32.min)
    case .i8: run(context, lowest: Int8.min)
    case .u8, .bool: run(context, lowest: UInt8.min)
    default: run(context, lowest: -Float.greatestFiniteMagnitude)
    }
  }

  private func run<T: Comparable>(_ context: KernelContext, lowest: T) {
    let (image, output) = (context.input(0), context.output)
    let window = windows(image.shape, output.shape)
    let (pixels, places) = (window.imageCount, window.positionCount)
    let (x, y) = (image.pointer(as: T.self), output.pointer(as: T.self))
    let chosen = (context.outputs.dropFirst() + context.saved).map(\.i64)
    let step = window.strides[2]
    context.pool.run(tasks: image.shape[0] * image.shape[1]) { plane, _ in
      let (from, to) = (x + plane * pixels, y + plane * places)
      to.update(repeating: lowest, count: places)
      for list in chosen { (list + plane * places).update(repeating: 0, count: places) }
      window.forEachLine { _, position, pixel, count in
        for index in 0..<count where from[pixel &+ index &* step] > to[position &+ index] {
          to[position &+ index] = from[pixel &+ index &* step]
          for list in chosen { list[plane &* places &+ position &+ index] = Int64(pixel &+ index &* step) }
        }
      }
      if context.outputs.count > 1 {
        let list = context.outputs[1].i64 + plane * places
        for place in 0..<places { list[place] = Int64(plane * pixels) + ordered(list[place], window.image) }
      }
    }
  }

  /// A pixel's number, counted along rows or along columns.
  private func ordered(_ pixel: Int64, _ image: [Int]) -> Int64 {
    guard countsColumns else { return pixel }
    let (depth, height, width) = (Int64(image[0]), Int64(image[1]), Int64(image[2]))
    let (d, h, w) = (pixel / (height * width), pixel / width % height, pixel % width)
    return depth == 1 ? h + w * height : (w * height + h) * depth + d
  }

  var isDifferentiable: Bool { true }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let from = resultGradients[0], let to = operandGradients[0], from.count > 0 else { return }
    let planes = to.shape[0] * to.shape[1]
    let (pixels, places) = (to.count / planes, from.count / planes)
    let list = context.saved[0].i64
    func add<T: BinaryFloatingPoint>(_ a: UnsafeMutablePointer<T>, _ b: UnsafeMutablePointer<T>) {
      context.pool.run(tasks: planes) { plane, _ in
        for place in plane * places..<(plane + 1) * places {
          b[plane * pixels + Int(list[place])] += a[place]
        }
      }
    }
    if from.element == .f64 { add(from.f64, to.f64) } else { add(from.f32, to.f32) }
  }
}

/// `onnx.AveragePool(x)`: the mean of each window, over what lies in the image or over the padding too.
struct OnnxAveragePool: PoolingOperation {
  static let name = "onnx.AveragePool"
  static let summary = "The mean of each window"
  static let example = "(f32[1, 3, 4, 4]) {kernel_shape = [2, 2], strides = [2, 2]}"
  let parameters: PoolParameters
  let countsPadding: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    parameters = try PoolParameters(&attributes)
    countsPadding = try attributes.bool("count_include_pad", default: false)
  }

  var attributes: Attributes {
    Attributes(parameters.entries + (countsPadding ? [("count_include_pad", .int(1))] : []))
  }

  /// The padding after the image, along three axes.
  private func after(_ windows: Window) -> [Int] {
    let axes = parameters.window.kernel?.count ?? 0
    return (0..<3).map { place in
      let axis = place - (3 - axes)
      guard axis >= 0 else { return 0 }
      if parameters.window.autoPad == .upper || parameters.window.autoPad == .lower {
        return max(0, windows.full[place] - windows.image[place] - windows.before[place])
      }
      return parameters.window.pads?[axis + axes] ?? 0
    }
  }

  /// One over the number of elements that count at each position, as a product over three axes.
  private func shares(_ windows: Window) -> [[Double]] {
    let after = after(windows)
    return (0..<3).map { axis in
      let low = countsPadding ? -windows.before[axis] : 0
      let high = windows.image[axis] + (countsPadding ? after[axis] : 0)
      return (0..<windows.positions[axis]).map { position in
        let first = position * windows.strides[axis] - windows.before[axis]
        let count = (0..<windows.kernel[axis]).count {
          low <= first + $0 * windows.dilations[axis] && first + $0 * windows.dilations[axis] < high
        }
        return count == 0 ? 0 : 1 / Double(count)
      }
    }
  }

  /// Calls `body` with each position's place and share.
  private func forEachShare(_ shares: [[Double]], _ body: (_ place: Int, _ share: Double) -> Void) {
    var place = 0
    for a in shares[0] {
      for b in shares[1] {
        for c in shares[2] {
          body(place, a * b * c)
          place += 1
        }
      }
    }
  }

  func forward(_ context: KernelContext) {
    let (image, output) = (context.input(0), context.output)
    let window = windows(image.shape, output.shape)
    let shares = shares(window)
    let (pixels, places, step) = (window.imageCount, window.positionCount, window.strides[2])
    func run<T: BinaryFloatingPoint>(_ x: UnsafeMutablePointer<T>, _ y: UnsafeMutablePointer<T>) {
      context.pool.run(tasks: image.shape[0] * image.shape[1]) { plane, _ in
        let (from, to) = (x + plane * pixels, y + plane * places)
        to.update(repeating: 0, count: places)
        window.forEachLine { _, position, pixel, count in
          for index in 0..<count { to[position &+ index] += from[pixel &+ index &* step] }
        }
        forEachShare(shares) { place, share in to[place] *= T(share) }
      }
    }
    if image.element == .f64 { run(image.f64, output.f64) } else { run(image.f32, output.f32) }
  }

  var isDifferentiable: Bool { true }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard mode.training, let types = try? resultTypes(operands) else { return [] }
    return types
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dx = operandGradients[0] else { return }
    let window = windows(dx.shape, dy.shape)
    let shares = shares(window)
    let (pixels, places, step) = (window.imageCount, window.positionCount, window.strides[2])
    func run<T: BinaryFloatingPoint>(
      _ a: UnsafeMutablePointer<T>, _ b: UnsafeMutablePointer<T>, _ scaled: UnsafeMutablePointer<T>
    ) {
      context.pool.run(tasks: dx.shape[0] * dx.shape[1]) { plane, _ in
        let (from, to, each) = (a + plane * places, b + plane * pixels, scaled + plane * places)
        forEachShare(shares) { place, share in each[place] = from[place] * T(share) }
        window.forEachLine { _, position, pixel, count in
          for index in 0..<count { to[pixel &+ index &* step] += each[position &+ index] }
        }
      }
    }
    let scaled = context.scratch[0]
    if dy.element == .f64 { run(dy.f64, dx.f64, scaled.f64) } else { run(dy.f32, dx.f32, scaled.f32) }
  }
}

/// `onnx.LpPool(x)`: the p-norm of each window.
struct OnnxLpPool: PoolingOperation {
  static let name = "onnx.LpPool"
  static let summary = "The p-norm of each window"
  static let example = "(f32[1, 3, 4, 4]) {kernel_shape = [2, 2], strides = [2, 2]}"
  let parameters: PoolParameters
  let power: Int

  init(attributes: inout AttributeReader) throws(VitError) {
    parameters = try PoolParameters(&attributes)
    power = try attributes.int("p", default: 2)
    guard power > 0 else { throw VitError("attribute 'p' is \(power), expected a positive number") }
  }

  var attributes: Attributes { Attributes(parameters.entries + [("p", .int(power))]) }

  func forward(_ context: KernelContext) {
    let (image, output) = (context.input(0), context.output)
    let window = windows(image.shape, output.shape)
    let (pixels, places, step) = (window.imageCount, window.positionCount, window.strides[2])
    let p = Double(power)
    func run<T: BinaryFloatingPoint>(_ x: UnsafeMutablePointer<T>, _ y: UnsafeMutablePointer<T>) {
      context.pool.run(tasks: image.shape[0] * image.shape[1]) { plane, _ in
        let (from, to) = (x + plane * pixels, y + plane * places)
        to.update(repeating: 0, count: places)
        window.forEachLine { _, position, pixel, count in
          for index in 0..<count {
            to[position &+ index] += T(pow(abs(Double(from[pixel &+ index &* step])), p))
          }
        }
        for place in 0..<places { to[place] = T(pow(Double(to[place]), 1 / p)) }
      }
    }
    if image.element == .f64 { run(image.f64, output.f64) } else { run(image.f32, output.f32) }
  }

  var isDifferentiable: Bool { true }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dx = operandGradients[0] else { return }
    let (image, output) = (context.input(0), context.output)
    let window = windows(image.shape, output.shape)
    let (pixels, places, step) = (window.imageCount, window.positionCount, window.strides[2])
    let p = Double(power)
    func run<T: BinaryFloatingPoint>(_ type: T.Type) {
      let (x, y) = (image.pointer(as: T.self), output.pointer(as: T.self))
      let (a, b) = (dy.pointer(as: T.self), dx.pointer(as: T.self))
      context.pool.run(tasks: image.shape[0] * image.shape[1]) { plane, _ in
        let (first, place) = (plane * pixels, plane * places)
        window.forEachLine { _, position, pixel, count in
          for index in 0..<count {
            let at = first + pixel + index * step
            let (value, norm) = (Double(x[at]), Double(y[place + position + index]))
            guard norm > 0, value != 0 else { continue }
            let slope = pow(abs(value) / norm, p - 1) * (value < 0 ? -1 : 1)
            b[at] += a[place + position + index] * T(slope)
          }
        }
      }
    }
    if dy.element == .f64 { run(Double.self) } else { run(Float.self) }
  }
}

/// A pool whose window is the whole image.
protocol GlobalPoolingOperation: Operation {
  init()
}

extension GlobalPoolingOperation {
  init(attributes: inout AttributeReader) throws(VitError) { self.init() }
  var attributes: Attributes { Attributes() }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    let image = try operands.floats(0, "x")
    guard image.rank >= 2 else { throw VitError("x is \(image), expected [n, c, …]", code: "shape-mismatch") }
    return [TensorType(image.element, image.shape[..<2] + Shape(repeating: 1, count: image.rank - 2))]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap { .leading(2, results) }
}

/// `onnx.GlobalAveragePool(x)`.
struct OnnxGlobalAveragePool: GlobalPoolingOperation {
  static let name = "onnx.GlobalAveragePool"
  static let summary = "The mean of each channel"
  static let example = "(f32[1, 3, 2, 3])"

  func forward(_ context: KernelContext) {
    let (image, output) = (context.input(0), context.output)
    output.zero()
    guard output.count > 0 else { return }
    let pixels = image.count / output.count
    func run<T: BinaryFloatingPoint>(_ x: UnsafeMutablePointer<T>, _ y: UnsafeMutablePointer<T>) {
      context.pool.run(tasks: output.count) { plane, _ in
        var sum = 0.0
        for index in plane * pixels..<(plane + 1) * pixels { sum += Double(x[index]) }
        y[plane] = T(sum / Double(pixels))
      }
    }
    if image.element == .f64 { run(image.f64, output.f64) } else { run(image.f32, output.f32) }
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dx = operandGradients[0], dy.count > 0 else { return }
    let pixels = dx.count / dy.count
    func run<T: BinaryFloatingPoint>(_ a: UnsafeMutablePointer<T>, _ b: UnsafeMutablePointer<T>) {
      context.pool.run(tasks: dy.count) { plane, _ in
        let share = a[plane] / T(pixels)
        for index in plane * pixels..<(plane + 1) * pixels { b[index] += share }
      }
    }
    if dy.element == .f64 { run(dy.f64, dx.f64) } else { run(dy.f32, dx.f32) }
  }
}

/// `onnx.GlobalMaxPool(x)`.
struct OnnxGlobalMaxPool: GlobalPoolingOperation {
  static let name = "onnx.GlobalMaxPool"
  static let summary = "The greatest element of each channel"
  static let example = "(f32[1, 3, 2, 3])"

  func forward(_ context: KernelContext) {
    let (image, output) = (context.input(0), context.output)
    guard output.count > 0 else { return }
    let pixels = image.count / output.count
    func run<T: BinaryFloatingPoint>(_ x: UnsafeMutablePointer<T>, _ y: UnsafeMutablePointer<T>) {
      context.pool.run(tasks: output.count) { plane, _ in
        var best = -T.infinity
        for index in plane * pixels..<(plane + 1) * pixels { best = max(best, x[index]) }
        y[plane] = best
      }
    }
    if image.element == .f64 { run(image.f64, output.f64) } else { run(image.f32, output.f32) }
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dx = operandGradients[0], dy.count > 0 else { return }
    let (image, output) = (context.input(0), context.output)
    let pixels = dx.count / dy.count
    func run<T: BinaryFloatingPoint>(_ type: T.Type) {
      let (x, y) = (image.pointer(as: T.self), output.pointer(as: T.self))
      let (a, b) = (dy.pointer(as: T.self), dx.pointer(as: T.self))
      context.pool.run(tasks: dy.count) { plane, _ in
        let range = plane * pixels..<(plane + 1) * pixels
        if let index = range.first(where: { x[$0] == y[plane] }) { b[index] += a[plane] }
      }
    }
    if dy.element == .f64 { run(Double.self) } else { run(Float.self) }
  }
}
