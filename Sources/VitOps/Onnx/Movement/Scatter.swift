internal import VitIR

/// What happens where an update meets an element.
enum ScatterReduction: String, CaseIterable {
  case none, add, mul, min, max

  @inline(__always) func callAsFunction<T: Comparable & Numeric>(_ old: T, _ new: T) -> T {
    switch self {
    case .none: new
    case .add: old + new
    case .mul: old * new
    case .min: Swift.min(old, new)
    case .max: Swift.max(old, new)
    }
  }

  /// The same for whole numbers, which wrap.
  @inline(__always) func callAsFunction<T: FixedWidthInteger>(_ old: T, _ new: T) -> T {
    switch self {
    case .none: new
    case .add: old &+ new
    case .mul: old &* new
    case .min: Swift.min(old, new)
    case .max: Swift.max(old, new)
    }
  }
}

/// Where each update goes, in the order in which updates happen: `inner` neighbouring elements at each place.
private protocol ScatterPlaces {
  var inner: Int { get }
  func forEach(_ body: (_ update: Int, _ place: Int) -> Void)
}

extension ElementPlaces: ScatterPlaces {
  fileprivate var inner: Int { 1 }
}

extension VectorPlaces: ScatterPlaces {
  fileprivate func forEach(_ body: (_ update: Int, _ place: Int) -> Void) {
    for vector in 0..<count { body(vector * inner, self[vector] * inner) }
  }
}

private func scatter(
  _ context: KernelContext, _ places: some ScatterPlaces, _ reduction: ScatterReduction
) {
  let (updates, output) = (context.input(2), context.output)
  output.copy(from: context.input(0))
  let inner = places.inner
  func floats<T: BinaryFloatingPoint>(_ type: T.Type) {
    let (from, to) = (updates.pointer(as: T.self), output.pointer(as: T.self))
    places.forEach { update, place in
      for offset in 0..<inner { to[place + offset] = reduction(to[place + offset], from[update + offset]) }
    }
  }
  func whole<T: FixedWidthInteger>(_ type: T.Type) {
    let (from, to) = (updates.pointer(as: T.self), output.pointer(as: T.self))
    places.forEach { update, place in
      for offset in 0..<inner { to[place + offset] = reduction(to[place + offset], from[update + offset]) }
    }
  }
  switch output.element {
  case .f64: floats(Double.self)
  case .i64: whole(Int64.self)
  case .i32: whole(Int32.self)
  case .i8: whole(Int8.self)
  case .u8, .bool: whole(UInt8.self)
  default: floats(Float.self)
  }
}

/// The gradients where updates replace elements or are added to them.
private func scatterGradient(
  _ places: some ScatterPlaces, _ reduction: ScatterReduction, _ from: View, _ data: View?, _ updates: View?,
  _ pool: any WorkPool
) {
  let inner = places.inner
  func run<T: BinaryFloatingPoint>(_ type: T.Type) {
    let dy = from.pointer(as: T.self)
    if let to = data?.pointer(as: T.self), reduction == .none {
      var replaced = [Bool](repeating: false, count: from.count)
      places.forEach { _, place in
        for offset in 0..<inner { replaced[place + offset] = true }
      }
      for index in 0..<from.count where !replaced[index] { to[index] += dy[index] }
    }
    if let to = updates?.pointer(as: T.self) {
      places.forEach { update, place in
        for offset in 0..<inner { to[update + offset] += dy[place + offset] }
      }
    }
  }
  if let data, reduction == .add { flat(from.count).add(from, to: data, pool) }
  if from.element == .f64 { run(Double.self) } else { run(Float.self) }
}

/// `onnx.ScatterElements(data, indices, updates)`: where an element is updated twice, the later update comes
/// last.
struct OnnxScatterElements: Operation {
  static let name = "onnx.ScatterElements"
  static let summary = "Replaces single elements along an axis, by index"
  static let example = #"(f32[1, 2, 3], i64[1, 2, 3], f32[1, 2, 3]) {axis = 1, reduction = "add"}"#
  let axis: Int
  let reduction: ScatterReduction

  init(attributes: inout AttributeReader) throws(VitError) {
    axis = try attributes.int("axis", default: 0)
    reduction = try attributes.choice("reduction", default: .none)
  }

  var attributes: Attributes {
    Attributes([("axis", .int(axis)), ("reduction", .string(reduction.rawValue))])
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...3)
    try operands.expectResults()
    let data = try operands.type(0, "data")
    let indices = try operands.indices(1, "indices")
    try expectElementIndices(operands, data, indices, axis: axis)
    try expectUpdates(operands, data, indices.shape)
    return [data]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let data = operands[0]?.shape, let indices = operands[1]?.shape, data.count == indices.count else {
      return .mixed
    }
    let place = axis < 0 ? axis + data.count : axis
    return AxisMap(
      data.indices.filter { $0 != place && data[$0] == indices[$0] }.map {
        AxisMap.Letter(.parallel, [$0, $0, $0], [$0])
      })
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .index
    default: .data
    }
  }

  func forward(_ context: KernelContext) {
    let places = ElementPlaces(in: context.output.shape, axis: axis, indices: context.input(1))
    scatter(context, places, reduction)
  }

  var isDifferentiable: Bool { reduction == .none || reduction == .add }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let from = resultGradients[0] else { return }
    let places = ElementPlaces(in: from.shape, axis: axis, indices: context.input(1))
    scatterGradient(places, reduction, from, operandGradients[0], operandGradients[2], context.pool)
  }
}

/// The rule for updates: elements of the data's type in the shape of the places.
private func expectUpdates(_ operands: Operands, _ data: TensorType, _ shape: Shape) throws(VitError) {
  let updates = try operands.type(2, "updates")
  guard updates.element == data.element, updates.rank == shape.count,
    zip(updates.shape, shape).allSatisfy({ mayBeEqual($0, $1) })
  else {
    throw VitError(
      "the updates are \(updates), expected \(TensorType(data.element, shape))", code: "shape-mismatch")
  }
}

/// `onnx.ScatterND(data, indices, updates)`.
struct OnnxScatterND: Operation {
  static let name = "onnx.ScatterND"
  static let summary = "Replaces entries of several axes, by vectors of indices"
  static let example = #"(f32[2, 3], i64[2, 1], f32[2, 3]) {reduction = "add"}"#
  let reduction: ScatterReduction

  init(attributes: inout AttributeReader) throws(VitError) {
    reduction = try attributes.choice("reduction", default: .none)
  }

  var attributes: Attributes { Attributes([("reduction", .string(reduction.rawValue))]) }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...3)
    try operands.expectResults()
    let data = try operands.type(0, "data")
    let indices = try operands.indices(1, "indices")
    guard indices.rank >= 1, data.rank >= 1 else {
      throw VitError("data is \(data) and the indices are \(indices), expected at least one axis each")
    }
    let depth = try expectVectors(operands, data, indices, skipping: 0)
    try expectUpdates(operands, data, indices.shape.dropLast() + data.shape[depth...])
    return [data]
  }

  /// What lies behind the axes that are indexed.
  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let data = operands[0]?.shape, let indices = operands[1]?.shape,
      let depth = indices.last?.fixedValue
    else { return .mixed }
    return AxisMap(
      data.indices.dropFirst(depth).map {
        AxisMap.Letter(.parallel, [$0, nil, $0 - depth + indices.count - 1], [$0])
      })
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .index
    default: .data
    }
  }

  func forward(_ context: KernelContext) {
    let places = VectorPlaces(in: context.output.shape, indices: context.input(1), skipping: 0)
    scatter(context, places, reduction)
  }

  var isDifferentiable: Bool { reduction == .none || reduction == .add }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let from = resultGradients[0] else { return }
    let places = VectorPlaces(in: from.shape, indices: context.input(1), skipping: 0)
    scatterGradient(places, reduction, from, operandGradients[0], operandGradients[2], context.pool)
  }
}
