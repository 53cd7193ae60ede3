package import VitIR
internal import VitRuntime

/// Which inputs of a linear map it can best do without, and the map that makes up for them.
///
/// The optimal brain surgeon (Hassibi and Stork, 1993) on the inputs of a whole map: with P = (C + λtI)⁻¹, C being the inputs'
/// covariance and t its mean diagonal, a channel j costs ‖γ ⊙ W_j‖²/P_jj. The cheapest go, in blocks; the others take over what
/// least squares gives them, W ← W − W_R P_RR⁻¹ P_R, which is the ridge regression of the old outputs on the inputs that stay,
/// drawn towards their old weights. O(n³) for n inputs, in double.
package struct ChannelElimination {
  /// The inputs that are left, in order.
  package private(set) var kept: [Int]
  /// The map of these, `[outputs, kept]`, row by row.
  package private(set) var weight: [Double]

  /// How many inputs go at once.
  private static let block = 16

  /// Eliminates inputs of a map `[outputs, inputs]` until `count` are left; `nil` where no multiple of `ridge` up to 10⁵ makes the
  /// covariance definite.
  package init?(
    _ weight: [Double], outputs: Int, covariance: [Double], scales: [Double]? = nil, keeping count: Int,
    ridge: Double = 1e-3, pool: any WorkPool
  ) throws {
    let inputs = outputs == 0 ? 0 : weight.count / outputs
    precondition(covariance.count == inputs * inputs && count <= inputs)
    kept = Array(0..<inputs)
    self.weight = weight
    guard count < inputs else { return }
    let squares = scales?.map { $0 * $0 } ?? [Double](repeating: 1, count: outputs)
    let mean = (0..<inputs).reduce(0) { $0 + covariance[$1 * inputs + $1] } / Double(inputs)
    var penalty = ridge * max(mean, .leastNormalMagnitude)
    var inverse: SymmetricInverse?
    for _ in 0...5 where inverse == nil {
      inverse = try SymmetricInverse(covariance, order: inputs, plus: penalty, pool: pool)
      penalty *= 10
    }
    guard let inverse else { return nil }
    var active = [Bool](repeating: true, count: inputs)
    var left = inputs
    while left > count {
      let batch = min(ChannelElimination.block, left - count)
      var costs = [Double](repeating: 0, count: inputs)
      for output in 0..<outputs {
        for input in 0..<inputs {
          let value = self.weight[output * inputs + input]
          costs[input] += squares[output] * value * value
        }
      }
      let order = (0..<inputs).filter { active[$0] }.map {
        (cost: costs[$0] / inverse.diagonal($0), input: $0)
      }
      .sorted { $0 < $1 }
      let gone = order.prefix(batch).map(\.input).sorted()
      guard let step = inverse.step(gone) else { return nil }
      for output in 0..<outputs {
        let row = output * inputs
        let taken = gone.map { self.weight[row + $0] }
        let shares = step.times(taken)
        for (place, share) in shares.enumerated() where share != 0 {
          for input in 0..<inputs { self.weight[row + input] -= share * step.columns[input * batch + place] }
        }
        for input in gone { self.weight[row + input] = 0 }
      }
      try inverse.remove(step)
      for input in gone { active[input] = false }
      left -= batch
    }
    kept = kept.filter { active[$0] }
    let all = self.weight
    self.weight = (0..<outputs).flatMap { output in kept.map { all[output * inputs + $0] } }
  }
}
