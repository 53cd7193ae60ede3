internal import VitIR

/// Whether two extents are equal for some values of their symbols.
func mayBeEqual(_ a: Dimension, _ b: Dimension) -> Bool {
  a == b || !(a.isFixed && b.isFixed) && !(a - b).isPositive && !(b - a).isPositive
}

/// `onnx.Concat(x, …)`.
struct OnnxConcat: MovingOperation {
  static let name = "onnx.Concat"
  static let summary = "Joins the operands along an axis"
  static let example = "(f32[1, 2, 3], f32[1, 4, 3]) {axis = 1}"
  let axis: Int

  init(attributes: inout AttributeReader) throws(VitError) { axis = try attributes.int("axis") }

  var attributes: Attributes { Attributes([("axis", .int(axis))]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...Int.max)
    try operands.expectResults()
    var result = try operands.type(0, "inputs")
    let place = try normalisedAxis(axis, rank: result.rank)
    for index in 1..<max(1, operands.count) {
      let next = try operands.type(index, "inputs")
      guard next.element == result.element, next.rank == result.rank,
        result.shape.indices.allSatisfy({
          $0 == place || OnnxConcat.agree(result.shape[$0], next.shape[$0])
        })
      else {
        throw VitError(
          "input \(index) is \(next), which cannot be joined to \(result) along axis \(place)",
          code: "shape-mismatch")
      }
      for axis in result.shape.indices where axis != place && next.shape[axis].isFixed {
        result.shape[axis] = next.shape[axis]
      }
      result.shape[place] = result.shape[place] + next.shape[place]
    }
    return [result]
  }

  /// Whether two extents may be equal, for more than one number of images where both are open.
  private static func agree(_ a: Dimension, _ b: Dimension) -> Bool {
    mayBeEqual(a, b) && (a.isFixed || b.isFixed || a.joined(with: b) != nil)
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let place = axis < 0 ? axis + results[0].rank : axis
    return .joined(operands, results[0], along: place, parts: Array(0..<operands.count))
  }

  /// In every entry of the axes before the joined one an operand is one run of memory.
  func forward(_ context: KernelContext) {
    let result = context.output
    let place = axis < 0 ? axis + result.rank : axis
    let inner = result.shape[(place + 1)...].reduce(result.element.size, *)
    let row = result.shape[place] * inner
    guard row > 0 else { return }
    let rows = result.byteCount / row
    func join(_ entry: Int) {
      var offset = entry * row
      for case let operand? in context.inputs {
        let bytes = operand.shape[place] * inner
        (result.base + offset).copyMemory(from: operand.base + entry * bytes, byteCount: bytes)
        offset += bytes
      }
    }
    if rows > 1, result.byteCount > 1 << 18 {
      context.pool.run(tasks: rows) { entry, _ in join(entry) }
    } else {
      for entry in 0..<rows { join(entry) }
    }
  }

  func moves(_ shapes: MoveShapes) -> [OperandMove] {
    let result = shapes.results[0]
    let place = axis < 0 ? axis + result.count : axis
    let strides = rowMajorStrides(result)
    var offset = 0
    return shapes.operands.indices.map { index in
      let shape = shapes.operand(index)
      defer { offset += shape[place] * strides[place] }
      return OperandMove(
        operand: index,
        move: Move(
          shape: shape, source: Move.Region(strides: rowMajorStrides(shape)),
          target: Move.Region(offset: offset, strides: strides)))
    }
  }
}

extension AxisMap {
  /// The operands `parts` follow one another along an axis; along the others they run side by side.
  static func joined(_ operands: Operands, _ result: TensorType, along place: Int, parts: [Int]) -> AxisMap {
    AxisMap(
      (0..<result.rank).map { axis in
        var axes = [Int?](repeating: nil, count: operands.count)
        for index in parts { axes[index] = axis }
        guard axis == place else { return Letter(.parallel, axes, [axis]) }
        var starts = [Dimension](repeating: 0, count: operands.count)
        var start = Dimension.fixed(0)
        for index in parts {
          starts[index] = start
          start = start + (operands[index]?.shape[axis] ?? 0)
        }
        return Letter(.ranges, axes, [axis], operandStarts: starts, resultStarts: [0])
      })
  }
}

/// `onnx.Split(x, split?)`: into parts of given extents, or into parts as equal as can be.
struct OnnxSplit: MovingOperation, CuttingOperation {
  static let name = "onnx.Split"
  static let summary = "Cuts the operand along an axis"
  static let example = "(f32[1, 4, 3], i64[2] = [2, 2]) {axis = 1} -> 2"
  let axis: Int
  let parts: [Int]?
  let count: Int?

  init(attributes: inout AttributeReader) throws(VitError) {
    axis = try attributes.int("axis", default: 0)
    parts = try attributes.optionalInts("split")
    count = try attributes.optionalInt("num_outputs")
    if parts != nil && count != nil { throw VitError("both 'split' and 'num_outputs' are given") }
  }

  var attributes: Attributes {
    Attributes(
      [("axis", .int(axis))] + (parts.map { [("split", .ints($0))] } ?? [])
        + (count.map { [("num_outputs", .int($0))] } ?? []))
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...2)
    let data = try operands.type(0, "input")
    let place = try normalisedAxis(axis, rank: data.rank)
    return try extents(operands, of: data.shape[place]).map { extent in
      var type = data
      type.shape[place] = extent
      return type
    }
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let rank = results[0].rank
    let place = axis < 0 ? axis + rank : axis
    return AxisMap(
      (0..<rank).map { axis in
        let axes = results.map { _ in Optional(axis) }
        guard axis == place else { return AxisMap.Letter(.parallel, [axis], axes) }
        var start = Dimension.fixed(0)
        let starts = results.map { type in
          defer { start = start + type.shape[axis] }
          return start
        }
        return AxisMap.Letter(.ranges, [axis], axes, operandStarts: [0], resultStarts: starts)
      })
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .setting
    default: .data
    }
  }

  private func extents(_ operands: Operands, of whole: Dimension) throws(VitError) -> Shape {
    guard operands.resultCount > 0 else { throw VitError("expected at least one output") }
    guard operands.has(1) || parts != nil else { return try equalExtents(operands.resultCount, of: whole) }
    guard !(operands.has(1) && (parts != nil || count != nil)) else {
      throw VitError("the extents of the parts are given as attribute and as input")
    }
    let extents =
      operands.has(1) ? try operands.dimensions(1, "split") : (parts ?? []).map(Dimension.fixed)
    guard extents.count == operands.resultCount else {
      throw VitError(
        "split \(extents) has \(extents.count) parts, but the node has \(operands.resultCount) outputs",
        code: "result-count")
    }
    guard extents.allSatisfy({ $0.fixedValue.map { $0 >= 0 } ?? true }),
      mayBeEqual(extents.reduce(0, +), whole)
    else {
      throw VitError(
        "the parts \(extents) add up to \(extents.reduce(0, +)), expected the axis's \(whole)",
        code: "shape-mismatch")
    }
    return extents
  }

  private func equalExtents(_ outputs: Int, of whole: Dimension) throws(VitError) -> Shape {
    if let count, count != outputs {
      throw VitError("num_outputs is \(count), but the node has \(outputs) outputs", code: "result-count")
    }
    if let exact = whole.exactlyDivided(by: .fixed(outputs)) {
      return Shape(repeating: exact, count: outputs)
    }
    guard count != nil || !whole.isFixed else {
      throw VitError("an axis of \(whole) cannot be cut into \(outputs) equal parts", code: "shape-mismatch")
    }
    let part = whole.ceilingDivided(by: .fixed(outputs))
    let last = whole - part * .fixed(outputs - 1)
    if let last = last.fixedValue, last < 0 {
      throw VitError(
        "an axis of \(whole) cannot be cut into \(outputs) parts of \(part)", code: "shape-mismatch")
    }
    return Shape(repeating: part, count: outputs - 1) + [last]
  }

  func moves(_ shapes: MoveShapes) -> [OperandMove] {
    let strides = rowMajorStrides(shapes.operand(0))
    let place = axis < 0 ? axis + strides.count : axis
    var offset = 0
    return shapes.results.enumerated().map { index, shape in
      defer { offset += shape[place] * strides[place] }
      return OperandMove(
        result: index, move: Move(shape: shape, source: Move.Region(offset: offset, strides: strides)))
    }
  }

  func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    guard let parts else { return try builder.add(self, operands, resultCount: resultCount) }
    let operation = try builder.registry.make(Self.name, Attributes([("axis", .int(axis))]))
    let split = builder.integers(parts, name: "split")
    return try builder.add(operation, [operands[0], split], resultCount: resultCount)
  }
}

/// `onnx.Slice(data, starts, ends, axes?, steps?)`: clamped like Python's slices, steps may be negative.
struct OnnxSlice: MovingOperation, CuttingOperation {
  static let name = "onnx.Slice"
  static let summary = "A range of entries, with steps, along some axes"
  static let example = "(f32[4, 5], i64[2] = [0, 1], i64[2] = [2, 5], i64[2] = [0, 1], i64[2] = [1, 2])"
  let attributes = Attributes()
  var steering: [Int] { [1, 2, 3, 4] }

  init(attributes: inout AttributeReader) throws(VitError) {}

  /// One axis's entries: the first, how far to the next, how many.
  struct Span: Equatable {
    var first: Int
    var step: Int
    var count: Int

    /// The entries of an axis of `extent` from `start` to before `end`, clamped.
    init(_ start: Int, _ end: Int, _ step: Int, of extent: Int) {
      func counted(_ index: Int) -> Int { index < 0 ? index + extent : index }
      let step = min(max(step, -extent - 1), extent + 1)
      let low = step < 0 ? -1 : 0
      first = min(max(counted(start), 0), step < 0 ? extent - 1 : extent)
      let last = min(max(counted(end), low), step < 0 ? extent - 1 : extent)
      self.step = step
      let distance = step < 0 ? first - last : last - first
      count = distance <= 0 ? 0 : (distance + abs(step) - 1) / abs(step)
    }
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...5)
    try operands.expectResults()
    var result = try operands.type(0, "data")
    let starts = try operands.dimensions(1, "starts")
    let ends = try operands.dimensions(2, "ends")
    let steps =
      operands.has(4) ? try operands.integers(4, "steps") : [Int](repeating: 1, count: starts.count)
    let axes = operands.has(3) ? try operands.integers(3, "axes") : Array(starts.indices)
    guard starts.count == ends.count, steps.count == starts.count, axes.count == starts.count else {
      throw VitError(
        "expected as many starts, ends, axes and steps, found \(starts.count), \(ends.count), \(axes.count), "
          + "\(steps.count)")
    }
    for (index, axis) in try normalisedAxes(axes, rank: result.rank).enumerated() {
      guard steps[index] != 0 else { throw VitError("the step along axis \(axis) is 0") }
      result.shape[axis] = Self.extent(starts[index], ends[index], steps[index], of: result.shape[axis])
    }
    return [result]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let shape = operands[0]?.shape, let starts = operands.value(1)?.dimensions,
      let axes = operands.has(3) ? operands.value(3)?.integers : Array(starts.indices),
      let steps = operands.has(4) ? operands.value(4)?.integers : [Int](repeating: 1, count: starts.count)
    else { return .mixed }
    var letters = shape.indices.map { Optional(AxisMap.Letter(.parallel, [$0], [$0])) }
    for index in starts.indices where index < axes.count && index < steps.count {
      let axis = axes[index] < 0 ? axes[index] + shape.count : axes[index]
      guard shape.indices.contains(axis) else { continue }
      guard steps[index] == 1, let first = Self.first(starts[index], of: shape[axis]) else {
        letters[axis] = nil
        continue
      }
      if first == 0, results[0].shape[axis] == shape[axis] { continue }
      letters[axis] = AxisMap.Letter(.ranges, [axis], [axis], operandStarts: [0], resultStarts: [first])
    }
    return AxisMap(letters.compactMap { $0 })
  }

  /// The first entry of a slice forwards, where it is known.
  private static func first(_ start: Dimension, of extent: Dimension) -> Dimension? {
    guard let start = start.fixedValue else { return nil }
    guard let extent = extent.fixedValue else { return start < 0 ? nil : .fixed(start) }
    return .fixed(start < 0 ? max(0, start + extent) : min(start, extent))
  }

  func identity(_ operands: Operands, _ results: [TensorType]) -> Int? {
    // Slicing keeps the shape only where it takes everything, forwards: with negative steps it would reverse.
    guard operands.has(4) else { return 0 }
    return operands.value(4)?.integers?.allSatisfy { $0 > 0 } ?? false ? 0 : nil
  }

  func role(of index: Int) -> OperandRole { index == 0 ? .data : .setting }

  /// How many entries there are. Where a symbol decides whether a bound is inside, it is taken to be: the
  /// plan that binds the symbol asks again.
  static func extent(_ start: Dimension, _ end: Dimension, _ step: Int, of extent: Dimension) -> Dimension {
    if let start = start.fixedValue, let end = end.fixedValue, let extent = extent.fixedValue {
      return .fixed(Span(start, end, step, of: extent).count)
    }
    func bound(_ index: Dimension) -> Dimension {
      guard let value = index.fixedValue else {
        return isKnownNonnegative(index - extent) ? extent : index
      }
      if value >= Int(Int32.max) { return step < 0 ? extent - 1 : extent }
      if value <= Int(Int32.min) { return step < 0 ? -1 : 0 }
      if value < 0 { return extent + index }
      return isKnownNonnegative(index - extent) ? extent : index
    }
    let distance = step < 0 ? bound(start) - bound(end) : bound(end) - bound(start)
    if isKnownNonnegative(-1 * distance) { return 0 }
    return distance.ceilingDivided(by: .fixed(Int(clamping: step.magnitude)))
  }

  func moves(_ shapes: MoveShapes) -> [OperandMove] {
    let shape = shapes.operand(0)
    let strides = rowMajorStrides(shape)
    let (starts, ends) = (shapes.integers(1), shapes.integers(2))
    func optional(_ index: Int) -> [Int]? {
      index < shapes.operands.count && shapes.operands[index] != nil ? shapes.integers(index) : nil
    }
    let axes = optional(3)
    let steps = optional(4)
    var source = Move.Region(strides: strides)
    for index in starts.indices {
      let named = axes?[index] ?? index
      let axis = named < 0 ? named + shape.count : named
      let span = Span(starts[index], ends[index], steps?[index] ?? 1, of: shape[axis])
      source.offset += max(0, span.first) * strides[axis]
      source.strides[axis] = strides[axis] * span.step
    }
    return [OperandMove(move: Move(shape: shapes.results[0], source: source))]
  }
}
