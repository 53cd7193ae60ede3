internal import VitIR
internal import VitTrain

/// How far a mixer is from the layer that it replaces (Mixers.md §3), on a batch or on several.
struct LayerError: TreeTerm {
  private var error: Double
  private var squares: Double
  private var rows: Int
  /// The sums of the target's channels.
  private var sums: [Double]

  /// ‖ŷ − y‖² and ‖y‖² of a batch of targets.
  init(error: Double, of target: View, squares: Double) {
    (self.error, self.squares) = (error, squares)
    let width = target.shape.last ?? 1
    sums = Array(repeating: 0, count: width)
    rows = target.count / max(width, 1)
    let y = target.f32
    for start in stride(from: 0, to: target.count, by: max(width, 1)) {
      for channel in 0..<width { sums[channel] += Double(y[start + channel]) }
    }
  }

  mutating func add(_ later: LayerError) {
    error += later.error
    squares += later.squares
    rows += later.rows
    sums.add(later.sums)
  }

  /// Σ‖ŷ − y‖² / Σ‖y‖²: 1 is as bad as zero. Infinite where that is no number.
  var relative: Double {
    let value = error / max(squares, .leastNormalMagnitude)
    return value.isNaN ? .infinity : value
  }

  /// R² = 1 − Σ‖ŷ − y‖² / Σ‖y − ȳ‖²: 0 is as bad as the mean of each channel.
  var determination: Double {
    let means = sums.reduce(0) { $0 + $1 * $1 } / Double(max(rows, 1))
    return 1 - error / max(squares - means, .leastNormalMagnitude)
  }
}
