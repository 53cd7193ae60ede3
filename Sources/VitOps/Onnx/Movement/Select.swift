internal import VitIR

/// `onnx.NonZero(x)`: for data that are known when the model is compiled, since its extent depends on them.
struct OnnxNonZero: Operation {
  static let name = "onnx.NonZero"
  static let summary = "The places of elements that are not zero"
  static let example = "(i64[3] = [1, 0, 1])"
  let attributes = Attributes()

  init(attributes: inout AttributeReader) throws(VitError) {}

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    let rank = try operands.type(0, "x").rank
    let numbers: [Double]?
    switch operands.value(0) {
    case nil: numbers = nil
    case .integers?: numbers = operands.value(0)?.numbers
    case .tensor(let tensor)?: numbers = try? tensor.doubles()
    }
    guard let numbers else {
      throw VitError(
        "the extent of the result depends on data, expected ones that are known when the model is compiled",
        code: "dynamic-shape")
    }
    return [TensorType(.i64, fixed: [rank, numbers.count { $0 != 0 }])]
  }

  func forward(_ context: KernelContext) {
    let (input, output) = (context.input(0), context.output)
    let strides = input.strides
    let columns = output.shape[1]
    var column = 0
    for index in 0..<input.count where input.number(index) != 0 && column < columns {
      for (axis, step) in strides.enumerated() {
        output.i64[axis * columns + column] = Int64(index / step % input.shape[axis])
      }
      column += 1
    }
  }
}

/// `onnx.Compress(x, condition)`: the entries of an axis (without one, the elements) for which a known
/// condition holds.
struct OnnxCompress: MovingOperation {
  static let name = "onnx.Compress"
  static let summary = "Entries for which a condition holds"
  static let example = "(f32[3, 2], bool[3] = [true, false, true]) {axis = 0}"
  let axis: Int?
  var steering: [Int] { [1] }

  init(attributes: inout AttributeReader) throws(VitError) { axis = try attributes.optionalInt("axis") }

  var attributes: Attributes { Attributes(axis.map { [("axis", .int($0))] } ?? []) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectResults()
    var data = try operands.type(0, "input")
    try operands.expect(1, "condition", .bool)
    let condition = try operands.integers(1, "condition")
    guard try operands.type(1, "condition").rank == 1 else {
      throw VitError("the condition has more than one axis")
    }
    let place = try axis.map { axis throws(VitError) in try normalisedAxis(axis, rank: data.rank) }
    if let extent = (place.map { data.shape[$0] } ?? data.elements).fixedValue, condition.count > extent {
      throw VitError(
        "the condition has \(condition.count) elements for an axis of \(extent)", code: "shape-mismatch")
    }
    let count = Dimension.fixed(condition.count { $0 != 0 })
    if let place { data.shape[place] = count } else { data.shape = [count] }
    return [data]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let axis else { return .mixed }
    let place = axis < 0 ? axis + results[0].rank : axis
    return AxisMap(
      (0..<results[0].rank).filter { $0 != place }.map { AxisMap.Letter(.parallel, [$0], [$0]) })
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .index
    default: .data
    }
  }

  func moves(_ shapes: MoveShapes) -> [OperandMove] {
    let shape = axis == nil ? [shapes.operand(0).reduce(1, *)] : shapes.operand(0)
    let place = axis.map { $0 < 0 ? $0 + shape.count : $0 } ?? 0
    let (from, to) = (rowMajorStrides(shape), rowMajorStrides(shapes.results[0]))
    var entry = shape
    entry[place] = 1
    let taken = shapes.integers(1).enumerated().filter { $0.element != 0 }.map(\.offset)
    return taken.enumerated().map { target, source in
      OperandMove(
        move: Move(
          shape: entry, source: Move.Region(offset: source * from[place], strides: from),
          target: Move.Region(offset: target * to[place], strides: to)))
    }
  }
}

/// `onnx.TopK(x, k)`: the greatest (or least) entries of an axis in order, and where they were; of equal ones
/// the first.
struct OnnxTopK: Operation {
  static let name = "onnx.TopK"
  static let summary = "The greatest entries of an axis, and their places"
  static let example = "(f32[2, 3], i64[1] = [2]) {axis = -1} -> 2"
  let axis: Int
  let largest: Bool
  let isSorted: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    axis = try attributes.int("axis", default: -1)
    largest = try attributes.bool("largest", default: true)
    isSorted = try attributes.bool("sorted", default: true)
  }

  var attributes: Attributes {
    Attributes([
      ("axis", .int(axis)), ("largest", .int(largest ? 1 : 0)), ("sorted", .int(isSorted ? 1 : 0)),
    ])
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectResults(2)
    var values = try operands.type(0, "x")
    let count = try operands.dimensions(1, "k")
    let place = try normalisedAxis(axis, rank: values.rank)
    guard count.count == 1, !(count[0] - values.shape[place]).isPositive,
      count[0].fixedValue.map({ $0 >= 0 }) ?? true
    else {
      throw VitError("k is \(count), expected one number up to the axis's \(values.shape[place])")
    }
    values.shape[place] = count[0]
    return Array([values, TensorType(.i64, values.shape)].prefix(operands.resultCount))
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let rank = results[0].rank
    let place = axis < 0 ? axis + rank : axis
    return AxisMap(
      (0..<rank).filter { $0 != place }.map { axis in
        AxisMap.Letter(.parallel, [axis], results.map { _ in axis })
      })
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .setting
    default: .data
    }
  }

  func forward(_ context: KernelContext) {
    switch context.input(0).element {
    case .f64: select(context, Double.self)
    case .i64: select(context, Int64.self)
    case .i32: select(context, Int32.self)
    case .i8: select(context, Int8.self)
    case .u8, .bool: select(context, UInt8.self)
    default: select(context, Float.self)
    }
  }

  private func select<T: Comparable>(_ context: KernelContext, _ type: T.Type) {
    let (input, values) = (context.input(0), context.output)
    let place = axis < 0 ? axis + input.rank : axis
    let (extent, kept) = (input.shape[place], values.shape[place])
    let inner = input.shape[(place + 1)...].reduce(1, *)
    let outer = input.shape[..<place].reduce(1, *)
    let places = (context.outputs.dropFirst() + context.saved).map(\.i64)
    let (from, to) = (input.pointer(as: T.self), values.pointer(as: T.self))
    guard kept > 0, extent > 0 else { return }
    let perTask = max(1, 4096 / extent)
    let lines = outer * inner
    context.pool.run(tasks: (lines + perTask - 1) / perTask) { task, _ in
      for line in task * perTask..<min((task + 1) * perTask, lines) {
        let source = from + (line / inner * extent * inner + line % inner)
        let target = line / inner * kept * inner + line % inner
        let order = (0..<extent).sorted { a, b in
          let (x, y) = (source[a &* inner], source[b &* inner])
          if x == y { return a < b }
          return largest ? x > y : x < y
        }
        for rank in 0..<kept {
          to[target + rank * inner] = source[order[rank] &* inner]
          for place in places { place[target + rank * inner] = Int64(order[rank]) }
        }
      }
    }
  }

  func savedTypes(_ operands: Operands) -> [TensorType] {
    guard let types = try? resultTypes(operands) else { return [] }
    return [TensorType(.i64, types[0].shape)]
  }

  var isDifferentiable: Bool { true }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let from = resultGradients[0], let to = operandGradients[0] else { return }
    let places = ElementPlaces(in: to.shape, axis: axis, indices: context.saved[0])
    if from.element == .f64 {
      let (a, b) = (from.f64, to.f64)
      places.forEach { element, place in b[place] += a[element] }
    } else {
      let (a, b) = (from.f32, to.f32)
      places.forEach { element, place in b[place] += a[element] }
    }
  }
}

/// `onnx.OneHot(indices, depth, values)`: a new axis, `values[1]` where the index says and `values[0]`
/// elsewhere.
struct OnnxOneHot: Operation {
  static let name = "onnx.OneHot"
  static let summary = "Indices as vectors with one entry set"
  static let example = "(i64[1, 2] = [4, 0], i64[] = [4], f32[2]) {axis = 1}"
  let axis: Int

  init(attributes: inout AttributeReader) throws(VitError) { axis = try attributes.int("axis", default: -1) }

  var attributes: Attributes { Attributes([("axis", .int(axis))]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...3)
    try operands.expectResults()
    let indices = try operands.type(0, "indices")
    let values = try operands.type(2, "values")
    let depth: Dimension
    if try operands.type(1, "depth").element.isFloat {
      guard let number = operands.value(1)?.numbers?.first else {
        throw VitError("input 1 ('depth') is computed from data, expected a known one", code: "dynamic-shape")
      }
      depth = .fixed(Int(clamping: number))
    } else {
      guard let known = try operands.dimensions(1, "depth").first else {
        throw VitError("depth has no element")
      }
      depth = known
    }
    guard depth.fixedValue.map({ $0 >= 1 }) ?? true else {
      throw VitError("depth is \(depth), expected a positive number")
    }
    guard values.shape == [2] else { throw VitError("the values are \(values), expected two") }
    let place = try normalisedAxis(axis, rank: indices.rank + 1)
    var shape = indices.shape
    shape.insert(depth, at: place)
    return [TensorType(values.element, shape)]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let rank = results[0].rank
    let place = axis < 0 ? axis + rank : axis
    return AxisMap(
      (0..<rank).filter { $0 != place }.map { AxisMap.Letter(.parallel, [$0 < place ? $0 : $0 - 1], [$0]) })
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 0: .index
    default: .setting
    }
  }

  func forward(_ context: KernelContext) {
    let (indices, values, output) = (context.input(0), context.input(2), context.output)
    let place = axis < 0 ? axis + output.rank : axis
    let depth = output.shape[place]
    let inner = output.shape[(place + 1)...].reduce(1, *)
    let size = values.element.size
    Move(shape: [output.count], source: Move.Region(strides: [0])).copy(values, to: output, context.pool)
    for index in 0..<indices.count {
      let number = Int(clamping: indices.number(index))
      guard number >= -depth, number < depth else { continue }
      let entry = number < 0 ? number + depth : number
      let target = (index / inner * depth + entry) * inner + index % inner
      (output.base + target * size).copyMemory(from: values.base + size, byteCount: size)
    }
  }
}

/// `onnx.Trilu(x, k?)`: keeps one side of the diagonal `k` of each matrix, zeroes the other.
struct OnnxTrilu: Operation {
  static let name = "onnx.Trilu"
  static let summary = "The upper or lower triangle of matrices"
  static let example = "(f32[3, 3], i64[] = [0]) {upper = 0}"
  let isUpper: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    isUpper = try attributes.bool("upper", default: true)
  }

  var attributes: Attributes { Attributes([("upper", .int(isUpper ? 1 : 0))]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...2)
    try operands.expectResults()
    let input = try operands.type(0, "input")
    guard input.rank >= 2 else { throw VitError("input 0 is \(input), expected at least two axes") }
    if operands.has(1) {
      guard try operands.indices(1, "k").elements == 1 else { throw VitError("input 1 ('k') is no scalar") }
    }
    return [input]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .rows(operands, results) { $0 >= results[0].rank - 2 }
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .setting
    default: .data
    }
  }

  /// Calls `body` with the first element and the number of elements of each run that is kept.
  private func forEachRun(_ context: KernelContext, _ body: (_ first: Int, _ count: Int) -> Void) {
    let shape = context.input(0).shape
    let (rows, columns) = (shape[shape.count - 2], shape[shape.count - 1])
    let diagonal = context.optionalInput(1)?.wholeNumbers[0] ?? 0
    guard rows > 0, columns > 0 else { return }
    for line in 0..<context.input(0).count / columns {
      let (sum, overflow) = (line % rows).addingReportingOverflow(diagonal)
      let edge = overflow ? (diagonal < 0 ? Int.min : Int.max) : sum
      if isUpper {
        let first = min(max(edge, 0), columns)
        body(line * columns + first, columns - first)
      } else {
        body(line * columns, edge < 0 ? 0 : min(edge, columns - 1) + 1)
      }
    }
  }

  func forward(_ context: KernelContext) {
    let (input, output) = (context.input(0), context.output)
    let size = input.element.size
    output.zero()
    forEachRun(context) { first, count in
      (output.base + first * size).copyMemory(from: input.base + first * size, byteCount: count * size)
    }
  }

  var isDifferentiable: Bool { true }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let from = resultGradients[0], let to = operandGradients[0] else { return }
    func add<T: BinaryFloatingPoint>(_ a: UnsafeMutablePointer<T>, _ b: UnsafeMutablePointer<T>) {
      forEachRun(context) { first, count in
        for index in first..<first + count { b[index] += a[index] }
      }
    }
    if from.element == .f64 { add(from.f64, to.f64) } else { add(from.f32, to.f32) }
  }
}
