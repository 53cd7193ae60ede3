package import VitIR
internal import VitRuntime

/// Which scale and zero point belong to each element: one for all, one for each entry of an axis, or one for
/// each block of entries of an axis.
struct QuantisedGrid {
  private let outer: Int
  private let extent: Int
  private let inner: Int
  private let block: Int
  /// Steps between parameters: from one outer entry, block and inner entry to the next.
  private let steps: (outer: Int, block: Int, inner: Int)

  /// The grid of a tensor of `shape` with parameters of `parameters`' shape.
  init(_ shape: [Int], parameters: [Int], axis: Int, block: Int) {
    if parameters.reduce(1, *) == 1 && block == 0 {
      (outer, extent, inner, self.block) = (1, 1, shape.reduce(1, *), 1)
      steps = (0, 0, 0)
      return
    }
    let place = axis < 0 ? axis + shape.count : axis
    (outer, extent) = (shape[..<place].reduce(1, *), shape[place])
    inner = shape[(place + 1)...].reduce(1, *)
    self.block = max(1, block)
    steps = block == 0 ? (0, 1, 0) : (parameters[place] * inner, inner, 1)
  }

  /// Calls `body` with the first element of each run, its length, its first parameter and the step to the
  /// next one's.
  func forEachRun(_ body: (_ first: Int, _ count: Int, _ parameter: Int, _ step: Int) -> Void) {
    if inner == 1, block == 1 {
      for entry in 0..<outer { body(entry * extent, extent, entry * steps.outer, steps.block) }
      return
    }
    for entry in 0..<outer {
      for place in 0..<extent {
        body(
          (entry * extent + place) * inner, inner, entry * steps.outer + place / block * steps.block,
          steps.inner)
      }
    }
  }

  /// The rule for parameters of a tensor.
  static func check(
    _ tensor: TensorType, _ parameters: TensorType, axis: Int, block: Int
  ) throws(VitError) {
    if block == 0, parameters.rank == 0 || parameters.shape == [1] { return }
    let place = try normalisedAxis(axis, rank: tensor.rank)
    if block == 0 {
      guard parameters.rank == 1, mayBeEqual(parameters.shape[0], tensor.shape[place]) else {
        throw VitError(
          "the scale is \(parameters), expected one number or one for each entry of axis \(place) of "
            + "\(tensor)",
          code: "shape-mismatch")
      }
      return
    }
    var expected = tensor.shape
    expected[place] = expected[place].ceilingDivided(by: .fixed(block))
    guard block > 0, parameters.rank == tensor.rank,
      zip(parameters.shape, expected).allSatisfy({ mayBeEqual($0, $1) })
    else {
      throw VitError(
        "the scale is \(parameters), expected \(expected) for blocks of \(block) along axis \(place) "
          + "of \(tensor)",
        code: "shape-mismatch")
    }
  }
}

extension ElementType {
  /// The numbers that a quantised tensor of this type holds.
  package var quantisedRange: ClosedRange<Int>? {
    switch self {
    case .u8: 0...255
    case .i8: -128...127
    case .u16: 0...65535
    case .i16: -32768...32767
    case .i32: Int(Int32.min)...Int(Int32.max)
    default: nil
    }
  }
}

/// Rounds to the nearest whole number, halves to even, after dividing; adds the zero point and saturates.
@inline(__always) func quantised(_ value: Float, zero: Float, low: Float, high: Float) -> Float {
  let rounded = value.rounded(.toNearestOrEven) + zero
  return min(max(rounded, low), high)
}

/// `to ← saturate(round(from/scale) + zero)` for numbers of the type `target`; scales and zero points are
/// one, one for each entry of `axis`, or one for each `block` of its entries.
func quantise(
  _ from: View, scale: View, zero: View?, axis: Int = 0, block: Int = 0, into to: View,
  as target: ElementType,
  _ pool: any WorkPool
) {
  if block == 0, to.element == .u8 || to.element == .i8, from.element == scale.element {
    let place = axis < 0 ? axis + from.rank : axis
    return Kernel.quantise(from, scale: scale, zero: zero, axis: place, into: to, pool: pool)
  }
  let grid = QuantisedGrid(from.shape, parameters: scale.shape, axis: axis, block: block)
  let range = target.quantisedRange ?? 0...255
  let (low, high) = (Float(range.lowerBound), Float(range.upperBound))
  func run<T: BinaryFloatingPoint, U: FixedWidthInteger>(_ x: UnsafePointer<T>, _ y: UnsafeMutablePointer<U>)
  {
    grid.forEachRun { first, count, parameter, step in
      var (offset, unit): (Float, Float) = (0, 1)
      for index in 0..<count {
        if index == 0 || step != 0 {
          let place = parameter + index * step
          offset = zero.map { Float($0.number(place)) } ?? 0
          unit = Float(scale.number(place))
        }
        let value = quantised(Float(x[first + index]) / unit, zero: offset, low: low, high: high)
        y[first + index] = U(clamping: Double(value))
      }
    }
  }
  func write<U: FixedWidthInteger>(_ type: U.Type) {
    if from.element == .f64 {
      run(from.f64, to.pointer(as: U.self))
    } else {
      run(from.f32, to.pointer(as: U.self))
    }
  }
  switch to.element {
  case .i64: write(Int64.self)
  case .i32: write(Int32.self)
  case .i8: write(Int8.self)
  default: write(UInt8.self)
  }
}

/// `to ← (from − zero)·scale`, in the float type of `to`, with scales and zero points as in `quantise`.
func dequantise(
  _ from: View, scale: View, zero: View?, axis: Int = 0, block: Int = 0, into to: View, _ pool: any WorkPool
) {
  if block == 0, from.element == .u8 || from.element == .i8, to.element == scale.element {
    let place = axis < 0 ? axis + from.rank : axis
    return Kernel.dequantise(from, scale: scale, zero: zero, axis: place, into: to, pool: pool)
  }
  let grid = QuantisedGrid(from.shape, parameters: scale.shape, axis: axis, block: block)
  func run<T: FixedWidthInteger, U: BinaryFloatingPoint>(_ x: UnsafePointer<T>, _ y: UnsafeMutablePointer<U>)
  {
    grid.forEachRun { first, count, parameter, step in
      if step == 0 {
        let (offset, factor) = (zero.map { Int($0.number(parameter)) } ?? 0, U(scale.number(parameter)))
        for index in first..<first + count { y[index] = U(Int(x[index]) &- offset) * factor }
        return
      }
      for index in 0..<count {
        let place = parameter + index * step
        let offset = zero.map { Int($0.number(place)) } ?? 0
        y[first + index] = U(Int(x[first + index]) &- offset) * U(scale.number(place))
      }
    }
  }
  func read<U: BinaryFloatingPoint>(_ y: UnsafeMutablePointer<U>) {
    switch from.element {
    case .i64: run(from.pointer(as: Int64.self), y)
    case .i32: run(from.pointer(as: Int32.self), y)
    case .i8: run(from.pointer(as: Int8.self), y)
    default: run(from.pointer(as: UInt8.self), y)
    }
  }
  if to.element == .f64 { read(to.f64) } else { read(to.f32) }
}

extension Operands {
  /// The type of an operand that must be there and hold 8-bit numbers.
  func bytes(_ index: Int, _ role: String) throws(VitError) -> TensorType {
    let type = try type(index, role)
    guard type.element == .u8 || type.element == .i8 else {
      throw VitError("input \(index) ('\(role)') is \(type), expected u8 or i8", code: "element-type")
    }
    return type
  }

  /// The rule for a scale and a zero point (which may be absent) of one number each.
  func expectScalar(scale: Int, zero: Int, of element: ElementType) throws(VitError) {
    guard try floats(scale, "scale").elements == 1 else {
      throw VitError("input \(scale) ('scale') is \(try type(scale, "scale")), expected one number")
    }
    try expectZero(zero, of: element, elements: 1)
  }

  /// The rule for a zero point that may be absent.
  func expectZero(_ index: Int, of element: ElementType, elements: Dimension) throws(VitError) {
    note(index, "zero_point")
    guard let type = self[index] else { return }
    guard type.element == element, type.elements == elements else {
      throw VitError(
        "input \(index) ('zero_point') is \(type), expected \(elements) of type \(element.rawValue)",
        code: "element-type")
    }
  }
}
