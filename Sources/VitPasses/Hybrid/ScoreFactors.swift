/// The scores of attention heads by fewer channels.
struct ScoreFactors {
  /// Queries, `[heads·rank, dim]`, their biases, and keys, `[kvHeads·rank, dim]`.
  private(set) var wq: [Double] = [], bq: [Double] = [], wk: [Double] = []

  /// Reduces the heads of queries `[heads·width, dim]` and of keys to `rank` channels each, by the factors of each head of keys.
  init(_ factors: [ProductFactors], wq: [Double], bq: [Double], wk: [Double], dim: Int, width: Int, rank: Int)
  {
    let shared = bq.count / max(1, factors.count * width)
    for (key, factors) in factors.enumerated() {
      let maps = factors.maps(rank: rank)
      func rows(_ head: Int, _ inner: Int) -> Range<Int> { head * width * inner..<(head + 1) * width * inner }
      for head in key * shared..<(key + 1) * shared {
        self.wq += ScoreFactors.product(maps.left, Array(wq[rows(head, dim)]), rank, width, dim)
        self.bq += ScoreFactors.product(maps.left, Array(bq[rows(head, 1)]), rank, width, 1)
      }
      self.wk += ScoreFactors.product(maps.right, Array(wk[rows(key, dim)]), rank, width, dim)
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
