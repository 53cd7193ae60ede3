package import VitIR
internal import VitRuntime

/// A linear map in whole numbers with scales that gives nearly what it gave, for inputs of a known covariance.
///
/// GPTQ (Frantar, Ashkboos, Hoefler, Alistarh 2023, arXiv 2210.17323) in the form of a nearest plane: with C + λtI = U·Uᵀ, U upper
/// triangular and t the mean of C's diagonal, the squared error of a row with errors e is ‖e·U‖². Columns are rounded from the
/// first on, each to what makes its entry of e·U least: w_j + Σ_{i<j} e_i·U_ij / U_jj is rounded in place of w_j, so that later columns make
/// up for earlier ones. The scale of a group is fitted to what is to be rounded when its turn comes, with U_jj² as the columns' weights. In double; O(outputs · inputs²).
package struct CompensatedRounding {
  /// The map, of the type that was asked for.
  package let tensor: Tensor
  /// What the map gives less of than before for each of its inputs, `[outputs, inputs]` row by row.
  package let errors: [Double]

  /// Rounds a map `[outputs, inputs]` to a type of whole numbers with scales for groups of columns; `nil` where a number is not finite, or no
  /// multiple of `ridge` up to 10⁵ makes the covariance definite. On `pool`, on which OpenBLAS has been required.
  package init?(
    _ weight: [Float], shape: [Int], to element: ElementType, covariance: [Double], ridge: Double = 1e-2,
    pool: any WorkPool
  ) throws {
    guard let layout = QuantisedRows(element, shape: shape), weight.allSatisfy(\.isFinite),
      let factor = CompensatedRounding.factor(covariance, order: layout.columns, ridge: ridge, pool: pool)
    else { return nil }
    let (rows, columns) = (layout.rows, layout.columns)
    precondition(weight.count == rows * columns)
    var (wholes, scales) = (
      [Int8](repeating: 0, count: rows * columns), [Float](repeating: 0, count: rows * layout.groups)
    )
    var errors = [Double](repeating: 0, count: rows * columns)
    let squares = (0..<columns).map { Float(factor[$0 * columns + $0] * factor[$0 * columns + $0]) }
    wholes.withUnsafeMutableBufferPointer { wholes in
      scales.withUnsafeMutableBufferPointer { scales in
        errors.withUnsafeMutableBufferPointer { errors in
          factor.withUnsafeBufferPointer { factor in
            let row = Row(
              layout: layout, weight: weight, factor: factor, squares: squares, wholes: wholes,
              scales: scales,
              errors: errors)
            pool.run(tasks: rows) { index, _ in row.round(index) }
          }
        }
      }
    }
    tensor = Tensor(likeArray: element, shape: shape) { layout.store(wholes, scales: scales, into: $0) }
    self.errors = errors
  }

  /// U, upper triangular, with C + λtI = U·Uᵀ: the lower factor of the matrix whose rows and columns are in the other order.
  private static func factor(
    _ covariance: [Double], order: Int, ridge: Double, pool: any WorkPool
  ) -> [Double]? {
    precondition(covariance.count == order * order)
    guard order > 0, covariance.allSatisfy(\.isFinite) else { return nil }
    let mean = (0..<order).reduce(0.0) { $0 + covariance[$1 * order + $1] } / Double(order)
    var penalty = ridge * max(mean, .leastNormalMagnitude)
    for _ in 0...5 {
      var matrix = [Double](covariance.reversed())
      for place in 0..<order { matrix[place * order + place] += penalty }
      if let lower = Cholesky(matrix, order: order, pool: pool)?.factor {
        var upper = [Double](repeating: 0, count: order * order)
        for row in 0..<order {
          for column in row..<order {
            upper[row * order + column] = lower[(order - 1 - row) * order + order - 1 - column]
          }
        }
        return upper
      }
      penalty *= 10
    }
    return nil
  }

  /// How a row is rounded, into memory that is each row's own.
  private struct Row: @unchecked Sendable {
    let layout: QuantisedRows
    let weight: [Float]
    let factor: UnsafeBufferPointer<Double>
    let squares: [Float]
    let wholes: UnsafeMutableBufferPointer<Int8>
    let scales: UnsafeMutableBufferPointer<Float>
    let errors: UnsafeMutableBufferPointer<Double>

    func round(_ row: Int) {
      let columns = layout.columns
      var owed = [Double](repeating: 0, count: layout.group)
      for group in 0..<layout.groups {
        let range = group * layout.group..<min(columns, (group + 1) * layout.group)
        for place in owed.indices { owed[place] = 0 }
        for earlier in 0..<range.lowerBound { take(earlier, range, row, &owed) }
        var wanted = range.map { column in
          Float(Double(weight[row * columns + column]) + owed[column - range.lowerBound] / pivot(column))
        }
        let scale = layout.scale(of: wanted[...], weights: Array(squares[range]))
        scales[row * layout.groups + group] = scale
        for (place, column) in range.enumerated() {
          let old = Double(weight[row * columns + column])
          wanted[place] = Float(old + owed[place] / pivot(column))
          let whole = scale == 0 ? 0 : layout.nearest(wanted[place], scale)
          wholes[row * columns + column] = whole
          errors[row * columns + column] = old - Double(scale) * Double(whole)
          take(column, column + 1..<range.upperBound, row, &owed, from: range.lowerBound)
        }
      }
    }

    private func pivot(_ column: Int) -> Double { factor[column * layout.columns + column] }

    /// Adds what a column's error adds to those of `range`; the first of `owed` is that of column `first`.
    @inline(__always)
    private func take(
      _ column: Int, _ range: Range<Int>, _ row: Int, _ owed: inout [Double], from first: Int? = nil
    ) {
      let error = errors[row * layout.columns + column]
      guard error != 0, !range.isEmpty else { return }
      let (start, base) = (range.lowerBound - (first ?? range.lowerBound), column * layout.columns)
      owed.withUnsafeMutableBufferPointer { owed in
        for (place, later) in range.enumerated() { owed[start + place] += error * factor[base + later] }
      }
    }
  }
}
