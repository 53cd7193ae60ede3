internal import VitIR

/// `com.microsoft.RotaryEmbedding`: operands input, positions, cosines and sines.
struct MicrosoftRotaryEmbedding: RotatingOperation {
  static let name = "com.microsoft.RotaryEmbedding"
  static let summary = "Pairs of channels turned by angles that depend on a token's position"
  static let example = "(f32[1, 2, 2, 6], i64[1, 2], f32[8, 3], f32[8, 3]) {interleaved = 1}"
  let rotation: Rotation
  var cosines: Int { 2 }
  var sines: Int { 3 }
  var positions: Int { 1 }

  init(attributes: inout AttributeReader) throws(VitError) {
    rotation = try Rotation(attributes: &attributes)
    guard try !attributes.bool("is_packed_batching", default: false) else {
      throw VitError("attribute 'is_packed_batching' is 1, expected batches that are not packed")
    }
    let scale = try attributes.float("scale", default: 1)
    guard scale == 1 else { throw VitError("attribute 'scale' is \(scale), expected 1") }
  }

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
}
