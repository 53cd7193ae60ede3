internal import VitIR
internal import VitTrain

/// How far a mixer is from the layer that it replaces, on a batch or on several: on the rows of the tokens before the
/// patches and on those of the patches.
struct LayerError: TreeTerm {
  /// ‖ŷ − y‖² and ‖y‖² of the rows before the patches, then of the patches'.
  private var errors = [0.0, 0.0], squares = [0.0, 0.0]
  private var rows = 0
  /// The sums of the target's channels.
  private var sums: [Double]
  /// ‖ŷ − y‖² and ‖y‖² with the weights of their rows.
  private var weighed = [0.0, 0.0]

  /// The error of a batch of results `[batch, tokens, width]`, of which the first `prefix` tokens are no patches, and whose rows
  /// weigh `weights`, one for each token.
  init(_ result: View, of target: View, prefix: Int, weights: [Double]) {
    let (tokens, width) = (target.shape[1], target.shape[2])
    sums = Array(repeating: 0, count: width)
    rows = target.shape[0] * tokens
    let (a, y) = (result.f32, target.f32)
    sums.withUnsafeMutableBufferPointer { sums in
      for row in 0..<rows {
        var (error, square) = (0.0, 0.0)
        for channel in 0..<width {
          let value = Double(y[row * width + channel])
          let difference = Double(a[row * width + channel]) - value
          error += difference * difference
          square += value * value
          sums[channel] += value
        }
        let part = row % tokens < prefix ? 0 : 1
        errors[part] += error
        squares[part] += square
        weighed[0] += weights[row % tokens] * error
        weighed[1] += weights[row % tokens] * square
      }
    }
  }

  mutating func add(_ later: LayerError) {
    errors.add(later.errors)
    squares.add(later.squares)
    weighed.add(later.weighed)
    rows += later.rows
    sums.add(later.sums)
  }

  private static func ratio(_ error: Double, _ square: Double) -> Double {
    let value = error / max(square, .leastNormalMagnitude)
    return value.isNaN ? .infinity : value
  }

  /// Σ‖ŷ − y‖² / Σ‖y‖²: 1 is as bad as zero. Infinite where that is no number.
  var relative: Double { LayerError.ratio(errors[0] + errors[1], squares[0] + squares[1]) }

  /// The same with each row's weight: what decides which weights are better.
  var weighted: Double { LayerError.ratio(weighed[0], weighed[1]) }

  /// The same over the rows before the patches; `nil` where there are none.
  var prefix: Double? { squares[0] > 0 ? LayerError.ratio(errors[0], squares[0]) : nil }

  /// The same over the patches.
  var patches: Double? { squares[1] > 0 ? LayerError.ratio(errors[1], squares[1]) : nil }

  /// R² = 1 − Σ‖ŷ − y‖² / Σ‖y − ȳ‖²: 0 is as bad as the mean of each channel.
  var determination: Double {
    let means = sums.reduce(0) { $0 + $1 * $1 } / Double(max(rows, 1))
    return 1 - (errors[0] + errors[1]) / max(squares[0] + squares[1] - means, .leastNormalMagnitude)
  }
}
