internal import VitIR
internal import VitRuntime

/// Rows that are normalised, each covering some whole channels, then scaled and shifted by channel or by row.
///
/// The operand is `[batch, channels, …]`; a row is one of `groups` equal parts of an item's channels.
struct GroupedRows {
  /// The number of rows: items times groups.
  let rows: Int
  let groups: Int
  /// Channels of a row, and elements of a channel.
  let channels: Int
  let plane: Int
  /// Whether scale and bias have one element for each group, rather than for each channel.
  let isPerGroup: Bool

  init(_ shape: [Int], groups: Int, isPerGroup: Bool) {
    rows = shape[0] * groups
    self.groups = groups
    channels = shape[1] / max(1, groups)
    plane = shape[2...].reduce(1, *)
    self.isPerGroup = isPerGroup
  }

  var width: Int { channels * plane }

  /// Which element of scale and bias belongs to a channel of a row.
  private func parameter(_ row: Int, _ channel: Int) -> Int {
    isPerGroup ? row % groups : row % groups * channels + channel
  }

  /// `y ← (x − mean)·r·scale + bias`, an activation following; the statistics go to `stats`.
  func forward(
    _ x: View, _ scale: View, _ bias: View, epsilon: Double, into y: View, stats: View?, pool: any WorkPool
  ) {
    guard x.count > 0 else { return }
    Kernel.layerNorm(
      x.reshaped([rows, width]), epsilon: epsilon, into: y.reshaped([rows, width]), saving: stats, pool: pool)
    func run<T: Real>(_ type: T.Type) {
      let (gain, offset) = (scale.pointer(as: T.self), bias.pointer(as: T.self))
      let result = y.pointer(as: T.self)
      pool.run(tasks: rows) { row, _ in
        for channel in 0..<channels {
          let place = parameter(row, channel)
          let (g, o) = (gain[place], offset[place])
          let line = result + row * width + channel * plane
          for index in 0..<plane { line[index] = line[index] * g + o }
        }
      }
    }
    x.element == .f64 ? run(Double.self) : run(Float.self)
  }

  /// Adds the gradients; `scratch` is as large as `x`.
  func gradient(
    _ x: View, _ scale: View, stats: View, dy: View, scratch: View, into dx: View?, _ dscale: View?,
    _ dbias: View?,
    pool: any WorkPool
  ) {
    guard x.count > 0 else { return }
    func run<T: Real>(_ type: T.Type) {
      let (gain, source) = (scale.pointer(as: T.self), dy.pointer(as: T.self))
      let (elements, scaled) = (x.pointer(as: T.self), scratch.pointer(as: T.self))
      let saved = stats.pointer(as: T.self)
      let (sinkScale, sinkBias) = (dscale?.pointer(as: T.self), dbias?.pointer(as: T.self))
      for row in 0..<rows {
        let (mean, deviation) = (saved[2 * row], saved[2 * row + 1])
        for channel in 0..<channels {
          let place = parameter(row, channel)
          let start = row * width + channel * plane
          var (sum, product): (T, T) = (0, 0)
          for index in start..<start + plane {
            scaled[index] = source[index] * gain[place]
            sum += source[index]
            product += source[index] * (elements[index] - mean) * deviation
          }
          sinkBias?[place] += sum
          sinkScale?[place] += product
        }
      }
    }
    x.element == .f64 ? run(Double.self) : run(Float.self)
    guard let dx else { return }
    let shape = [rows, width]
    Kernel.layerNormGradient(
      x.reshaped(shape), saved: stats, dy: scratch.reshaped(shape), adding: dx.reshaped(shape), nil, nil,
      pool: pool)
  }
}

/// `onnx.InstanceNormalization` and `GroupNormalization`: zero mean and unit variance of parts of each item's
/// channels.
struct OnnxChannelNormalization<Grouping: ChannelGrouping>: Operation {
  static var name: String { Grouping.name }
  static var summary: String { Grouping.summary }
  static var example: String {
    "(f32[1, 4, 2, 3], f32[4], f32[4])" + (Grouping.isGrouped ? " {num_groups = 2}" : "")
  }
  let epsilon: Double
  /// The number of parts; absent where each channel is one.
  let groups: Int?
  /// Whether scale and bias have one element for each group, as before opset 21.
  let isPerGroup: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    epsilon = try attributes.float("epsilon", default: 1e-5)
    guard Grouping.isGrouped else {
      (groups, isPerGroup) = (nil, false)
      return
    }
    groups = try attributes.int("num_groups")
    isPerGroup = try attributes.bool("scale_per_group", default: attributes.isBefore(opset: 21))
    _ = try attributes.optionalInt("stash_type")
  }
  var attributes: Attributes {
    var result = Attributes([("epsilon", .float(epsilon))])
    result["num_groups"] = groups.map(Attribute.int)
    if isPerGroup { result["scale_per_group"] = .bool(true) }
    return result
  }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...3)
    try operands.expectResults()
    let x = try operands.typed(0, "input", ElementType.reals)
    guard x.rank >= 2 else {
      throw VitError("the input has the shape \(x.shape), expected batch and channels")
    }
    if let groups {
      guard groups > 0 else { throw VitError("attribute 'num_groups' is \(groups), expected at least 1") }
      guard let channels = x.shape[1].fixedValue else {
        throw VitError("the input has \(x.shape[1]) channels, expected a number without symbols")
      }
      guard channels % groups == 0 else {
        throw VitError("\(channels) channels cannot be parted into \(groups) groups")
      }
    }
    for (index, role) in [(1, "scale"), (2, "bias")] {
      _ = try operands.typed(index, role, ElementType.reals)
      try operands.expectSame(index, role, as: x.element)
      try operands.expectShape(index, role, [isPerGroup ? .fixed(groups ?? 1) : x.shape[1]])
    }
    return [x]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    AxisMap(
      (0..<results[0].rank).map { axis in
        if axis == 0 { return AxisMap.Letter(.parallel, [0], [0]) }
        // Without groups each channel is normalised by itself.
        if axis == 1, groups == nil { return AxisMap.Letter(.parallel, [1, 0, 0], [1]) }
        return AxisMap.Letter(.aligned, [axis], [axis])
      })
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .gain
    case 2: .bias
    default: .data
    }
  }

  private func grouped(_ shape: [Int]) -> GroupedRows {
    GroupedRows(shape, groups: groups ?? shape[1], isPerGroup: isPerGroup)
  }

  func savedTypes(_ operands: Operands) -> [TensorType] {
    guard let x = operands[0] else { return [] }
    return [TensorType(x.element, fixed: [x.count == 0 ? 0 : grouped(x.extents).rows, 2])]
  }
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    mode.training ? [operands[0]].compactMap { $0 } : []
  }
  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    let type = results[0]
    return Cost(flops: 8 * type.count, bytes: 2 * type.count * type.element.size)
  }

  func forward(_ context: KernelContext) {
    let x = context.input(0)
    grouped(x.shape).forward(
      x, context.input(1), context.input(2), epsilon: epsilon, into: context.output,
      stats: context.saved.first,
      pool: context.pool)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let x = context.input(0)
    grouped(x.shape).gradient(
      x, context.input(1), stats: context.saved[0], dy: dy, scratch: context.scratch[0],
      into: operandGradients[0],
      operandGradients[1], operandGradients[2], pool: context.pool)
  }
}

/// How channels are parted before they are normalised.
protocol ChannelGrouping: Sendable {
  static var name: String { get }
  static var summary: String { get }
  /// Whether the attribute `num_groups` says so; else each channel is a part.
  static var isGrouped: Bool { get }
}

enum InstanceGrouping: ChannelGrouping {
  static let name = "onnx.InstanceNormalization"
  static let summary = "Zero mean and unit variance of each channel of each item, then scale and bias"
  static let isGrouped = false
}

enum GroupGrouping: ChannelGrouping {
  static let name = "onnx.GroupNormalization"
  static let summary =
    "Zero mean and unit variance of each group of channels of each item, then scale and bias"
  static let isGrouped = true
}
