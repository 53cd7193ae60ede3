internal import VitIR

/// `onnx.Identity(x)`.
struct OnnxIdentity: ReshapingOperation {
  static let name = "onnx.Identity"
  static let summary = "The operand itself"
  let attributes = Attributes()

  init(attributes: inout AttributeReader) throws(VitError) {}

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    return [try operands.type(0, "input")]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .pointwise(operands, results)
  }
}

/// `onnx.Reshape(data, shape)`: zero copies an extent (unless `allowzero`), -1 is solved for.
struct OnnxReshape: ReshapingOperation {
  static let name = "onnx.Reshape"
  static let summary = "The same elements in another shape"
  static let example = "(f32[1, 2, 3], i64[2] = [0, -1])"
  let allowsZero: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    allowsZero = try attributes.bool("allowzero", default: false)
  }

  var attributes: Attributes { Attributes(allowsZero ? [("allowzero", .int(1))] : []) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectResults()
    let data = try operands.type(0, "data")
    let wanted = try operands.dimensions(1, "shape")
    let shapeType = try operands.type(1, "shape")
    guard shapeType.rank <= 1 else {
      throw VitError("input 1 ('shape') is \(shapeType), expected one axis")
    }
    var shape = wanted
    var open: Int?
    for (axis, extent) in wanted.enumerated() {
      if extent == 0 && !allowsZero {
        guard axis < data.rank else {
          throw VitError(
            "shape \(wanted) copies axis \(axis), but the operand is \(data)", code: "shape-mismatch")
        }
        shape[axis] = data.shape[axis]
      } else if extent == -1 {
        guard open == nil else { throw VitError("shape \(wanted) leaves two extents open") }
        open = axis
        shape[axis] = 1
      }
    }
    let known = shape.reduce(.fixed(1), *)
    if let open { shape[open] = try solved(data, wanted, known) }
    try expectSameCount(data, shape, wanted)
    return [TensorType(data.element, shape)]
  }

  func role(of index: Int) -> OperandRole { index == 1 ? .shape : .data }

  /// The extent that is left open: what the operand has, divided by what the others take.
  private func solved(_ data: TensorType, _ wanted: Shape, _ known: Dimension) throws(VitError) -> Dimension {
    guard known != 0 else {
      throw VitError("shape \(wanted) leaves an extent open beside one of zero", code: "shape-mismatch")
    }
    if let exact = data.elements.exactlyDivided(by: known) { return exact }
    if data.elements.isFixed && known.isFixed {
      throw VitError(
        "\(data) has \(data.elements) elements, which do not divide into shape \(wanted)",
        code: "shape-mismatch")
    }
    return data.elements.floorDivided(by: known)
  }

  /// Throws where the counts cannot be equal; where that depends on a symbol, the plan that binds it decides.
  private func expectSameCount(_ data: TensorType, _ shape: Shape, _ wanted: Shape) throws(VitError) {
    let (have, need) = (data.elements, shape.reduce(.fixed(1), *))
    if have == need { return }
    guard have.isFixed && need.isFixed || (have - need).isPositive || (need - have).isPositive else { return }
    throw VitError(
      "\(data) has \(have) elements, but shape \(wanted) needs \(need)", code: "shape-mismatch")
  }
}

/// `onnx.Flatten(x)`: a matrix whose rows run over the axes before `axis`.
struct OnnxFlatten: ReshapingOperation {
  static let name = "onnx.Flatten"
  static let summary = "The same elements as a matrix"
  static let example = "(f32[1, 2, 3]) {axis = 1}"
  let axis: Int

  init(attributes: inout AttributeReader) throws(VitError) { axis = try attributes.int("axis", default: 1) }

  var attributes: Attributes { Attributes([("axis", .int(axis))]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    let data = try operands.type(0, "input")
    guard axis >= -data.rank, axis <= data.rank else {
      throw VitError("axis \(axis) is out of range for a value of rank \(data.rank)")
    }
    let place = axis < 0 ? axis + data.rank : axis
    let rows = data.shape[..<place].reduce(.fixed(1), *)
    return [TensorType(data.element, [rows, data.shape[place...].reduce(.fixed(1), *)])]
  }
}

/// The axes of an operation that reads them from an attribute in old models and from an operand since.
struct AxesParameter {
  /// The axes in the attribute.
  let attribute: [Int]?

  /// Reads the attribute.
  init(_ reader: inout AttributeReader) throws(VitError) { attribute = try reader.optionalInts("axes") }

  /// The attribute, where there is one.
  var attributes: Attributes { Attributes(attribute.map { [("axes", .ints($0))] } ?? []) }

  /// The axes, or `nil` where there are none given.
  func axes(_ operands: Operands, operand: Int) throws(VitError) -> [Int]? {
    guard operands.has(operand) else { return attribute }
    guard attribute == nil else { throw VitError("the axes are given as attribute and as input") }
    return try operands.integers(operand, "axes")
  }

  /// The operands with the axes among them, as models write it since they are no attribute.
  func lowered(
    _ operands: [ValueID?], operand: Int, _ builder: inout GraphBuilder
  ) -> [ValueID?] {
    guard let attribute else { return operands }
    var result = operands
    while result.count < operand { result.append(nil) }
    result.insert(builder.integers(attribute, name: "axes"), at: operand)
    return result
  }
}

/// An operation that adds or removes axes of extent one.
protocol UnitAxesOperation: ReshapingOperation {
  var axes: AxesParameter { get }
  init(axes: AxesParameter)
}

extension UnitAxesOperation {
  init(attributes: inout AttributeReader) throws(VitError) {
    self.init(axes: try AxesParameter(&attributes))
  }

  var attributes: Attributes { axes.attributes }

  func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    try lowerAxes(axes, operand: 1, into: &builder, operands, resultCount)
  }
}

/// `onnx.Squeeze(data, axes?)`: without axes all of extent one.
struct OnnxSqueeze: UnitAxesOperation {
  static let name = "onnx.Squeeze"
  static let summary = "Removes axes of extent one"
  static let example = "(f32[1, 2, 3], i64[1] = [0])"
  let axes: AxesParameter

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...2)
    try operands.expectResults()
    let data = try operands.type(0, "data")
    guard let axes = try axes.axes(operands, operand: 1) else {
      return [TensorType(data.element, data.shape.filter { $0 != 1 })]
    }
    let places = try normalisedAxes(axes, rank: data.rank)
    for place in places
    where data.shape[place].isFixed && data.shape[place] != 1 || (data.shape[place] - 1).isPositive {
      throw VitError(
        "axis \(place) of \(data) cannot be squeezed, expected an extent of 1", code: "shape-mismatch")
    }
    return [
      TensorType(data.element, data.shape.indices.filter { !places.contains($0) }.map { data.shape[$0] })
    ]
  }
}

/// `onnx.Unsqueeze(data, axes)`: the axes count in the result.
struct OnnxUnsqueeze: UnitAxesOperation {
  static let name = "onnx.Unsqueeze"
  static let summary = "Inserts axes of extent one"
  static let example = "(f32[2, 3], i64[1] = [0])"
  let axes: AxesParameter

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...2)
    try operands.expectResults()
    let data = try operands.type(0, "data")
    guard let axes = try axes.axes(operands, operand: 1) else {
      throw VitError("input 1 ('axes') is missing", code: "operand-missing")
    }
    let rank = data.rank + axes.count
    let places = try normalisedAxes(axes, rank: rank)
    var rest = data.shape.makeIterator()
    var shape: Shape = []
    for axis in 0..<rank { shape.append(places.contains(axis) ? 1 : rest.next() ?? 1) }
    return [TensorType(data.element, shape)]
  }
}

extension Operation {
  /// This operation with its axes among the operands.
  func lowerAxes(
    _ axes: AxesParameter, operand: Int, into builder: inout GraphBuilder, _ operands: [ValueID?],
    _ resultCount: Int
  ) throws(VitError) -> [ValueID] {
    guard axes.attribute != nil else { return try builder.add(self, operands, resultCount: resultCount) }
    var kept = attributes
    kept["axes"] = nil
    let operation = try builder.registry.make(Self.name, kept)
    return try builder.add(
      operation, axes.lowered(operands, operand: operand, &builder), resultCount: resultCount)
  }
}

/// `onnx.Shape(x)`: the extents from axis `start` up to `end`.
struct OnnxShape: Operation {
  static let name = "onnx.Shape"
  static let summary = "The extents of the operand"
  let start: Int
  let end: Int?

  init(attributes: inout AttributeReader) throws(VitError) {
    start = try attributes.int("start", default: 0)
    end = try attributes.optionalInt("end")
  }

  var attributes: Attributes {
    Attributes((start == 0 ? [] : [("start", .int(start))]) + (end.map { [("end", .int($0))] } ?? []))
  }

  private func axes(_ rank: Int) -> Range<Int> {
    func clamped(_ axis: Int) -> Int { min(max(axis < 0 ? axis + rank : axis, 0), rank) }
    let first = clamped(start)
    return first..<max(first, end.map(clamped) ?? rank)
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    return [TensorType(.i64, fixed: [axes(try operands.type(0, "data").rank).count])]
  }

  func role(of index: Int) -> OperandRole { .form }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    guard let data = operands[0] else { return [] }
    let extents = Array(data.shape[axes(data.rank)])
    return [.integers(shape: [extents.count], extents)]
  }

  func forward(_ context: KernelContext) {
    let shape = context.input(0).shape
    for (place, axis) in axes(shape.count).enumerated() { context.output.i64[place] = Int64(shape[axis]) }
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost { Cost() }
}

/// `onnx.Size(x)`.
struct OnnxSize: Operation {
  static let name = "onnx.Size"
  static let summary = "The number of elements of the operand"
  let attributes = Attributes()

  init(attributes: inout AttributeReader) throws(VitError) {}

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    _ = try operands.type(0, "data")
    return [TensorType(.i64, [])]
  }

  func role(of index: Int) -> OperandRole { .form }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    operands[0].map { [.integers(shape: [], [$0.elements])] } ?? []
  }

  func forward(_ context: KernelContext) { context.output.i64[0] = Int64(context.input(0).count) }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost { Cost() }
}
