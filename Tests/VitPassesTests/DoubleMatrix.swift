import VitIR
import VitOps

/// A matrix in double, row by row, as references compute with it.
struct DoubleMatrix {
  let rows, columns: Int
  var values: [Double]

  init(_ rows: Int, _ columns: Int, _ values: [Double]) {
    precondition(values.count == rows * columns)
    (self.rows, self.columns, self.values) = (rows, columns, values)
  }

  /// The numbers of a tensor of two axes.
  init(_ tensor: Tensor) throws {
    self.init(tensor.shape[0], tensor.shape[1], try tensor.doubles())
  }

  subscript(row: Int, column: Int) -> Double {
    get { values[row * columns + column] }
    set { values[row * columns + column] = newValue }
  }

  var transposed: DoubleMatrix {
    DoubleMatrix(columns, rows, (0..<columns).flatMap { column in (0..<rows).map { self[$0, column] } })
  }

  var trace: Double { (0..<rows).reduce(0) { $0 + self[$1, $1] } }

  /// Some of the rows.
  func rows(_ range: Range<Int>) -> DoubleMatrix {
    DoubleMatrix(range.count, columns, Array(values[range.lowerBound * columns..<range.upperBound * columns]))
  }

  /// Some of the columns.
  func columns(_ range: Range<Int>) -> DoubleMatrix { transposed.rows(range).transposed }

  /// This with the rows of another one below.
  func above(_ other: DoubleMatrix) -> DoubleMatrix {
    DoubleMatrix(rows + other.rows, columns, values + other.values)
  }

  /// This with one more column.
  func beside(_ column: [Double]) -> DoubleMatrix {
    DoubleMatrix(
      rows, columns + 1,
      (0..<rows).flatMap { Array(values[$0 * columns..<($0 + 1) * columns]) + [column[$0]] })
  }

  /// Its lower factor, of one that is positive definite.
  var root: DoubleMatrix? {
    guard let factor = Cholesky(values, order: rows)?.factor else { return nil }
    return DoubleMatrix(
      rows, rows,
      factor.enumerated().map { $0.offset % rows <= $0.offset / rows ? $0.element : 0 })
  }

  /// The eigenvalues of a symmetric one, falling.
  var eigenvalues: [Double] { SymmetricMatrix.eigen(values, rows).values }

  static func * (a: DoubleMatrix, b: DoubleMatrix) -> DoubleMatrix {
    var result = DoubleMatrix(a.rows, b.columns, [Double](repeating: 0, count: a.rows * b.columns))
    for i in 0..<a.rows {
      for k in 0..<a.columns { for j in 0..<b.columns { result[i, j] += a[i, k] * b[k, j] } }
    }
    return result
  }

  static func + (a: DoubleMatrix, b: DoubleMatrix) -> DoubleMatrix {
    DoubleMatrix(a.rows, a.columns, zip(a.values, b.values).map { $0 + $1 })
  }

  static func - (a: DoubleMatrix, b: DoubleMatrix) -> DoubleMatrix { a + -1 * b }

  static func * (factor: Double, a: DoubleMatrix) -> DoubleMatrix {
    DoubleMatrix(a.rows, a.columns, a.values.map { factor * $0 })
  }
}

/// The mean products of samples' rows, each with a one behind it, in double.
func momentsWithOne(_ samples: RandomSamples, width: Int) throws -> DoubleMatrix {
  var rows: [Double] = []
  var row = [Float](repeating: 0, count: samples.shape.reduce(1, *))
  for index in 0..<samples.count {
    try row.withUnsafeMutableBufferPointer { try samples.read(index, variant: nil, into: $0) }
    for start in stride(from: 0, to: row.count, by: width) {
      rows += row[start..<start + width].map(Double.init) + [1]
    }
  }
  let matrix = DoubleMatrix(rows.count / (width + 1), width + 1, rows)
  return (1 / Double(matrix.rows)) * (matrix.transposed * matrix)
}
