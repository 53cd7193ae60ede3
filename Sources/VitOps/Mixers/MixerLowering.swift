internal import VitIR

/// Scans as ONNX operators: tokens are gathered in the order of a direction, and the results gathered back.
struct ScanLowering {
  private let layout: MixerLayout
  private let directions: [Permutation]

  init(_ layout: MixerLayout) {
    self.layout = layout
    directions = layout.order.directions
  }

  /// The number of steps.
  var steps: Int { layout.order.rows }

  /// `x` with the tokens along `axis` in the order in which direction `index` reads them.
  func read(
    _ x: ValueID, direction index: Int, axis: Int, into builder: inout GraphBuilder
  ) throws(VitError) -> ValueID {
    let tokens = directions[index].indices.map(layout.order.token(ofRow:))
    if tokens == Array(0..<layout.tokens) { return x }
    return try builder.add("onnx.Gather", [x, builder.integers(tokens)], [("axis", .int(axis))])
  }

  /// `x` with the steps of direction `index` along `axis` back in the order of the tokens.
  func write(
    _ x: ValueID, direction index: Int, axis: Int, into builder: inout GraphBuilder
  ) throws(VitError) -> ValueID {
    let inverse = directions[index].inverse
    let places = (0..<layout.tokens).map { inverse[layout.order.row(ofToken: $0)] }
    if places == Array(0..<steps) { return x }
    return try builder.add("onnx.Gather", [x, builder.integers(places)], [("axis", .int(axis))])
  }

  /// The heads of direction `index` of a value that has heads along `axis`.
  func heads(
    _ x: ValueID, direction index: Int, axis: Int, into builder: inout GraphBuilder
  ) throws(VitError) -> ValueID {
    let count = layout.heads / directions.count
    return try ScanLowering.slice(
      x, index * count..<(index + 1) * count, of: layout.heads, axis: axis, into: &builder)
  }

  /// Places `range` along `axis`, of which there are `count`.
  static func slice(
    _ x: ValueID, _ range: Range<Int>, of count: Int, axis: Int, into builder: inout GraphBuilder
  ) throws(VitError) -> ValueID {
    if range == 0..<count { return x }
    let (start, end) = (builder.integers([range.lowerBound]), builder.integers([range.upperBound]))
    return try builder.add("onnx.Slice", [x, start, end, builder.integers([axis])])
  }

  /// The values along `axis` behind one another.
  static func join(_ parts: [ValueID], axis: Int, into builder: inout GraphBuilder) throws(VitError)
    -> ValueID
  {
    parts.count == 1 ? parts[0] : try builder.add("onnx.Concat", parts, [("axis", .int(axis))])
  }

  /// `h[t] = a[t]·h[t−1] + b[t]` along axis 2 of `[batch, heads, steps, channels]`, from zero: in log₂ of the
  /// steps rounds, each of which joins neighbours twice as far apart (Mixers.md §2, "ONNX export").
  func linearScan(_ a: ValueID, _ b: ValueID, into builder: inout GraphBuilder) throws(VitError) -> ValueID {
    var (a, b) = (a, b)
    let zero = builder.constant([0], shape: [], element: builder.graph.type(a).element)
    let axis = builder.integers([2])
    func shifted(_ x: ValueID, _ distance: Int) throws(VitError) -> ValueID {
      let kept = try ScanLowering.slice(x, 0..<steps - distance, of: steps, axis: 2, into: &builder)
      return try builder.add("onnx.Pad", [kept, builder.integers([distance, 0]), zero, axis])
    }
    var distance = 1
    while distance < steps {
      b = try builder.add("onnx.Add", [try builder.add("onnx.Mul", [a, try shifted(b, distance)]), b])
      if 2 * distance < steps { a = try builder.add("onnx.Mul", [a, try shifted(a, distance)]) }
      distance *= 2
    }
    return b
  }
}
