internal import VitIR
internal import VitRuntime

/// What a reduction makes of the elements that become one.
protocol ReductionFunction: Sendable {
  /// The ONNX operator.
  static var name: String { get }
  /// One line of what it computes.
  static var summary: String { get }
  /// The element types it takes.
  static var elements: [ElementType] { get }
  /// The kernel that computes it on floats.
  static var kind: ReductionKind { get }
  /// Whether the logarithm of that is taken.
  static var isLogarithm: Bool { get }
  /// The derivative by an element `x` of the result `y` of `count` elements.
  static func slope<T: Real>(_ x: T, _ y: T, _ count: Int) -> T
  /// On whole numbers: the result of none, what is made of an element first, two joined, and the last step.
  static func initialWhole<T: FixedWidthInteger>(_ type: T.Type) -> T
  static func termWhole<T: FixedWidthInteger>(_ x: T) -> T
  static func joinWhole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T
  static func finishWhole<T: FixedWidthInteger>(_ x: T, _ count: Int) -> T
  /// Polynomials joined, where that is decided; `nil` where they are not what they would be joined to.
  static var dimension: ((Dimension, Dimension) -> Dimension?)? { get }
  /// What the gradient has to find out about the elements of each result first.
  static var survey: ReductionSurvey { get }
}

/// What a reduction's gradient looks for among the elements of each result.
enum ReductionSurvey: Sendable {
  case nothing
  /// How many elements are equal to the result, and share its gradient.
  case ties
  /// How many elements are zero, and the product of the others.
  case zeros
}

extension ReductionFunction {
  static var elements: [ElementType] { [.f32, .f64, .i64, .i32] }
  static var isLogarithm: Bool { false }
  static func initialWhole<T: FixedWidthInteger>(_ type: T.Type) -> T { 0 }
  static func termWhole<T: FixedWidthInteger>(_ x: T) -> T { x }
  static func joinWhole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a &+ b }
  static func finishWhole<T: FixedWidthInteger>(_ x: T, _ count: Int) -> T { x }
  static var dimension: ((Dimension, Dimension) -> Dimension?)? { nil }
  static var survey: ReductionSurvey { .nothing }
}

/// `onnx.ReduceSum` and the like; the axes are an attribute or, in the newer form, an operand.
struct OnnxReduction<Function: ReductionFunction>: Operation {
  static var name: String { Function.name }
  static var summary: String { Function.summary }
  static var example: String { "(f32[2, 3], i64[1] = [-1]) {keepdims = 0}" }
  let axes: ReductionAxes

  init(attributes: inout AttributeReader) throws(VitError) {
    axes = try ReductionAxes(attributes: &attributes)
  }
  var attributes: Attributes { axes.attributes }
  var isDifferentiable: Bool { true }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...2)
    try operands.expectResults()
    let type = try operands.typed(0, "data", Function.elements)
    let isReduced = try axes.reduced(type.rank, operands.has(1) ? operands.integers(1, "axes") : nil)
    return [TensorType(type.element, axes.shape(type.shape, isReduced))]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let rank = operands[0]?.rank,
      let isReduced = try? axes.reduced(rank, operands.has(1) ? operands.integers(1, "axes") : nil)
    else { return .mixed }
    return axes.map(isReduced)
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .setting
    default: .data
    }
  }

  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] {
    guard let join = Function.dimension, let shape = operands[0]?.fixedShape,
      let values = operands.value(0)?.dimensions,
      let result = results[0].fixedShape,
      let isReduced = try? axes.reduced(shape.count, operands.value(1)?.integers)
    else { return [] }
    let strides = rowMajorStrides(shape.indices.map { isReduced[$0] ? 1 : shape[$0] })
    var sums = [Dimension?](repeating: nil, count: result.reduce(1, *))
    let places = rowMajorStrides(shape)
    for (index, value) in values.enumerated() {
      let target = shape.indices.reduce(0) { sum, axis in
        isReduced[axis] ? sum : sum + index / places[axis] % shape[axis] * strides[axis]
      }
      guard let sum = sums[target] else {
        sums[target] = value
        continue
      }
      guard let joined = join(sum, value) else { return [] }
      sums[target] = joined
    }
    let known = sums.compactMap { $0 }
    return known.count == sums.count ? operands.known(results[0], result, known) : []
  }

  /// A surveying gradient wants room for what it finds.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let result = try? resultTypes(operands)[0] else { return [] }
    return mode.training && Function.survey != .nothing ? [result, result] : []
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let x = operands[0] else { return Cost() }
    return Cost(flops: x.count, bytes: (x.count + results[0].count) * x.element.size)
  }

  private func reduced(_ context: KernelContext) -> [Bool] {
    let rank = context.input(0).rank
    let found = try? axes.reduced(rank, context.optionalInput(1)?.wholeNumbers)
    return found ?? [Bool](repeating: true, count: rank)
  }

  func forward(_ context: KernelContext) {
    let (x, y) = (context.input(0), context.output)
    let isReduced = reduced(context)
    func wholes<T: FixedWidthInteger>(_ type: T.Type) {
      let (source, target) = (x.pointer(as: T.self), y.pointer(as: T.self))
      for index in 0..<y.count { target[index] = Function.initialWhole(type) }
      let plan = Broadcasting(keepShape(x.shape, isReduced), x.shape, to: x.shape)
      let step = plan.steps.0
      plan.forEachPieceOwningFirst(context.pool) { at, i, _, count in
        for k in 0..<count {
          target[i + k * step] = Function.joinWhole(target[i + k * step], Function.termWhole(source[at + k]))
        }
      }
      let terms = terms(x.shape, isReduced)
      for index in 0..<y.count { target[index] = Function.finishWhole(target[index], terms) }
    }
    switch x.element {
    case .f32, .f64:
      let axes = x.shape.indices.filter { isReduced[$0] }
      Kernel.reduce(Function.kind, x, axes: axes, into: y, pool: context.pool)
      if Function.isLogarithm { Kernel.unary(.log, y, into: y, pool: context.pool) }
    case .i64: wholes(Int64.self)
    case .i32: wholes(Int32.self)
    case .i8: wholes(Int8.self)
    default: wholes(UInt8.self)
    }
  }

  /// How many elements each result is made from.
  private func terms(_ shape: [Int], _ isReduced: [Bool]) -> Int {
    shape.indices.reduce(1) { isReduced[$1] ? $0 * shape[$1] : $0 }
  }

  private func keepShape(_ shape: [Int], _ isReduced: [Bool]) -> [Int] {
    shape.indices.map { isReduced[$0] ? 1 : shape[$0] }
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0], let dx = operandGradients[0] else { return }
    let x = context.input(0)
    let isReduced = reduced(context)
    let terms = terms(x.shape, isReduced)
    let plan = Broadcasting(x.shape, keepShape(x.shape, isReduced), to: x.shape)
    let step = plan.steps.1
    func run<T: Real>(_ type: T.Type) {
      let (source, values) = (dy.pointer(as: T.self), context.output.pointer(as: T.self))
      let (elements, sink) = (x.pointer(as: T.self), dx.pointer(as: T.self))
      let found = context.scratch.map { $0.pointer(as: T.self) }
      if Function.survey != .nothing { survey(context, plan, as: type) }
      plan.forEachPiece(context.pool) { at, _, j, count in
        for k in 0..<count {
          let place = j + k * step
          let (element, gradient) = (elements[at + k], source[place])
          switch Function.survey {
          case .nothing: sink[at + k] += gradient * Function.slope(element, values[place], terms)
          case .ties: if element == values[place] { sink[at + k] += gradient / found[0][place] }
          case .zeros:
            if found[0][place] == 0 {
              sink[at + k] += gradient * values[place] / element
            } else if found[0][place] == 1, element == 0 {
              sink[at + k] += gradient * found[1][place]
            }
          }
        }
      }
    }
    dy.element == .f64 ? run(Double.self) : run(Float.self)
  }

  private func survey<T: Real>(_ context: KernelContext, _ plan: Broadcasting, as type: T.Type) {
    let counts = context.scratch[0].pointer(as: T.self)
    let products = context.scratch[1].pointer(as: T.self)
    for index in 0..<context.scratch[0].count { (counts[index], products[index]) = (0, 1) }
    let (elements, values) = (context.input(0).pointer(as: T.self), context.output.pointer(as: T.self))
    let step = plan.steps.1
    plan.swapped.forEachPieceOwningFirst(context.pool) { at, j, _, count in
      for k in 0..<count {
        let (element, place) = (elements[at + k], j + k * step)
        if element == (Function.survey == .ties ? values[place] : 0) {
          counts[place] += 1
        } else {
          products[place] *= element
        }
      }
    }
  }
}

/// Which axes a reduction goes over, and whether they stay with an extent of one.
struct ReductionAxes: Sendable {
  /// Axes given as an attribute.
  let axes: [Int]?
  let keepsDimensions: Bool
  /// Whether no axes means none, rather than all.
  let emptyMeansNone: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    axes = try attributes.optionalInts("axes")
    keepsDimensions = try attributes.bool("keepdims", default: true)
    emptyMeansNone = try attributes.bool("noop_with_empty_axes", default: false)
  }

  var attributes: Attributes {
    var result = Attributes([("keepdims", .bool(keepsDimensions))])
    if let axes { result["axes"] = .ints(axes) }
    if emptyMeansNone { result["noop_with_empty_axes"] = .bool(true) }
    return result
  }

  /// Whether each of `rank` axes is reduced; `operand` holds the axes of the newer form, if it is there.
  func reduced(_ rank: Int, _ operand: [Int]?) throws(VitError) -> [Bool] {
    let named = operand ?? axes ?? []
    var result = [Bool](repeating: named.isEmpty && !emptyMeansNone, count: rank)
    for axis in named { result[try normalisedAxis(axis, rank: rank)] = true }
    return result
  }

  /// The shape of the result.
  func shape(_ shape: Shape, _ isReduced: [Bool]) -> Shape {
    if keepsDimensions { return shape.indices.map { isReduced[$0] ? 1 : shape[$0] } }
    return shape.indices.filter { !isReduced[$0] }.map { shape[$0] }
  }

  /// The axes that are not reduced run side by side.
  func map(_ isReduced: [Bool]) -> AxisMap {
    var place = 0
    var letters: [AxisMap.Letter] = []
    for axis in isReduced.indices {
      if !isReduced[axis] { letters.append(AxisMap.Letter(.parallel, [axis], [place])) }
      if keepsDimensions || !isReduced[axis] { place += 1 }
    }
    return AxisMap(letters)
  }
}
