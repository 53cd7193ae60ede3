internal import VitIR

/// What a movement looks at to find its moves: extents, and the whole numbers among its operands.
struct MoveShapes {
  /// The operands' extents; `nil` for one that is absent.
  let operands: [[Int]?]
  /// The results' extents.
  let results: [[Int]]
  private let read: (Int) -> [Int]

  /// Of a kernel that runs.
  init(_ context: KernelContext) {
    operands = context.inputs.map { $0?.shape }
    results = context.outputs.map(\.shape)
    read = { index in context.input(index).wholeNumbers }
  }

  /// Of operands whose values are known where they matter; `nil` where extents hold symbols.
  init?(_ known: Operands, _ types: [TensorType]) {
    var shapes: [[Int]?] = []
    for type in known.types {
      guard let type else {
        shapes.append(nil)
        continue
      }
      guard let shape = type.fixedShape else { return nil }
      shapes.append(shape)
    }
    operands = shapes
    results = types.compactMap(\.fixedShape)
    guard results.count == types.count else { return nil }
    read = { index in known.value(index)?.integers ?? [] }
  }

  /// Operand `index`'s extents.
  func operand(_ index: Int) -> [Int] {
    guard index < operands.count, let shape = operands[index] else {
      preconditionFailure("operand \(index) is absent")
    }
    return shape
  }

  /// Operand `index`'s elements.
  func integers(_ index: Int) -> [Int] { read(index) }
}

extension View {
  /// The elements of a small view of whole numbers (or truth values).
  var wholeNumbers: [Int] {
    switch element {
    case .i64: (0..<count).map { Int(pointer(as: Int64.self)[$0]) }
    case .i32: (0..<count).map { Int(pointer(as: Int32.self)[$0]) }
    case .i8: (0..<count).map { Int(pointer(as: Int8.self)[$0]) }
    default: (0..<count).map { Int(pointer(as: UInt8.self)[$0]) }
    }
  }
}

/// A move from one of the operands to one of the results.
struct OperandMove {
  var operand = 0
  var result = 0
  var move: Move
}

/// An operation whose results hold elements of its operands, in other places.
///
/// Gradient and propagation of known values follow from the moves. An operation whose moves leave gaps says
/// in `fillsGaps` that the results are zeroed first.
protocol MovingOperation: MovementOperation {
  /// The moves that fill the results.
  func moves(_ shapes: MoveShapes) -> [OperandMove]
  /// Whether some elements of the results are not moved to, and zero.
  var fillsGaps: Bool { get }
  /// The operands, beside those moved, whose values `moves` looks at, if they are there.
  var steering: [Int] { get }
}

extension MovingOperation {
  var fillsGaps: Bool { false }
  var steering: [Int] { [] }
  var isDifferentiable: Bool { true }

  func forward(_ context: KernelContext) {
    if fillsGaps { for output in context.outputs { output.zero() } }
    for entry in moves(MoveShapes(context)) {
      entry.move.copy(context.input(entry.operand), to: context.outputs[entry.result], context.pool)
    }
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    for entry in moves(MoveShapes(context)) {
      guard let from = resultGradients[entry.result], let to = operandGradients[entry.operand] else {
        continue
      }
      entry.move.reversed.add(from, to: to, context.pool)
    }
  }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    knownMoves(operands, results)
  }

  /// Whole numbers, moved as the operation moves its operands.
  func knownMoves(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    for index in steering where operands.has(index) && operands.value(index)?.integers == nil { return [] }
    guard results.allSatisfy({ !$0.element.isFloat }), let shapes = MoveShapes(operands, results),
      shapes.results.allSatisfy({ $0.reduce(1, *) <= KnownValue.maximumIntegers })
    else { return [] }
    var values = shapes.results.map { [Dimension](repeating: 0, count: $0.reduce(1, *)) }
    var isKnown = [Bool](repeating: true, count: values.count)
    for entry in moves(shapes) {
      if let source = operands.value(entry.operand)?.dimensions {
        entry.move.copy(source, to: &values[entry.result])
      } else {
        isKnown[entry.result] = false
      }
    }
    return values.indices.map { isKnown[$0] ? .integers(shape: shapes.results[$0], values[$0]) : nil }
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    Cost(bytes: results.reduce(0) { $0 + 2 * $1.count * $1.element.size })
  }
}

/// An operation whose result is its first operand under another shape.
protocol ReshapingOperation: MovementOperation {}

extension ReshapingOperation {
  var memory: ResultMemory { .alias(operand: 0) }
  var isDifferentiable: Bool { true }

  func forward(_ context: KernelContext) {
    let (input, output) = (context.input(0), context.output)
    if input.base != output.base { output.copy(from: input) }
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let from = resultGradients[0], let to = operandGradients[0] else { return }
    flat(from.count).add(from, to: to, context.pool)
  }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    guard let shape = results[0].fixedShape else { return [] }
    switch operands.value(0) {
    case .integers(_, let values)? where values.count == shape.reduce(1, *):
      return [.integers(shape: shape, values)]
    case .tensor(let tensor)? where tensor.count == shape.reduce(1, *):
      return [.tensor(tensor.reshaped(shape))]
    default: return []
    }
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost { Cost() }

  /// The same elements in the same order.
  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap { AxisMap(regroups: true) }

  func identity(_ operands: Operands, _ results: [TensorType]) -> Int? { 0 }

  /// Behind the data stands what the result's shape follows from.
  func role(of index: Int) -> OperandRole { index == 0 ? .data : .setting }
}

/// A copy of `count` neighbouring elements.
func flat(_ count: Int) -> Move { Move(shape: [count], source: Move.Region(strides: [1])) }

// MARK: - Rules that many operations share

extension Operands {
  /// The type of an operand that must be there and be a float one.
  func floats(_ index: Int, _ role: String) throws(VitError) -> TensorType {
    let type = try type(index, role)
    guard type.element.isFloat else {
      throw VitError("input \(index) ('\(role)') is \(type), expected a float type", code: "element-type")
    }
    return type
  }

  /// The type of an operand that must be there and hold whole numbers fit for an index.
  func indices(_ index: Int, _ role: String) throws(VitError) -> TensorType {
    let type = try type(index, role)
    guard type.element == .i64 || type.element == .i32 else {
      throw VitError("input \(index) ('\(role)') is \(type), expected i64 or i32", code: "element-type")
    }
    return type
  }

  /// Throws unless an operand that is there has elements of that type.
  func expect(_ index: Int, _ role: String, _ element: ElementType) throws(VitError) {
    note(index, role)
    guard let type = self[index], type.element != element else { return }
    throw VitError(
      "input \(index) ('\(role)') is \(type), expected elements of type \(element.rawValue)",
      code: "element-type")
  }

  /// Throws unless the node has between one and `most` results.
  func expectResults(_ most: Int = 1) throws(VitError) {
    guard resultCount >= 1, resultCount <= most else {
      throw VitError("expected 1 to \(most) outputs, found \(resultCount)", code: "result-count")
    }
  }

  /// Throws unless operand `index`'s numbers, where they are known, name entries of an axis of that extent.
  func expectEntries(_ index: Int, _ role: String, of extent: Dimension) throws(VitError) {
    guard let extent = extent.fixedValue else { return }
    let values: [Int]
    switch value(index) {
    case nil: return
    case .integers(_, let elements): values = elements.compactMap(\.fixedValue)
    case .tensor(let tensor): values = (try? tensor.integers()) ?? []
    }
    for value in values where value < -extent || value >= extent {
      throw VitError(
        "'\(role)' holds \(value), which is out of range for an axis of \(extent)", code: "index-range")
    }
  }
}

/// The axes that possibly negative numbers name among `rank` axes, each at most once.
func normalisedAxes(_ axes: [Int], rank: Int) throws(VitError) -> [Int] {
  var seen = Set<Int>()
  var result: [Int] = []
  for axis in axes {
    let place = try normalisedAxis(axis, rank: rank)
    guard seen.insert(place).inserted else { throw VitError("axis \(axis) is named twice in \(axes)") }
    result.append(place)
  }
  return result
}

/// Whether a polynomial is zero or more for all values of its symbols.
func isKnownNonnegative(_ value: Dimension) -> Bool { (value + 1).isPositive }
