internal import Glibc
package import VitIR
internal import VitOps
internal import VitTrain

/// Count, mean and spread of a number that comes in parts (Chan, Golub and LeVeque's rule; Mixers.md §1).
struct Moments: Sendable, TreeTerm {
  private(set) var count = 0.0
  private(set) var mean = 0.0
  private var squares = 0.0

  mutating func add(_ value: Double) { add(Moments(value)) }

  init() {}

  private init(_ value: Double) {
    count = 1
    mean = value
  }

  mutating func add(_ other: Moments) {
    guard other.count > 0 else { return }
    let total = count + other.count
    let difference = other.mean - mean
    mean += difference * other.count / total
    squares += other.squares + difference * difference * count * other.count / total
    count = total
  }

  /// The standard error of the mean.
  var standardError: Double { count > 1 ? (squares / (count - 1) / count).squareRoot() : 0 }
}

/// What the attention maps of one head of one image look like: means over rows (Mixers.md §1).
package struct HeadStatistics: Sendable {
  package var entropy = 0.0
  package var hoyer = 0.0
  package var gini = 0.0
  package var topMass = 0.0
  package var topTenth = 0.0
  package var distance = 0.0
  package var prefixMass = 0.0
  /// For each of the four directions of a cross scan.
  package var lag = [0.0, 0.0, 0.0, 0.0]
  /// The entropy of the rows of output tokens alone; not a number without them.
  package var outputEntropy = Double.nan
}

/// Reads attention maps.
package struct MapReader {
  private let tokens: Int
  private let geometry: TokenGeometry
  /// For each direction the step at which a token comes.
  private let steps: [[Int]]

  /// A reader of maps of `tokens` tokens that lie as `geometry` says.
  package init(tokens: Int, geometry: TokenGeometry) throws(VitError) {
    self.tokens = tokens
    self.geometry = geometry
    let order = try ScanOrder(
      .cross, grid: geometry.grid, prefix: geometry.prefix, outputs: geometry.outputs, placement: .last)
    steps = order.directions.map { $0.inverse.indices }
  }

  /// The statistics of one map, [tokens, tokens], each row a distribution (or all zeros, which is left out).
  /// The sorted indices cost n log n a row, and are left out unless `sorting`.
  package func statistics(_ map: UnsafePointer<Float>, sorting: Bool) -> HeadStatistics {
    var result = HeadStatistics()
    var lagWeight = [0.0, 0.0, 0.0, 0.0]
    var (rows, distances, outputs) = (0.0, 0.0, 0.0)
    var outputEntropy = 0.0
    let n = Double(tokens)
    for query in 0..<tokens {
      let row = map + query * tokens
      var (sum, entropy, squares) = (0.0, 0.0, 0.0)
      for key in 0..<tokens where row[key] > 0 {
        let p = Double(row[key])
        sum += p
        entropy -= p * log(p)
        squares += p * p
      }
      guard sum > 0 else { continue }
      rows += 1
      let sparsity = n > 1 ? 1 - min(max(entropy, 0), log(n)) / log(n) : 1
      result.entropy += sparsity
      if query < geometry.outputs {
        outputEntropy += sparsity
        outputs += 1
      }
      result.hoyer += n > 1 ? (n.squareRoot() - 1 / squares.squareRoot()) / (n.squareRoot() - 1) : 1
      if sorting { addSorted(row, sum, &result) }
      addPlaces(row, query, sum, &result, &distances, &lagWeight)
    }
    let scale = 1 / max(rows, 1)
    result.entropy *= scale
    result.hoyer *= scale
    result.gini *= scale
    result.topMass *= scale
    result.topTenth *= scale
    result.prefixMass *= scale
    if distances > 0 { result.distance /= distances }
    for direction in 0..<4 where lagWeight[direction] > 0 { result.lag[direction] /= lagWeight[direction] }
    if outputs > 0 { result.outputEntropy = outputEntropy / outputs }
    return result
  }

  private func addSorted(_ row: UnsafePointer<Float>, _ sum: Double, _ result: inout HeadStatistics) {
    let sorted = UnsafeBufferPointer(start: row, count: tokens).sorted(by: >)
    let n = Double(tokens)
    var (weighted, mass) = (0.0, 0.0)
    var reached: Int?
    let tenth = (tokens + 9) / 10
    for (place, value) in sorted.enumerated() {
      let p = Double(value) / sum
      // In ascending order this is entry n − place, of weight place + ½.
      weighted += p * (Double(place) + 0.5)
      mass += p
      if reached == nil, mass >= 0.9 - 1e-7 { reached = place + 1 }
      if place == tenth - 1 { result.topTenth += mass }
    }
    let gini = 1 - 2 * weighted / n
    result.gini += n > 1 ? gini * n / (n - 1) : 1
    result.topMass += 1 - Double(reached ?? tokens) / n
  }

  private func addPlaces(
    _ row: UnsafePointer<Float>, _ query: Int, _ sum: Double, _ result: inout HeadStatistics,
    _ distances: inout Double,
    _ lagWeight: inout [Double]
  ) {
    let (prefix, columns) = (geometry.prefix, geometry.grid.columns)
    for key in 0..<prefix { result.prefixMass += Double(row[key]) / sum }
    if query >= prefix, columns > 0 {
      let (y, x) = ((query - prefix) / columns, (query - prefix) % columns)
      var (moment, mass) = (0.0, 0.0)
      for key in prefix..<tokens {
        let p = Double(row[key])
        let (dy, dx) = ((key - prefix) / columns - y, (key - prefix) % columns - x)
        moment += p * Double(dy * dy + dx * dx).squareRoot()
        mass += p
      }
      if mass > 0 {
        result.distance += moment / mass
        distances += 1
      }
    }
    for direction in 0..<4 {
      let step = steps[direction]
      let own = step[query]
      var (moment, mass) = (0.0, 0.0)
      for key in 0..<tokens where step[key] <= own {
        moment += Double(row[key]) * Double(own - step[key])
        mass += Double(row[key])
      }
      if mass > 0 {
        result.lag[direction] += moment / mass
        lagWeight[direction] += 1
      }
    }
  }
}
