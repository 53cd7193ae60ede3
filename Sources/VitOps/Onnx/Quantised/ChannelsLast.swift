internal import VitIR

/// An operation on images `[n, …, c]`, where it has the attribute `channels_last`, that is another one on `[n, c, …]`: operand
/// 0 and the result are turned, all other operands stay as they are.
protocol ChannelsLastOperation: Operation {
  /// The operation on `[n, c, …]`.
  associatedtype Inner: Operation
  var inner: Inner { get }
  var isChannelsLast: Bool { get }
}

extension ChannelsLastOperation {
  var attributes: Attributes {
    inner.attributes.merging(Attributes(isChannelsLast ? [("channels_last", .int(1))] : []))
  }

  private func turned(_ operands: Operands) -> Operands {
    guard isChannelsLast, let image = operands[0], image.rank >= 3 else { return operands }
    var result = operands
    result.types[0]?.shape =
      [image.shape[0], image.shape[image.rank - 1]] + image.shape[1..<(image.rank - 1)]
    return result
  }

  private func turned(_ results: [TensorType]) -> [TensorType] {
    guard isChannelsLast else { return results }
    return results.map { $0.with([$0.shape[0], $0.shape[$0.rank - 1]] + $0.shape[1..<($0.rank - 1)]) }
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    guard isChannelsLast else { return try inner.resultTypes(operands) }
    try operands.expectResults()
    return try inner.resultTypes(turned(operands)).map { type in
      type.rank < 3 ? type : type.with([type.shape[0]] + type.shape[2...] + [type.shape[1]])
    }
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    var map = inner.axes(turned(operands), turned(results))
    guard isChannelsLast else { return map }
    let last = results[0].rank - 1
    func place(_ axis: Int?) -> Int? { axis.map { $0 == 0 ? 0 : $0 == 1 ? last : $0 - 1 } }
    for index in map.letters.indices {
      if !map.letters[index].operands.isEmpty {
        map.letters[index].operands[0] = place(map.letters[index].operands[0])
      }
      map.letters[index].results = map.letters[index].results.map(place)
    }
    return map
  }

  func role(of index: Int) -> OperandRole { inner.role(of: index) }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    inner.cost(turned(operands), turned(results))
  }

  /// The other operation's; and image and result as it has them, where they are turned.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    let own = inner.scratchTypes(turned(operands), mode: mode)
    guard isChannelsLast, let image = turned(operands)[0], let types = try? resultTypes(operands) else {
      return own
    }
    return own + [image] + turned(types)
  }

  func forward(_ context: KernelContext) {
    guard isChannelsLast else { return inner.forward(context) }
    let (image, output) = (context.input(0), context.output)
    let scratch = context.scratch
    let (before, after) = (scratch[scratch.count - 2], scratch[scratch.count - 1])
    Self.toChannelsFirst(image.shape).copy(image, to: before, context.pool)
    inner.forward(
      KernelContext(
        inputs: [before] + context.inputs.dropFirst(), outputs: [after], scratch: scratch.dropLast(2),
        pool: context.pool))
    Self.toChannelsFirst(output.shape).reversed.copy(after, to: output, context.pool)
  }

  /// From `[n, …, c]` to `[n, c, …]`.
  private static func toChannelsFirst(_ shape: [Int]) -> Move {
    let order = [0, shape.count - 1] + (1..<(shape.count - 1))
    let strides = rowMajorStrides(shape)
    return Move(shape: order.map { shape[$0] }, source: Move.Region(strides: order.map { strides[$0] }))
  }
}

/// `com.microsoft.QLinearConv`: ONNX's, with channels first or last; the weight is `[m, c/group, …]` in both.
struct MicrosoftQLinearConv: ChannelsLastOperation {
  static let name = "com.microsoft.QLinearConv"
  static let summary = "Convolution of quantised numbers with channels first or last, quantised again"
  static let example =
    "(u8[1, 2, 2, 3], f32[], u8[], i8[3, 2, 2, 2], f32[], i8[], f32[], u8[], "
    + "i32[3]) {channels_last = 0, pads = [1, 1, 1, 1]}"
  let inner: OnnxQLinearConv
  let isChannelsLast: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    isChannelsLast = try attributes.bool("channels_last", default: false)
    inner = try OnnxQLinearConv(attributes: &attributes)
  }
}

/// `com.microsoft.NhwcMaxPool(x)`: of 8-bit numbers, channels last.
struct MicrosoftNhwcMaxPool: ChannelsLastOperation {
  static let name = "com.microsoft.NhwcMaxPool"
  static let summary = "The greatest element of each window, channels last"
  static let example = "(u8[1, 2, 3, 3]) {kernel_shape = [3, 2], pads = [1, 0, 1, 1]}"
  let inner: OnnxMaxPool
  var isChannelsLast: Bool { true }
  var attributes: Attributes { inner.attributes }

  init(attributes: inout AttributeReader) throws(VitError) {
    inner = try OnnxMaxPool(attributes: &attributes)
  }
}

/// `com.microsoft.QLinearAveragePool(x, x_scale, x_zero?, y_scale, y_zero?)`, channels first or last.
struct MicrosoftQLinearAveragePool: ChannelsLastOperation {
  static let name = "com.microsoft.QLinearAveragePool"
  static let summary = "The mean of each window of quantised numbers, quantised again"
  static let example =
    "(u8[1, 2, 2, 3], f32[], u8[], f32[], u8[]) {channels_last = 0, kernel_shape = [3, 2], "
    + "pads = [1, 0, 1, 1]}"
  let inner: Inner
  let isChannelsLast: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    isChannelsLast = try attributes.bool("channels_last", default: false)
    inner = try Inner(attributes: &attributes)
  }

  /// The pool on `[n, c, …]`: of floats, between the two steps of quantising.
  struct Inner: PoolingOperation {
    static var name: String { MicrosoftQLinearAveragePool.name }
    static var summary: String { MicrosoftQLinearAveragePool.summary }
    private let pool: OnnxAveragePool
    private let result = QuantisedScalar(scale: 3, zero: 4)
    var parameters: PoolParameters { pool.parameters }
    var attributes: Attributes { pool.attributes }

    init(attributes: inout AttributeReader) throws(VitError) {
      pool = try OnnxAveragePool(attributes: &attributes)
    }

    func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
      try operands.expectCount(4...5)
      try operands.expectResults()
      let image = try operands.bytes(0, "x")
      try operands.expectScalar(scale: 1, zero: 2, of: image.element)
      try operands.expectScalar(scale: 3, zero: 4, of: image.element)
      return [TensorType(image.element, try pooledShape(image))]
    }

    func role(of index: Int) -> OperandRole { index == 0 ? .data : .quantisation }

    /// Image and result as floats.
    func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
      guard let image = operands[0], let types = try? resultTypes(operands) else { return [] }
      return [TensorType(.f32, image.shape), TensorType(.f32, types[0].shape)]
    }

    func forward(_ context: KernelContext) {
      let (image, means) = (context.scratch[0], context.scratch[1])
      dequantise(
        context.input(0), scale: context.input(1), zero: context.optionalInput(2), into: image, context.pool)
      pool.forward(KernelContext(inputs: [image], outputs: [means], pool: context.pool))
      // ONNX Runtime rounds after adding the zero point here: ties fall to even numbers, not to even steps.
      let (unit, offset) = (result.unit(context), result.offset(context))
      let (low, high): (Float, Float) = context.output.element == .i8 ? (-128, 127) : (0, 255)
      for index in 0..<means.count {
        let value = (means.f32[index] / unit + offset).rounded(.toNearestOrEven)
        context.output.setByte(index, min(max(value, low), high))
      }
    }
  }
}
