internal import VitIR
internal import VitRuntime

/// The inverse of a symmetric positive definite matrix, from which rows and columns of the matrix can be taken away again.
final class SymmetricInverse {
  private let order: Int
  private let arena: Arena
  private let matrix: View
  private let pool: any WorkPool

  /// How many rows are inverted at once.
  private static let block = 48

  /// Some rows that are to go: their columns of the inverse, `[order, rows]`, and the inverse of what stands where they meet.
  struct Step {
    fileprivate let rows: [Int]
    let columns: [Double]
    fileprivate let pivot: [Double]

    /// The pivot's inverse times a vector.
    func times(_ vector: [Double]) -> [Double] {
      let count = rows.count
      return (0..<count).map { row in
        (0..<count).reduce(0) { $0 + pivot[row * count + $1] * vector[$1] }
      }
    }
  }

  /// Inverts a matrix with `penalty` on its diagonal by sweeping blocks of rows; `nil` where it is not positive definite.
  init?(_ matrix: [Double], order: Int, plus penalty: Double, pool: any WorkPool) throws {
    self.order = order
    self.pool = pool
    arena = try Arena(byteCount: 8 * order * order + 64, for: "inverting a matrix")
    self.matrix = arena.view(TensorType(.f64, fixed: [order, order]), at: 0)
    for (index, value) in matrix.enumerated() { self.matrix.f64[index] = value }
    for row in 0..<order { self.matrix.f64[row * order + row] += penalty }
    for start in stride(from: 0, to: order, by: SymmetricInverse.block) {
      let rows = Array(start..<min(order, start + SymmetricInverse.block))
      guard let step = step(rows) else { return nil }
      try sweep(step)
    }
    for index in 0..<order * order { self.matrix.f64[index].negate() }
  }

  /// An entry of the diagonal.
  func diagonal(_ row: Int) -> Double { matrix.f64[row * order + row] }

  /// What is needed to take rows away; `nil` where what stands where they meet is not positive definite.
  func step(_ rows: [Int]) -> Step? {
    let count = rows.count
    var columns = [Double](repeating: 0, count: order * count)
    for row in 0..<order {
      for (place, column) in rows.enumerated() {
        columns[row * count + place] = matrix.f64[row * order + column]
      }
    }
    let meeting = rows.flatMap { row in (0..<count).map { columns[row * count + $0] } }
    guard let factors = Cholesky(meeting, order: count) else { return nil }
    var pivot = [Double](repeating: 0, count: count * count)
    for column in 0..<count {
      var unit = [Double](repeating: 0, count: count)
      unit[column] = 1
      for (row, value) in factors.solve(unit[...]).enumerated() { pivot[row * count + column] = value }
    }
    return Step(rows: rows, columns: columns, pivot: pivot)
  }

  /// Makes this the inverse of the matrix without the rows and columns of a step, whose own become zero.
  func remove(_ step: Step) throws { try subtract(step, columns: step.columns) }

  /// One step of the inversion: the block of a pivot D becomes −D⁻¹, what lies beside it U·D⁻¹, the rest loses U·D⁻¹·Uᵀ.
  private func sweep(_ step: Step) throws {
    let count = step.rows.count
    var columns = step.columns
    for row in step.rows { for place in 0..<count { columns[row * count + place] = 0 } }
    let shares = try subtract(step, columns: columns)
    for row in 0..<order {
      for (place, column) in step.rows.enumerated() {
        matrix.f64[row * order + column] = shares[row * count + place]
        matrix.f64[column * order + row] = shares[row * count + place]
      }
    }
    for (place, row) in step.rows.enumerated() {
      for (other, column) in step.rows.enumerated() {
        matrix.f64[row * order + column] = -step.pivot[place * count + other]
      }
    }
  }

  /// Subtracts U·D⁻¹·Uᵀ; returns U·D⁻¹.
  @discardableResult private func subtract(_ step: Step, columns: [Double]) throws -> [Double] {
    let count = step.rows.count
    let wide = order * count * 8
    let scratch = try Arena(byteCount: 2 * (wide + 64) + 8 * count * count + 64, for: "inverting a matrix")
    let u = scratch.view(TensorType(.f64, fixed: [order, count]), at: 0)
    let shares = scratch.view(TensorType(.f64, fixed: [order, count]), at: (wide + 63) / 64 * 64)
    let d = scratch.view(TensorType(.f64, fixed: [count, count]), at: (wide + 63) / 64 * 128)
    for (index, value) in columns.enumerated() { u.f64[index] = value }
    for (index, value) in step.pivot.enumerated() { d.f64[index] = value }
    Kernel.gemm(m: order, n: count, k: count, a: u, b: d, c: shares, pool: pool)
    Kernel.gemm(
      transB: true, m: order, n: order, k: count, alpha: -1, a: shares, b: u, beta: 1, c: matrix, pool: pool)
    return Array(UnsafeBufferPointer(start: shares.f64, count: order * count))
  }
}
