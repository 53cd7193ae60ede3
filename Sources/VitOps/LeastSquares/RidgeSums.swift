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

  /// The map W, `[outputs, inputs]`, and the intercept c that make Σ‖y − W·s − c‖² + λ·Σw·t·‖W − W₀‖² least, where t is the
  /// mean variance of the regressors and λ is `ridge`; ten times as much, and so on, where that leaves a system that is not
  /// definite. `nil` where five such steps do not help, or nothing was added. Without a `free` intercept c is 0.
  package func solve(
    toward first: [Double], ridge: Double = 1e-3, free: Bool = true
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
        var value = moments[row * width + n + 1 + output] / total - mean[row] * target[output]
        for column in 0..<n { value -= covariance[row * n + column] * first[output * n + column] }
        left[output * n + row] = value
      }
    }
    var penalty = ridge * max(spread, 0) / Double(max(n, 1))
    for _ in 0...5 {
      var matrix = covariance
      for row in 0..<n { matrix[row * n + row] += penalty }
      if let factors = Cholesky(matrix, order: n) {
        var weight = first
        for output in 0..<m {
          let change = factors.solve(left[output * n..<(output + 1) * n])
          for row in 0..<n { weight[output * n + row] += change[row] }
        }
        let intercept = (0..<m).map { output in
          target[output] - (0..<n).reduce(0.0) { $0 + weight[output * n + $1] * mean[$1] }
        }
        return weight.allSatisfy { $0.isFinite } ? (weight, intercept) : nil
      }
      penalty *= 10
    }
    return nil
  }
}
