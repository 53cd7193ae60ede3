internal import VitIR

/// `onnx.Pad(data, pads, constant?, axes?)`; a negative pad cuts.
struct OnnxPad: MovementOperation {
  static let name = "onnx.Pad"
  static let summary = "Adds or removes entries at both ends of axes"
  static let example = "(f32[2, 3], i64[4] = [0, 1, 0, 1])"
  enum Mode: String, CaseIterable { case constant, reflect, edge, wrap }
  let mode: Mode

  init(attributes: inout AttributeReader) throws(VitError) {
    mode = try attributes.choice("mode", default: .constant)
  }

  var attributes: Attributes { Attributes([("mode", .string(mode.rawValue))]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...4)
    try operands.expectResults()
    var data = try operands.type(0, "data")
    let pads = try operands.dimensions(1, "pads")
    if operands.has(2) {
      try operands.expect(2, "constant_value", data.element)
      guard try operands.type(2, "constant_value").elements == 1 else {
        throw VitError("input 2 ('constant_value') is no scalar")
      }
    }
    let axes =
      operands.has(3)
      ? try normalisedAxes(try operands.integers(3, "axes"), rank: data.rank) : Array(data.shape.indices)
    guard pads.count == 2 * axes.count else {
      throw VitError(
        "pads \(pads) has \(pads.count) numbers, expected \(2 * axes.count)", code: "shape-mismatch")
    }
    for (index, axis) in axes.enumerated() {
      let (before, after, extent) = (pads[index], pads[index + axes.count], data.shape[axis])
      let result = extent + before + after
      if let fixed = result.fixedValue, fixed < 0 {
        throw VitError(
          "pads \(pads) leave \(fixed) entries of axis \(axis) of \(data)", code: "shape-mismatch")
      }
      try expectRoom(extent, before, after, axis)
      data.shape[axis] = result
    }
    return [data]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let shape = operands[0]?.shape, let pads = operands.value(1)?.dimensions,
      let axes = operands.has(3) ? operands.value(3)?.integers : Array(shape.indices),
      pads.count == 2 * axes.count
    else { return .mixed }
    return AxisMap(
      shape.indices.compactMap { axis in
        if let index = axes.firstIndex(where: { ($0 < 0 ? $0 + shape.count : $0) == axis }),
          pads[index] != 0 || pads[index + axes.count] != 0
        {
          return nil
        }
        return AxisMap.Letter(.parallel, [axis], [axis])
      })
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 0: .data
    default: .setting
    }
  }

  /// Throws where the axis has too few entries for what the mode repeats.
  private func expectRoom(
    _ extent: Dimension, _ before: Dimension, _ after: Dimension, _ axis: Int
  ) throws(VitError) {
    guard mode != .constant, let extent = extent.fixedValue, let before = before.fixedValue,
      let after = after.fixedValue, max(before, after) > 0
    else { return }
    let kept = extent + min(0, before) + min(0, after)
    guard kept > 0, mode != .reflect || max(before, after) < kept else {
      throw VitError(
        "axis \(axis) has \(kept) entries, too few to pad by \(max(before, after)) in mode "
          + "'\(mode.rawValue)'",
        code: "shape-mismatch")
    }
  }

  /// For each axis the source's offset of each entry of the result, -1 for one that is new; and how many
  /// elements follow each other unchanged at the end.
  private func tables(_ context: KernelContext) -> (tables: [[Int]], run: Int) {
    let (shape, result) = (context.input(0).shape, context.output.shape)
    let pads = context.input(1).wholeNumbers
    let axes =
      context.optionalInput(3)?.wholeNumbers.map { $0 < 0 ? $0 + shape.count : $0 } ?? Array(shape.indices)
    var (before, after) = ([Int](repeating: 0, count: shape.count), [Int](repeating: 0, count: shape.count))
    for (index, axis) in axes.enumerated() {
      before[axis] = pads[index]
      after[axis] = pads[index + axes.count]
    }
    let strides = rowMajorStrides(shape)
    var padded = shape.count
    while padded > 0, before[padded - 1] == 0, after[padded - 1] == 0 { padded -= 1 }
    let tables = (0..<padded).map { axis in
      // Negative pads cut first, and what is left is repeated.
      let low = max(0, -before[axis])
      let kept = shape[axis] - low + min(0, after[axis])
      return (0..<result[axis]).map { place -> Int in
        let entry = source(place - max(0, before[axis]), of: kept)
        return entry < 0 ? -1 : (entry + low) * strides[axis]
      }
    }
    return (tables, shape[padded...].reduce(1, *))
  }

  /// The entry of an axis that stands at `place`, which may be outside; -1 for the constant.
  private func source(_ place: Int, of extent: Int) -> Int {
    if place >= 0 && place < extent { return place }
    switch mode {
    case .constant: return -1
    case .edge: return place < 0 ? 0 : extent - 1
    case .wrap: return ((place % extent) + extent) % extent
    case .reflect:
      let period = max(1, 2 * (extent - 1))
      let phase = ((place % period) + period) % period
      return phase < extent ? phase : period - phase
    }
  }

  /// Calls `body` with the place of each run of the result below the outermost entry, and the source's, or
  /// -1.
  private func forEachRun(
    _ tables: [[Int]], _ run: Int, outermost: Int, _ body: (_ target: Int, _ source: Int) -> Void
  ) {
    guard tables.count > 0 else { return body(0, 0) }
    let counts = tables.dropFirst().map(\.count)
    let inner = counts.reduce(1, *)
    for place in 0..<inner {
      var rest = place
      var offset = tables[0][outermost]
      for axis in stride(from: tables.count - 1, to: 0, by: -1) where offset >= 0 {
        let entry = tables[axis][rest % tables[axis].count]
        rest /= tables[axis].count
        offset = entry < 0 ? -1 : offset + entry
      }
      body((outermost * inner + place) * run, offset)
    }
  }

  func forward(_ context: KernelContext) {
    let (data, output) = (context.input(0), context.output)
    guard output.count > 0 else { return }
    let (tables, run) = tables(context)
    if mode == .constant {
      if let constant = context.optionalInput(2) {
        Move(shape: [output.count], source: Move.Region(strides: [0])).copy(
          constant, to: output, context.pool)
      } else {
        output.zero()
      }
    }
    let size = data.element.size
    context.pool.run(tasks: tables.first?.count ?? 1) { task, _ in
      forEachRun(tables, run, outermost: task) { target, source in
        guard source >= 0 else { return }
        (output.base + target * size).copyMemory(from: data.base + source * size, byteCount: run * size)
      }
    }
  }

  var isDifferentiable: Bool { true }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let from = resultGradients[0], from.count > 0 else { return }
    let constant = context.inputs.count > 2 ? operandGradients[2] : nil
    let (tables, run) = tables(context)
    func add<T: BinaryFloatingPoint>(_ type: T.Type) {
      let a = from.pointer(as: T.self)
      let (b, c) = (operandGradients[0]?.pointer(as: T.self), constant?.pointer(as: T.self))
      for outermost in 0..<(tables.first?.count ?? 1) {
        forEachRun(tables, run, outermost: outermost) { target, source in
          for index in target..<target + run {
            if source >= 0 {
              b?[source + index - target] += a[index]
            } else {
              c?[0] += a[index]
            }
          }
        }
      }
    }
    if from.element == .f64 { add(Double.self) } else { add(Float.self) }
  }
}

/// `onnx.CenterCropPad(x, shape)`: cuts or pads with zeros on both sides, one more after than before where it
/// is odd.
struct OnnxCenterCropPad: MovingOperation {
  static let name = "onnx.CenterCropPad"
  static let summary = "Cuts or pads around the centre"
  static let example = "(f32[4, 5], i64[2] = [2, 6])"
  let axes: [Int]?
  var fillsGaps: Bool { true }

  init(attributes: inout AttributeReader) throws(VitError) { axes = try attributes.optionalInts("axes") }

  var attributes: Attributes { Attributes(axes.map { [("axes", .ints($0))] } ?? []) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectResults()
    var data = try operands.type(0, "input_data")
    let shape = try shapeOperand(operands, 1, "shape")
    let places = try axes.map { axes throws(VitError) in try normalisedAxes(axes, rank: data.rank) }
    let named = places ?? Array(data.shape.indices)
    guard shape.count == named.count else {
      throw VitError(
        "shape \(shape) has \(shape.count) extents for \(named.count) axes", code: "shape-mismatch")
    }
    for (axis, extent) in zip(named, shape) { data.shape[axis] = extent }
    return [data]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let rank = results[0].rank
    let named = axes.map { $0.map { $0 < 0 ? $0 + rank : $0 } } ?? Array(0..<rank)
    return AxisMap(
      (0..<rank).filter { !named.contains($0) }.map { AxisMap.Letter(.parallel, [$0], [$0]) })
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .shape
    default: .data
    }
  }

  func moves(_ shapes: MoveShapes) -> [OperandMove] {
    let (from, to) = (shapes.operand(0), shapes.results[0])
    var source = Move.Region(strides: rowMajorStrides(from))
    var target = Move.Region(strides: rowMajorStrides(to))
    for axis in from.indices {
      source.offset += max(0, from[axis] - to[axis]) / 2 * source.strides[axis]
      target.offset += max(0, to[axis] - from[axis]) / 2 * target.strides[axis]
    }
    return [OperandMove(move: Move(shape: zip(from, to).map { min($0, $1) }, source: source, target: target))]
  }
}

/// `onnx.ReverseSequence(x, lengths)`: turns the first entries of each sequence round.
struct OnnxReverseSequence: MovingOperation {
  static let name = "onnx.ReverseSequence"
  static let summary = "Reverses the beginning of each sequence of a batch"
  static let example = "(f32[1, 2, 3], i64[1]) {batch_axis = 0, time_axis = 1}"
  let batchAxis: Int
  let timeAxis: Int
  var steering: [Int] { [1] }

  init(attributes: inout AttributeReader) throws(VitError) {
    batchAxis = try attributes.int("batch_axis", default: 1)
    timeAxis = try attributes.int("time_axis", default: 0)
    guard Set([batchAxis, timeAxis]) == [0, 1] else {
      throw VitError("batch_axis is \(batchAxis) and time_axis \(timeAxis), expected 0 and 1 in some order")
    }
  }

  var attributes: Attributes { Attributes([("batch_axis", .int(batchAxis)), ("time_axis", .int(timeAxis))]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectResults()
    let data = try operands.type(0, "input")
    let lengths = try operands.indices(1, "sequence_lens")
    guard data.rank >= 2, lengths.rank == 1, mayBeEqual(lengths.shape[0], data.shape[batchAxis]) else {
      throw VitError("input is \(data) and the lengths are \(lengths), expected a length for each sequence")
    }
    return [data]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    AxisMap(
      (0..<results[0].rank).map { axis in
        if axis == batchAxis { return AxisMap.Letter(.parallel, [axis, 0], [axis]) }
        return AxisMap.Letter(axis == timeAxis ? .aligned : .parallel, [axis], [axis])
      })
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .index
    default: .data
    }
  }

  func moves(_ shapes: MoveShapes) -> [OperandMove] {
    let shape = shapes.operand(0)
    let strides = rowMajorStrides(shape)
    return shapes.integers(1).enumerated().flatMap { item, length -> [OperandMove] in
      let length = min(max(length, 0), shape[timeAxis])
      let first = item * strides[batchAxis]
      var (head, tail, backwards) = (shape, shape, strides)
      (head[batchAxis], tail[batchAxis]) = (1, 1)
      (head[timeAxis], tail[timeAxis]) = (length, shape[timeAxis] - length)
      backwards[timeAxis] = -strides[timeAxis]
      let last = first + max(0, length - 1) * strides[timeAxis]
      let rest = Move.Region(offset: first + length * strides[timeAxis], strides: strides)
      return [
        OperandMove(
          move: Move(
            shape: head, source: Move.Region(offset: last, strides: backwards),
            target: Move.Region(offset: first, strides: strides))),
        OperandMove(move: Move(shape: tail, source: rest, target: rest)),
      ]
    }
  }
}
