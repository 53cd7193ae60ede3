internal import VitIR
internal import VitRuntime

/// Elementwise passes in which an operand is repeated, and sums over what it was repeated for.
extension Kernel {
  /// `y ← a + b`, `b` repeated as often as `a` is longer; `y` may be `a`, or `b` where that is as long.
  static func addRepeated(_ a: View, _ b: View, into y: View, pool: any WorkPool) {
    if a.element == .f64 {
      repeated(a.f64, b.f64, y.f64, count: a.count, width: b.count, pool) { a, b, _ in a + b }
    } else {
      repeated(a.f32, b.f32, y.f32, count: a.count, width: b.count, pool) { a, b, _ in a + b }
    }
  }

  /// `y ← x·factors`, the factors repeated as often as `x` is longer.
  static func multiplyRepeated(_ x: View, _ factors: View, into y: View, pool: any WorkPool) {
    if x.element == .f64 {
      repeated(x.f64, factors.f64, y.f64, count: x.count, width: factors.count, pool) { x, f, _ in x * f }
    } else {
      repeated(x.f32, factors.f32, y.f32, count: x.count, width: factors.count, pool) { x, f, _ in x * f }
    }
  }

  /// `y ← y + x·factors`, the factors repeated as often as `x` is longer.
  static func addProductRepeated(_ x: View, _ factors: View, to y: View, pool: any WorkPool) {
    if x.element == .f64 {
      repeated(x.f64, factors.f64, y.f64, count: x.count, width: factors.count, pool) { x, f, y in y + x * f }
    } else {
      repeated(x.f32, factors.f32, y.f32, count: x.count, width: factors.count, pool) { x, f, y in y + x * f }
    }
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

  @inline(__always)
  private static func repeated<Real: BinaryFloatingPoint>(
    _ a: UnsafeMutablePointer<Real>, _ b: UnsafeMutablePointer<Real>, _ y: UnsafeMutablePointer<Real>,
    count: Int,
    width: Int, _ pool: any WorkPool, _ function: (Real, Real, Real) -> Real
  ) {
    guard count > 0 else { return }
    precondition(width > 0 && count % width == 0)
    // Long rows are cut, short ones go several to a task.
    let pieces = max(1, width >> 14)
    let rows = count / width
    let groups = pieces > 1 ? rows : (rows - 1) / max(1, (1 << 14) / width) + 1
    withoutActuallyEscaping(function) { function in
      pool.run(tasks: groups * pieces) { task, _ in
        let (group, piece) = (task / pieces, task % pieces)
        let (low, high) = (width * piece / pieces, width * (piece + 1) / pieces)
        for row in rows * group / groups..<rows * (group + 1) / groups {
          let (a, y) = (a + row * width, y + row * width)
          for index in low..<high { y[index] = function(a[index], b[index], y[index]) }
        }
      }
    }
  }

  private static func addSums<Real: BinaryFloatingPoint>(
    _ x: UnsafeMutablePointer<Real>, row: Int, rows: Int, _ sums: UnsafeMutablePointer<Real>, width: Int,
    _ pool: any WorkPool
  ) {
    guard rows > 0, width > 0 else { return }
    // Each column is summed in order by one task.
    let blocks = rows * width <= 1 << 14 ? 1 : (width - 1) / 64 + 1
    pool.run(tasks: blocks) { block, _ in
      let (low, high) = (width * block / blocks, width * (block + 1) / blocks)
      for index in 0..<rows {
        let from = x + index * row
        for column in low..<high { sums[column] += from[column] }
      }
    }
  }
}
