import Testing
import VitIR
import VitOps
import VitRuntime

@Suite("systems that are symmetric and positive definite")
struct CholeskyTests {
  /// A matrix `B·Bᵀ` and ½ on the diagonal, and right sides, one a row.
  private func problem(_ order: Int, sides: Int) -> (matrix: [Double], rows: [Double]) {
    var random = SplitMix(seed: UInt64(order))
    let b = (0..<order * order).map { _ in random.normal() }
    var matrix = [Double](repeating: 0, count: order * order)
    for row in 0..<order {
      for column in 0..<order {
        for inner in 0..<order {
          matrix[row * order + column] += b[row * order + inner] * b[column * order + inner]
        }
      }
      matrix[row * order + row] += 0.5
    }
    return (matrix, (0..<sides * order).map { _ in random.normal() })
  }

  @Test(
    "what was solved, times the matrix, is what was asked for; by blocks and without",
    arguments: [1, 7, 64, 65, 150])
  func solves(order: Int) throws {
    let (matrix, rows) = problem(order, sides: 3)
    let pools: [(any WorkPool)?] = [nil, SerialPool(), ThreadPool(threads: 3)]
    var found: [[Double]] = []
    for pool in pools {
      let factors = try #require(Cholesky(matrix, order: order, pool: pool))
      var x = rows
      factors.solve(rows: &x)
      for side in 0..<3 {
        for row in 0..<order {
          let value = (0..<order).reduce(0.0) { $0 + matrix[row * order + $1] * x[side * order + $1] }
          #expect(abs(value - rows[side * order + row]) < 1e-8)
        }
      }
      for (one, all) in zip(factors.solve(rows[order..<2 * order]), x[order...]) {
        #expect(abs(one - all) < 1e-9)
      }
      found.append(x)
    }
    #expect(found[1] == found[2])
  }

  @Test("a matrix that is not positive definite has none, wherever that shows")
  func refuses() {
    for place in [0, 70, 149] {
      var (matrix, _) = problem(150, sides: 1)
      matrix[place * 151] = -1
      #expect(Cholesky(matrix, order: 150) == nil)
      #expect(Cholesky(matrix, order: 150, pool: SerialPool()) == nil)
    }
  }
}
