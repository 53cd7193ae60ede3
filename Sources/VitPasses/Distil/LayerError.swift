internal import VitIR

/// How far a mixer is from the layer that it replaces (Mixers.md §3), gathered batch by batch.
struct LayerError {
  private var error = 0.0
  private var squares = 0.0
  private var rows = 0
  /// The sums of the target's channels.
  private var sums: [Double]

  /// Nothing yet, of a layer with `width` channels.
  init(width: Int) { sums = Array(repeating: 0, count: width) }

  /// Adds ‖ŷ − y‖² and ‖y‖² of a batch of targets.
  mutating func add(error: Double, of target: View, squares: Double) {
    self.error += error
    self.squares += squares
    let width = sums.count
    rows += target.count / max(width, 1)
    let y = target.f32
    for start in stride(from: 0, to: target.count, by: max(width, 1)) {
      for channel in 0..<width { sums[channel] += Double(y[start + channel]) }
    }
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
