internal import VitIR

/// `com.microsoft.RotaryEmbedding`: operands input, positions, cosines and sines.
struct MicrosoftRotaryEmbedding: Operation {
  static let name = "com.microsoft.RotaryEmbedding"
  static let summary = "Pairs of channels turned by angles that depend on a token's position"
  let rotation: Rotation

  init(attributes: inout AttributeReader) throws(VitError) {
    rotation = try Rotation(attributes: &attributes)
    guard try !attributes.bool("is_packed_batching", default: false) else {
      throw VitError("attribute 'is_packed_batching' is 1, expected batches that are not packed")
    }
    let scale = try attributes.float("scale", default: 1)
    guard scale == 1 else { throw VitError("attribute 'scale' is \(scale), expected 1") }
  }
  var attributes: Attributes { rotation.attributes }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(4...4)
    try operands.expectResults()
    let x = try operands.typed(0, "input", ElementType.reals)
    let positions = try operands.typed(1, "position_ids", [.i64, .i32])
    let (cosines, sines) = (
      try operands.typed(2, "cos_cache", [x.element]), try operands.typed(3, "sin_cache", [x.element])
    )
    try rotation.check(x, cosines: cosines, sines: sines, positions: positions)
    return [x]
  }

  /// Images run side by side; tokens and channels are turned by their own angles.
  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    rotation.axes(operands, results, caches: [2, 3], positions: 1)
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .index
    case 2, 3: .setting
    default: .data
    }
  }

  func forward(_ context: KernelContext) {
    rotation.turn(
      context.input(0), context.input(2), context.input(3), context.input(1), into: context.output,
      backwards: false, pool: context.pool)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let positions = context.input(1)
    if let dx = operandGradients[0] {
      rotation.turn(
        dy, context.input(2), context.input(3), positions, into: dx, backwards: true, pool: context.pool)
    }
    rotation.accumulate(
      context.input(0), dy: dy, positions, into: operandGradients[2], operandGradients[3],
      cacheShape: context.input(2).shape)
  }
}
