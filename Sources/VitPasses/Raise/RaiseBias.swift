internal import VitIR
internal import VitOps

/// A constant for each channel that is added to a linear map without bias becomes its bias, also behind moves: channels
/// before tokens, or split into heads.
enum RaiseBias: Pattern {
  static let name = "bias"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    let layouts = LayoutAnalysis(rewriter.graph)
    /// Constants in the order of channels, by what they were made of: maps that share a bias go on doing so.
    var moved: [ValueID: ValueID] = [:]
    for node in rewriter.nodes where node.isAny(Onnx.add, VitAdd.self) {
      guard let a = node.operands[0], let b = node.operands[1], let result = node.results.first else {
        continue
      }
      for (product, vector) in [(a, b), (b, a)] {
        guard let tensor = rewriter.constant(vector), rewriter.type(product) == rewriter.type(result),
          tensor.shape.count <= rewriter.type(product).rank, layouts[product].scale == 1
        else { continue }
        let map = layouts[product].source
        guard let linear = rewriter.node(VitLinear.self, defining: map),
          isUsedOnce(product, from: map, rewriter),
          linear.operands.count < 3 || linear.operands[2] == nil, hasNoFunction(linear),
          let channels = channels(tensor, layouts[product], layouts[map])
        else { continue }
        let operands = linear.operands
        let isInOrder = channels == Array(channels.indices)
        rewriter.builder.location = linear.location
        let bias: ValueID
        if isInOrder {
          bias = try rewriter.builder.vector(vector)
        } else if let known = moved[vector] {
          bias = known
        } else {
          bias = try rewriter.builder.moved(vector, to: channels)
          moved[vector] = bias
        }
        let biased = try rewriter.builder.add(linear.operation, [operands[0], operands[1], bias])[0]
        try rewriter.replace((map, biased), (result, product), by: name)
        break
      }
    }
  }

  private static func hasNoFunction(_ linear: Node) -> Bool {
    (linear.operation as? VitLinear)?.activation == Activation.none
  }

  /// Whether one node reads each value on the way from `map` to `id`.
  private static func isUsedOnce(_ id: ValueID, from map: ValueID, _ rewriter: Rewriter) -> Bool {
    var id = id
    for _ in 0..<16 {
      guard rewriter.isUsedOnce(id) else { return false }
      if id == map { return true }
      guard let next = rewriter.producer(of: id)?.node.operands[0] else { return false }
      id = next
    }
    return false
  }

  /// The channel of a map that each element of a constant is for, where the map's elements are added to as `layout` says;
  /// `nil` where it is not the same for all tokens, or not all channels are there.
  private static func channels(_ tensor: Tensor, _ layout: Layout, _ map: Layout) -> [Int]? {
    guard let feature = map.axes.last?.first, map.axes.last?.count == 1, let width = feature.size.fixedValue,
      width == tensor.count, tensor.element.isFloat, layout.count == map.count
    else { return nil }
    // Each axis of the constant, outermost first, as the channels that its entries stand for.
    var channels = [0]
    for (axis, extent) in zip(layout.axes.suffix(tensor.shape.count), tensor.shape) where extent != 1 {
      for factor in axis where factor.size != 1 {
        guard factor.origin == feature.origin, factor.axis == feature.axis, let size = factor.size.fixedValue,
          let stride = factor.stride.fixedValue, let offset = factor.offset.fixedValue
        else { return nil }
        channels = channels.flatMap { base in (0..<size).map { base + offset + $0 * stride } }
      }
    }
    guard channels.count == width, Set(channels).count == width, channels.allSatisfy((0..<width).contains)
    else { return nil }
    return channels
  }
}

extension Layout {
  /// How many elements there are.
  fileprivate var count: Dimension { axes.joined().reduce(.fixed(1)) { $0 * $1.size } }
}

extension GraphBuilder {
  /// A constant as a vector whose element `channels[i]` is element `i`.
  fileprivate mutating func moved(_ id: ValueID, to channels: [Int]) throws(VitError) -> ValueID {
    guard let tensor = graph.tensor(id) else { throw VitError("expected a constant") }
    let numbers = try rethrowing { try tensor.doubles() }
    var result = numbers
    for (channel, number) in zip(channels, numbers) { result[channel] = number }
    return constant(result, shape: [result.count], name: graph[id].name)
  }
}
