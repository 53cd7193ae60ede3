import Testing
import VitIR
import VitOps

@Suite("ridge regression toward a map")
struct RidgeSumsTests {
  private let inputs = 4
  private let outputs = 3
  private let rows = 50

  /// Rows of regressors, targets and weights.
  private func problem(_ seed: UInt64) -> (s: [[Double]], y: [[Double]], weights: [Double]) {
    var random = SplitMix(seed: seed)
    func table(_ columns: Int) -> [[Double]] {
      (0..<rows).map { _ in (0..<columns).map { Double($0) + random.normal() } }
    }
    return (table(inputs), table(outputs), (0..<rows).map { _ in 3 * random.uniform() })
  }

  private func sums(_ s: [[Double]], _ y: [[Double]], _ weights: [Double]) -> RidgeSums {
    var sums = RidgeSums(inputs: inputs, outputs: outputs)
    for row in s.indices {
      let left = s[row] + [1]
      let part = left.flatMap { value in (left + y[row]).map { weights[row] * value * $0 } }
      part.withUnsafeBufferPointer { buffer in
        if let base = buffer.baseAddress { sums.add(base, row: left.count + outputs) }
      }
    }
    return sums
  }

  @Test("no map near the solution is better: weighted error and distance from where it started")
  func isLeast() throws {
    let (s, y, weights) = problem(3)
    let first = (0..<inputs * outputs).map { Double($0 % 5) / 5 }
    let ridge = 0.3
    let total = weights.reduce(0, +)
    var variance = 0.0
    for column in 0..<inputs {
      let mean = s.indices.reduce(0.0) { $0 + weights[$1] * s[$1][column] } / total
      variance += s.indices.reduce(0.0) { $0 + weights[$1] * (s[$1][column] - mean) * (s[$1][column] - mean) }
    }
    let penalty = ridge * variance / Double(inputs)
    func objective(_ map: [Double], _ intercept: [Double]) -> Double {
      var sum = 0.0
      for row in s.indices {
        for output in 0..<outputs {
          let found = (0..<inputs).reduce(intercept[output]) { $0 + map[output * inputs + $1] * s[row][$1] }
          sum += weights[row] * (y[row][output] - found) * (y[row][output] - found)
        }
      }
      return zip(map, first).reduce(sum) { $0 + penalty * ($1.0 - $1.1) * ($1.0 - $1.1) }
    }
    let (map, intercept) = try #require(sums(s, y, weights).solve(toward: first, ridge: ridge))
    let least = objective(map, intercept)
    for step in [1e-3, -1e-3] {
      for index in map.indices {
        var other = map
        other[index] += step
        #expect(objective(other, intercept) > least)
      }
      for index in intercept.indices {
        var other = intercept
        other[index] += step
        #expect(objective(map, other) > least)
      }
    }
    // To second order the two sides of the least value are alike.
    var (up, down) = (map, map)
    up[5] += 1e-3
    down[5] -= 1e-3
    #expect(abs(objective(up, intercept) - objective(down, intercept)) < 1e-9 * least)
  }

  @Test("the ridge is the one whose map, solved on some rows, misses others least")
  func choosesRidge() throws {
    let (s, y, weights) = problem(11)
    let first = [Double](repeating: 0.1, count: inputs * outputs)
    for (count, seed) in [(5, 12), (25, 13), (50, 14)] as [(Int, UInt64)] {
      let fitted = sums(Array(s.prefix(count)), Array(y.prefix(count)), weights)
      let (others, targets, sizes) = problem(seed)
      let judges = sums(others, targets, sizes)
      let errors = try RidgeSums.ridges.map { ridge in
        let (map, intercept) = try #require(fitted.solve(toward: first, ridge: ridge))
        return others.indices.reduce(0.0) { sum, row in
          (0..<outputs).reduce(sum) { sum, output in
            let found = (0..<inputs).reduce(intercept[output]) {
              $0 + map[output * inputs + $1] * others[row][$1]
            }
            return sum + sizes[row] * (targets[row][output] - found) * (targets[row][output] - found)
          }
        }
      }
      let best = try #require(zip(errors, RidgeSums.ridges).min { $0.0 < $1.0 })
      #expect(fitted.bestRidge(toward: first, judgedBy: judges) == best.1)
      #expect(Set(errors).count > 1)
    }
    let empty = RidgeSums(inputs: inputs, outputs: outputs)
    #expect(sums(s, y, weights).bestRidge(toward: first, judgedBy: empty) == RidgeSums.ridges[0])
    #expect(empty.bestRidge(toward: first, judgedBy: sums(s, y, weights)) == RidgeSums.ridges[0])
  }

  @Test("no rows, or rows that are not finite, give no map")
  func degenerate() throws {
    let first = [Double](repeating: 1, count: inputs * outputs)
    #expect(RidgeSums(inputs: inputs, outputs: outputs).solve(toward: first) == nil)
    var (s, y, weights) = problem(5)
    s[7][2] = .infinity
    #expect(sums(s, y, weights).solve(toward: first) == nil)
    weights[7] = 0
    s[7][2] = 0
    y[9][0] = .nan
    #expect(sums(s, y, weights).solve(toward: first) == nil)
  }
}
