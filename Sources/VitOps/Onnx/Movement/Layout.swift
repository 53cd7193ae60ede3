internal import VitIR

/// `onnx.Transpose(x)`: axis i of the result is axis `perm[i]` of the operand; by default all axes backwards.
struct OnnxTranspose: MovingOperation {
  static let name = "onnx.Transpose"
  static let summary = "Reorders the axes"
  static let example = "(f32[2, 3, 4]) {perm = [2, 0, 1]}"
  let permutation: [Int]?

  init(attributes: inout AttributeReader) throws(VitError) {
    permutation = try attributes.optionalInts("perm")
  }

  var attributes: Attributes { Attributes(permutation.map { [("perm", .ints($0))] } ?? []) }

  private func order(_ rank: Int) -> [Int] {
    permutation?.map { $0 < 0 ? $0 + rank : $0 } ?? (0..<rank).reversed()
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    let data = try operands.type(0, "data")
    let order = order(data.rank)
    guard order.sorted() == Array(data.shape.indices) else {
      throw VitError("perm \(order) is no permutation of the \(data.rank) axes of \(data)")
    }
    return [TensorType(data.element, order.map { data.shape[$0] })]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    AxisMap(
      order(results[0].rank).enumerated().map { AxisMap.Letter(.parallel, [$0.element], [$0.offset]) })
  }

  /// A weight that is turned round stays a view of itself, so that one which is used both ways stays one.
  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    if case .tensor(let tensor)? = operands.value(0), tensor.element.isFloat, tensor.count > 0,
      order(tensor.shape.count) == [1, 0]
    {
      return [.tensor(tensor.transposed())]
    }
    return knownMoves(operands, results)
  }

  func moves(_ shapes: MoveShapes) -> [OperandMove] {
    let strides = rowMajorStrides(shapes.operand(0))
    let source = Move.Region(strides: order(strides.count).map { strides[$0] })
    return [OperandMove(move: Move(shape: shapes.results[0], source: source))]
  }
}

/// `onnx.Expand(x, shape)`: broadcasts both ways.
struct OnnxExpand: MovingOperation {
  static let name = "onnx.Expand"
  static let summary = "Repeats the operand along axes of extent one"
  static let example = "(f32[1, 3], i64[2] = [2, 3])"
  let attributes = Attributes()

  init(attributes: inout AttributeReader) throws(VitError) {}

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectResults()
    let data = try operands.type(0, "input")
    let wanted = try operands.dimensions(1, "shape")
    for extent in wanted.compactMap(\.fixedValue) where extent < 0 {
      throw VitError("input 1 ('shape') is \(wanted), which holds the negative extent \(extent)")
    }
    return [TensorType(data.element, try broadcast(data.shape, wanted))]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    AxisMap(
      results[0].shape.indices.map { axis in
        AxisMap.Letter(
          .parallel, AxisMap.broadcastAxes(operands, [0], axis, of: results[0].shape), [axis])
      }, broadcasts: true)
  }

  func identity(_ operands: Operands, _ results: [TensorType]) -> Int? {
    0
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .shape
    default: .data
    }
  }

  func moves(_ shapes: MoveShapes) -> [OperandMove] {
    let source = broadcastStrides(shapes.operand(0), to: shapes.results[0])
    return [OperandMove(move: Move(shape: shapes.results[0], source: Move.Region(strides: source)))]
  }
}

/// The strides with which a row-major tensor of `shape` is read as one of the shape `target` that it
/// broadcasts to.
func broadcastStrides(_ shape: [Int], to target: [Int]) -> [Int] {
  let strides = rowMajorStrides(shape)
  let lead = target.count - shape.count
  return target.indices.map { $0 < lead || shape[$0 - lead] == 1 ? 0 : strides[$0 - lead] }
}

/// `onnx.Tile(x, repeats)`.
struct OnnxTile: MovingOperation {
  static let name = "onnx.Tile"
  static let summary = "Repeats the operand along each axis"
  static let example = "(f32[2, 3], i64[2] = [1, 2])"
  let attributes = Attributes()

  init(attributes: inout AttributeReader) throws(VitError) {}

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectResults()
    let data = try operands.type(0, "input")
    let repeats = try operands.dimensions(1, "repeats")
    guard repeats.count == data.rank else {
      throw VitError("repeats \(repeats) has \(repeats.count) numbers, expected one for each axis of \(data)")
    }
    for number in repeats.compactMap(\.fixedValue) where number < 0 {
      throw VitError("repeats \(repeats) holds the negative number \(number)")
    }
    return [TensorType(data.element, zip(data.shape, repeats).map { $0 * $1 })]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let shape = operands[0]?.shape, let repeats = operands.value(1)?.dimensions,
      repeats.count == shape.count
    else { return .mixed }
    return AxisMap(
      shape.indices.compactMap { axis in
        if repeats[axis] == 1 { return AxisMap.Letter(.parallel, [axis], [axis]) }
        // All entries are the one that there is.
        return shape[axis] == 1 ? AxisMap.Letter(.parallel, [nil], [axis]) : nil
      })
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .setting
    default: .data
    }
  }

  func moves(_ shapes: MoveShapes) -> [OperandMove] {
    let (shape, result) = (shapes.operand(0), shapes.results[0])
    guard !result.contains(0) else { return [] }
    let strides = rowMajorStrides(shape)
    let source = Move.Region(strides: strides.flatMap { [0, $0] })
    let split = shape.indices.flatMap { [result[$0] / shape[$0], shape[$0]] }
    return [OperandMove(move: Move(shape: split, source: source))]
  }
}

/// `onnx.DepthToSpace(x)`: moves blocks of channels into squares of an image `[n, c, h, w]`.
struct OnnxDepthToSpace: MovingOperation {
  static let name = "onnx.DepthToSpace"
  static let summary = "Rearranges channels into squares of pixels"
  static let example = #"(f32[1, 8, 2, 3]) {blocksize = 2, mode = "DCR"}"#
  enum Mode: String, CaseIterable { case DCR, CRD }
  let block: Int
  let mode: Mode

  init(attributes: inout AttributeReader) throws(VitError) {
    block = try positiveBlock(&attributes)
    mode = try attributes.choice("mode", default: .DCR)
  }

  var attributes: Attributes { Attributes([("blocksize", .int(block)), ("mode", .string(mode.rawValue))]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    let image = try operands.type(0, "input")
    guard image.rank == 4, let area = checkedSquare(block),
      let channels = image.shape[1].exactlyDivided(by: .fixed(area))
    else {
      throw VitError("input 0 is \(image), expected [n, c, h, w] with c a multiple of \(block)²")
    }
    let (height, width) = (image.shape[2] * .fixed(block), image.shape[3] * .fixed(block))
    return [TensorType(image.element, [image.shape[0], channels, height, width])]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .leading(1, results)
  }

  func moves(_ shapes: MoveShapes) -> [OperandMove] {
    let (shape, b) = (shapes.operand(0), block)
    let channels = shapes.results[0][1]
    // The operand's channels are [down, right, c] or [c, down, right]; the result is [n, c, h, down, w,
    // right].
    let strides = rowMajorStrides(shape)
    let c = strides[1]
    let (channel, down, right) =
      mode == .DCR ? (c, b * channels * c, channels * c) : (b * b * c, b * c, c)
    let source = [strides[0], channel, strides[2], down, strides[3], right]
    return [
      OperandMove(
        move: Move(
          shape: [shape[0], channels, shape[2], b, shape[3], b], source: Move.Region(strides: source)))
    ]
  }
}

/// `onnx.SpaceToDepth(x)`: moves squares of an image `[n, c, h, w]` into channels.
struct OnnxSpaceToDepth: MovingOperation {
  static let name = "onnx.SpaceToDepth"
  static let summary = "Rearranges squares of pixels into channels"
  static let example = "(f32[1, 3, 4, 6]) {blocksize = 2}"
  let block: Int
  /// Where in the channels a pixel's place in its square counts: before them, or within each.
  let mode: OnnxDepthToSpace.Mode

  init(attributes: inout AttributeReader) throws(VitError) {
    block = try positiveBlock(&attributes)
    mode = try attributes.choice("mode", default: .DCR)
  }

  var attributes: Attributes {
    Attributes([("blocksize", .int(block))] + (mode == .DCR ? [] : [("mode", .string(mode.rawValue))]))
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    let image = try operands.type(0, "input")
    guard image.rank == 4, let area = checkedSquare(block),
      let height = image.shape[2].exactlyDivided(by: .fixed(block)) ?? symbolicQuotient(image.shape[2]),
      let width = image.shape[3].exactlyDivided(by: .fixed(block)) ?? symbolicQuotient(image.shape[3])
    else {
      throw VitError("input 0 is \(image), expected [n, c, h, w] with h and w multiples of \(block)")
    }
    return [TensorType(image.element, [image.shape[0], image.shape[1] * .fixed(area), height, width])]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .leading(1, results)
  }

  private func symbolicQuotient(_ extent: Dimension) -> Dimension? {
    extent.isFixed ? nil : extent.floorDivided(by: .fixed(block))
  }

  func moves(_ shapes: MoveShapes) -> [OperandMove] {
    let (shape, result, b) = (shapes.operand(0), shapes.results[0], block)
    let strides = rowMajorStrides(shape)
    // The result is [n, down, right, c, h, w] or [n, c, down, right, h, w].
    let channels: [(extent: Int, step: Int)] =
      mode == .DCR
      ? [(b, strides[2]), (b, 1), (shape[1], strides[1])] : [(shape[1], strides[1]), (b, strides[2]), (b, 1)]
    return [
      OperandMove(
        move: Move(
          shape: [shape[0]] + channels.map(\.extent) + [result[2], result[3]],
          source: Move.Region(strides: [strides[0]] + channels.map(\.step) + [b * strides[2], b])))
    ]
  }
}

private func positiveBlock(_ attributes: inout AttributeReader) throws(VitError) -> Int {
  let block = try attributes.int("blocksize")
  guard block > 0 else { throw VitError("blocksize is \(block), expected a positive number") }
  return block
}

private func checkedSquare(_ value: Int) -> Int? {
  let (product, overflow) = value.multipliedReportingOverflow(by: value)
  return overflow ? nil : product
}
