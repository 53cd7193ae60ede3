/// A symmetric positive definite matrix as L·Lᵀ, to solve systems with it in double precision.
package struct Cholesky {
  private let order: Int
  /// L, row by row; what is above its diagonal is not part of it.
  package private(set) var factor: [Double]

  /// The factors of a matrix of `order` rows, of which the lower triangle is read; `nil` where it is not positive definite.
  package init?(_ matrix: [Double], order: Int) {
    precondition(matrix.count == order * order)
    self.order = order
    factor = matrix
    for row in 0..<order {
      for column in 0...row {
        var value = factor[row * order + column]
        for inner in 0..<column { value -= factor[row * order + inner] * factor[column * order + inner] }
        if column < row {
          factor[row * order + column] = value / factor[column * order + column]
        } else {
          guard value > 0, value.isFinite else { return nil }
          factor[row * order + row] = value.squareRoot()
        }
      }
    }
  }

  /// The solution for one right side.
  package func solve(_ right: ArraySlice<Double>) -> [Double] {
    precondition(right.count == order)
    var x = Array(right)
    for row in 0..<order {
      var value = x[row]
      for inner in 0..<row { value -= factor[row * order + inner] * x[inner] }
      x[row] = value / factor[row * order + row]
    }
    for row in (0..<order).reversed() {
      let value = x[row] / factor[row * order + row]
      x[row] = value
      for inner in 0..<row { x[inner] -= factor[row * order + inner] * value }
    }
    return x
  }
}
