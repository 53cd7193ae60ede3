internal import VitIR

/// A part of an axis: `size` steps of `stride` along one axis of the value where the positions come from.
struct AxisFactor: Equatable {
  /// The value and axis that the positions count along.
  let origin: Int
  let axis: Int
  var size: Dimension
  var stride: Dimension
  var offset: Dimension

  /// The whole of an axis.
  init(origin: Int, axis: Int, size: Dimension) {
    self.origin = origin
    self.axis = axis
    self.size = size
    stride = 1
    offset = 0
  }

  /// Whether both run through the same steps of the same axis; heads and their columns, one step of the one being all
  /// of the other, do not.
  func overlaps(_ other: AxisFactor) -> Bool {
    guard origin == other.origin, axis == other.axis, axis >= 0, size != 1, other.size != 1 else {
      return false
    }
    return stride.exactlyDivided(by: other.stride * other.size) == nil
      && other.stride.exactlyDivided(by: stride * size) == nil
  }
}

/// Where the elements of a value come from: each axis as a list of factors, outermost first.
///
/// Reshapes, transposes, splits, slices and gathers of one entry only move elements: behind them every
/// element is `scale` times one element of `source`, and the factors say which. Other operations give a new
/// source, but positions along the axes that they keep (a linear map keeps all but the last) still count
/// along the axes where they came from: that is how queries, keys and values are known to belong to the same
/// tokens.
struct Layout: Equatable {
  var axes: [[AxisFactor]]
  var source: ValueID
  var scale: Double

  /// All factors of the axes in `range`, outermost first, neighbours joined.
  func joined(_ range: Range<Int>) -> [AxisFactor] { Layout.normalised(Array(axes[range].joined())) }

  /// Factors without those of size one, neighbours that continue each other joined.
  static func normalised(_ factors: [AxisFactor]) -> [AxisFactor] {
    var result: [AxisFactor] = []
    // Entries picked out of an axis: their place is kept in a factor of the same origin, or as a factor of
    // size one.
    var picked: [AxisFactor] = []
    for factor in factors where factor.size == 1 && factor.offset != 0 { picked.append(factor) }
    for var factor in factors where factor.size != 1 {
      if let index = picked.firstIndex(where: { $0.origin == factor.origin && $0.axis == factor.axis }) {
        factor.offset = factor.offset + picked.remove(at: index).offset
      }
      if let last = result.last, last.origin == factor.origin, last.axis == factor.axis,
        last.stride == factor.stride * factor.size
      {
        result[result.count - 1].size = last.size * factor.size
        result[result.count - 1].stride = factor.stride
        result[result.count - 1].offset = last.offset + factor.offset
      } else {
        result.append(factor)
      }
    }
    result += picked
    return result
  }

  /// The axes of a reshape to `shape`, or `nil` where a new axis cuts a factor unevenly.
  func reshaped(to shape: Shape) -> [[AxisFactor]]? {
    var rest = Layout.normalised(Array(axes.joined()))[...]
    var result: [[AxisFactor]] = []
    for wanted in shape {
      var axis: [AxisFactor] = []
      var missing = wanted
      while missing != 1 {
        guard let factor = rest.first else { return nil }
        if let more = missing.exactlyDivided(by: factor.size) {
          axis.append(factor)
          missing = more
          rest.removeFirst()
        } else if let inner = factor.size.exactlyDivided(by: missing) {
          var outer = factor
          outer.size = missing
          outer.stride = factor.stride * inner
          axis.append(outer)
          var remainder = factor
          remainder.size = inner
          remainder.offset = 0
          rest[rest.startIndex] = remainder
          missing = 1
        } else {
          return nil
        }
      }
      result.append(axis)
    }
    guard rest.allSatisfy({ $0.size == 1 }) else { return nil }
    if !rest.isEmpty, !result.isEmpty { result[result.count - 1] += rest }
    return result
  }
}

/// The layouts of all values of a graph.
struct LayoutAnalysis {
  private(set) var layouts: [Layout]
  private let graph: Graph

  subscript(id: ValueID) -> Layout { layouts[id.index] }

  /// Walks the nodes once.
  init(_ graph: Graph) {
    self.graph = graph
    layouts = graph.values.indices.map { index in
      LayoutAnalysis.fresh(index, graph.values[index].type.shape, graph)
    }
    for node in graph.nodes {
      if let moved = movement(node) {
        for (id, layout) in zip(node.results, moved) {
          if let layout { layouts[id.index] = layout }
        }
      } else if let result = node.results.first, let axes = keptAxes(node) {
        layouts[result.index].axes = LayoutAnalysis.distinct(axes, own: layouts[result.index].axes)
      }
    }
  }

  /// Axes of which none counts along what another counts along: else they could trade places unseen, as queries and keys
  /// of the same tokens do when scores are transposed. The later of two such axes is its own origin.
  private static func distinct(_ axes: [[AxisFactor]], own: [[AxisFactor]]) -> [[AxisFactor]] {
    var result: [[AxisFactor]] = []
    for (place, axis) in axes.enumerated() {
      let isTaken = axis.contains { factor in result.joined().contains { $0.overlaps(factor) } }
      result.append(isTaken ? own[place] : axis)
    }
    return result
  }

  private static func fresh(_ index: Int, _ shape: Shape, _ graph: Graph) -> Layout {
    Layout(
      axes: shape.enumerated().map { [AxisFactor(origin: index, axis: $0.offset, size: $0.element)] }
        .map(Layout.normalised),
      source: graph.valueID(index), scale: 1)
  }

  // MARK: Movement

  /// The layouts of the results of an operation that only moves elements (or scales all of them alike).
  private func movement(_ node: Node) -> [Layout?]? {
    guard let input = node.operands.first.flatMap({ $0 }) else { return nil }
    let from = layouts[input.index]
    guard let result = node.results.first else { return nil }
    let shape = graph.type(result).shape
    func with(_ axes: [[AxisFactor]]?) -> [Layout?]? {
      axes.map { [Layout(axes: $0, source: from.source, scale: from.scale)] }
    }
    switch node.name {
    case "onnx.Identity", "onnx.Dropout": return with(from.axes)
    case "onnx.Cast": return graph.type(result) == graph.type(input) ? with(from.axes) : nil
    case "onnx.Reshape", "onnx.Flatten", "onnx.Squeeze", "onnx.Unsqueeze":
      return with(from.reshaped(to: shape))
    case "onnx.Transpose":
      guard case .ints(let order)? = node.operation.attributes["perm"] else {
        return with(from.axes.reversed())
      }
      return with(order.map { from.axes[$0 < 0 ? $0 + from.axes.count : $0] })
    case "onnx.Split": return split(node, from)
    case "onnx.Slice": return with(slice(node, from))
    case "onnx.Gather": return with(gather(node, from))
    case "onnx.Expand": return with(expand(from, to: shape))
    case "onnx.Mul", "onnx.Div": return scaled(node)
    default: return nil
    }
  }

  private func split(_ node: Node, _ from: Layout) -> [Layout?]? {
    let axis = axisAttribute(node, rank: from.axes.count, default: 0)
    var start = Dimension.fixed(0)
    return node.results.map { id in
      let size = graph.type(id).shape[axis]
      defer { start = start + size }
      guard let cut = LayoutAnalysis.cut(from.axes[axis], start: start, size: size) else { return nil }
      var axes = from.axes
      axes[axis] = cut
      return Layout(axes: axes, source: from.source, scale: from.scale)
    }
  }

  private func slice(_ node: Node, _ from: Layout) -> [[AxisFactor]]? {
    func integers(_ index: Int, _ name: String) -> [Int]? {
      if case .ints(let values)? = node.operation.attributes[name] { return values }
      guard index < node.operands.count, let id = node.operands[index] else { return nil }
      return (try? graph.tensor(id)?.integers()).flatMap { $0 }
    }
    guard let result = node.results.first, let input = node.operands[0], let starts = integers(1, "starts")
    else {
      return nil
    }
    let axesList = integers(3, "axes") ?? Array(starts.indices)
    guard (integers(4, "steps") ?? []).allSatisfy({ $0 == 1 }), axesList.count == starts.count else {
      return nil
    }
    var axes = from.axes
    for (axis, start) in zip(axesList, starts) {
      let axis = axis < 0 ? axis + axes.count : axis
      let extent = graph.type(input).shape[axis]
      guard start >= 0 || extent.isFixed else { return nil }
      let first =
        start < 0 ? max(0, start + (extent.fixedValue ?? 0)) : min(start, extent.fixedValue ?? start)
      guard
        let cut = LayoutAnalysis.cut(axes[axis], start: .fixed(first), size: graph.type(result).shape[axis])
      else {
        return nil
      }
      axes[axis] = cut
    }
    return axes
  }

  private func gather(_ node: Node, _ from: Layout) -> [[AxisFactor]]? {
    let axis = axisAttribute(node, rank: from.axes.count, default: 0)
    guard let id = node.operands[1], let tensor = graph.tensor(id), tensor.count == 1,
      tensor.shape.count <= 1,
      let index = (try? tensor.integers())??.first, let input = node.operands[0]
    else { return nil }
    let extent = graph.type(input).shape[axis]
    guard index >= 0 || extent.isFixed else { return nil }
    let place = index < 0 ? index + (extent.fixedValue ?? 0) : index
    guard let cut = LayoutAnalysis.picked(from.axes[axis], place) else { return nil }
    var axes = from.axes
    if tensor.shape.isEmpty {
      // The entry's place moves to the next axis, which `normalised` adds it to.
      axes.remove(at: axis)
      if axis < axes.count {
        axes[axis] = cut + axes[axis]
      } else if let last = axes.indices.last {
        axes[last] += cut
      }
    } else {
      axes[axis] = cut
    }
    return axes
  }

  private func expand(_ from: Layout, to shape: Shape) -> [[AxisFactor]]? {
    guard let id = graph.values.indices.contains(from.source.index) ? from.source : nil else { return nil }
    let missing = shape.count - from.axes.count
    guard missing >= 0 else { return nil }
    return shape.enumerated().map { place, size -> [AxisFactor] in
      let axis = place < missing ? [] : from.axes[place - missing]
      if !axis.isEmpty || size == 1 { return axis }
      var factor = AxisFactor(origin: id.index, axis: -1, size: size)
      factor.stride = 0
      return [factor]
    }
  }

  private func scaled(_ node: Node) -> [Layout?]? {
    guard let a = node.operands[0], let b = node.operands[1] else { return nil }
    func number(_ id: ValueID) -> Double? {
      guard let tensor = graph.tensor(id), tensor.count == 1 else { return nil }
      return try? tensor.doubles().first
    }
    let isDivision = node.name == "onnx.Div"
    guard let result = node.results.first else { return nil }
    if let factor = number(b), graph.type(a) == graph.type(result), factor != 0, graph.type(a).element.isFloat
    {
      var layout = layouts[a.index]
      layout.scale = isDivision ? layout.scale / factor : layout.scale * factor
      return [layout]
    }
    if !isDivision, let factor = number(a), graph.type(b) == graph.type(result), graph.type(b).element.isFloat
    {
      var layout = layouts[b.index]
      layout.scale *= factor
      return [layout]
    }
    return nil
  }

  private func axisAttribute(_ node: Node, rank: Int, default fallback: Int) -> Int {
    var axis = fallback
    if case .int(let value)? = node.operation.attributes["axis"] { axis = value }
    return axis < 0 ? axis + rank : axis
  }

  /// Entries `start ..< start + size` of an axis: of a single factor, or of whole steps of the outermost one.
  private static func cut(_ axis: [AxisFactor], start: Dimension, size: Dimension) -> [AxisFactor]? {
    if size == 1, let place = start.fixedValue { return picked(axis, place) }
    guard var first = axis.first else { return start == 0 && size == 1 ? [] : nil }
    let inner = axis.dropFirst().reduce(Dimension.fixed(1)) { $0 * $1.size }
    guard let from = start.exactlyDivided(by: inner) ?? (start == 0 ? 0 : nil),
      let count = size.exactlyDivided(by: inner)
    else { return nil }
    first.offset = first.offset + first.stride * from
    first.size = count
    return [first] + axis.dropFirst()
  }

  /// Entry `place` of an axis, as factors of size one that remember where they are.
  private static func picked(_ axis: [AxisFactor], _ place: Int) -> [AxisFactor]? {
    var rest = place
    var result: [AxisFactor] = []
    for factor in axis.reversed() {
      guard let size = factor.size.fixedValue, size > 0 else { return nil }
      var one = factor
      one.size = 1
      one.offset = factor.offset + factor.stride * .fixed(rest % size)
      rest /= size
      result.insert(one, at: 0)
    }
    return result
  }

  // MARK: Kept axes

  /// The axes of the result of an operation that computes, as far as positions are kept.
  private func keptAxes(_ node: Node) -> [[AxisFactor]]? {
    guard let result = node.results.first else { return nil }
    let own = layouts[result.index].axes
    guard let first = node.operands.first.flatMap({ $0 }) else { return nil }
    let axes = layouts[first.index].axes
    if Self.linear.contains(node.name) {
      guard let last = own.last, axes.count == own.count else { return nil }
      return axes.dropLast() + [last]
    }
    if let (_, second) = MatrixProduct.factors(node) {
      guard axes.count == own.count,
        let last = isConstant(second) ? own.last : layouts[second.index].axes.last
      else { return nil }
      return axes.dropLast() + [last]
    }
    switch node.name {
    case "vit.sdpa":
      guard let value = node.operands[2], let last = layouts[value.index].axes.last else { return nil }
      return axes.dropLast() + [last]
    case "onnx.Conv": return scanned(axes, own)
    case "onnx.Concat": return concatenated(node, own)
    case let name where Self.elementwise.contains(name): return broadcast(node, own)
    case let name where Self.normalising.contains(name): return axes.count == own.count ? axes : nil
    default: return nil
    }
  }

  /// A window that looks at each place of an image tells the places apart as the image did.
  private func scanned(_ axes: [[AxisFactor]], _ own: [[AxisFactor]]) -> [[AxisFactor]]? {
    guard axes.count == own.count else { return nil }
    func size(_ axis: [AxisFactor]) -> Dimension { axis.reduce(.fixed(1)) { $0 * $1.size } }
    return own.indices.map { $0 != 1 && size(axes[$0]) == size(own[$0]) ? axes[$0] : own[$0] }
  }

  private func isConstant(_ id: ValueID?) -> Bool { id.map { graph[$0].isConstant } ?? false }

  private func broadcast(_ node: Node, _ own: [[AxisFactor]]) -> [[AxisFactor]]? {
    let operands = node.operands.compactMap { $0 }.filter { !graph[$0].isConstant }
    return own.indices.map { place in
      for id in operands {
        let axes = layouts[id.index].axes
        let axis = place - (own.count - axes.count)
        if axis >= 0, !axes[axis].isEmpty { return axes[axis] }
      }
      return own[place]
    }
  }

  /// Positions along the joined axis are kept where its pieces follow each other along one origin.
  private func concatenated(_ node: Node, _ own: [[AxisFactor]]) -> [[AxisFactor]]? {
    let place = axisAttribute(node, rank: own.count, default: 0)
    let pieces = node.operands.compactMap { $0 }
    // Positions count along a piece that has them: an expanded token has the extents only.
    func isExpanded(_ id: ValueID) -> Bool { layouts[id.index].axes.joined().contains { $0.axis < 0 } }
    let computed = pieces.filter { !graph[$0].isConstant }
    guard let lead = computed.first(where: { !isExpanded($0) }) ?? computed.first else { return nil }
    var axes = layouts[lead.index].axes
    guard axes.count == own.count else { return nil }
    var joined: [AxisFactor] = []
    for piece in pieces {
      let axis = layouts[piece.index].axes[place]
      let extent = graph.type(piece).shape[place]
      guard var factor = axis.first, axis.count == 1 else { return replaced(&axes, place, own) }
      factor.size = extent
      if let last = joined.last {
        guard last.origin == factor.origin, last.axis == factor.axis, last.stride == factor.stride,
          last.offset + last.size * last.stride == factor.offset
        else { return replaced(&axes, place, own) }
        joined[0].size = last.size + factor.size
      } else {
        joined = [factor]
      }
    }
    axes[place] = joined
    return axes
  }

  private func replaced(_ axes: inout [[AxisFactor]], _ place: Int, _ own: [[AxisFactor]]) -> [[AxisFactor]] {
    axes[place] = own[place]
    return axes
  }

  private static let linear: Set<String> = ["vit.linear", "vit.mlp", "com.microsoft.MatMulNBits"]
  private static let normalising: Set<String> = [
    "onnx.Softmax", "onnx.LayerNormalization", "vit.layer_norm", "onnx.RMSNormalization",
    "onnx.LpNormalization",
    "onnx.BatchNormalization", "onnx.SimplifiedLayerNormalization", "onnx.QuantizeLinear",
    "onnx.DequantizeLinear", "onnx.Clip", "onnx.RotaryEmbedding", "com.microsoft.RotaryEmbedding",
    "onnx.DynamicQuantizeLinear", "com.microsoft.QLinearSoftmax", "com.microsoft.QuantizeLinear",
    "com.microsoft.DequantizeLinear",
    "onnx.Cast",
  ]
  private static let elementwise: Set<String> = [
    "onnx.Add", "onnx.Sub", "onnx.Mul", "onnx.Div", "onnx.Pow", "onnx.Where", "onnx.Max", "onnx.Min",
    "vit.add",
    "vit.scale", "onnx.Sqrt", "onnx.Neg", "onnx.Erf", "onnx.Tanh", "onnx.Sigmoid", "onnx.Relu", "onnx.Gelu",
    "onnx.HardSwish", "onnx.Exp", "onnx.Reciprocal", "onnx.Abs", "onnx.IsNaN", "com.microsoft.BiasGelu",
    "com.microsoft.QuickGelu", "com.microsoft.QLinearAdd", "com.microsoft.QLinearMul", "onnx.LeakyRelu",
    "onnx.HardSigmoid", "onnx.Mish",
  ]
}
