internal import VitIR
internal import VitRuntime

/// `onnx.Clip`: each element kept between two limits, which are attributes (before opset 11) or scalar
/// operands.
struct OnnxClip: PointwiseOperation {
  static let (name, summary) = ("onnx.Clip", "Each element, kept between two limits")
  static let example = "(f32[2, 3], f32[] = [-1.0], f32[] = [1.0])"
  /// The limits given as attributes, which count where the operand is absent.
  let min: Double?
  let max: Double?

  init(attributes: inout AttributeReader) throws(VitError) {
    min = try attributes.optionalFloat("min")
    max = try attributes.optionalFloat("max")
  }
  var attributes: Attributes {
    var result = Attributes()
    result["min"] = min.map(Attribute.float)
    result["max"] = max.map(Attribute.float)
    return result
  }
  var memory: ResultMemory { .inPlace(operands: [0]) }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...3)
    try operands.expectResults()
    let type = try operands.typed(0, "input", ElementType.numbers)
    for (index, role) in [(1, "min"), (2, "max")] {
      try operands.expectSame(index, role, as: type.element)
      guard let limit = operands[index], limit.elements != 1 else { continue }
      throw VitError("input \(index) ('\(role)') has the shape \(limit.shape), expected a scalar")
    }
    return [type]
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1, 2: .setting
    default: .data
    }
  }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    func limit(_ index: Int, _ attribute: Double?) -> Dimension?? {
      if operands.has(index) { return operands.wholeElements(index)?.first.map { $0 } ?? .none }
      guard let attribute else { return .some(nil) }
      return Int(exactly: attribute).map(Dimension.fixed)
    }
    guard let low = limit(1, min), let high = limit(2, max) else { return [] }
    return operands.mapped(results[0]) { value in
      var value = value
      if let low {
        guard let isLess = LessFunction.decided(value, low) else { return nil }
        if isLess { value = low }
      }
      if let high {
        guard let isGreater = LessFunction.decided(high, value) else { return nil }
        if isGreater { value = high }
      }
      return value
    }
  }

  /// The limits of a float operand.
  private func limits(_ context: KernelContext) -> (low: Double, high: Double) {
    func limit(_ index: Int, _ attribute: Double?, _ otherwise: Double) -> Double {
      guard let view = context.optionalInput(index) else { return attribute ?? otherwise }
      return view.element == .f64 ? view.f64[0] : Double(view.f32[0])
    }
    return (limit(1, min, -.infinity), limit(2, max, .infinity))
  }

  func forward(_ context: KernelContext) {
    let (x, y) = (context.input(0), context.output)
    if x.element.isFloat {
      let (low, high) = limits(context)
      return Kernel.unary(.clip(low: low, high: high), x, into: y, pool: context.pool)
    }
    let plan = Broadcasting(x.shape, x.shape, to: y.shape)
    func run<T: FixedWidthInteger>(_ type: T.Type) {
      func limit(_ index: Int, _ attribute: Double?, _ otherwise: T) -> T {
        if let view = context.optionalInput(index) { return view.pointer(as: T.self)[0] }
        return attribute.flatMap { T(exactly: $0.rounded(.towardZero)) } ?? otherwise
      }
      let low = limit(1, min, T.min)
      let high = limit(2, max, T.max)
      plan.map(x, x, y, context.pool, as: (type, type, type)) { x, _ in Swift.min(Swift.max(x, low), high) }
    }
    switch x.element {
    case .i64: run(Int64.self)
    case .i32: run(Int32.self)
    case .i8: run(Int8.self)
    default: run(UInt8.self)
    }
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let x = context.input(0)
    let (low, high) = limits(context)
    if let dx = operandGradients[0] {
      Kernel.unaryGradient(
        .clip(low: low, high: high), x: x, y: context.output, dy: dy, adding: dx, pool: context.pool)
    }
    // Where an element was cut off, its gradient is the limit's.
    func sum<T: Real>(_ type: T.Type, into gradient: View, _ isCut: (T) -> Bool) {
      let (source, value) = (dy.pointer(as: T.self), x.pointer(as: T.self))
      var total: T = 0
      for index in 0..<dy.count where isCut(value[index]) { total += source[index] }
      gradient.pointer(as: T.self)[0] += total
    }
    func limitGradients<T: Real>(_ type: T.Type) {
      let (low, high) = (T(low), T(high))
      if operandGradients.count > 1, let d = operandGradients[1] {
        sum(type, into: d) { $0 < low && low <= high }
      }
      if operandGradients.count > 2, let d = operandGradients[2] {
        sum(type, into: d) { Swift.max($0, low) > high }
      }
    }
    dy.element == .f64 ? limitGradients(Double.self) : limitGradients(Float.self)
  }
}
