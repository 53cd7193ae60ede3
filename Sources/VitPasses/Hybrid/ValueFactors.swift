internal import VitIR
internal import VitOps
internal import VitRuntime

/// The values of attention heads by fewer channels.
///
/// What a head gives is a product of its values and the columns of the output map: both keep the directions that matter most
/// for the tokens that were looked at (see `ProductFactors`), in values that heads share those that matter most to all of them.
/// What all values have in common moves into the output's bias, for the rows of an attention map sum to 1.
struct ValueFactors {
  private let factors: [ProductFactors]
  /// The mean token.
  private let mean: [Double]

  /// The factors of an attention whose tokens have the `moments`, with a one behind each, `[dim + 1, dim + 1]`, and whose outputs
  /// count by `scales`; `nil` where those are no numbers or do not vary.
  init?(_ weights: AttentionWeights, moments: [Double], scales: [Double]?, pool: any WorkPool) throws {
    let (dim, heads) = (weights.wv.shape[1], weights.kvHeads)
    let (width, total) = (dim + 1, max(moments.last ?? 0, .leastNormalMagnitude))
    let mean = (0..<dim).map { moments[$0 * width + dim] / total }
    var centred = moments
    for row in 0..<dim {
      for column in 0..<dim { centred[row * width + column] -= total * mean[row] * mean[column] }
      centred[row * width + dim] = 0
      centred[dim * width + row] = 0
    }
    let wv = try weights.wv.doubles()
    let zero = [Double](repeating: 0, count: weights.wv.shape[0])
    let moments = try ScoreMoments(
      wq: wv, bq: zero, wk: wv, dim: dim, heads: heads, first: centred, all: centred, pool: pool)
    let squares = try ValueFactors.squares(weights, scales: scales)
    factors = zip(squares, moments.keys).compactMap { ProductFactors($0, $1, width: weights.valueDim) }
    self.mean = mean
    guard factors.count == heads else { return nil }
  }

  /// For each head of values the products of the columns of the output map for it, which counts by `scales`, summed over the heads
  /// that share it.
  private static func squares(
    _ weights: AttentionWeights, scales: [Double]?
  ) throws -> [ProductFactors.Moments] {
    let (wo, width) = (try weights.wo.doubles(), weights.valueDim)
    let (columns, shared) = (weights.heads * width, weights.heads / weights.kvHeads)
    return (0..<weights.kvHeads).map { value in
      var result = ProductFactors.Moments(repeating: 0, count: width * width)
      for head in value * shared..<(value + 1) * shared {
        for row in 0..<wo.count / columns {
          let factor = scales.map { $0[row] * $0[row] } ?? 1
          let start = row * columns + head * width
          for i in 0..<width {
            let scaled = factor * wo[start + i]
            for j in 0..<width { result[i * width + j] += scaled * wo[start + j] }
          }
        }
      }
      return result
    }
  }

  /// The mean square of what the attention's result misses with `rank` channels a head.
  func error(rank: Int) -> Double { factors.reduce(0) { $0 + $1.error(rank: rank) } }

  /// The attention with `rank` channels in each head of values, the directions in order: that which matters most first, or
  /// dealt out in turn to `parts` of each head.
  func narrowed(_ weights: AttentionWeights, rank: Int, parts: Int = 1) throws -> AttentionWeights {
    let (heads, width, dim, outputs) = (
      weights.heads, weights.valueDim, weights.wv.shape[1], weights.wo.shape[0]
    )
    let (wv, wo) = (try weights.wv.doubles(), try weights.wo.doubles())
    let bv = try weights.bv?.doubles() ?? [Double](repeating: 0, count: wv.count / dim)
    let bo = try weights.bo?.doubles() ?? [Double](repeating: 0, count: outputs)
    let order = (0..<rank).map { $0 % (rank / parts) * parts + $0 / (rank / parts) }
    let (values, shared) = (weights.kvHeads, heads / weights.kvHeads)
    var (narrow, output) = ([Double](), [Double](repeating: 0, count: outputs * heads * rank))
    for value in 0..<values {
      let maps = factors[value].maps(rank: rank)
      func sorted(_ map: [Double]) -> [Double] {
        order.flatMap { map[$0 * width..<($0 + 1) * width] }
      }
      let (left, right) = (sorted(maps.left), sorted(maps.right))
      narrow += ScoreFactors.product(
        right, Array(wv[value * width * dim..<(value + 1) * width * dim]), rank, width, dim)
      for head in value * shared..<(value + 1) * shared {
        for row in 0..<outputs {
          for place in 0..<rank {
            var sum = 0.0
            for channel in 0..<width {
              sum += wo[(row * heads + head) * width + channel] * left[place * width + channel]
            }
            output[(row * heads + head) * rank + place] = sum
          }
        }
      }
    }
    // The mean of what the layer gives stays as it was.
    let before = ScoreFactors.product(wv, mean, values * width, dim, 1)
    let after = ScoreFactors.product(narrow, mean, values * rank, dim, 1)
    let bias = (0..<outputs).map { row in
      var sum = bo[row]
      for head in 0..<heads {
        let value = head / shared
        for channel in 0..<width {
          let source = value * width + channel
          sum += wo[(row * heads + head) * width + channel] * (before[source] + bv[source])
        }
        for channel in 0..<rank {
          sum -= output[(row * heads + head) * rank + channel] * after[value * rank + channel]
        }
      }
      return sum
    }
    var result = weights
    result.wv = Tensor(.f32, shape: [values * rank, dim], values: narrow)
    result.bv = nil
    result.wo = Tensor(.f32, shape: [outputs, heads * rank], values: output)
    result.bo = Tensor(.f32, shape: [outputs], values: bias)
    return result
  }
}
