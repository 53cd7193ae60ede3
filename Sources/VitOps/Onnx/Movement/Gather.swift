internal import VitIR

/// The entry that a possibly negative number names, kept inside the axis where data at run time point
/// outside.
@inline(__always) func clampedEntry(_ index: Int, _ extent: Int) -> Int {
  min(max(index < 0 ? index &+ extent : index, 0), extent - 1)
}

/// Whole numbers in memory, read as `Int` whatever their width.
struct IndexReader {
  private let base: UnsafeMutableRawPointer
  private let isWide: Bool

  /// A reader of a view of `i64` or `i32`.
  init(_ view: View) {
    base = view.base
    isWide = view.element == .i64
  }

  /// Number `index`.
  @inline(__always) subscript(index: Int) -> Int {
    isWide
      ? Int(base.load(fromByteOffset: index &* 8, as: Int64.self))
      : Int(base.load(fromByteOffset: index &* 4, as: Int32.self))
  }
}

extension Operands {
  /// The types of data and indices, all that there is.
  fileprivate func gathered() throws(VitError) -> (data: TensorType, indices: TensorType) {
    try expectCount(2...2)
    try expectResults()
    return (try type(0, "data"), try indices(1, "indices"))
  }

  /// Throws where entries are asked of an axis that has none.
  func expectNotEmpty(_ extent: Dimension, _ indices: TensorType) throws(VitError) {
    if extent == 0 && indices.elements != 0 {
      throw VitError("entries of an axis of extent 0 are asked for", code: "index-range")
    }
  }
}

/// An operation that takes entries along one axis.
protocol GatheringOperation: MovementOperation {
  var axis: Int { get }
  init(axis: Int)
}

extension GatheringOperation {
  init(attributes: inout AttributeReader) throws(VitError) {
    self.init(axis: try attributes.int("axis", default: 0))
  }

  var attributes: Attributes { Attributes([("axis", .int(axis))]) }

  func role(of index: Int) -> OperandRole { index == 1 ? .index : .data }
}

/// `onnx.Gather(data, indices)`: the entries of an axis that the indices name.
struct OnnxGather: GatheringOperation {
  static let name = "onnx.Gather"
  static let summary = "Entries of an axis, by index"
  static let example = "(f32[4, 3], i64[2]) {axis = 0}"
  let axis: Int

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    let (data, indices) = try operands.gathered()
    let place = try normalisedAxis(axis, rank: data.rank)
    try operands.expectNotEmpty(data.shape[place], indices)
    try operands.expectEntries(1, "indices", of: data.shape[place])
    return [TensorType(data.element, data.shape[..<place] + indices.shape + data.shape[(place + 1)...])]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let data = operands[0]?.shape, let indices = operands[1]?.shape else { return .mixed }
    let place = axis < 0 ? axis + data.count : axis
    var letters = data.indices.filter { $0 != place }.map {
      AxisMap.Letter(.parallel, [$0], [$0 < place ? $0 : $0 - 1 + indices.count])
    }
    letters += indices.indices.map { AxisMap.Letter(.parallel, [nil, $0], [place + $0]) }
    // One entry is a range of one.
    if let entry = operands.value(1)?.integers, entry.count == 1, indices.count <= 1,
      let first = entry[0] < 0 ? data[place].fixedValue.map({ $0 + entry[0] }) : entry[0]
    {
      letters.append(
        AxisMap.Letter(
          .ranges, [place], [indices.isEmpty ? nil : place], operandStarts: [0],
          resultStarts: [.fixed(first)]))
    }
    return AxisMap(letters)
  }

  /// Extents before the axis, of it, and after it.
  private func extents(_ shape: [Int]) -> (outer: Int, extent: Int, inner: Int) {
    let place = axis < 0 ? axis + shape.count : axis
    return (shape[..<place].reduce(1, *), shape[place], shape[(place + 1)...].reduce(1, *))
  }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    guard let data = operands.value(0), let values = data.dimensions,
      let indices = operands.value(1)?.integers,
      let shape = results[0].fixedShape, shape.reduce(1, *) <= KnownValue.maximumIntegers
    else { return [] }
    let (outer, extent, inner) = extents(data.shape)
    var result: [Dimension] = []
    for row in 0..<outer {
      for index in indices {
        let first = (row * extent + clampedEntry(index, extent)) * inner
        result += values[first..<first + inner]
      }
    }
    return [.integers(shape: shape, result)]
  }

  func forward(_ context: KernelContext) {
    let (data, output) = (context.input(0), context.output)
    let indices = IndexReader(context.input(1))
    let count = context.input(1).count
    let (outer, extent, inner) = extents(data.shape)
    let bytes = inner * data.element.size
    let rows = outer * count
    guard rows > 0, bytes > 0 else { return }
    let perTask = max(1, 65536 / bytes)
    context.pool.run(tasks: (rows + perTask - 1) / perTask) { task, _ in
      for row in task * perTask..<min((task + 1) * perTask, rows) {
        let entry = clampedEntry(indices[row % count], extent)
        (output.base + row * bytes).copyMemory(
          from: data.base + (row / count * extent + entry) * bytes, byteCount: bytes)
      }
    }
  }

  var isDifferentiable: Bool { true }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let from = resultGradients[0], let to = operandGradients[0] else { return }
    let indices = IndexReader(context.input(1))
    let count = context.input(1).count
    let (outer, extent, inner) = extents(to.shape)
    guard from.count > 0 else { return }
    // Entries named twice are added in order by one task, which owns some columns of one outer entry.
    let width = 256
    let across = (inner + width - 1) / width
    context.pool.run(tasks: outer * across) { task, _ in
      let (row, column) = (task / across, task % across * width)
      let length = min(width, inner - column)
      func add<T: BinaryFloatingPoint>(_ source: UnsafeMutablePointer<T>, _ target: UnsafeMutablePointer<T>) {
        for index in 0..<count {
          let a = source + (row * count + index) * inner + column
          let b = target + (row * extent + clampedEntry(indices[index], extent)) * inner + column
          for offset in 0..<length { b[offset] += a[offset] }
        }
      }
      if from.element == .f64 { add(from.f64, to.f64) } else { add(from.f32, to.f32) }
    }
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    Cost(bytes: 2 * results[0].count * results[0].element.size)
  }
}

/// Where the elements that an index tensor asks for lie: shared by `GatherElements` and `ScatterElements`.
struct ElementPlaces {
  private let shape: [Int]
  private let strides: [Int]
  private let axis: Int
  private let extent: Int
  private let axisStride: Int
  private let indices: IndexReader

  /// The places in a tensor of `shape`, the index along `axis` being replaced by what `indices` say.
  init(in shape: [Int], axis: Int, indices view: View) {
    let place = axis < 0 ? axis + shape.count : axis
    var strides = rowMajorStrides(shape)
    axisStride = strides[place]
    strides[place] = 0
    self.shape = view.shape
    self.strides = strides
    self.axis = place
    extent = shape[place]
    indices = IndexReader(view)
  }

  /// Calls `body` with the number of each index element in order, and its place.
  func forEach(_ body: (_ element: Int, _ place: Int) -> Void) {
    let count = shape.reduce(1, *)
    guard count > 0, let width = shape.last, let step = strides.last else { return }
    var index = [Int](repeating: 0, count: shape.count)
    var base = 0
    for first in stride(from: 0, to: count, by: width) {
      for column in 0..<width {
        body(
          first + column, base + column * step + clampedEntry(indices[first + column], extent) * axisStride)
      }
      for axis in stride(from: shape.count - 2, through: 0, by: -1) {
        index[axis] += 1
        base += strides[axis]
        if index[axis] < shape[axis] { break }
        base -= index[axis] * strides[axis]
        index[axis] = 0
      }
    }
  }
}

/// `onnx.GatherElements(data, indices)`.
struct OnnxGatherElements: GatheringOperation {
  static let name = "onnx.GatherElements"
  static let summary = "Single elements along an axis, by index"
  static let example = "(f32[1, 2, 3], i32[1, 2, 3]) {axis = 1}"
  let axis: Int

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    let (data, indices) = try operands.gathered()
    try expectElementIndices(operands, data, indices, axis: axis)
    return [TensorType(data.element, indices.shape)]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let data = operands[0]?.shape, let indices = operands[1]?.shape, data.count == indices.count else {
      return .mixed
    }
    let place = axis < 0 ? axis + data.count : axis
    return AxisMap(
      data.indices.filter { $0 != place && data[$0] == indices[$0] }.map {
        AxisMap.Letter(.parallel, [$0, $0], [$0])
      })
  }

  func forward(_ context: KernelContext) {
    let (data, output) = (context.input(0), context.output)
    let places = ElementPlaces(in: data.shape, axis: axis, indices: context.input(1))
    func gather<T: BitwiseCopyable>(_ type: T.Type) {
      let (from, to) = (data.pointer(as: T.self), output.pointer(as: T.self))
      places.forEach { element, place in to[element] = from[place] }
    }
    switch data.element.size {
    case 1: gather(UInt8.self)
    case 4: gather(UInt32.self)
    default: gather(UInt64.self)
    }
  }

  var isDifferentiable: Bool { true }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let from = resultGradients[0], let to = operandGradients[0] else { return }
    let places = ElementPlaces(in: to.shape, axis: axis, indices: context.input(1))
    if from.element == .f64 {
      let (a, b) = (from.f64, to.f64)
      places.forEach { element, place in b[place] += a[element] }
    } else {
      let (a, b) = (from.f32, to.f32)
      places.forEach { element, place in b[place] += a[element] }
    }
  }
}

/// The rule for indices that replace one coordinate each.
func expectElementIndices(
  _ operands: Operands, _ data: TensorType, _ indices: TensorType, axis: Int
) throws(VitError) {
  let place = try normalisedAxis(axis, rank: data.rank)
  guard indices.rank == data.rank else {
    throw VitError("the indices are \(indices), expected the rank of \(data)", code: "shape-mismatch")
  }
  for axis in data.shape.indices where axis != place {
    guard !(indices.shape[axis] - data.shape[axis]).isPositive else {
      throw VitError(
        "the indices \(indices) reach beyond \(data) along axis \(axis)", code: "shape-mismatch")
    }
  }
  try operands.expectNotEmpty(data.shape[place], indices)
  try operands.expectEntries(1, "indices", of: data.shape[place])
}

/// `onnx.GatherND(data, indices)`: each vector of indices names an entry of the axes after `batch_dims`.
struct OnnxGatherND: MovementOperation {
  static let name = "onnx.GatherND"
  static let summary = "Entries of several axes, by vectors of indices"
  static let example = "(f32[1, 2, 3], i64[1, 3, 1]) {batch_dims = 1}"
  let batchAxes: Int

  init(attributes: inout AttributeReader) throws(VitError) {
    batchAxes = try attributes.int("batch_dims", default: 0)
  }

  var attributes: Attributes { Attributes(batchAxes == 0 ? [] : [("batch_dims", .int(batchAxes))]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    let (data, indices) = try operands.gathered()
    guard batchAxes >= 0, batchAxes < min(data.rank, indices.rank) else {
      throw VitError("batch_dims is \(batchAxes), expected less than the ranks of \(data) and \(indices)")
    }
    let depth = try expectVectors(operands, data, indices, skipping: batchAxes)
    for axis in 0..<batchAxes where !mayBeEqual(data.shape[axis], indices.shape[axis]) {
      throw VitError("the batch axes of \(data) and \(indices) differ", code: "shape-mismatch")
    }
    return [
      TensorType(data.element, indices.shape.dropLast() + data.shape[(batchAxes + depth)...])
    ]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let data = operands[0]?.shape, let indices = operands[1]?.shape,
      let depth = indices.last?.fixedValue
    else { return .mixed }
    let kept = indices.count - 1
    return AxisMap(
      (0..<kept).map { AxisMap.Letter(.parallel, [$0 < batchAxes ? $0 : nil, $0], [$0]) }
        + data.indices.dropFirst(batchAxes + depth).map {
          AxisMap.Letter(.parallel, [$0], [$0 - batchAxes - depth + kept])
        })
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .index
    default: .data
    }
  }

  func forward(_ context: KernelContext) {
    let (data, output) = (context.input(0), context.output)
    let places = VectorPlaces(in: data.shape, indices: context.input(1), skipping: batchAxes)
    let bytes = places.inner * data.element.size
    guard bytes > 0 else { return }
    for vector in 0..<places.count {
      (output.base + vector * bytes).copyMemory(from: data.base + places[vector] * bytes, byteCount: bytes)
    }
  }

  var isDifferentiable: Bool { true }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let from = resultGradients[0], let to = operandGradients[0] else { return }
    let places = VectorPlaces(in: to.shape, indices: context.input(1), skipping: batchAxes)
    func add<T: BinaryFloatingPoint>(_ source: UnsafeMutablePointer<T>, _ target: UnsafeMutablePointer<T>) {
      for vector in 0..<places.count {
        let (a, b) = (source + vector * places.inner, target + places[vector] * places.inner)
        for offset in 0..<places.inner { b[offset] += a[offset] }
      }
    }
    if from.element == .f64 { add(from.f64, to.f64) } else { add(from.f32, to.f32) }
  }
}

/// The rule for vectors of indices; returns their length.
func expectVectors(
  _ operands: Operands, _ data: TensorType, _ indices: TensorType, skipping batch: Int
) throws(VitError) -> Int {
  guard let depth = indices.shape.last?.fixedValue, depth >= 1, depth <= data.rank - batch else {
    throw VitError(
      "the indices are \(indices), whose last extent must be 1 to \(data.rank - batch) for \(data)",
      code: "shape-mismatch")
  }
  let extents = data.shape[batch..<batch + depth]
  for extent in extents { try operands.expectNotEmpty(extent, indices) }
  if let values = operands.value(1)?.integers {
    for (position, value) in values.enumerated() {
      guard let extent = extents[batch + position % depth].fixedValue else { continue }
      guard value >= -extent, value < extent else {
        throw VitError(
          "'indices' holds \(value), which is out of range for an axis of \(extent)", code: "index-range")
      }
    }
  }
  return depth
}

/// Where the entries that vectors of indices name begin, counted in entries of `inner` elements.
struct VectorPlaces {
  /// The elements of one entry.
  let inner: Int
  /// The number of vectors.
  let count: Int
  private let extents: [Int]
  private let batchEntries: Int
  private let perBatch: Int
  private let indices: IndexReader

  /// The places in a tensor of `shape`, `batch` leading axes being those of the indices themselves.
  init(in shape: [Int], indices view: View, skipping batch: Int) {
    let depth = view.shape[view.rank - 1]
    extents = Array(shape[batch..<batch + depth])
    inner = shape[(batch + depth)...].reduce(1, *)
    count = view.shape.dropLast().reduce(1, *)
    batchEntries = extents.reduce(1, *)
    perBatch = max(1, view.shape[batch..<view.rank - 1].reduce(1, *))
    indices = IndexReader(view)
  }

  /// The place of the entry that vector number `vector` names.
  subscript(vector: Int) -> Int {
    var place = 0
    for (axis, extent) in extents.enumerated() {
      place = place * extent + clampedEntry(indices[vector * extents.count + axis], extent)
    }
    return vector / perBatch * batchEntries + place
  }
}
