internal import VitIR

/// The places of three operands that broadcast to one shape.
struct BroadcastTriple {
  private let shape: [Int]
  private let strides: [[Int]]

  /// Of operands of the given shapes.
  init(_ shapes: [[Int]], to target: [Int]) {
    shape = target.isEmpty ? [1] : target
    strides = shapes.map { target.isEmpty ? [0] : broadcastStrides($0, to: target) }
  }

  /// The length of a row and the steps along it.
  var row: (count: Int, steps: (Int, Int, Int)) {
    let last = shape.count - 1
    return (shape[last], (strides[0][last], strides[1][last], strides[2][last]))
  }

  /// Calls `body` with the number of the first element of each row and the operands' places there.
  func forEachRow(_ body: (_ element: Int, _ a: Int, _ b: Int, _ c: Int) -> Void) {
    guard !shape.contains(0) else { return }
    let outer = shape.count - 1
    let count = shape[..<outer].reduce(1, *)
    var index = [Int](repeating: 0, count: outer)
    var (a, b, c) = (0, 0, 0)
    for row in 0..<count {
      body(row * shape[outer], a, b, c)
      for axis in stride(from: outer - 1, through: 0, by: -1) {
        index[axis] += 1
        a += strides[0][axis]
        b += strides[1][axis]
        c += strides[2][axis]
        if index[axis] < shape[axis] { break }
        a -= index[axis] * strides[0][axis]
        b -= index[axis] * strides[1][axis]
        c -= index[axis] * strides[2][axis]
        index[axis] = 0
      }
    }
  }
}

/// `onnx.Where(condition, x, y)`: `x` where the condition holds, else `y`; all three broadcast.
struct OnnxWhere: PointwiseOperation {
  static let name = "onnx.Where"
  static let summary = "Elements of one operand or the other, by a condition"
  static let example = "(bool[2, 1], f32[2, 3], f32[2, 3])"
  let attributes = Attributes()

  init(attributes: inout AttributeReader) throws(VitError) {}

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...3)
    try operands.expectResults()
    try operands.expect(0, "condition", .bool)
    let x = try operands.type(1, "x")
    let y = try operands.type(2, "y")
    try operands.expect(2, "y", x.element)
    let shape = try broadcast(try broadcast(try operands.type(0, "condition").shape, x.shape), y.shape)
    return [TensorType(x.element, shape)]
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 0: .mask
    default: .data
    }
  }

  func identity(_ operands: Operands, _ results: [TensorType]) -> Int? {
    if operands.holdsOnly(1, at: 0) { return 1 }
    return operands.holdsOnly(0, at: 0) ? 2 : nil
  }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    guard let shape = results[0].fixedShape, let condition = operands.value(0)?.integers,
      let x = operands.value(1), let y = operands.value(2), let taken = x.dimensions,
      let other = y.dimensions,
      let mask = operands.value(0), let count = boundedCount(shape)
    else { return [] }
    var result: [Dimension] = []
    result.reserveCapacity(count)
    let triple = BroadcastTriple([mask.shape, x.shape, y.shape], to: shape)
    let (columns, steps) = triple.row
    triple.forEachRow { _, a, b, c in
      for column in 0..<columns {
        let holds = condition[a + column * steps.0] != 0
        result.append(holds ? taken[b + column * steps.1] : other[c + column * steps.2])
      }
    }
    return [.integers(shape: shape, result)]
  }

  func forward(_ context: KernelContext) {
    let (condition, x, y, output) = (context.input(0), context.input(1), context.input(2), context.output)
    let triple = BroadcastTriple([condition.shape, x.shape, y.shape], to: output.shape)
    let (columns, steps) = triple.row
    let mask = condition.pointer(as: UInt8.self)
    func select<T: BitwiseCopyable>(_ type: T.Type) {
      let (p, q, to) = (x.pointer(as: T.self), y.pointer(as: T.self), output.pointer(as: T.self))
      triple.forEachRow { element, a, b, c in
        for column in 0..<columns {
          to[element &+ column] =
            mask[a &+ column &* steps.0] != 0 ? p[b &+ column &* steps.1] : q[c &+ column &* steps.2]
        }
      }
    }
    switch x.element.size {
    case 1: select(UInt8.self)
    case 4: select(UInt32.self)
    default: select(UInt64.self)
    }
  }

  var isDifferentiable: Bool { true }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let from = resultGradients[0] else { return }
    let shapes = [context.input(0).shape, context.input(1).shape, context.input(2).shape]
    let triple = BroadcastTriple(shapes, to: from.shape)
    let (columns, steps) = triple.row
    let mask = context.input(0).pointer(as: UInt8.self)
    func add<T: BinaryFloatingPoint>(_ type: T.Type) {
      let source = from.pointer(as: T.self)
      let dx = operandGradients[1]?.pointer(as: T.self)
      let dy = operandGradients[2]?.pointer(as: T.self)
      triple.forEachRow { element, a, b, c in
        for column in 0..<columns {
          if mask[a + column * steps.0] != 0 {
            dx?[b + column * steps.1] += source[element + column]
          } else {
            dy?[c + column * steps.2] += source[element + column]
          }
        }
      }
    }
    if from.element == .f64 { add(Double.self) } else { add(Float.self) }
  }
}
