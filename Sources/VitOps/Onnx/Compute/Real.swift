internal import Glibc
internal import VitIR

/// The floating-point types that kernels are written for, with the elementary functions they need.
protocol Real: BinaryFloatingPoint, SIMDScalar, Codable, BitwiseCopyable, Sendable {
  static func power(_ base: Self, _ exponent: Self) -> Self
  static func exp(_ x: Self) -> Self
  static func log(_ x: Self) -> Self
  static func tanh(_ x: Self) -> Self
  static func sin(_ x: Self) -> Self
  static func cos(_ x: Self) -> Self
  static func asin(_ x: Self) -> Self
  static func acos(_ x: Self) -> Self
  static func atan(_ x: Self) -> Self
  static func sinh(_ x: Self) -> Self
  static func cosh(_ x: Self) -> Self
  static func asinh(_ x: Self) -> Self
  static func acosh(_ x: Self) -> Self
  static func atanh(_ x: Self) -> Self
}

extension Float: Real {
  static func power(_ base: Float, _ exponent: Float) -> Float { Glibc.powf(base, exponent) }
  static func exp(_ x: Float) -> Float { Glibc.expf(x) }
  static func log(_ x: Float) -> Float { Glibc.logf(x) }
  static func tanh(_ x: Float) -> Float { Glibc.tanhf(x) }
  static func sin(_ x: Float) -> Float { Glibc.sinf(x) }
  static func cos(_ x: Float) -> Float { Glibc.cosf(x) }
  static func asin(_ x: Float) -> Float { Glibc.asinf(x) }
  static func acos(_ x: Float) -> Float { Glibc.acosf(x) }
  static func atan(_ x: Float) -> Float { Glibc.atanf(x) }
  static func sinh(_ x: Float) -> Float { Glibc.sinhf(x) }
  static func cosh(_ x: Float) -> Float { Glibc.coshf(x) }
  static func asinh(_ x: Float) -> Float { Glibc.asinhf(x) }
  static func acosh(_ x: Float) -> Float { Glibc.acoshf(x) }
  static func atanh(_ x: Float) -> Float { Glibc.atanhf(x) }
}

extension Double: Real {
  static func power(_ base: Double, _ exponent: Double) -> Double { Glibc.pow(base, exponent) }
  static func exp(_ x: Double) -> Double { Glibc.exp(x) }
  static func log(_ x: Double) -> Double { Glibc.log(x) }
  static func tanh(_ x: Double) -> Double { Glibc.tanh(x) }
  static func sin(_ x: Double) -> Double { Glibc.sin(x) }
  static func cos(_ x: Double) -> Double { Glibc.cos(x) }
  static func asin(_ x: Double) -> Double { Glibc.asin(x) }
  static func acos(_ x: Double) -> Double { Glibc.acos(x) }
  static func atan(_ x: Double) -> Double { Glibc.atan(x) }
  static func sinh(_ x: Double) -> Double { Glibc.sinh(x) }
  static func cosh(_ x: Double) -> Double { Glibc.cosh(x) }
  static func asinh(_ x: Double) -> Double { Glibc.asinh(x) }
  static func acosh(_ x: Double) -> Double { Glibc.acosh(x) }
  static func atanh(_ x: Double) -> Double { Glibc.atanh(x) }
}

extension ElementType {
  /// The types that numbers are computed in.
  static let numbers: [ElementType] = [.f32, .f64, .i64, .i32, .i8, .u8]
  /// The floating-point types that numbers are computed in.
  static let reals: [ElementType] = [.f32, .f64]
  /// The whole-number types that are computed in.
  static let wholes: [ElementType] = [.i64, .i32, .i8, .u8]
}

extension Operands {
  /// The type of an operand that must be there and have one of these element types, in its computed form.
  func typed(_ index: Int, _ role: String, _ allowed: [ElementType]) throws(VitError) -> TensorType {
    let type = try type(index, role).computed
    guard allowed.contains(type.element) else {
      let names = allowed.map(\.rawValue).joined(separator: ", ")
      throw VitError(
        "input \(index) ('\(role)') has elements of type \(type.element.rawValue), expected one of \(names)",
        code: "element-type")
    }
    guard type.rank <= Self.mostAxes else {
      throw VitError("input \(index) ('\(role)') has \(type.rank) axes, expected at most \(Self.mostAxes)")
    }
    return type
  }

  /// The most axes that kernels walk over.
  private static let mostAxes = 16

  /// Throws unless an operand, where it is there, has elements of the type `element`.
  func expectSame(_ index: Int, _ role: String, as element: ElementType) throws(VitError) {
    note(index, role)
    guard let found = self[index]?.computed.element, found != element else { return }
    throw VitError(
      "input \(index) ('\(role)') has elements of type \(found.rawValue), expected \(element.rawValue)",
      code: "element-type")
  }

  /// Throws unless an operand, where it is there, has the shape `shape`.
  func expectShape(_ index: Int, _ role: String, _ shape: Shape) throws(VitError) {
    note(index, role)
    guard let found = self[index]?.shape, found != shape else { return }
    throw VitError(
      "input \(index) ('\(role)') has the shape \(found), expected \(shape)", code: "shape-mismatch")
  }

  /// The elements of an operand as polynomials, where they are known and whole: those of a float constant
  /// too.
  func wholeElements(_ index: Int) -> [Dimension]? {
    guard let value = value(index) else { return nil }
    if let dimensions = value.dimensions { return dimensions }
    guard let numbers = value.numbers else { return nil }
    let wholes = numbers.compactMap { Int(exactly: $0) }
    return wholes.count == numbers.count ? wholes.map(Dimension.fixed) : nil
  }
}
