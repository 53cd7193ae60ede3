package import VitIR
internal import VitRuntime

/// A symmetric positive definite matrix as L·Lᵀ, to solve systems with it in double precision.
package struct Cholesky {
  private let order: Int
  /// L, row by row; what is above its diagonal is not part of it.
  package private(set) var factor: [Double]
  /// What products of blocks run on; without it all is one block.
  private let pool: (any WorkPool)?

  /// The columns of a block where products are computed by blocks.
  private static let block = 64

  /// The factors of a matrix of `order` rows, of which the lower triangle is read; `nil` where it is not positive definite.
  /// O(order³ / 3), most of it in products by OpenBLAS where there is a `pool`, on which the caller has required it.
  package init?(_ matrix: [Double], order: Int, pool: (any WorkPool)? = nil) {
    precondition(matrix.count == order * order)
    self.order = order
    self.pool = pool
    factor = matrix
    let width = pool == nil ? max(order, 1) : Cholesky.block
    for start in stride(from: 0, to: order, by: width) {
      let end = min(start + width, order)
      if let pool, start > 0 {
        factor.withViews { view in
          Kernel.gemm(
            transB: true, m: order - start, n: end - start, k: start, alpha: -1, a: view(start * order),
            lda: order,
            b: view(start * order), ldb: order, beta: 1, c: view(start * order + start), ldc: order,
            pool: pool)
        }
      }
      guard eliminate(start..<end) else { return nil }
    }
  }

  /// The columns of a block, from which what lies before it is taken off.
  private mutating func eliminate(_ columns: Range<Int>) -> Bool {
    for row in columns.lowerBound..<order {
      for column in columns.lowerBound..<min(row + 1, columns.upperBound) {
        var value = factor[row * order + column]
        for inner in columns.lowerBound..<column {
          value -= factor[row * order + inner] * factor[column * order + inner]
        }
        if column < row {
          factor[row * order + column] = value / factor[column * order + column]
        } else {
          guard value > 0, value.isFinite else { return false }
          factor[row * order + row] = value.squareRoot()
        }
      }
    }
    return true
  }

  /// The solution for one right side.
  package func solve(_ right: ArraySlice<Double>) -> [Double] {
    precondition(right.count == order)
    var x = Array(right)
    solve(rows: &x)
    return x
  }

  /// Replaces right sides, the rows of `rows`, by their solutions. O(order² · rows).
  package func solve(rows: inout [Double]) {
    guard order > 0 else { return }
    precondition(rows.count.isMultiple(of: order))
    let count = rows.count / order
    let width = pool == nil ? order : Cholesky.block
    func product(_ columns: Range<Int>, _ inner: Range<Int>, transposed: Bool, _ rows: inout [Double]) {
      guard let pool, !inner.isEmpty else { return }
      let (part, other) =
        transposed
        ? (columns.lowerBound * order + inner.lowerBound, inner.lowerBound)
        : (inner.lowerBound * order + columns.lowerBound, inner.lowerBound)
      factor.withSources { factor in
        rows.withViews { rows in
          Kernel.gemm(
            transB: transposed, m: count, n: columns.count, k: inner.count, alpha: -1, a: rows(other),
            lda: order,
            b: factor(part), ldb: order, beta: 1, c: rows(columns.lowerBound), ldc: order, pool: pool)
        }
      }
    }
    let blocks = stride(from: 0, to: order, by: width).map { $0..<min($0 + width, order) }
    for columns in blocks {
      product(columns, 0..<columns.lowerBound, transposed: true, &rows)
      for row in 0..<count {
        for column in columns {
          var value = rows[row * order + column]
          for inner in columns.lowerBound..<column {
            value -= factor[column * order + inner] * rows[row * order + inner]
          }
          rows[row * order + column] = value / factor[column * order + column]
        }
      }
    }
    for columns in blocks.reversed() {
      product(columns, columns.upperBound..<order, transposed: false, &rows)
      for row in 0..<count {
        for column in columns.reversed() {
          let value = rows[row * order + column] / factor[column * order + column]
          rows[row * order + column] = value
          for inner in columns.lowerBound..<column {
            rows[row * order + inner] -= factor[column * order + inner] * value
          }
        }
      }
    }
  }
}

extension [Double] {
  /// Calls `body` with what gives views of the array from an element on, which nobody may write to.
  func withSources(_ body: ((Int) -> View) -> Void) {
    withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress.map(UnsafeMutableRawPointer.init(mutating:)) else { return }
      let count = bytes.count / 8
      body { View(base: base + 8 * $0, element: .f64, count: count - $0) }
    }
  }

  /// Calls `body` with what gives views of the array from an element on.
  mutating func withViews(_ body: ((Int) -> View) -> Void) {
    withUnsafeMutableBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      let count = bytes.count / 8
      body { View(base: base + 8 * $0, element: .f64, count: count - $0) }
    }
  }
}
