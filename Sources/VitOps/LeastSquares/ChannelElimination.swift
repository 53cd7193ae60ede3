package import VitIR
internal import VitRuntime

/// Which inputs of a linear map it can best do without, and the map that makes up for them.
///
/// The optimal brain surgeon (Hassibi and Stork, 1993) on the inputs of a whole map: with P = (C + λtI)⁻¹, C being the inputs'
/// covariance and t its mean diagonal, a channel j costs ‖γ ⊙ W_j‖²/P_jj. The cheapest go, in blocks; the others take over what
/// least squares gives them, W ← W − W_R P_RR⁻¹ P_R, which is the ridge regression of the old outputs on the inputs that stay,
/// drawn towards their old weights. Inputs that can only go together cost ⟨γ² ⊙ W_R, W_R P_RR⁻¹⟩, and go one such set at a time.
/// O(n³) for n inputs, in double.
package struct ChannelElimination {
  /// Some inputs that are left.
  package struct Choice {
    /// They, in order.
    package let inputs: [Int]
    /// The map of these, `[outputs, inputs]`, row by row.
    package let weight: [Double]
  }

  /// What is left of the inputs, for each count asked for.
  package private(set) var choices: [Choice]
  /// What the elimination adds to the mean squared error of γ ⊙ y, λ included, by how many inputs are left; from all of them down
  /// to the least count.
  package private(set) var errors: [(left: Int, error: Double)]

  /// How many inputs go at once.
  private static let block = 16

  /// Eliminates inputs of a map `[outputs, inputs]` until each of `counts` is left, in turn; `nil` where no multiple of `ridge` up to
  /// 10⁵ makes the covariance definite. As many as `together` says go or stay as one, side by side from the first; counts are
  /// multiples of that.
  package init?(
    _ weight: [Double], outputs: Int, covariance: [Double], scales: [Double]? = nil, keeping counts: [Int],
    together: Int = 1, ridge: Double = 1e-3, pool: any WorkPool
  ) throws {
    let inputs = outputs == 0 ? 0 : weight.count / outputs
    precondition(covariance.count == inputs * inputs && counts.allSatisfy { (0...inputs).contains($0) })
    precondition(together > 0 && (counts + [inputs]).allSatisfy { $0.isMultiple(of: together) })
    var weight = weight
    var active = [Bool](repeating: true, count: inputs)
    var error = 0.0
    errors = [(inputs, 0)]
    var found: [Int: Choice] = [:]
    func note(_ left: Int) {
      let kept = (0..<inputs).filter { active[$0] }
      found[left] = Choice(
        inputs: kept,
        weight: (0..<outputs).flatMap { output in kept.map { weight[output * inputs + $0] } })
    }
    if counts.contains(inputs) { note(inputs) }
    let goals = Set(counts.filter { $0 < inputs }).sorted(by: >)
    choices = []
    guard !goals.isEmpty else {
      choices = counts.compactMap { found[$0] }
      return
    }
    let squares = scales?.map { $0 * $0 } ?? [Double](repeating: 1, count: outputs)
    let mean = (0..<inputs).reduce(0) { $0 + covariance[$1 * inputs + $1] } / Double(inputs)
    var penalty = ridge * max(mean, .leastNormalMagnitude)
    var inverse: SymmetricInverse?
    for _ in 0...5 where inverse == nil {
      inverse = try SymmetricInverse(covariance, order: inputs, plus: penalty, pool: pool)
      penalty *= 10
    }
    guard let inverse else { return nil }
    for goal in goals {
      while active.count(where: \.self) > goal {
        let map = (weight: weight, inputs: inputs, squares: squares)
        let left = (0..<inputs).filter { active[$0] }
        let gone =
          together > 1
          ? ChannelElimination.cheapest(of: left, together: together, map, inverse)
          : ChannelElimination.cheapest(
            min(ChannelElimination.block, left.count - goal), of: left, map, inverse)
        guard let gone, let step = inverse.step(gone) else { return nil }
        let batch = gone.count
        for output in 0..<outputs {
          let row = output * inputs
          let taken = gone.map { weight[row + $0] }
          let shares = step.times(taken)
          for (place, share) in shares.enumerated() where share != 0 {
            error += squares[output] * share * taken[place]
            for input in 0..<inputs { weight[row + input] -= share * step.columns[input * batch + place] }
          }
          for input in gone { weight[row + input] = 0 }
        }
        try inverse.remove(step)
        for input in gone { active[input] = false }
        self.errors.append((left.count - batch, error))
      }
      note(goal)
    }
    choices = counts.compactMap { found[$0] }
  }

  /// What the map is when inputs are chosen, and γ² of each output.
  private typealias Map = (weight: [Double], inputs: Int, squares: [Double])

  /// The inputs that cost least each by itself, in order; of equal ones the first.
  private static func cheapest(
    _ count: Int, of left: [Int], _ map: Map, _ inverse: SymmetricInverse
  ) -> [Int]? {
    var costs = [Double](repeating: 0, count: map.inputs)
    for output in map.squares.indices {
      for input in 0..<map.inputs {
        let value = map.weight[output * map.inputs + input]
        costs[input] += map.squares[output] * value * value
      }
    }
    let order = left.map { (cost: costs[$0] / inverse.diagonal($0), input: $0) }.sorted { $0 < $1 }
    return order.prefix(count).map(\.input).sorted()
  }

  /// The inputs side by side that cost least together; of equal ones the first. `nil` where what they cost cannot be told.
  private static func cheapest(
    of left: [Int], together: Int, _ map: Map, _ inverse: SymmetricInverse
  ) -> [Int]? {
    var best: (cost: Double, inputs: [Int])?
    for start in stride(from: 0, to: left.count, by: together) {
      let inputs = Array(left[start..<start + together])
      guard let step = inverse.step(inputs) else { return nil }
      var cost = 0.0
      for output in map.squares.indices {
        let taken = inputs.map { map.weight[output * map.inputs + $0] }
        cost += map.squares[output] * zip(step.times(taken), taken).reduce(0) { $0 + $1.0 * $1.1 }
      }
      if cost < best?.cost ?? .infinity { best = (cost, inputs) }
    }
    return best?.inputs
  }
}
