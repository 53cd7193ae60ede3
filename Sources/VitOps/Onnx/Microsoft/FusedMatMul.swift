internal import VitIR

/// `com.microsoft.FusedMatMul`: `alpha` times a matrix product whose operands may be transposed.
struct MicrosoftFusedMatMul: ProductOperation {
  static let (name, summary) = (
    "com.microsoft.FusedMatMul", "A scaled matrix product of operands that may be transposed"
  )
  static let example = "(f32[1, 2, 5], f32[1, 3, 5]) {alpha = 0.25, transA = 0, transB = 1}"
  static let elements = ElementType.reals
  let flags: MatrixFlags
  let alpha: Double

  init(attributes: inout AttributeReader) throws(VitError) {
    flags = MatrixFlags(
      transA: try attributes.bool("transA", default: false),
      transB: try attributes.bool("transB", default: false),
      transBatchA: try attributes.bool("transBatchA", default: false),
      transBatchB: try attributes.bool("transBatchB", default: false))
    alpha = try attributes.float("alpha", default: 1)
  }
  var attributes: Attributes {
    Attributes([
      ("alpha", .float(alpha)), ("transA", .bool(flags.transA)), ("transB", .bool(flags.transB)),
      ("transBatchA", .bool(flags.transBatchA)), ("transBatchB", .bool(flags.transBatchB)),
    ])
  }
}

/// `com.microsoft.TransposeMatMul`: an older name of a part of `FusedMatMul`.
struct MicrosoftTransposeMatMul: ProductOperation {
  static let name = "com.microsoft.TransposeMatMul"
  static let summary = "A scaled matrix product of operands that may be transposed; older name"
  static let example = "(f32[1, 5, 2], f32[5, 3]) {alpha = 1.5, transA = 1}"
  static let elements = ElementType.reals
  let flags: MatrixFlags
  let alpha: Double

  init(attributes: inout AttributeReader) throws(VitError) {
    flags = MatrixFlags(
      transA: try attributes.bool("transA", default: false),
      transB: try attributes.bool("transB", default: false))
    alpha = try attributes.float("alpha", default: 1)
  }
  var attributes: Attributes {
    Attributes([("alpha", .float(alpha)), ("transA", .bool(flags.transA)), ("transB", .bool(flags.transB))])
  }
}
