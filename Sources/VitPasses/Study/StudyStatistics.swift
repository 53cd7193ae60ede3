internal import Glibc
internal import VitIR

/// The statistics of a study: slopes within layers, intervals, exact tests of signs.
package enum StudyStatistics {
  /// A mean with its t interval over so many independent units.
  package struct Estimate: Hashable, Sendable {
    /// The mean, and its standard error.
    package let mean: Double, error: Double
    /// How many units it is the mean of.
    package let units: Int
    /// Half of the interval that holds the true mean 95 and 90 times in 100.
    package var half95: Double { error * quantile(0.975, degrees: units - 1) }
    /// See `half95`.
    package var half90: Double { error * quantile(0.95, degrees: units - 1) }

    /// The mean of `values`; `nil` of fewer than two.
    package init?(_ values: [Double]) {
      guard values.count > 1, values.allSatisfy({ $0.isFinite }) else { return nil }
      let mean = values.reduce(0, +) / Double(values.count)
      let square = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
      self.mean = mean
      error = (square / Double(values.count - 1) / Double(values.count)).squareRoot()
      units = values.count
    }

    /// An estimate with a standard error from elsewhere.
    init(mean: Double, error: Double, units: Int) {
      (self.mean, self.error, self.units) = (mean, error, units)
    }
  }

  /// One number of a unit under a condition: a layer in a teacher.
  package struct Cell: Hashable, Sendable {
    /// The unit and the condition.
    package let unit: Int, condition: String
    /// What is explained, and by what.
    package let y: Double, x: [Double]

    /// A cell.
    package init(unit: Int, condition: String, y: Double, x: [Double]) {
      (self.unit, self.condition, self.y, self.x) = (unit, condition, y, x)
    }
  }

  /// The cells with the means of their unit and of their condition taken out, both at once: what is left says nothing of depth, nor of a
  /// teacher's average. Cells of units or conditions that have no other are left out.
  static func centred(_ cells: [Cell]) -> [Cell] {
    var columns =
      [cells.map(\.y)] + (cells.first?.x.indices.map { column in cells.map { $0.x[column] } } ?? [])
    // Means in turn: exact after one round where no cell is missing, and soon where some are.
    for column in columns.indices {
      for _ in 0..<100 {
        let before = columns[column]
        subtractMeans(&columns[column], cells.map { "\($0.unit)" })
        subtractMeans(&columns[column], cells.map(\.condition))
        let change = zip(before, columns[column]).reduce(0) { max($0, abs($1.0 - $1.1)) }
        if change < 1e-14 { break }
      }
    }
    return cells.indices.map { place in
      Cell(
        unit: cells[place].unit, condition: cells[place].condition, y: columns[0][place],
        x: columns.dropFirst().map { $0[place] })
    }
  }

  private static func subtractMeans(_ values: inout [Double], _ groups: [String]) {
    var sums: [String: (sum: Double, count: Double)] = [:]
    for (value, group) in zip(values, groups) {
      let old = sums[group] ?? (0, 0)
      sums[group] = (old.sum + value, old.count + 1)
    }
    for place in values.indices {
      if let sum = sums[groups[place]] { values[place] -= sum.sum / sum.count }
    }
  }

  /// The slope of y on the first x within each unit, in the order of units: Σ ỹx̃ / Σ x̃².
  package static func slopes(_ cells: [Cell]) -> [(unit: Int, slope: Double)] {
    let centred = centred(cells)
    return Set(centred.map(\.unit)).sorted().compactMap { unit in
      let own = centred.filter { $0.unit == unit }
      let square = own.reduce(0) { $0 + $1.x[0] * $1.x[0] }
      guard square > 1e-18 else { return nil }
      return (unit, own.reduce(0) { $0 + $1.y * $1.x[0] } / square)
    }
  }

  /// The slope of y on the first x with the others beside it, pooled over units; its error by leaving out one unit after the other.
  package static func pooledSlope(_ cells: [Cell]) -> Estimate? {
    let units = Set(cells.map(\.unit)).sorted()
    func slope(_ cells: [Cell]) -> Double? {
      let centred = centred(cells)
      return regression(centred.map(\.y), centred.map(\.x))?.slopes.first
    }
    guard units.count > 2, let whole = slope(cells) else { return nil }
    var left: [Double] = []
    for unit in units {
      guard let value = slope(cells.filter { $0.unit != unit }) else { return nil }
      left.append(value)
    }
    let mean = left.reduce(0, +) / Double(left.count)
    let square = left.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    let count = Double(left.count)
    return Estimate(mean: whole, error: ((count - 1) / count * square).squareRoot(), units: units.count)
  }

  /// The part of all patterns of signs under which the mean is at least as far from 0 as it is: exact up to 16 values, of 100,000 drawn
  /// ones for more.
  package static func signFlip(_ values: [Double]) -> Double {
    guard !values.isEmpty else { return 1 }
    let observed = abs(values.reduce(0, +)) * (1 - 1e-12)
    var (extreme, patterns) = (0, 0)
    if values.count <= 16 {
      patterns = 1 << values.count
      for pattern in 0..<patterns {
        let sum = values.indices.reduce(0.0) { $0 + (pattern >> $1 & 1 == 1 ? -values[$1] : values[$1]) }
        if abs(sum) >= observed { extreme += 1 }
      }
    } else {
      patterns = 100_000
      var random = SplitMix(seed: 0)
      for _ in 0..<patterns {
        let sum = values.reduce(0.0) { $0 + (random.below(2) == 1 ? -$1 : $1) }
        if abs(sum) >= observed { extreme += 1 }
      }
    }
    return Double(extreme) / Double(patterns)
  }

  /// Ordinary least squares without a constant; `nil` where the columns do not tell the slopes apart.
  package static func regression(
    _ y: [Double], _ x: [[Double]]
  ) -> (slopes: [Double], inverse: [[Double]])? {
    guard let width = x.first?.count, width > 0, y.count > width else { return nil }
    var matrix = (0..<width).map { row in
      (0..<width).map { column in x.reduce(0) { $0 + $1[row] * $1[column] } }
    }
    var inverse = (0..<width).map { row in (0..<width).map { $0 == row ? 1.0 : 0 } }
    let scale = matrix.indices.reduce(0) { max($0, matrix[$1][$1]) }
    for pivot in 0..<width {
      let best = (pivot..<width).max { abs(matrix[$0][pivot]) < abs(matrix[$1][pivot]) } ?? pivot
      guard abs(matrix[best][pivot]) > 1e-12 * scale, scale > 0 else { return nil }
      matrix.swapAt(pivot, best)
      inverse.swapAt(pivot, best)
      let factor = matrix[pivot][pivot]
      for column in 0..<width {
        matrix[pivot][column] /= factor
        inverse[pivot][column] /= factor
      }
      for row in 0..<width where row != pivot {
        let factor = matrix[row][pivot]
        for column in 0..<width {
          matrix[row][column] -= factor * matrix[pivot][column]
          inverse[row][column] -= factor * inverse[pivot][column]
        }
      }
    }
    let products = (0..<width).map { column in zip(x, y).reduce(0) { $0 + $1.0[column] * $1.1 } }
    return (inverse.map { row in zip(row, products).reduce(0) { $0 + $1.0 * $1.1 } }, inverse)
  }

  /// Slopes of standardised columns, with errors that hold where residuals differ in size (HC3; MacKinnon and White, 1985).
  package static func standardised(_ y: [Double], _ x: [[Double]]) -> [Estimate]? {
    func scaled(_ values: [Double]) -> [Double]? {
      let mean = values.reduce(0, +) / Double(max(values.count, 1))
      let spread = (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(max(values.count, 1)))
        .squareRoot()
      return spread > 1e-12 ? values.map { ($0 - mean) / spread } : nil
    }
    guard let width = x.first?.count, let y = scaled(y) else { return nil }
    var columns: [[Double]] = []
    for column in 0..<width {
      guard let values = scaled(x.map { $0[column] }) else { return nil }
      columns.append(values)
    }
    let rows = y.indices.map { row in columns.map { $0[row] } }
    guard let (slopes, inverse) = regression(y, rows) else { return nil }
    var middle = [[Double]](repeating: Array(repeating: 0, count: width), count: width)
    for (row, value) in zip(rows, y) {
      let image = inverse.map { zip($0, row).reduce(0) { $0 + $1.0 * $1.1 } }
      let leverage = zip(row, image).reduce(0) { $0 + $1.0 * $1.1 }
      let residual = (value - zip(row, slopes).reduce(0) { $0 + $1.0 * $1.1 }) / max(1 - leverage, 1e-9)
      for a in 0..<width {
        for b in 0..<width { middle[a][b] += residual * residual * image[a] * image[b] }
      }
    }
    // Units are those that are left when the constant and all slopes are taken off, and one for the interval's degrees.
    return slopes.indices.map {
      Estimate(mean: slopes[$0], error: middle[$0][$0].squareRoot(), units: y.count - width)
    }
  }

  /// Probabilities of several tests, made so that all hold together (Holm, 1979), in the order given.
  package static func holm(_ probabilities: [Double]) -> [Double] {
    let order = probabilities.indices.sorted { (probabilities[$0], $0) < (probabilities[$1], $1) }
    var result = probabilities
    var least = 0.0
    for (rank, place) in order.enumerated() {
      least = max(least, min(1, probabilities[place] * Double(probabilities.count - rank)))
      result[place] = least
    }
    return result
  }

  /// The number below which Student's t with so many degrees of freedom is `probability` of the time; infinite without one.
  package static func quantile(_ probability: Double, degrees: Int) -> Double {
    guard degrees > 0 else { return .infinity }
    var (low, high) = (0.0, 1e6)
    let wanted = max(probability, 1 - probability)
    for _ in 0..<200 {
      let middle = (low + high) / 2
      if distribution(middle, degrees: degrees) < wanted { low = middle } else { high = middle }
    }
    return probability >= 0.5 ? high : -high
  }

  /// How often Student's t is at most `t`, at least 0: one minus half of the regularised incomplete beta function.
  static func distribution(_ t: Double, degrees: Int) -> Double {
    let (n, half) = (Double(degrees), 0.5)
    return 1 - half * incompleteBeta(n / (n + t * t), n / 2, half)
  }

  /// The regularised incomplete beta function by its continued fraction (Lentz).
  private static func incompleteBeta(_ x: Double, _ a: Double, _ b: Double) -> Double {
    guard x > 0 else { return 0 }
    guard x < 1 else { return 1 }
    if x > (a + 1) / (a + b + 2) { return 1 - incompleteBeta(1 - x, b, a) }
    let logarithm: Double = lgamma(a + b) - lgamma(a) - lgamma(b)
    let front: Double = exp(logarithm + a * log(x) + b * log(1 - x)) / a
    func kept(_ value: Double) -> Double { abs(value) < 1e-300 ? 1e-300 : value }
    var (c, d) = (1.0, 1 / kept(1 - (a + b) * x / (a + 1)))
    var fraction = d
    for step in 1...300 {
      let m = Double(step)
      let place = a + 2 * m
      let even: Double = m * (b - m) * x / ((place - 1) * place)
      let odd: Double = -(a + m) * (a + b + m) * x / (place * (place + 1))
      for factor in [even, odd] {
        d = 1 / kept(1 + factor * d)
        c = kept(1 + factor / c)
        fraction *= c * d
      }
      if abs(c * d - 1) < 1e-15 { break }
    }
    return front * fraction
  }
}
