internal import VitIR
internal import VitOps
internal import VitRuntime

/// Ridge regression of a target on a mixer's inner values: the best last linear map for fixed inner weights.
///
/// Rows of some tokens may weigh more than others; the map is drawn towards one that is given, its bias is free. How much it is drawn
/// is decided on every fourth batch: where few samples stand against many inner values, as the rows of class tokens do, most of
/// what a weak ridge gains on them is lost on others.
struct Readout {
  private let inputs: Int
  private let outputs: Int
  /// The weight of each token's rows; a token of weight 0 has no part.
  private let weights: [Double]
  /// The sums of the batches that are solved on, and of those that judge how.
  private var sums, judges: RidgeSums
  private var batches = 0
  private let pool: any WorkPool

  /// A regression on rows of `inputs` numbers, for as many tokens as there are `weights`.
  init(inputs: Int, outputs: Int, weights: [Double], pool: any WorkPool) {
    self.pool = pool
    self.inputs = inputs
    self.outputs = outputs
    self.weights = weights
    sums = RidgeSums(inputs: inputs, outputs: outputs)
    judges = sums
  }

  /// Adds rows of inner values and of the target, `[batch, tokens, …]`. Sums over batches, each of which is summed on its own
  /// first.
  mutating func add(_ inner: View?, _ target: View) throws {
    let rows = outputs == 0 ? 0 : target.count / outputs
    let kept = (0..<rows).filter { weights[$0 % weights.count] > 0 }
    let (count, width) = (kept.count, inputs + 1 + outputs)
    let arena = try Arena(
      byteCount: (count + inputs + 1) * width * 8 + 1024, for: "solving for a readout")
    let both = arena.view(TensorType(.f64, fixed: [count, width]), at: 0)
    for (place, row) in kept.enumerated() {
      // Each row by the square root of its weight: squares and products then have the weight itself.
      let factor = weights[row % weights.count].squareRoot()
      let line = both.f64 + place * width
      if let inner {
        for column in 0..<inputs { line[column] = factor * Double(inner.f32[row * inputs + column]) }
      }
      line[inputs] = factor
      for column in 0..<outputs {
        line[inputs + 1 + column] = factor * Double(target.f32[row * outputs + column])
      }
    }
    let moments = arena.view(
      TensorType(.f64, fixed: [inputs + 1, width]), at: (both.byteCount + 63) / 64 * 64)
    Kernel.gemm(
      transA: true, m: inputs + 1, n: width, k: count, a: both, lda: width, b: both, ldb: width, c: moments,
      pool: pool)
    batches += 1
    if batches.isMultiple(of: 4) {
      judges.add(moments.f64, row: width)
    } else {
      sums.add(moments.f64, row: width)
    }
  }

  /// The weight `[outputs, inputs]`, as near to `first` as the ridge draws it (0 without one), and the bias; `nil` where the
  /// system is singular, or nothing was added. Without a `free` bias that is 0.
  func solve(toward first: [Double]?, free: Bool = true) -> (weight: [Float], bias: [Float])? {
    let start = first ?? [Double](repeating: 0, count: inputs * outputs)
    let ridge = sums.bestRidge(toward: start, free: free, judgedBy: judges, pool: pool)
    var all = sums
    all.add(judges)
    guard let solution = all.solve(toward: start, ridge: ridge, free: free, pool: pool) else { return nil }
    return (solution.weight.map(Float.init), solution.intercept.map(Float.init))
  }
}
