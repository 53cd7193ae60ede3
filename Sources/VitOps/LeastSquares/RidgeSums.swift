package import VitIR
internal import VitRuntime

/// The moments of a regression of `outputs` targets on `inputs` regressors with a free intercept: sums in double, over
/// rows in the order in which they come.
package struct RidgeSums {
  package let inputs: Int
  package let outputs: Int
  /// Σ s̃ᵀ[s̃ y] with s̃ = [s 1], row-major.
  private var moments: [Double]
  private var width: Int { inputs + 1 + outputs }

  package init(inputs: Int, outputs: Int) {
    self.inputs = inputs
    self.outputs = outputs
    moments = [Double](repeating: 0, count: (inputs + 1) * (inputs + 1 + outputs))
  }

  /// Adds moments of some rows, in the order above, `row` numbers apart.
  package mutating func add(_ part: UnsafePointer<Double>, row: Int) {
    for index in 0...inputs {
      for column in 0..<width { moments[index * width + column] += part[index * row + column] }
    }
  }

  /// Adds sums of other rows.
  package mutating func add(_ other: RidgeSums) {
    precondition(other.inputs == inputs && other.outputs == outputs)
    for index in moments.indices { moments[index] += other.moments[index] }
  }

  /// The map W, `[outputs, inputs]`, and the intercept c that make Σ‖y − W·s − c‖² + λ·Σw·t·‖W − W₀‖² least, where t is the
  /// mean variance of the regressors and λ is `ridge`; ten times as much, and so on, where that leaves a system that is not
  /// definite. `nil` where five such steps do not help, or nothing was added. Without a `free` intercept c is 0.
  /// O(inputs² · (inputs + outputs)), on `pool`, on which OpenBLAS has been required.
  package func solve(
    toward first: [Double], ridge: Double = RidgeSums.ridges[0], free: Bool = true,
    pool: any WorkPool = SerialPool()
  ) -> (weight: [Double], intercept: [Double])? {
    let (n, m) = (inputs, outputs)
    let total = moments[n * width + n]
    guard total > 0, first.count == n * m, moments.allSatisfy({ $0.isFinite }) else { return nil }
    let mean = (0..<n).map { free ? moments[n * width + $0] / total : 0 }
    let target = (0..<m).map { free ? moments[n * width + n + 1 + $0] / total : 0 }
    var covariance = [Double](repeating: 0, count: n * n)
    var spread = 0.0
    for row in 0..<n {
      for column in 0..<n {
        covariance[row * n + column] = moments[row * width + column] / total - mean[row] * mean[column]
      }
      spread += covariance[row * n + row]
    }
    // For each output, what W₀ leaves, as moments with the regressors.
    var left = [Double](repeating: 0, count: n * m)
    for output in 0..<m {
      for row in 0..<n {
        left[output * n + row] = moments[row * width + n + 1 + output] / total - mean[row] * target[output]
      }
    }
    RidgeSums.product(first, covariance, inner: n, columns: n, alpha: -1, addingTo: &left, pool)
    var penalty = ridge * max(spread, 0) / Double(max(n, 1))
    for _ in 0...5 {
      var matrix = covariance
      for row in 0..<n { matrix[row * n + row] += penalty }
      if let factors = Cholesky(matrix, order: n, pool: pool) {
        var weight = left
        factors.solve(rows: &weight)
        for place in weight.indices { weight[place] += first[place] }
        let intercept = (0..<m).map { output in
          target[output] - (0..<n).reduce(0.0) { $0 + weight[output * n + $1] * mean[$1] }
        }
        return weight.allSatisfy { $0.isFinite } ? (weight, intercept) : nil
      }
      penalty *= 10
    }
    return nil
  }

  /// The ridges that are tried where other rows judge.
  package static let ridges = [1e-3, 1e-2, 1e-1, 1]

  /// That of `ridges` whose map, solved on these rows, misses `others` least; the first where either has none.
  package func bestRidge(
    toward first: [Double], among ridges: [Double] = RidgeSums.ridges, free: Bool = true,
    judgedBy others: RidgeSums, pool: any WorkPool = SerialPool()
  ) -> Double {
    var best = (ridge: ridges.first ?? RidgeSums.ridges[0], error: Double.infinity)
    guard inputs > 0, others.moments[inputs * width + inputs] > 0 else { return best.ridge }
    for ridge in ridges {
      guard let map = solve(toward: first, ridge: ridge, free: free, pool: pool) else { continue }
      let error = others.error(of: map, pool)
      if error < best.error { best = (ridge, error) }
    }
    return best.ridge
  }

  /// Σ‖y − W·s − c‖² but for Σ‖y‖².
  private func error(of map: (weight: [Double], intercept: [Double]), _ pool: any WorkPool) -> Double {
    let n = inputs + 1
    var joined: [Double] = []
    for output in 0..<outputs {
      joined += map.weight[output * inputs..<(output + 1) * inputs] + [map.intercept[output]]
    }
    var square = [Double](repeating: 0, count: n * n)
    for row in 0..<n { for column in 0..<n { square[row * n + column] = moments[row * width + column] } }
    var image = [Double](repeating: 0, count: outputs * n)
    RidgeSums.product(joined, square, inner: n, columns: n, addingTo: &image, pool)
    var sum = 0.0
    for output in 0..<outputs {
      for row in 0..<n {
        sum += joined[output * n + row] * (image[output * n + row] - 2 * moments[row * width + n + output])
      }
    }
    return sum
  }

  /// `c ← alpha·a·b + c`, row-major.
  private static func product(
    _ a: [Double], _ b: [Double], inner: Int, columns: Int, alpha: Double = 1, addingTo c: inout [Double],
    _ pool: any WorkPool
  ) {
    guard inner > 0, columns > 0, !a.isEmpty else { return }
    a.withSources { a in
      b.withSources { b in
        c.withViews { c in
          let rows = a(0).count / inner
          Kernel.gemm(
            m: rows, n: columns, k: inner, alpha: alpha, a: a(0), b: b(0), beta: 1, c: c(0), pool: pool)
        }
      }
    }
  }
}
