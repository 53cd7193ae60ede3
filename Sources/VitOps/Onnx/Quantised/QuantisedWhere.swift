internal import VitIR

/// `com.microsoft.QLinearWhere(condition, x, x_scale, x_zero, y, y_scale, y_zero, z_scale, z_zero)`: all three broadcast.
struct MicrosoftQLinearWhere: PointwiseOperation {
  static let name = "com.microsoft.QLinearWhere"
  static let summary = "Quantised numbers of one operand or the other, by a condition, quantised again"
  static let example = "(bool[1, 2, 3], u8[1, 2, 3], f32[], u8[], u8[], f32[], u8[], f32[], u8[])"
  let attributes = Attributes()
  private let x = QuantisedScalar(scale: 2, zero: 3)
  private let y = QuantisedScalar(scale: 5, zero: 6)
  private let z = QuantisedScalar(scale: 7, zero: 8)

  init(attributes: inout AttributeReader) throws(VitError) {}

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(9...9)
    try operands.expectResults()
    try operands.expect(0, "condition", .bool)
    let (taken, other) = (try operands.bytes(1, "X"), try operands.bytes(4, "Y"))
    _ = try x.check(operands, of: taken.element)
    _ = try y.check(operands, of: taken.element)
    _ = try z.check(operands, of: taken.element)
    try operands.expect(4, "Y", taken.element)
    let condition = try operands.type(0, "condition").shape
    return [TensorType(taken.element, try broadcast(try broadcast(condition, taken.shape), other.shape))]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .pointwise(operands, results, of: [0, 1, 4])
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 0: .mask
    case 1, 4: .data
    default: .quantisation
    }
  }

  /// What each number of either operand becomes.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    operands[1].map { [TensorType](repeating: TensorType($0.element, [256]), count: 2) } ?? []
  }

  func forward(_ context: KernelContext) {
    let (condition, output) = (context.input(0), context.output)
    let sources = [context.input(1), context.input(4)]
    for (scalar, table) in zip([x, y], context.scratch) {
      let (unit, offset) = (scalar.unit(context), scalar.offset(context))
      for entry in 0..<256 {
        let number = output.element == .i8 ? Int(Int8(truncatingIfNeeded: entry)) : entry
        table.setQuantised(
          entry, (Float(number) - offset) * unit, unit: z.unit(context), offset: z.offset(context))
      }
    }
    let tables = context.scratch.map { $0.pointer(as: UInt8.self) }
    let mask = condition.pointer(as: UInt8.self)
    let (p, q) = (sources[0].pointer(as: UInt8.self), sources[1].pointer(as: UInt8.self))
    let to = output.pointer(as: UInt8.self)
    let triple = BroadcastTriple([condition.shape, sources[0].shape, sources[1].shape], to: output.shape)
    let (columns, steps) = triple.row
    triple.forEachRow { element, a, b, c in
      for column in 0..<columns {
        let holds = mask[a + column * steps.0] != 0
        to[element + column] =
          holds ? tables[0][Int(p[b + column * steps.1])] : tables[1][Int(q[c + column * steps.2])]
      }
    }
  }
}
