internal import VitIR
internal import VitRuntime

/// How `onnx.MatMul` and its fused form read their operands.
struct MatrixFlags: Hashable, Sendable {
  var transA = false
  var transB = false
  /// Whether the first axis stands before the last in place of the batch axes, which then come first.
  var transBatchA = false
  var transBatchB = false
}

/// A product of two stacks of matrices of concrete shapes, their batch axes broadcast; its products forward
/// and back.
struct MatrixProduct {
  private let flags: MatrixFlags
  private let a: Side
  private let b: Side
  private let batch: [Int]
  /// Rows and columns of a result, and what is summed over.
  let m: Int
  let n: Int
  let k: Int

  /// One operand: its stored matrix and its batch axes.
  private struct Side {
    var rows: Int
    var columns: Int
    var rowStep: Int
    var batch: [Int]
    var steps: [Int]

    init(_ shape: [Int], isLeft: Bool, transBatch: Bool) {
      if shape.count < 2 {
        let extent = shape.first ?? 1
        (rows, columns) = isLeft ? (1, extent) : (extent, 1)
        (rowStep, batch, steps) = (columns, [], [])
        return
      }
      let strides = rowMajorStrides(shape)
      let row = transBatch ? 0 : shape.count - 2
      let axes = transBatch ? Array(1..<shape.count - 1) : Array(0..<shape.count - 2)
      (rows, columns, rowStep) = (shape[row], shape[shape.count - 1], strides[row])
      batch = axes.map { shape[$0] }
      steps = axes.map { strides[$0] }
    }

    /// The step along each of `rank` batch axes, zero where the operand is repeated.
    func broadcastSteps(_ rank: Int) -> [Int] {
      let missing = rank - batch.count
      return (0..<rank).map { axis in
        axis < missing || batch[axis - missing] == 1 ? 0 : steps[axis - missing]
      }
    }
  }

  /// The product of operands of these shapes.
  init(_ aShape: [Int], _ bShape: [Int], _ flags: MatrixFlags = MatrixFlags()) {
    let a = Side(aShape, isLeft: true, transBatch: flags.transBatchA)
    let b = Side(bShape, isLeft: false, transBatch: flags.transBatchB)
    let rank = max(a.batch.count, b.batch.count)
    func extent(_ side: Side, _ axis: Int) -> Int {
      let place = axis - (rank - side.batch.count)
      return place < 0 ? 1 : side.batch[place]
    }
    batch = (0..<rank).map { axis in
      let (x, y) = (extent(a, axis), extent(b, axis))
      return x == 1 ? y : x
    }
    (m, k) = flags.transA ? (a.columns, a.rows) : (a.rows, a.columns)
    n = flags.transB ? b.rows : b.columns
    (self.a, self.b, self.flags) = (a, b, flags)
  }

  private func axes(_ x: [Int], _ y: [Int], _ z: [Int]) -> [BatchAxis] {
    batch.indices.map { BatchAxis(extent: batch[$0], a: x[$0], b: y[$0], c: z[$0]) }
  }

  private var steps: (a: [Int], b: [Int], y: [Int]) {
    (
      a.broadcastSteps(batch.count), b.broadcastSteps(batch.count),
      rowMajorStrides(batch).map { $0 * m * n }
    )
  }

  /// `y = op(a)·op(b)`.
  var forward: BatchedProduct {
    BatchedProduct(
      axes: axes(steps.a, steps.b, steps.y), m: m, n: n, k: k, transA: flags.transA, lda: a.rowStep,
      transB: flags.transB, ldb: b.rowStep, ldc: n)
  }

  /// Adds to `da` and `db` the gradients of `alpha·op(a)·op(b)`.
  func accumulate(
    alpha: Double, a left: View, b right: View, dy: View, into da: View?, _ db: View?, pool: any WorkPool
  ) {
    if let da {
      if flags.transA {
        BatchedProduct(
          axes: axes(steps.b, steps.y, steps.a), m: k, n: m, k: n, transA: flags.transB, lda: b.rowStep,
          transB: true, ldb: n, ldc: a.rowStep
        ).run(alpha: alpha, a: right, b: dy, beta: 1, c: da, pool: pool)
      } else {
        BatchedProduct(
          axes: axes(steps.y, steps.b, steps.a), m: m, n: k, k: n, lda: n, transB: !flags.transB,
          ldb: b.rowStep, ldc: a.rowStep
        ).run(alpha: alpha, a: dy, b: right, beta: 1, c: da, pool: pool)
      }
    }
    if let db {
      if flags.transB {
        BatchedProduct(
          axes: axes(steps.y, steps.a, steps.b), m: n, n: k, k: m, transA: true, lda: n, transB: flags.transA,
          ldb: a.rowStep, ldc: b.rowStep
        ).run(alpha: alpha, a: dy, b: left, beta: 1, c: db, pool: pool)
      } else {
        BatchedProduct(
          axes: axes(steps.a, steps.y, steps.b), m: k, n: n, k: m, transA: !flags.transA, lda: a.rowStep,
          ldb: n, ldc: b.rowStep
        ).run(alpha: alpha, a: left, b: dy, beta: 1, c: db, pool: pool)
      }
    }
  }

  /// Floating-point operations of the whole batch.
  var flops: Int { 2 * batch.reduce(1, *) * m * n * k }

  /// The type rule: the shape of the product of operands of these shapes.
  static func shape(_ a: Shape, _ b: Shape, _ flags: MatrixFlags = MatrixFlags()) throws(VitError) -> Shape {
    guard let width = a.last, let height = b.last else {
      throw VitError("the operands have the shapes \(a) and \(b), expected at least one axis each")
    }
    guard a.count > 1 || !(flags.transA || flags.transBatchA),
      b.count > 1 || !(flags.transB || flags.transBatchB)
    else { throw VitError("the operands have the shapes \(a) and \(b), of which one cannot be transposed") }
    let row = flags.transBatchA ? 0 : a.count - 2
    let column = flags.transBatchB ? 0 : b.count - 2
    let left = a.count > 1 ? (flags.transA ? (width, a[row]) : (a[row], width)) : (1, width)
    let right = b.count > 1 ? (flags.transB ? (height, b[column]) : (b[column], height)) : (height, 1)
    guard left.1 == right.0 else {
      throw VitError(
        "the shapes \(a) and \(b) do not match in a product: \(left.1) columns on the left, \(right.0) "
          + "rows on the right", code: "shape-mismatch")
    }
    func batch(_ shape: Shape, _ transposed: Bool) -> Shape {
      guard shape.count > 2 else { return [] }
      return transposed ? Array(shape[1..<shape.count - 1]) : Array(shape.dropLast(2))
    }
    var result = try broadcast(batch(a, flags.transBatchA), batch(b, flags.transBatchB))
    if a.count > 1 { result.append(left.0) }
    if b.count > 1 { result.append(right.1) }
    return result
  }
}

/// Which axes of a product's operands are rows, columns and batch.
struct MatrixAxes {
  /// The factors' operands.
  var left = 0
  var right = 1
  var flags = MatrixFlags()
  /// Operands with one number for each row of the left factor, or for all.
  var rowParameters: [Int] = []
  /// Operands with one number for each column of the right factor, or for all.
  var columnParameters: [Int] = []
  /// An operand that broadcasts to the result.
  var summand: Int?

  /// Rows, columns and batch run side by side.
  func map(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let a = operands[left]?.shape, let b = operands[right]?.shape, let result = results.first?.shape,
      !flags.transBatchA, !flags.transBatchB
    else { return .mixed }
    let (row, column) = (a.count > 1 ? 1 : 0, b.count > 1 ? 1 : 0)
    let batch = result.count - row - column
    func letter(_ axis: Int, _ a: Int?, _ b: Int?, _ parameters: [Int] = []) -> AxisMap.Letter {
      var axes =
        summand.map { AxisMap.broadcastAxes(operands, [$0], axis, of: result) }
        ?? [Int?](repeating: nil, count: operands.count)
      axes[left] = a
      axes[right] = b
      for index in parameters where operands[index]?.shape == [result[axis]] { axes[index] = 0 }
      return AxisMap.Letter(.parallel, axes, [axis])
    }
    func own(_ shape: Shape, _ axis: Int) -> Int? {
      let place = axis - (batch - (shape.count - 2))
      guard shape.count > 2, place >= 0, shape[place] == result[axis] || shape[place] != 1 else { return nil }
      return place
    }
    var letters = (0..<max(0, batch)).map { letter($0, own(a, $0), own(b, $0)) }
    if row == 1 { letters.append(letter(batch, a.count - (flags.transA ? 1 : 2), nil, rowParameters)) }
    if column == 1 {
      letters.append(letter(batch + row, nil, b.count - (flags.transB ? 2 : 1), columnParameters))
    }
    return AxisMap(letters, broadcasts: true)
  }
}
