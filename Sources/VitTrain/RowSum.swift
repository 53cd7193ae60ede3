internal import VitIR

/// A sum over the numbers of a view, cut into parts in a way that depends on its shape alone: the same bits whatever the threads.
struct RowSum {
  private let count, width: Int
  private let weights: [Double]

  /// The numbers of a part, about.
  private static let part = 1 << 14

  /// The sum over `view`, whose row r of the last axis weighs `weights[r mod weights.count]`; each 1 where there are none.
  init(_ view: View, weights: [Double]) {
    count = view.count
    width = view.shape.last ?? 1
    self.weights = weights
  }

  /// The sum of `term` over all parts: numbers that weigh the same, and that weight.
  func total(pool: any WorkPool, _ term: (Range<Int>, Double) -> Double) -> Double {
    // Without weights a part may begin and end within a row.
    let unit = weights.isEmpty ? 1 : max(1, width)
    let units = count / unit
    let size = max(1, RowSum.part / unit)
    let parts = (units + size - 1) / size
    return withUnsafeTemporaryAllocation(of: Double.self, capacity: max(1, parts)) { sums in
      pool.run(tasks: parts) { task, _ in
        let range = task * size..<min((task + 1) * size, units)
        if weights.isEmpty {
          sums[task] = term(range, 1)
        } else {
          sums[task] = range.reduce(0) { sum, row in
            let weight = weights[row % weights.count]
            return weight == 0 ? sum : sum + term(row * unit..<(row + 1) * unit, weight)
          }
        }
      }
      return sums[..<parts].reduce(0, +)
    }
  }
}
