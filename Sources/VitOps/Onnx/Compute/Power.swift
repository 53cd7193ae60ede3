internal import VitIR

/// `onnx.Pow`: the first operand to the power of the second, whose type may be another; the result has the
/// first's.
struct OnnxPow: PointwiseOperation {
  static let name = "onnx.Pow"
  static let summary = "The first tensor to the power of the second, broadcast"
  static let example = "(f32[1, 2, 3], f32[])"

  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  var memory: ResultMemory { .inPlace(operands: [0]) }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectResults()
    let base = try operands.typed(0, "X", [.f32, .f64, .i64, .i32])
    let exponent = try operands.typed(1, "Y", ElementType.numbers)
    return [TensorType(base.element, try broadcast(base.shape, exponent.shape))]
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .setting
    default: .data
    }
  }

  func forward(_ context: KernelContext) {
    let (x, exponent, y) = (context.input(0), context.input(1), context.output)
    let plan = Broadcasting(x.shape, exponent.shape, to: y.shape)
    func withBase<E>(_ type: E.Type, _ real: (E) -> Double) {
      func floats<T: Real>(_ base: T.Type) {
        // Squares and cubes are what models use; they need no logarithm.
        if exponent.count == 1, real(exponent.pointer(as: E.self)[0]) == 2 {
          plan.map(x, exponent, y, context.pool, as: (base, type, base)) { x, _ in x * x }
        } else if exponent.count == 1, real(exponent.pointer(as: E.self)[0]) == 3 {
          plan.map(x, exponent, y, context.pool, as: (base, type, base)) { x, _ in x * x * x }
        } else {
          plan.map(x, exponent, y, context.pool, as: (base, type, base)) { T.power($0, T(real($1))) }
        }
      }
      func wholes<T: FixedWidthInteger>(_ base: T.Type) {
        plan.map(x, exponent, y, context.pool, as: (base, type, base)) { wholePower($0, real($1)) }
      }
      switch x.element {
      case .f32: floats(Float.self)
      case .f64: floats(Double.self)
      case .i64: wholes(Int64.self)
      default: wholes(Int32.self)
      }
    }
    switch exponent.element {
    case .f32: withBase(Float.self) { Double($0) }
    case .f64: withBase(Double.self) { $0 }
    case .i64: withBase(Int64.self) { Double($0) }
    case .i32: withBase(Int32.self) { Double($0) }
    case .i8: withBase(Int8.self) { Double($0) }
    default: withBase(UInt8.self) { Double($0) }
    }
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (x, exponent) = (context.input(0), context.input(1))
    let plan = Broadcasting(x.shape, exponent.shape, to: dy.shape)
    func bases<T: Real, E>(_ base: T.Type, _ type: E.Type, _ real: @escaping (E) -> T) {
      guard let dx = operandGradients[0] else { return }
      plan.accumulate(x, exponent, dy, into: dx, context.pool, as: (base, type)) { x, e in
        let e = real(e)
        return e == 0 ? 0 : e * T.power(x, e - 1)
      }
    }
    func run<T: Real>(_ base: T.Type) {
      switch exponent.element {
      case .f32: bases(base, Float.self) { T($0) }
      case .f64: bases(base, Double.self) { T($0) }
      case .i64: bases(base, Int64.self) { T($0) }
      case .i32: bases(base, Int32.self) { T($0) }
      case .i8: bases(base, Int8.self) { T($0) }
      default: bases(base, UInt8.self) { T($0) }
      }
      guard let de = operandGradients[1], exponent.element == x.element else { return }
      plan.swapped.accumulate(exponent, x, dy, into: de, context.pool, as: (base, base)) { e, x in
        x > 0 ? T.power(x, e) * T.log(x) : 0
      }
    }
    dy.element == .f64 ? run(Double.self) : run(Float.self)
  }
}

/// A whole number to a power: exact where both are whole, wrapping; else cut off towards zero, kept in range.
private func wholePower<T: FixedWidthInteger>(_ base: T, _ exponent: Double) -> T {
  guard let whole = UInt64(exactly: exponent) else {
    let value = Double.power(Double(base), exponent)
    return value.isNaN
      ? 0 : T(clamping: Int64(exactly: value.rounded(.towardZero)) ?? (value < 0 ? .min : .max))
  }
  var (result, factor, rest) = (T(1), base, whole)
  while rest > 0 {
    if rest & 1 == 1 { result = result &* factor }
    factor = factor &* factor
    rest >>= 1
  }
  return result
}

/// `onnx.Mod`: the remainder of a division; with `fmod` it has the sign of the dividend, else that of the
/// divisor.
struct OnnxMod: PointwiseOperation {
  static let name = "onnx.Mod"
  static let summary = "The remainder of a division, broadcast"
  static let example = "(f32[1, 2, 3], f32[]) {fmod = 1}"
  /// Whether the remainder has the sign of the dividend; floats need it.
  let fmod: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    fmod = try attributes.bool("fmod", default: false)
  }
  var attributes: Attributes { Attributes([("fmod", .bool(fmod))]) }
  var memory: ResultMemory { .inPlace(operands: [0, 1]) }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    let result = try operands.broadcastPair(ElementType.numbers)
    guard fmod || !result.element.isFloat else {
      throw VitError("the operands are \(result.element.rawValue), which needs the attribute 'fmod' to be 1")
    }
    return [result]
  }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    let isReal = results[0].element.isFloat
    return operands.combined(results[0]) { a, b in
      if let x = a.fixedValue, let y = b.fixedValue { return .fixed(fmod ? remainder(x, y) : modulus(x, y)) }
      if a.exactlyDivided(by: b) != nil { return 0 }
      guard !isReal, isKnownNonnegative(a), b.isPositive else { return nil }
      return a - b * a.floorDivided(by: b)
    }
  }

  func forward(_ context: KernelContext) {
    let (a, b, y) = (context.input(0), context.input(1), context.output)
    let plan = Broadcasting(a.shape, b.shape, to: y.shape)
    func floats<T: Real>(_ type: T.Type) {
      plan.map(a, b, y, context.pool, as: (type, type, type)) { $0.truncatingRemainder(dividingBy: $1) }
    }
    func wholes<T: FixedWidthInteger>(_ type: T.Type) {
      if fmod {
        plan.map(a, b, y, context.pool, as: (type, type, type)) { remainder($0, $1) }
      } else {
        plan.map(a, b, y, context.pool, as: (type, type, type)) { modulus($0, $1) }
      }
    }
    switch y.element {
    case .f32: floats(Float.self)
    case .f64: floats(Double.self)
    case .i64: wholes(Int64.self)
    case .i32: wholes(Int32.self)
    case .i8: wholes(Int8.self)
    default: wholes(UInt8.self)
    }
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (a, b) = (context.input(0), context.input(1))
    let plan = Broadcasting(a.shape, b.shape, to: dy.shape)
    func run<T: Real>(_ type: T.Type) {
      if let da = operandGradients[0] {
        plan.accumulate(a, b, dy, into: da, context.pool, as: (type, type)) { _, _ in 1 }
      }
      if let db = operandGradients[1] {
        plan.swapped.accumulate(b, a, dy, into: db, context.pool, as: (type, type)) { b, a in
          -(a / b).rounded(.towardZero)
        }
      }
    }
    dy.element == .f64 ? run(Double.self) : run(Float.self)
  }
}

/// The remainder with the sign of `a`; zero for a `b` of zero.
private func remainder<T: FixedWidthInteger>(_ a: T, _ b: T) -> T {
  b == 0 ? 0 : a.remainderReportingOverflow(dividingBy: b).partialValue
}

/// The remainder with the sign of `b`; zero for a `b` of zero.
private func modulus<T: FixedWidthInteger>(_ a: T, _ b: T) -> T {
  let rest = remainder(a, b)
  return rest != 0 && (rest < 0) != (b < 0) ? rest &+ b : rest
}
