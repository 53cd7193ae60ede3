internal import Glibc

extension SymmetricMatrix {
  /// The same as `eigen` for larger matrices, the eigenvectors in rows: by Householder's reflections to three diagonals, of which
  /// rotations make one (Golub and Van Loan, Matrix Computations, §8.3). O(count³), about ten of it, and the signs of vectors are
  /// as they come; `nil` where it does not end, as for what is no number.
  package static func largeEigen(_ matrix: [Double], _ count: Int) -> (values: [Double], vectors: [Double])? {
    precondition(matrix.count == count * count)
    var tridiagonal = Tridiagonal(matrix, count)
    guard tridiagonal.diagonalise() else { return nil }
    let order = (0..<count).sorted {
      tridiagonal.diagonal[$0] == tridiagonal.diagonal[$1]
        ? $0 < $1 : tridiagonal.diagonal[$0] > tridiagonal.diagonal[$1]
    }
    let vectors = order.flatMap { tridiagonal.vectors[$0 * count..<($0 + 1) * count] }
    return (order.map { max(0, tridiagonal.diagonal[$0]) }, vectors)
  }
}

/// A symmetric matrix as QᵀTQ, T having numbers on its diagonal and beside it only.
private struct Tridiagonal {
  private let count: Int
  /// The diagonal of T.
  private(set) var diagonal: [Double]
  /// What is below it.
  private var below: [Double]
  /// Q, row by row.
  private(set) var vectors: [Double]

  init(_ matrix: [Double], _ count: Int) {
    self.count = count
    diagonal = [Double](repeating: 0, count: count)
    below = diagonal
    vectors = [Double](repeating: 0, count: count * count)
    for index in 0..<count { vectors[index * count + index] = 1 }
    var a = matrix
    var factors = diagonal
    for column in 0..<max(0, count - 2) { factors[column] = Tridiagonal.reflect(&a, count, column, &below) }
    for index in 0..<count { diagonal[index] = a[index * count + index] }
    if count > 1 { below[count - 2] = a[(count - 1) * count + count - 2] }
    // Row `column` of `a` holds the reflection; the last is applied first.
    a.withUnsafeBufferPointer { a in
      vectors.withUnsafeMutableBufferPointer { q in
        for column in (0..<max(0, count - 2)).reversed() where factors[column] != 0 {
          for row in column + 1..<count {
            var sum = 0.0
            for inner in column + 1..<count { sum += q[row * count + inner] * a[column * count + inner] }
            sum *= factors[column]
            for inner in column + 1..<count { q[row * count + inner] -= sum * a[column * count + inner] }
          }
        }
      }
    }
  }

  /// Makes all of a column but one number below the diagonal zero, and writes the reflection that does into its row; gives twice one
  /// over the square of that, or zero where there is nothing to do.
  private static func reflect(_ a: inout [Double], _ count: Int, _ column: Int, _ below: inout [Double])
    -> Double
  {
    let start = column + 1
    var p = [Double](repeating: 0, count: count)
    return a.withUnsafeMutableBufferPointer { a in
      let v = column * count
      var square = 0.0
      for index in start..<count { square += a[v + index] * a[v + index] }
      let first = a[v + start]
      below[column] = first
      guard square > first * first else { return 0 }
      let norm = first > 0 ? -square.squareRoot() : square.squareRoot()
      below[column] = norm
      a[v + start] = first - norm
      let factor = 2 / (square - first * first + a[v + start] * a[v + start])
      var inner = 0.0
      for row in start..<count {
        var sum = 0.0
        for index in start..<count { sum += a[row * count + index] * a[v + index] }
        p[row] = factor * sum
        inner += p[row] * a[v + row]
      }
      inner *= factor / 2
      for index in start..<count { p[index] -= inner * a[v + index] }
      for row in start..<count {
        let (x, y) = (a[v + row], p[row])
        for index in start..<count { a[row * count + index] -= x * p[index] + y * a[v + index] }
      }
      return factor
    }
  }

  /// Rotates T until nothing is left beside its diagonal: implicit QL steps with Wilkinson's shift.
  mutating func diagonalise() -> Bool {
    guard diagonal.allSatisfy(\.isFinite), below.allSatisfy(\.isFinite) else { return false }
    for start in 0..<count {
      var steps = 0
      while true {
        var end = start
        while end < count - 1 {
          let size = abs(diagonal[end]) + abs(diagonal[end + 1])
          if abs(below[end]) <= 1e-16 * size || below[end] == 0 { break }
          end += 1
        }
        if end == start { break }
        steps += 1
        if steps > 60 { return false }
        step(start, end)
      }
    }
    return true
  }

  private mutating func step(_ start: Int, _ end: Int) {
    var g = (diagonal[start + 1] - diagonal[start]) / (2 * below[start])
    var r = hypot(g, 1)
    g = diagonal[end] - diagonal[start] + below[start] / (g + (g < 0 ? -r : r))
    var (sine, cosine, p) = (1.0, 1.0, 0.0)
    for index in (start..<end).reversed() {
      let (f, b) = (sine * below[index], cosine * below[index])
      r = hypot(f, g)
      below[index + 1] = r
      if r == 0 {
        diagonal[index + 1] -= p
        below[end] = 0
        return
      }
      (sine, cosine) = (f / r, g / r)
      g = diagonal[index + 1] - p
      r = (diagonal[index] - g) * sine + 2 * cosine * b
      p = sine * r
      diagonal[index + 1] = g + p
      g = cosine * r - b
      rotate(index, sine, cosine)
    }
    diagonal[start] -= p
    below[start] = g
    below[end] = 0
  }

  /// Turns two rows of Q.
  private mutating func rotate(_ row: Int, _ sine: Double, _ cosine: Double) {
    let count = count
    vectors.withUnsafeMutableBufferPointer { q in
      let (a, b) = (row * count, (row + 1) * count)
      for index in 0..<count {
        let (x, y) = (q[a + index], q[b + index])
        q[b + index] = sine * x + cosine * y
        q[a + index] = cosine * x - sine * y
      }
    }
  }
}
