/// The scores of attention heads by fewer channels.
struct ScoreFactors {
  /// Queries, `[heads·rank, dim]`, their biases, and keys, `[heads·rank, dim]`.
  private(set) var wq: [Double] = [], bq: [Double] = [], wk: [Double] = []

  /// Reduces the heads of queries `[heads·width, dim]` and keys to `rank` channels each.
  init(_ factors: [ProductFactors], wq: [Double], bq: [Double], wk: [Double], dim: Int, width: Int, rank: Int)
  {
    for (head, factors) in factors.enumerated() {
      let maps = factors.maps(rank: rank)
      let rows = head * width..<(head + 1) * width
      let matrix = rows.lowerBound * dim..<rows.upperBound * dim
      self.wq += ScoreFactors.product(maps.left, Array(wq[matrix]), rank, width, dim)
      self.bq += ScoreFactors.product(maps.left, Array(bq[rows]), rank, width, 1)
      self.wk += ScoreFactors.product(maps.right, Array(wk[matrix]), rank, width, dim)
    }
  }

  /// A `[m, k]` times a `[k, n]` matrix.
  static func product(_ a: [Double], _ b: [Double], _ m: Int, _ k: Int, _ n: Int) -> [Double] {
    var result = [Double](repeating: 0, count: m * n)
    for i in 0..<m {
      for inner in 0..<k {
        let value = a[i * k + inner]
        for j in 0..<n { result[i * n + j] += value * b[inner * n + j] }
      }
    }
    return result
  }
}
