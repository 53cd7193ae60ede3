internal import Glibc
internal import VitIR
internal import VitOps

/// The scores of attention heads by fewer channels: for each head the pair of maps of rank r that gives the scores with the
/// least mean square error, from the second moments of its queries and keys.
///
/// With `E qqᵀ = AᵀA` and `E kkᵀ = BᵀB`, the singular values of `A Bᵀ = U S Vᵀ` are those of the scores: `q' = √S Uᵀ A⁻ᵀ q`,
/// `k' = √S Vᵀ B⁻ᵀ k` for the first r (Eckart and Young, 1936).
struct ScoreFactors {
  /// Queries, `[heads·rank, dim]`, their biases, and keys, `[heads·rank, dim]`.
  private(set) var wq: [Double] = [], bq: [Double] = [], wk: [Double] = []

  /// Second moments of one head's queries or keys, `width` by `width`, row by row.
  typealias Moments = [Double]

  /// What is added to the diagonal of the moments, as a part of its mean.
  private static let jitter = 1e-6

  /// Reduces the heads of `width` channels of queries `[heads·width, dim]` and keys to `rank` each; `nil` where the moments of
  /// a head are no positive numbers.
  init?(
    wq: [Double], bq: [Double], wk: [Double], dim: Int, width: Int, rank: Int, queries: [Moments],
    keys: [Moments]
  ) {
    for head in queries.indices {
      guard let maps = ScoreFactors.maps(queries[head], keys[head], width: width, rank: rank) else {
        return nil
      }
      let rows = head * width..<(head + 1) * width
      let matrix = rows.lowerBound * dim..<rows.upperBound * dim
      self.wq += ScoreFactors.product(maps.query, Array(wq[matrix]), rank, width, dim)
      self.bq += ScoreFactors.product(maps.query, Array(bq[rows]), rank, width, 1)
      self.wk += ScoreFactors.product(maps.key, Array(wk[matrix]), rank, width, dim)
    }
  }

  /// The maps `[rank, width]` of queries and keys; `nil` where the moments are no numbers.
  private static func maps(
    _ queries: Moments, _ keys: Moments, width: Int, rank: Int
  ) -> (query: [Double], key: [Double])? {
    guard let a = root(queries, width), let b = root(keys, width) else { return nil }
    // A·Bᵀ of the upper factors is Lᵀ_q L_k of the lower ones.
    var product = [Double](repeating: 0, count: width * width)
    for i in 0..<width {
      for j in 0..<width {
        var sum = 0.0
        for k in max(i, j)..<width { sum += a[k * width + i] * b[k * width + j] }
        product[i * width + j] = sum
      }
    }
    let (values, right) = SymmetricMatrix.eigen(ScoreFactors.gram(product, width), width)
    var query = [Double](repeating: 0, count: rank * width)
    var key = query
    for place in 0..<rank {
      let value = values[place].squareRoot()
      guard value > 0 else { break }
      let v = (0..<width).map { right[$0 * width + place] }
      let u = (0..<width).map { row in
        (0..<width).reduce(0.0) { $0 + product[row * width + $1] * v[$1] } / value
      }
      let (left, own) = (solveTransposed(a, u, width), solveTransposed(b, v, width))
      for channel in 0..<width {
        query[place * width + channel] = value.squareRoot() * left[channel]
        key[place * width + channel] = value.squareRoot() * own[channel]
      }
    }
    return (query, key)
  }

  /// MᵀM.
  private static func gram(_ matrix: [Double], _ width: Int) -> [Double] {
    var result = [Double](repeating: 0, count: width * width)
    for row in 0..<width {
      for i in 0..<width {
        for j in 0..<width { result[i * width + j] += matrix[row * width + i] * matrix[row * width + j] }
      }
    }
    return result
  }

  /// The lower factor L of moments, `L Lᵀ`, row by row.
  private static func root(_ moments: Moments, _ width: Int) -> [Double]? {
    var matrix = moments
    let mean = (0..<width).reduce(0.0) { $0 + moments[$1 * width + $1] } / Double(width)
    guard mean > 0, mean.isFinite else { return nil }
    for index in 0..<width { matrix[index * width + index] += jitter * mean }
    return Cholesky(matrix, order: width)?.factor
  }

  /// The solution x of `Lᵀ x = y`.
  private static func solveTransposed(_ lower: [Double], _ y: [Double], _ width: Int) -> [Double] {
    var x = y
    for row in (0..<width).reversed() {
      for inner in row + 1..<width where inner < width { x[row] -= lower[inner * width + row] * x[inner] }
      x[row] /= lower[row * width + row]
    }
    return x
  }

  private static func product(_ a: [Double], _ b: [Double], _ m: Int, _ k: Int, _ n: Int) -> [Double] {
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
