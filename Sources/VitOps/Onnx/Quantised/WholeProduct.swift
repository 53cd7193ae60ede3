internal import VitIR
internal import VitRuntime

/// A product of stacks of 8-bit matrices in whole numbers.
struct WholeProduct {
  private let flags: MatrixFlags

  init(_ flags: MatrixFlags) { self.flags = flags }

  /// Copies of operands that are used transposed, and the sums.
  func scratch(_ operands: Operands, a: Int, b: Int, result: Shape) -> [TensorType] {
    func copy(_ index: Int, _ isNeeded: Bool) -> TensorType {
      guard isNeeded, let type = operands[index] else { return TensorType(.u8, [0]) }
      return TensorType(type.element, type.shape.reversed())
    }
    return [copy(a, flags.transA), copy(b, flags.transB), TensorType(.i32, result)]
  }

  /// `into ← (a − aZero)·(b − bZero)`, as `i32`.
  ///
  /// A zero point has one element, one for each row of `a` (column of `b`), or as many for each matrix.
  func run(
    _ a: View, _ aZero: View?, _ b: View, _ bZero: View?, into: View, scratch: [View], _ pool: any WorkPool
  ) {
    let (a, b) = (
      flags.transA ? turned(a, scratch[0], pool) : a, flags.transB ? turned(b, scratch[1], pool) : b
    )
    guard into.count > 0 else { return }
    let product = MatrixProduct(a.shape, b.shape).forward
    let (m, n, k) = (product.m, product.n, product.k)
    let items = into.count / (m * n)
    if items > 1, product.axes.allSatisfy({ $0.b == 0 || $0.extent == 1 }), a.count == items * m * k,
      aZero.map({ $0.count == 1 }) ?? true
    {
      // A right side that all items share makes a single product.
      return Kernel.gemmBytes(
        m: items * m, n: n, k: k, a: a, aZero: aZero, b: b, bZero: bZero, c: into, pool: pool)
    }
    for item in 0..<items {
      var (rest, left, right) = (item, 0, 0)
      for axis in product.axes.reversed() {
        left += rest % axis.extent * axis.a
        right += rest % axis.extent * axis.b
        rest /= axis.extent
      }
      Kernel.gemmBytes(
        m: m, n: n, k: k, a: part(a, left, m * k), aZero: zero(aZero, left, m, k), b: part(b, right, k * n),
        bZero: zero(bZero, right, n, k), c: part(into, item * m * n, m * n), pool: pool)
    }
  }

  private func turned(_ matrix: View, _ copy: View, _ pool: any WorkPool) -> View {
    Kernel.transpose(matrix, permutation: [1, 0], into: copy, pool: pool)
    return copy
  }

  private func part(_ view: View, _ offset: Int, _ count: Int) -> View {
    View(base: view.base + offset * view.element.size, element: view.element, shape: [count])
  }

  /// The zero points of the matrix that begins at `offset` and has `count` rows (columns) of `k`.
  private func zero(_ zero: View?, _ offset: Int, _ count: Int, _ k: Int) -> View? {
    guard let zero, zero.count > count else { return zero }
    return part(zero, offset / max(1, k), count)
  }
}

/// A product of 8-bit matrices that are summed in whole numbers.
protocol WholeProductOperation: MatrixProductOperation {
  /// Which factors are used transposed. Default: none.
  var flags: MatrixFlags { get }
  /// The operands with the zero points: of the left factor, one or one for each row; of the right one, one or
  /// one for each column. The left factor has none where it comes as floats.
  var zeros: (left: Int?, right: Int) { get }
  /// The operand with the scale of the right factor, one number or one for each column. Default: none.
  var columnScale: Int? { get }
  /// The operand that is added to each row. Default: none.
  var bias: Int? { get }
}

extension WholeProductOperation {
  var flags: MatrixFlags { MatrixFlags() }
  var transposesRight: Bool { flags.transB }
  var columnScale: Int? { nil }
  var bias: Int? { nil }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    MatrixAxes(
      left: factors.left, right: factors.right, flags: flags, rowParameters: [zeros.left].compactMap { $0 },
      columnParameters: [columnScale, zeros.right, bias].compactMap { $0 }
    ).map(operands, results)
  }

  /// What is neither factor nor bias says how numbers are quantised.
  func role(of index: Int) -> OperandRole {
    switch index {
    case factors.left, factors.right: .weight
    case bias: .bias
    default: .quantisation
    }
  }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let types = try? resultTypes(operands) else { return [] }
    return WholeProduct(flags).scratch(
      operands, a: factors.left, b: factors.right, result: types[0].shape)
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let a = operands[factors.left], let b = operands[factors.right] else { return Cost() }
    let bytes = (operands.types.compactMap { $0 } + results).reduce(0) { $0 + $1.count * $1.element.size }
    return Cost(flops: MatrixProduct(a.extents, b.extents, flags).flops, bytes: bytes)
  }

  /// The rule for two factors of 8-bit numbers with their zero points, neither transposed; returns the shape of
  /// the product.
  func productShape(_ operands: Operands) throws(VitError) -> Shape {
    operands.note(zeros.right, "b_zero_point")
    if let left = zeros.left { operands.note(left, "a_zero_point") }
    let b = try operands.bytes(factors.right, "b")
    try expectMatrixZero(operands, zeros.right, b, axis: -1)
    guard let zero = zeros.left else {
      return try MatrixProduct.shape(try operands.type(factors.left, "a").shape, b.shape)
    }
    let a = try operands.bytes(factors.left, "a")
    try expectMatrixZero(operands, zero, a, axis: -2)
    return try MatrixProduct.shape(a.shape, b.shape)
  }

  /// The number of columns of the right factor, which is not transposed; a vector has one.
  func columns(_ operands: Operands) -> Dimension {
    guard let b = operands[factors.right], b.rank > 1 else { return 1 }
    return b.shape[b.rank - 1]
  }

  /// `sums ← (a − aZero)·(b − bZero)`; a left factor that does not come as 8-bit numbers is given with its zero
  /// point.
  func sum(_ context: KernelContext, left: (View, zero: View)? = nil, into sums: View) {
    WholeProduct(flags).run(
      left?.0 ?? context.input(factors.left), left?.zero ?? zeros.left.flatMap { context.optionalInput($0) },
      context.input(factors.right), context.optionalInput(zeros.right), into: sums, scratch: context.scratch,
      context.pool)
  }

  /// For each column the product of its scale and `left`, the scale of the left factor.
  func columnFactors(_ context: KernelContext, left: Float) -> [Float] {
    let b = context.input(factors.right)
    let columns = b.rank > 1 ? b.shape[b.rank - (flags.transB ? 2 : 1)] : 1
    return columnScale.map { context.input($0).columnNumbers(columns).map { left * $0 } } ?? []
  }
}

/// The rule for zero points of a matrix: one, one for each row or column, or one for each of every matrix.
func expectMatrixZero(
  _ operands: Operands, _ index: Int, _ matrix: TensorType, axis: Int
) throws(VitError) {
  guard let zero = operands[index] else { return }
  var every = matrix.shape
  if matrix.rank > 1 { every[matrix.rank + (axis == -1 ? -2 : -1)] = 1 }
  let single = matrix.rank >= -axis ? [matrix.shape[matrix.rank + axis]] : []
  guard zero.element == matrix.element,
    zero.rank == 0 || zero.shape == [1] || zero.shape == single || zero.shape == every
  else {
    throw VitError(
      "input \(index) ('zero_point') is \(zero), expected one or \(single) of type "
        + matrix.element.rawValue,
      code: "shape-mismatch")
  }
}

/// The rule for a scale that is one number or one for each column of the result.
func expectColumnScale(_ operands: Operands, _ index: Int, _ columns: Dimension) throws(VitError)
  -> TensorType
{
  let scale = try operands.floats(index, "b_scale")
  guard scale.elements == 1 || scale.shape.last == columns && scale.elements == columns else {
    throw VitError(
      "input \(index) ('scale') is \(scale), expected one number or \(columns)", code: "shape-mismatch")
  }
  return scale
}

/// The rule for the scale of a left factor, which is one number.
func expectOneScale(_ operands: Operands, _ index: Int) throws(VitError) {
  guard try operands.floats(index, "a_scale").elements == 1 else {
    throw VitError(
      "input \(index) ('a_scale') is not one number, which is not supported", code: "shape-mismatch")
  }
}
