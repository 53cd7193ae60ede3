internal import Glibc
internal import VitIR
internal import VitRuntime

/// Ridge regression of a target on a mixer's inner values: the best last linear map for fixed inner weights
/// (Mixers.md §2).
struct Readout {
  private let inputs: Int
  private let outputs: Int
  /// Σ ŝᵀŝ with ŝ = [s, 1], and Σ ŝᵀy; row-major, in double. Sums over batches, each of which is summed on its own first.
  private var gram: [Double]
  private var cross: [Double]
  private var targetSquares = 0.0
  private var rows = 0

  init(inputs: Int, outputs: Int) {
    self.inputs = inputs
    self.outputs = outputs
    gram = [Double](repeating: 0, count: (inputs + 1) * (inputs + 1))
    cross = [Double](repeating: 0, count: (inputs + 1) * outputs)
  }

  /// Adds rows of inner values and of the target.
  mutating func add(_ inner: View, _ target: View, pool: any WorkPool) throws {
    let count = outputs == 0 ? 0 : target.count / outputs
    let width = inputs + 1
    let arena = try Arena(
      byteCount: (count + width) * (width + outputs) * 8 + 1024, for: "solving for a readout")
    let s = arena.view(TensorType(.f64, fixed: [count, width]), at: 0)
    let y = arena.view(TensorType(.f64, fixed: [count, outputs]), at: aligned(s.byteCount))
    for row in 0..<count {
      for column in 0..<inputs { s.f64[row * width + column] = Double(inner.f32[row * inputs + column]) }
      s.f64[row * width + inputs] = 1
    }
    var squares = 0.0
    for index in 0..<count * outputs {
      let value = Double(target.f32[index])
      y.f64[index] = value
      squares += value * value
    }
    targetSquares += squares
    let product = arena.view(
      TensorType(.f64, fixed: [width, width + outputs]), at: aligned(s.byteCount) + aligned(y.byteCount))
    let row = width + outputs
    Kernel.gemm(transA: true, m: width, n: width, k: count, a: s, b: s, c: product, ldc: row, pool: pool)
    Kernel.gemm(
      transA: true, m: width, n: outputs, k: count, a: s, b: y,
      c: View(base: product.base + width * 8, element: .f64, shape: [product.count - width]),
      ldc: row, pool: pool)
    for index in 0..<width {
      for column in 0..<width { gram[index * width + column] += product.f64[index * row + column] }
      for column in 0..<outputs {
        cross[index * outputs + column] += product.f64[index * row + width + column]
      }
    }
    rows += count
  }

  private func aligned(_ bytes: Int) -> Int { (bytes + 63) / 64 * 64 }

  /// The weight [outputs, inputs], the bias and the residual's squares over those of the target; `nil` where
  /// the system is singular or there is nothing to solve.
  func solve(ridge: Double = 1e-3) -> (weight: [Float], bias: [Float], error: Double)? {
    let n = inputs + 1
    guard rows > 0 else { return nil }
    var mean = 0.0
    for index in 0..<inputs { mean += gram[index * n + index] }
    let penalty = inputs > 0 ? ridge * mean / Double(inputs) : 0
    var factor = gram
    for index in 0..<inputs { factor[index * n + index] += penalty }
    // Cholesky, lower triangle in place.
    for column in 0..<n {
      for inner in 0..<column {
        let value = factor[column * n + inner]
        if value == 0 { continue }
        for row in column..<n { factor[row * n + column] -= factor[row * n + inner] * value }
      }
      let pivot = factor[column * n + column]
      guard pivot > 0, pivot.isFinite else { return nil }
      let root = pivot.squareRoot()
      for row in column..<n { factor[row * n + column] /= root }
    }
    var solution = cross
    for column in 0..<outputs {
      for row in 0..<n {
        var value = solution[row * outputs + column]
        for inner in 0..<row { value -= factor[row * n + inner] * solution[inner * outputs + column] }
        solution[row * outputs + column] = value / factor[row * n + row]
      }
      for row in stride(from: n - 1, through: 0, by: -1) {
        var value = solution[row * outputs + column]
        for inner in row + 1..<n { value -= factor[inner * n + row] * solution[inner * outputs + column] }
        solution[row * outputs + column] = value / factor[row * n + row]
      }
    }
    // Σ‖y − ŝX‖² = Σy² − 2⟨X, Ψ⟩ + ⟨X, ΦX⟩
    var inner = 0.0
    for index in solution.indices { inner += solution[index] * cross[index] }
    var quadratic = 0.0
    for row in 0..<n {
      for other in 0..<n {
        let value = gram[row * n + other]
        for column in 0..<outputs {
          quadratic += value * solution[row * outputs + column] * solution[other * outputs + column]
        }
      }
    }
    let error = targetSquares > 0 ? max(0, targetSquares - 2 * inner + quadratic) / targetSquares : 0
    var weight = [Float](repeating: 0, count: outputs * inputs)
    for row in 0..<inputs {
      for column in 0..<outputs { weight[column * inputs + row] = Float(solution[row * outputs + column]) }
    }
    return (weight, (0..<outputs).map { Float(solution[inputs * outputs + $0]) }, error)
  }
}
