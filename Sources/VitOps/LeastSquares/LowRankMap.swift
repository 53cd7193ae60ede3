package import VitIR
internal import VitRuntime

/// A linear map W as a product of two smaller ones, Y·Z, that gives with the least mean square error what W gives.
///
/// With C the inputs' covariance, L·Lᵀ = C + λtI, t being the mean of C's diagonal, and Γ what outputs count by: the singular values
/// of Γ·W·L = U S Vᵀ are those of the map, `Y = Γ⁻¹ U √S`, `Z = √S Vᵀ L⁻¹` for the first r, and the others' Σ S² is the mean square
/// of what is missed, λ included (Eckart and Young, 1936, in the metric of the inputs). O(n³) for n the fewer of inputs and outputs,
/// in double.
package struct LowRankMap {
  private let inputs, outputs: Int
  /// S, falling.
  private let values: [Double]
  /// U, `[outputs, values]`: the largest number of each column is positive.
  private let left: [Double]
  /// Γ·W, and Γ.
  private let map, scales: [Double]

  /// The factors of a map `[outputs, inputs]`; `nil` where no multiple of `ridge` up to 10⁵ makes the covariance definite, or the
  /// numbers are none.
  package init?(
    _ weight: [Double], outputs: Int, covariance: [Double], scales: [Double]? = nil, ridge: Double = 1e-4,
    pool: any WorkPool
  ) {
    let inputs = outputs == 0 ? 0 : weight.count / outputs
    precondition(covariance.count == inputs * inputs)
    guard inputs > 0, weight.allSatisfy(\.isFinite), covariance.allSatisfy(\.isFinite) else { return nil }
    // What outputs that count for nothing are makes no difference.
    let most = scales?.reduce(0) { max($0, abs($1)) } ?? 0
    let factors = (0..<outputs).map { most > 0 ? max(abs(scales?[$0] ?? 1), 1e-6 * most) : 1 }
    guard factors.allSatisfy(\.isFinite), let root = LowRankMap.root(covariance, inputs, ridge, pool) else {
      return nil
    }
    var scaled = weight
    for output in 0..<outputs {
      for input in 0..<inputs { scaled[output * inputs + input] *= factors[output] }
    }
    var shaped = [Double](repeating: 0, count: weight.count)
    LowRankMap.product(
      scaled, root, into: &shaped, (outputs, inputs, inputs), transposing: (false, false), pool)
    let rank = min(inputs, outputs)
    var gram = [Double](repeating: 0, count: rank * rank)
    LowRankMap.product(
      shaped, shaped, into: &gram, (rank, rank, max(inputs, outputs)),
      transposing: (inputs <= outputs, inputs > outputs), pool)
    guard let (squares, vectors) = SymmetricMatrix.largeEigen(gram, rank) else { return nil }
    let values = squares.map { $0 > 1e-15 * squares[0] ? $0.squareRoot() : 0 }
    // Of the rows of V, or U, the columns of U.
    var columns = [Double](repeating: 0, count: outputs * rank)
    if inputs <= outputs {
      LowRankMap.product(
        shaped, vectors, into: &columns, (outputs, rank, inputs), transposing: (false, true), pool)
    } else {
      for output in 0..<outputs {
        for place in 0..<rank { columns[output * rank + place] = vectors[place * outputs + output] }
      }
    }
    for place in 0..<rank {
      let length = inputs <= outputs ? values[place] : 1
      var largest = 0.0
      for output in 0..<outputs where abs(columns[output * rank + place]) > abs(largest) {
        largest = columns[output * rank + place]
      }
      let factor = values[place] > 0 ? (largest < 0 ? -1 : 1) / length : 0
      for output in 0..<outputs { columns[output * rank + place] *= factor }
    }
    (self.inputs, self.outputs, self.values, left, map) = (inputs, outputs, values, columns, scaled)
    self.scales = factors
  }

  /// Z, `[rank, inputs]`, and Y, `[outputs, rank]`.
  package func maps(rank: Int, pool: any WorkPool) -> (inner: [Double], outer: [Double]) {
    var inner = [Double](repeating: 0, count: rank * inputs)
    let columns = (0..<outputs).flatMap { left[$0 * values.count..<$0 * values.count + rank] }
    // √S Vᵀ L⁻¹ is Uᵀ Γ W / √S.
    LowRankMap.product(columns, map, into: &inner, (rank, inputs, outputs), transposing: (true, false), pool)
    var outer = columns
    for place in 0..<rank {
      let root = values[place].squareRoot()
      for input in 0..<inputs { inner[place * inputs + input] *= root > 0 ? 1 / root : 0 }
      for output in 0..<outputs { outer[output * rank + place] *= root / scales[output] }
    }
    return (inner, outer)
  }

  /// The mean square of what `rank` channels miss of Γ·y.
  package func error(rank: Int) -> Double { values.dropFirst(rank).reduce(0) { $0 + $1 * $1 } }

  /// L of a covariance with the least multiple of `ridge` that makes it definite; zero above the diagonal.
  private static func root(
    _ covariance: [Double], _ count: Int, _ ridge: Double, _ pool: any WorkPool
  ) -> [Double]? {
    let mean = (0..<count).reduce(0) { $0 + covariance[$1 * count + $1] } / Double(count)
    var penalty = ridge * max(mean, .leastNormalMagnitude)
    for _ in 0...5 {
      var matrix = covariance
      for index in 0..<count { matrix[index * count + index] += penalty }
      if var factor = Cholesky(matrix, order: count, pool: pool)?.factor {
        for row in 0..<count {
          for column in row + 1..<count where column < count { factor[row * count + column] = 0 }
        }
        return factor
      }
      penalty *= 10
    }
    return nil
  }

  /// The product of two matrices, either of them transposed, of `(m, n, k)`.
  private static func product(
    _ a: [Double], _ b: [Double], into c: inout [Double], _ extents: (m: Int, n: Int, k: Int),
    transposing: (a: Bool, b: Bool), _ pool: any WorkPool
  ) {
    guard extents.m > 0, extents.n > 0, extents.k > 0 else { return }
    a.withSources { a in
      b.withSources { b in
        c.withViews { c in
          Kernel.gemm(
            transA: transposing.a, transB: transposing.b, m: extents.m, n: extents.n, k: extents.k, a: a(0),
            b: b(0), c: c(0), pool: pool)
        }
      }
    }
  }
}
