internal import VitIR
internal import VitOps
internal import VitRuntime

/// Second moments of the queries of the first tokens and of the keys of all, for each head of keys: what scores can be reduced by.
///
/// Of queries that share keys the moments are summed: one map of fewer channels serves all of them, and no other for each would miss
/// less.
struct ScoreMoments {
  /// `width` by `width` for each head of keys, row by row.
  private(set) var queries: [ProductFactors.Moments]
  private(set) var keys: [ProductFactors.Moments]

  /// The factors of each head's scores, `width` channels wide; `nil` where the moments of one are no positive numbers.
  func factors(width: Int) -> [ProductFactors]? {
    let factors = zip(queries, keys).compactMap { ProductFactors($0, $1, width: width) }
    return factors.count == queries.count ? factors : nil
  }

  /// The moments for tokens of unit variance, none of which was looked at; each head has keys of its own.
  init(wq: [Double], bq: [Double], wk: [Double], dim: Int, heads: Int) {
    let width = bq.count / heads
    func products(_ weight: [Double], _ bias: [Double]) -> [ProductFactors.Moments] {
      (0..<heads).map { head in
        var result = ProductFactors.Moments(repeating: 0, count: width * width)
        for i in 0..<width {
          for j in 0...i {
            let (a, b) = ((head * width + i) * dim, (head * width + j) * dim)
            var sum = bias[head * width + i] * bias[head * width + j]
            for k in 0..<dim { sum += weight[a + k] * weight[b + k] }
            (result[i * width + j], result[j * width + i]) = (sum, sum)
          }
        }
        return result
      }
    }
    queries = products(wq, bq)
    keys = products(wk, [Double](repeating: 0, count: bq.count))
  }

  /// The moments of tokens whose own, with a one behind each, are `first` for those that attend and `all`, both
  /// `[dim + 1, dim + 1]`. The rows of `wk` say how many heads of keys there are, whose number divides that of `heads`.
  init(
    wq: [Double], bq: [Double], wk: [Double], dim: Int, heads: Int, first: [Double], all: [Double],
    pool: any WorkPool
  ) throws {
    let width = bq.count / heads
    func rows(_ map: [Double], _ bias: (Int) -> Double) -> [Double] {
      (0..<map.count / dim).flatMap { map[$0 * dim..<($0 + 1) * dim] + [bias($0)] }
    }
    func products(_ maps: [Double], _ moments: [Double]) throws -> [ProductFactors.Moments] {
      let (n, rows) = (dim + 1, maps.count / (dim + 1))
      let heads = rows / width
      let arena = try Arena(
        byteCount: 8 * (maps.count * 2 + moments.count + rows * width) + 1024, for: "reducing scores")
      let m = arena.view(TensorType(.f64, fixed: [rows, n]), at: 0)
      func next(_ view: View) -> Int { (view.base - m.base + view.byteCount + 63) / 64 * 64 }
      let c = arena.view(TensorType(.f64, fixed: [n, n]), at: next(m))
      let mc = arena.view(TensorType(.f64, fixed: [rows, n]), at: next(c))
      let g = arena.view(TensorType(.f64, fixed: [heads, width, width]), at: next(mc))
      for (index, value) in maps.enumerated() { m.f64[index] = value }
      for (index, value) in moments.enumerated() { c.f64[index] = value }
      Kernel.gemm(m: rows, n: n, k: n, a: m, b: c, c: mc, pool: pool)
      let own = BatchStride(inner: width * n)
      Kernel.batchedGemm(
        inner: heads, transB: true, m: width, n: width, k: n, a: mc, aStride: own, b: m, bStride: own, c: g,
        cStride: BatchStride(inner: width * width), pool: pool)
      let count = max(1, moments.last ?? 1)
      return (0..<heads).map { head in
        (0..<width * width).map { g.f64[head * width * width + $0] / count }
      }
    }
    let own = try products(rows(wq) { bq[$0] }, first)
    keys = try products(rows(wk) { _ in 0 }, all)
    let shared = heads / max(1, keys.count)
    queries = keys.indices.map { key in
      own[key * shared..<(key + 1) * shared].dropFirst().reduce(own[key * shared]) { sum, next in
        zip(sum, next).map { $0 + $1 }
      }
    }
  }
}
