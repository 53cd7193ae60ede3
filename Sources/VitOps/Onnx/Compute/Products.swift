internal import VitIR
internal import VitRuntime

/// One axis of a batch of matrix products: how many, and how far apart the operands' and results' matrices
/// are.
///
/// A step of zero uses one matrix for all; where the results' step is zero, the products are summed.
struct BatchAxis {
  var extent: Int
  var a: Int
  var b: Int
  var c: Int
}

/// A batch of products `c ← alpha·op(a)·op(b) + beta·c` over any number of batch axes.
struct BatchedProduct {
  /// The batch axes, outermost first.
  var axes: [BatchAxis]
  /// Rows of `op(a)`, columns of `op(b)`, and what is summed over.
  var m: Int
  var n: Int
  var k: Int
  /// Whether the stored matrices are used transposed, and how far apart their rows are.
  var transA = false
  var lda: Int
  var transB = false
  var ldb: Int
  var ldc: Int

  /// Joins batch axes with rows, or with what is summed over, where they are one run: a weight that all items
  /// share makes a single product.
  private func joined() -> BatchedProduct {
    var result = self
    result.axes = axes.filter { $0.extent != 1 }
    while let axis = result.axes.last {
      if axis.b == 0, !result.transA, axis.a == result.m * result.lda, axis.c == result.m * result.ldc {
        result.m *= axis.extent
      } else if axis.c == 0, result.transA, !result.transB, axis.a == result.k * result.lda,
        axis.b == result.k * result.ldb
      {
        result.k *= axis.extent
      } else {
        break
      }
      result.axes.removeLast()
    }
    return result
  }

  /// Computes the products. With an axis along which products are summed, `beta` is 1. `packed` is the
  /// packed form of `b`, if there is one.
  func run(
    alpha: Double = 1, a: View, b: View, packed: View? = nil, beta: Double = 0, c: View,
    bias: View? = nil, activation: UnaryKind = .identity, pool: any WorkPool
  ) {
    guard axes.allSatisfy({ $0.extent > 0 }), m > 0, n > 0 else { return }
    let product = joined()
    guard c.element.isFloat else { return product.runWhole(a: a, b: b, c: c) }
    if let packed {
      return Kernel.gemm(
        transA: product.transA, m: product.m, n: product.n, k: product.k, alpha: alpha, a: a,
        lda: product.lda,
        packed: packed, beta: beta, c: c, ldc: product.ldc, bias: bias, activation: activation, pool: pool)
    }
    // The last two axes along which results lie apart run in parallel, the others one after the other.
    var parallel: [BatchAxis] = []
    var serial: [BatchAxis] = []
    for axis in product.axes.reversed() {
      if parallel.count < 2, axis.c != 0 { parallel.insert(axis, at: 0) } else { serial.insert(axis, at: 0) }
    }
    while parallel.count < 2 { parallel.insert(BatchAxis(extent: 1, a: 0, b: 0, c: 0), at: 0) }
    let (outer, inner) = (parallel[0], parallel[1])
    for index in 0..<serial.reduce(1, { $0 * $1.extent }) {
      var (rest, i, j, l) = (index, 0, 0, 0)
      for axis in serial.reversed() {
        let (quotient, place) = rest.quotientAndRemainder(dividingBy: axis.extent)
        (i, j, l, rest) = (i + place * axis.a, j + place * axis.b, l + place * axis.c, quotient)
      }
      if outer.extent * inner.extent == 1 {
        Kernel.gemm(
          transA: product.transA, transB: product.transB, m: product.m, n: product.n, k: product.k,
          alpha: alpha,
          a: a.from(i), lda: product.lda, b: b.from(j), ldb: product.ldb, beta: beta, c: c.from(l),
          ldc: product.ldc, bias: bias, activation: activation, pool: pool)
      } else {
        Kernel.batchedGemm(
          outer: outer.extent, inner: inner.extent, transA: product.transA, transB: product.transB,
          m: product.m, n: product.n, k: product.k, alpha: alpha, a: a.from(i), lda: product.lda,
          aStride: BatchStride(outer: outer.a, inner: inner.a), b: b.from(j), ldb: product.ldb,
          bStride: BatchStride(outer: outer.b, inner: inner.b), beta: beta, c: c.from(l), ldc: product.ldc,
          cStride: BatchStride(outer: outer.c, inner: inner.c), bias: bias, activation: activation, pool: pool
        )
      }
    }
  }

  /// The packed form for `run` of the right operand, operand `index`, where it is one matrix of floats for the whole batch.
  func packing(_ index: Int, _ element: ElementType) -> Packing? {
    guard element.isFloat, joined().axes.isEmpty else { return nil }
    return .matrix(index, element, transposed: transB, k: k, n: n, row: ldb)
  }

  /// Products of whole numbers, which wrap around; alpha is 1 and beta 0.
  private func runWhole(a: View, b: View, c: View) {
    func run<T: FixedWidthInteger>(_ type: T.Type) {
      let (x, y, z) = (a.pointer(as: T.self), b.pointer(as: T.self), c.pointer(as: T.self))
      let (aRow, aColumn) = transA ? (1, lda) : (lda, 1)
      let (bRow, bColumn) = transB ? (1, ldb) : (ldb, 1)
      for index in 0..<axes.reduce(1, { $0 * $1.extent }) {
        var (rest, p, q, r) = (index, 0, 0, 0)
        for axis in axes.reversed() {
          let (quotient, place) = rest.quotientAndRemainder(dividingBy: axis.extent)
          (p, q, r, rest) = (p + place * axis.a, q + place * axis.b, r + place * axis.c, quotient)
        }
        for i in 0..<m {
          for j in 0..<n {
            var sum: T = 0
            for l in 0..<k { sum &+= x[p + i * aRow + l * aColumn] &* y[q + l * bRow + j * bColumn] }
            z[r + i * ldc + j] = sum
          }
        }
      }
    }
    switch c.element {
    case .i64: run(Int64.self)
    case .i32: run(Int32.self)
    case .i8: run(Int8.self)
    default: run(UInt8.self)
    }
  }
}

extension View {
  /// The elements from `offset` on.
  func from(_ offset: Int) -> View {
    part(offset, of: max(0, count - offset))
  }
}
