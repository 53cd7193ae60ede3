/// Small symmetric matrices in double, row by row.
package enum SymmetricMatrix {
  /// Eigenvalues, largest first and none below zero, and eigenvectors, one in each column: by Jacobi's rotations, each of
  /// which makes one element zero, until all but the diagonal is.
  ///
  /// The largest element of each vector is positive, so that they do not depend on where the rotations end.
  package static func eigen(_ matrix: [Double], _ count: Int) -> (values: [Double], vectors: [Double]) {
    var a = matrix
    var vectors = [Double](repeating: 0, count: count * count)
    for i in 0..<count { vectors[i * count + i] = 1 }
    let total = a.reduce(0) { $0 + $1 * $1 }
    for _ in 0..<60 {
      var outside = 0.0
      for i in 0..<count {
        for j in 0..<i { outside += 2 * a[i * count + j] * a[i * count + j] }
      }
      if !(outside > 1e-28 * total) { break }
      for p in 0..<count {
        for q in p + 1..<count { rotate(&a, &vectors, count, p, q) }
      }
    }
    let order = (0..<count).sorted { a[$0 * count + $0] > a[$1 * count + $1] }
    var sorted = [Double](repeating: 0, count: count * count)
    for (place, column) in order.enumerated() {
      let vector = (0..<count).map { vectors[$0 * count + column] }
      let largest = vector.max { abs($0) < abs($1) } ?? 1
      for row in 0..<count { sorted[row * count + place] = largest < 0 ? -vector[row] : vector[row] }
    }
    return (order.map { max(0, a[$0 * count + $0]) }, sorted)
  }

  /// Makes element (p, q) zero.
  private static func rotate(_ a: inout [Double], _ vectors: inout [Double], _ count: Int, _ p: Int, _ q: Int)
  {
    let between = a[p * count + q]
    guard between != 0 else { return }
    let ratio = (a[q * count + q] - a[p * count + p]) / (2 * between)
    let tangent = (ratio < 0 ? -1 : 1) / (abs(ratio) + (ratio * ratio + 1).squareRoot())
    let cosine = 1 / (tangent * tangent + 1).squareRoot()
    let sine = tangent * cosine
    func turn(_ numbers: inout [Double], _ first: Int, _ second: Int) {
      let (x, y) = (numbers[first], numbers[second])
      numbers[first] = cosine * x - sine * y
      numbers[second] = sine * x + cosine * y
    }
    for k in 0..<count { turn(&a, k * count + p, k * count + q) }
    for k in 0..<count { turn(&a, p * count + k, q * count + k) }
    for k in 0..<count { turn(&vectors, k * count + p, k * count + q) }
  }
}
