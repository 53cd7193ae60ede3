internal import VitIR
internal import VitOps
internal import VitRuntime

/// Sums of products of a site's channels over rows, with a one behind them; in double, in the order of the batches.
struct ChannelMoments {
  /// `[channels + 1, channels + 1]`, row by row.
  private var sums: [Double]
  private let channels: Int
  /// The weight of each token's rows, by token.
  private let weights: [Double]

  init(channels: Int, weights: [Double]) {
    self.channels = channels
    self.weights = weights
    sums = [Double](repeating: 0, count: (channels + 1) * (channels + 1))
  }

  /// Adds the rows of a batch, `[…, channels]`.
  mutating func add(_ hidden: View, pool: any WorkPool) throws {
    let (rows, width) = (hidden.count / channels, channels + 1)
    let bytes = (8 * rows * width + 63) / 64 * 64
    let arena = try Arena(byteCount: bytes + 8 * width * width, for: "summing what channels do")
    let both = arena.view(TensorType(.f64, fixed: [rows, width]), at: 0)
    for row in 0..<rows {
      let factor = weights[row % weights.count].squareRoot()
      let (line, source) = (both.f64 + row * width, hidden.f32 + row * channels)
      for channel in 0..<channels { line[channel] = factor * Double(source[channel]) }
      line[channels] = factor
    }
    let products = arena.view(TensorType(.f64, fixed: [width, width]), at: bytes)
    Kernel.gemm(transA: true, m: width, n: width, k: rows, a: both, b: both, c: products, pool: pool)
    for index in sums.indices { sums[index] += products.f64[index] }
  }

  /// The mean of each channel; zero without rows.
  var mean: [Double] {
    let total = sums.last ?? 0
    return (0..<channels).map { total > 0 ? sums[$0 * (channels + 1) + channels] / total : 0 }
  }

  /// The channels' covariance, row by row; without `centred`, their mean products.
  func covariance(centred: Bool) -> [Double] {
    let (mean, total) = (mean, max(sums.last ?? 0, .leastNormalMagnitude))
    var result: [Double] = []
    result.reserveCapacity(channels * channels)
    for row in 0..<channels {
      let shift = centred ? mean[row] : 0
      for column in 0..<channels {
        result.append(sums[row * (channels + 1) + column] / total - shift * mean[column])
      }
    }
    return result
  }
}
