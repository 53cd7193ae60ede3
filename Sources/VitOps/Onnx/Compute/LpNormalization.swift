internal import VitIR

/// `onnx.LpNormalization`: the elements along an axis divided by their norm; where that is zero, so are they.
struct OnnxLpNormalization: Operation {
  static let name = "onnx.LpNormalization"
  static let summary =
    "The elements along an axis divided by their sum of absolute values, or root sum of squares"
  static let example = "(f32[2, 3]) {axis = -1, p = 1}"
  let axis: Int
  /// Whether the norm is the sum of absolute values, rather than the root of the sum of squares.
  let isAbsolute: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    axis = try attributes.int("axis", default: -1)
    let p = try attributes.int("p", default: 2)
    guard p == 1 || p == 2 else { throw VitError("attribute 'p' is \(p), expected 1 or 2") }
    isAbsolute = p == 1
  }
  var attributes: Attributes { Attributes([("axis", .int(axis)), ("p", .int(isAbsolute ? 1 : 2))]) }
  var memory: ResultMemory { .inPlace(operands: [0]) }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    let type = try operands.typed(0, "input", ElementType.reals)
    _ = try normalisedAxis(axis, rank: type.rank)
    return [type]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let place = axis < 0 ? axis + results[0].rank : axis
    return .rows(operands, results) { $0 == place }
  }

  /// Calls `body` with the first element of each line along the axis and its norm.
  private func forEachLine<T: Real>(
    _ x: View, _ pool: any WorkPool, as type: T.Type, _ body: (_ start: Int, _ norm: T) -> Void
  ) {
    let (outer, width, inner) = x.split(at: axis)
    let source = x.pointer(as: T.self)
    pool.run(tasks: outer) { item, _ in
      for column in 0..<inner {
        let start = item * width * inner + column
        var sum: T = 0
        for step in 0..<width {
          let value = source[start + step * inner]
          sum += isAbsolute ? value.magnitude : value * value
        }
        body(start, isAbsolute ? sum : sum.squareRoot())
      }
    }
  }

  func forward(_ context: KernelContext) {
    let (x, y) = (context.input(0), context.output)
    let (_, width, inner) = x.split(at: axis)
    func run<T: Real>(_ type: T.Type) {
      let (source, target) = (x.pointer(as: T.self), y.pointer(as: T.self))
      forEachLine(x, context.pool, as: type) { start, norm in
        for index in stride(from: start, to: start + width * inner, by: inner) {
          target[index] = norm == 0 ? 0 : source[index] / norm
        }
      }
    }
    x.element == .f64 ? run(Double.self) : run(Float.self)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dx = operandGradients[0] else { return }
    let (x, y) = (context.input(0), context.output)
    let (_, width, inner) = x.split(at: axis)
    func run<T: Real>(_ type: T.Type) {
      let (elements, results) = (x.pointer(as: T.self), y.pointer(as: T.self))
      let (source, sink) = (dy.pointer(as: T.self), dx.pointer(as: T.self))
      forEachLine(x, context.pool, as: type) { start, norm in
        guard norm != 0 else { return }
        let line = stride(from: start, to: start + width * inner, by: inner)
        var dot: T = 0
        for index in line { dot += source[index] * results[index] }
        for index in line {
          let direction: T =
            !isAbsolute ? results[index] : elements[index] > 0 ? 1 : elements[index] < 0 ? -1 : 0
          sink[index] += (source[index] - direction * dot) / norm
        }
      }
    }
    dy.element == .f64 ? run(Double.self) : run(Float.self)
  }
}

/// `onnx.LRN`: each element divided by a power of the mean square of its neighbours in other channels.
struct OnnxLRN: Operation {
  static let name = "onnx.LRN"
  static let summary = "Each element divided by a power of the squares of its neighbours in other channels"
  static let example = "(f32[1, 3, 2, 3]) {alpha = 0.3, size = 3}"
  let alpha: Double
  let beta: Double
  let bias: Double
  let size: Int

  init(attributes: inout AttributeReader) throws(VitError) {
    alpha = try attributes.float("alpha", default: 1e-4)
    beta = try attributes.float("beta", default: 0.75)
    bias = try attributes.float("bias", default: 1)
    size = try attributes.int("size")
    guard size >= 1 else { throw VitError("attribute 'size' is \(size), expected at least 1") }
  }
  var attributes: Attributes {
    Attributes([
      ("alpha", .float(alpha)), ("beta", .float(beta)), ("bias", .float(bias)), ("size", .int(size)),
    ])
  }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    let type = try operands.typed(0, "X", ElementType.reals)
    guard type.rank >= 2 else {
      throw VitError("the input has the shape \(type.shape), expected batch and channels")
    }
    return [type]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .rows(operands, results) { $0 == 1 }
  }

  /// The base of the power at each element, in training.
  func savedTypes(_ operands: Operands) -> [TensorType] { [operands[0]].compactMap { $0 } }

  /// The channels whose squares count at `channel`.
  private func window(_ channel: Int, _ channels: Int) -> Range<Int> {
    let first = max(0, channel - (size - 1) / 2)
    return first..<max(first, channel + min(size / 2, channels - 1 - channel) + 1)
  }

  func forward(_ context: KernelContext) {
    let (x, y) = (context.input(0), context.output)
    let channels = x.shape[1]
    let plane = x.shape[2...].reduce(1, *)
    func run<T: Real>(_ type: T.Type) {
      let (source, target) = (x.pointer(as: T.self), y.pointer(as: T.self))
      let bases = context.saved.first?.pointer(as: T.self)
      let factor = T(alpha) / T(size)
      context.pool.run(tasks: x.shape[0] * channels) { task, _ in
        let (item, channel) = task.quotientAndRemainder(dividingBy: channels)
        for column in 0..<plane {
          var sum: T = 0
          for other in window(channel, channels) {
            let value = source[(item * channels + other) * plane + column]
            sum += value * value
          }
          let base = T(bias) + factor * sum
          let place = task * plane + column
          bases?[place] = base
          target[place] = source[place] * T.power(base, -T(beta))
        }
      }
    }
    x.element == .f64 ? run(Double.self) : run(Float.self)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dx = operandGradients[0] else { return }
    let (x, y, saved) = (context.input(0), context.output, context.saved[0])
    let channels = x.shape[1]
    let plane = x.shape[2...].reduce(1, *)
    func run<T: Real>(_ type: T.Type) {
      let (elements, results) = (x.pointer(as: T.self), y.pointer(as: T.self))
      let (source, sink, bases) = (dy.pointer(as: T.self), dx.pointer(as: T.self), saved.pointer(as: T.self))
      let factor = 2 * T(alpha) / T(size) * T(beta)
      context.pool.run(tasks: x.shape[0]) { item, _ in
        for channel in 0..<channels {
          for column in 0..<plane {
            let place = (item * channels + channel) * plane + column
            sink[place] += source[place] * T.power(bases[place], -T(beta))
            let share = factor * source[place] * results[place] / bases[place]
            for other in window(channel, channels) {
              let neighbour = (item * channels + other) * plane + column
              sink[neighbour] -= share * elements[neighbour]
            }
          }
        }
      }
    }
    dy.element == .f64 ? run(Double.self) : run(Float.self)
  }
}
