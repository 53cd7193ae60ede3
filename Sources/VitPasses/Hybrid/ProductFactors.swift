internal import Glibc
internal import VitOps

/// Products of pairs of vectors, q·k, by fewer channels: the pair of maps of rank r that gives them with the least mean square
/// error, from the second moments of both.
///
/// With `E qqᵀ = AᵀA` and `E kkᵀ = BᵀB`, the singular values of `A Bᵀ = U S Vᵀ` are those of the products: `q' = √S Uᵀ A⁻ᵀ q`,
/// `k' = √S Vᵀ B⁻ᵀ k` for the first r (Eckart and Young, 1936).
struct ProductFactors {
  /// Second moments of one side, `width` by `width`, row by row.
  typealias Moments = [Double]

  private let width: Int
  /// S, falling.
  private let values: [Double]
  /// `√S Uᵀ A⁻ᵀ` and `√S Vᵀ B⁻ᵀ`, `[width, width]`.
  private var left, right: [Double]

  /// What is added to the diagonal of the moments, as a part of its mean.
  private static let jitter = 1e-6

  /// The factors for vectors of `width` channels; `nil` where the moments are no positive numbers.
  init?(_ left: Moments, _ right: Moments, width: Int) {
    guard let a = ProductFactors.root(left, width), let b = ProductFactors.root(right, width) else {
      return nil
    }
    // A·Bᵀ of the upper factors is Lᵀ_q L_k of the lower ones.
    var product = [Double](repeating: 0, count: width * width)
    for i in 0..<width {
      for j in 0..<width {
        var sum = 0.0
        for k in max(i, j)..<width { sum += a[k * width + i] * b[k * width + j] }
        product[i * width + j] = sum
      }
    }
    let (squares, vectors) = SymmetricMatrix.eigen(ProductFactors.gram(product, width), width)
    self.width = width
    values = squares.map { max(0, $0).squareRoot() }
    self.left = [Double](repeating: 0, count: width * width)
    self.right = self.left
    for place in 0..<width {
      let value = values[place]
      guard value > 0 else { break }
      let v = (0..<width).map { vectors[$0 * width + place] }
      let u = (0..<width).map { row in
        (0..<width).reduce(0.0) { $0 + product[row * width + $1] * v[$1] } / value
      }
      let own = (
        ProductFactors.solveTransposed(a, u, width), ProductFactors.solveTransposed(b, v, width)
      )
      for channel in 0..<width {
        self.left[place * width + channel] = value.squareRoot() * own.0[channel]
        self.right[place * width + channel] = value.squareRoot() * own.1[channel]
      }
    }
  }

  /// The maps of rank r, `[rank, width]` each.
  func maps(rank: Int) -> (left: [Double], right: [Double]) {
    (Array(left.prefix(rank * width)), Array(right.prefix(rank * width)))
  }

  /// The mean square of what products by `rank` channels miss.
  func error(rank: Int) -> Double { values.dropFirst(rank).reduce(0) { $0 + $1 * $1 } }

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
}
