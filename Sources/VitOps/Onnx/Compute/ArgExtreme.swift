internal import VitIR

/// `onnx.ArgMax` and `ArgMin`: where along an axis the extreme element is.
struct OnnxArgExtreme<Which: ExtremeKind>: Operation {
  static var name: String { Which.name }
  static var summary: String { Which.summary }
  static var example: String { "(f32[2, 3]) {axis = -1, keepdims = 0}" }
  let axis: Int
  let keepsDimension: Bool
  /// Whether of several equal elements the last counts, rather than the first.
  let selectsLast: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    axis = try attributes.int("axis", default: 0)
    keepsDimension = try attributes.bool("keepdims", default: true)
    selectsLast = try attributes.bool("select_last_index", default: false)
  }
  var attributes: Attributes {
    Attributes([
      ("axis", .int(axis)), ("keepdims", .bool(keepsDimension)), ("select_last_index", .bool(selectsLast)),
    ])
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...1)
    try operands.expectResults()
    let type = try operands.typed(0, "data", ElementType.numbers)
    let place = try normalisedAxis(axis, rank: type.rank)
    guard type.shape[place] != 0 else {
      throw VitError("the axis \(axis) of \(type) has no elements, of which none is the largest or smallest")
    }
    var shape = type.shape
    if keepsDimension { shape[place] = 1 } else { shape.remove(at: place) }
    return [TensorType(.i64, shape)]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let rank = operands[0]?.rank else { return .mixed }
    let place = axis < 0 ? axis + rank : axis
    return AxisMap(
      (0..<rank).filter { $0 != place }.map {
        AxisMap.Letter(.parallel, [$0], [keepsDimension || $0 < place ? $0 : $0 - 1])
      })
  }

  func forward(_ context: KernelContext) {
    let (x, y) = (context.input(0), context.output)
    let (outer, width, inner) = x.split(at: axis)
    let target = y.pointer(as: Int64.self)
    func run<T: Comparable>(_ type: T.Type, isUnordered: (T) -> Bool) {
      let source = x.pointer(as: T.self)
      context.pool.run(tasks: outer) { item, _ in
        for column in 0..<inner {
          let line = source + item * width * inner + column
          var best = 0
          for index in 1..<max(1, width) {
            let (value, champion) = (line[index * inner], line[best * inner])
            let wins = Which.wins(value, over: champion) || (selectsLast && value == champion)
            if wins && !isUnordered(champion) || isUnordered(value) && !isUnordered(champion) { best = index }
          }
          target[item * inner + column] = Int64(best)
        }
      }
    }
    switch x.element {
    case .f32: run(Float.self) { $0.isNaN }
    case .f64: run(Double.self) { $0.isNaN }
    case .i64: run(Int64.self) { _ in false }
    case .i32: run(Int32.self) { _ in false }
    case .i8: run(Int8.self) { _ in false }
    default: run(UInt8.self) { _ in false }
    }
  }
}

extension View {
  /// The extents before, at and after an axis, which may be negative.
  func split(at axis: Int) -> (outer: Int, width: Int, inner: Int) {
    let place = axis < 0 ? axis + rank : axis
    return (shape[..<place].reduce(1, *), shape[place], shape[(place + 1)...].reduce(1, *))
  }
}

/// Which extreme is looked for.
protocol ExtremeKind: Sendable {
  static var name: String { get }
  static var summary: String { get }
  /// Whether `a` comes before `b`.
  static func wins<T: Comparable>(_ a: T, over b: T) -> Bool
}

enum LargestKind: ExtremeKind {
  static let (name, summary) = ("onnx.ArgMax", "Where along an axis the largest element is")
  static func wins<T: Comparable>(_ a: T, over b: T) -> Bool { a > b }
}

enum SmallestKind: ExtremeKind {
  static let (name, summary) = ("onnx.ArgMin", "Where along an axis the smallest element is")
  static func wins<T: Comparable>(_ a: T, over b: T) -> Bool { a < b }
}

/// `onnx.CumSum`: sums of all elements up to each along an axis, which is an operand.
struct OnnxCumSum: Operation {
  static let (name, summary) = ("onnx.CumSum", "The sum of all elements up to each along an axis")
  static let example = "(f32[2, 3], i64[] = [1])"
  /// Whether an element's own value is left out.
  let isExclusive: Bool
  /// Whether the sums run from the end.
  let isReversed: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    isExclusive = try attributes.bool("exclusive", default: false)
    isReversed = try attributes.bool("reverse", default: false)
  }
  var attributes: Attributes {
    Attributes([("exclusive", .bool(isExclusive)), ("reverse", .bool(isReversed))])
  }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...2)
    try operands.expectResults()
    let type = try operands.typed(0, "x", [.f32, .f64, .i64, .i32])
    let axis = try operands.integers(1, "axis")
    guard axis.count == 1 else {
      throw VitError("input 1 ('axis') holds \(axis.count) numbers, expected one")
    }
    _ = try normalisedAxis(axis[0], rank: type.rank)
    return [type]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let rank = operands[0]?.rank, let axis = operands.value(1)?.integers?.first else { return .mixed }
    return .rows(operands, results) { $0 == (axis < 0 ? axis + rank : axis) }
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .setting
    default: .data
    }
  }

  func forward(_ context: KernelContext) {
    let (x, y) = (context.input(0), context.output)
    let axis = context.input(1).wholeNumbers[0]
    func floats<T: Real>(_ type: T.Type) {
      accumulate(x, y, axis, reversed: isReversed, type, { $0 + $1 }) { y, sum in y = sum }
    }
    func wholes<T: FixedWidthInteger>(_ type: T.Type) {
      accumulate(x, y, axis, reversed: isReversed, type, { $0 &+ $1 }) { y, sum in y = sum }
    }
    switch x.element {
    case .f32: floats(Float.self)
    case .f64: floats(Double.self)
    case .i64: wholes(Int64.self)
    default: wholes(Int32.self)
    }
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dx = operandGradients[0] else { return }
    let axis = context.input(1).wholeNumbers[0]
    func run<T: Real>(_ type: T.Type) {
      accumulate(dy, dx, axis, reversed: !isReversed, type, { $0 + $1 }) { dx, sum in dx += sum }
    }
    dy.element == .f64 ? run(Double.self) : run(Float.self)
  }

  private func accumulate<T: Numeric>(
    _ x: View, _ y: View, _ axis: Int, reversed: Bool, _ type: T.Type, _ add: (T, T) -> T,
    _ store: (inout T, T) -> Void
  ) {
    let (outer, width, inner) = x.split(at: axis)
    let (source, target) = (x.pointer(as: T.self), y.pointer(as: T.self))
    for item in 0..<outer {
      for column in 0..<inner {
        let start = item * width * inner + column
        var sum: T = 0
        for step in 0..<width {
          let place = start + (reversed ? width - 1 - step : step) * inner
          let next = add(sum, source[place])
          store(&target[place], isExclusive ? sum : next)
          sum = next
        }
      }
    }
  }
}
