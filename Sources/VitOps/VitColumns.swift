internal import VitIR
internal import VitRuntime

/// Elementwise passes in which an operand is repeated, and sums over what it was repeated for.
extension Kernel {
  /// `y ← a + b`, `b` repeated as often as `a` is longer; `y` may be `a`, or `b` where that is as long.
  static func addRepeated(_ a: View, _ b: View, into y: View, pool: any WorkPool) {
    binary(.add, a, repeating: b, into: y, pool: pool)
  }

  /// `y ← x·factors`, the factors repeated as often as `x` is longer.
  static func multiplyRepeated(_ x: View, _ factors: View, into y: View, pool: any WorkPool) {
    binary(.multiply, x, repeating: factors, into: y, pool: pool)
  }

  /// `y ← y + x·factors`, the factors repeated as often as `x` is longer.
  static func addProductRepeated(_ x: View, _ factors: View, to y: View, pool: any WorkPool) {
    binary(.multiply, x, repeating: factors, into: y, adding: true, pool: pool)
  }

  /// `sums ← sums + Σ x` over the rows of `x` that are as long as `sums`.
  static func addColumnSums(of x: View, to sums: View, pool: any WorkPool) {
    let width = sums.count
    precondition(width > 0 ? x.count % width == 0 : x.count == 0)
    addColumnSums(of: x, row: width, rows: width > 0 ? x.count / width : 0, to: sums, pool: pool)
  }

  /// The same over `rows` rows that start `row` elements apart.
  static func addColumnSums(of x: View, row: Int, rows: Int, to sums: View, pool: any WorkPool) {
    if x.element == .f64 {
      addSums(x.f64, row: row, rows: rows, sums.f64, width: sums.count, pool)
    } else {
      addSums(x.f32, row: row, rows: rows, sums.f32, width: sums.count, pool)
    }
  }

  private static func addSums<Real: BinaryFloatingPoint>(
    _ x: UnsafeMutablePointer<Real>, row: Int, rows: Int, _ sums: UnsafeMutablePointer<Real>, width: Int,
    _ pool: any WorkPool
  ) {
    guard rows > 0, width > 0 else { return }
    // Each column is summed in order by one task; a task has at least 64 columns, or 16384 numbers.
    let blocks = (width - 1) / max(64, (1 << 14) / rows) + 1
    pool.run(tasks: blocks) { block, _ in
      let (low, high) = (width * block / blocks, width * (block + 1) / blocks)
      for index in 0..<rows {
        let from = x + index * row
        for column in low..<high { sums[column] += from[column] }
      }
    }
  }
}
