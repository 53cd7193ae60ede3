internal import Glibc
internal import VitIR
internal import VitOps
internal import VitRuntime

/// Ridge regression of classes, each a column that is 1 for its samples and 0 for others, on what a model gives for each
/// sample, with a free bias: sums in double, over rows in the order in which they come.
///
/// Each sample counts once, so that what is least is the error over the data as they are.
struct ClassRegression {
  /// A map, and how it was chosen.
  struct Solution {
    var weight: [Float]
    var bias: [Float]
    /// How much the map was drawn towards 0, as a part of the inputs' mean variance.
    var ridge: Double
    /// What all scores were multiplied with.
    var scale: Double
    /// Held-out samples by which these were judged, and how many of them were named rightly.
    var judged: (count: Int, right: Int)
  }

  /// The ridges that are tried.
  static let ridges = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1]
  /// The ridge, and what scores are multiplied with, where no sample judges.
  private static let unjudged = (ridge: 0.1, scale: 10.0)
  /// The rows that are summed at once.
  private static let chunk = 256
  /// The most held-out rows, and the most scores of them, that are kept to find a scale.
  private static let kept = (rows: 4096, scores: 1 << 22)

  private let inputs, classes: Int
  private let pool: any WorkPool
  private var solved, judges: ClassSums
  private let judged, scores, joined: View
  private var judgedLabels: [Int] = []
  /// The held-out rows that there are, and that came so far.
  private let heldOut: Int
  private var came = 0
  private let arena: Arena

  /// A regression of `classes` on `inputs` numbers, with so many held-out rows; throws where its memory does not fit.
  init(inputs: Int, classes: Int, heldOut: Int, pool: any WorkPool) throws {
    self.heldOut = heldOut
    (self.inputs, self.classes, self.pool) = (inputs, classes, pool)
    let width = inputs + 1
    let most = max(256, min(ClassRegression.kept.rows, ClassRegression.kept.scores / classes))
    // What is solved besides the sums: covariances, their factors, and a map for each ridge.
    let (square, overflow) = width.multipliedReportingOverflow(by: width + classes)
    guard !overflow, square < Int.max / 256 else {
      throw VitError("head: \(classes) classes of \(inputs) numbers are too many", code: "head-size")
    }
    _ = try Arena(byteCount: 8 * 6 * square, for: "solving for a head")
    var layout: [(shape: [Int], offset: Int)] = []
    var end = 0
    for shape in [
      [ClassRegression.chunk, width], [ClassRegression.chunk, width], [width, width + classes],
      [most, width], [most, classes], [classes, width],
    ] {
      layout.append((shape, end))
      end += (shape[0] * shape[1] * 8 + Arena.alignment - 1) / Arena.alignment * Arena.alignment
    }
    let arena = try Arena(byteCount: end, for: "solving for a head")
    let views = layout.map { arena.view(TensorType(.f64, fixed: $0.shape), at: $0.offset) }
    solved = ClassSums(inputs: inputs, classes: classes, rows: views[0], moments: views[2])
    judges = ClassSums(inputs: inputs, classes: classes, rows: views[1], moments: views[2])
    (judged, scores, joined) = (views[3], views[4], views[5])
    self.arena = arena
  }

  /// Adds a sample of class `label`; one that is held out judges.
  mutating func add(_ row: UnsafePointer<Float>, label: Int, isHeldOut: Bool) {
    guard isHeldOut else { return solved.add(row, label: label, pool: pool) }
    judges.add(row, label: label, pool: pool)
    // Of more than there is room for, rows spread evenly: data often come class by class.
    let room = judged.shape[0]
    defer { came += 1 }
    guard heldOut <= room || (came + 1) * room / heldOut > came * room / heldOut, judgedLabels.count < room
    else { return }
    let line = judged.f64 + judgedLabels.count * (inputs + 1)
    for column in 0..<inputs { line[column] = Double(row[column]) }
    line[inputs] = 1
    judgedLabels.append(label)
  }

  /// The map; with the ridge that does best on held-out samples where none is given. Throws where no map can be had.
  mutating func solve(ridge given: Double?) throws(VitError) -> Solution {
    solved.flush(pool)
    judges.flush(pool)
    let origin = [Double](repeating: 0, count: inputs * classes)
    let ridge =
      given
      ?? (judgedLabels.isEmpty
        ? ClassRegression.unjudged.ridge
        : solved.sums.bestRidge(
          toward: origin, among: ClassRegression.ridges, judgedBy: judges.sums, pool: pool))
    var (scale, right) = (ClassRegression.unjudged.scale, 0)
    if !judgedLabels.isEmpty, let trial = solved.sums.solve(toward: origin, ridge: ridge, pool: pool) {
      (scale, right) = judge(trial)
    }
    var all = solved.sums
    all.add(judges.sums)
    guard let map = all.solve(toward: origin, ridge: ridge, pool: pool) else {
      throw VitError(
        "head: there is no map for these samples: the model gives the same numbers for all of them",
        code: "head-singular", help: "give samples that differ")
    }
    let solution = Solution(
      weight: map.weight.map { Float(scale * $0) }, bias: map.intercept.map { Float(scale * $0) },
      ridge: ridge, scale: scale, judged: (judgedLabels.count, right))
    guard solution.weight.allSatisfy(\.isFinite), solution.bias.allSatisfy(\.isFinite) else {
      throw VitError("head: the map that was solved holds infinite numbers", code: "non-finite")
    }
    return solution
  }

  /// The scale that makes the scores of kept rows likeliest, and how many of them a map names rightly.
  private func judge(_ map: (weight: [Double], intercept: [Double])) -> (scale: Double, right: Int) {
    let (width, count) = (inputs + 1, judgedLabels.count)
    for output in 0..<classes {
      for column in 0..<inputs { joined.f64[output * width + column] = map.weight[output * inputs + column] }
      joined.f64[output * width + inputs] = map.intercept[output]
    }
    Kernel.gemm(
      transB: true, m: count, n: classes, k: width, a: judged, b: joined, c: scores, pool: pool)
    var right = 0
    for (row, label) in judgedLabels.enumerated() {
      let line = scores.f64 + row * classes
      // Of equal scores the first counts as larger.
      if !(0..<classes).contains(where: { line[$0] > line[label] || (line[$0] == line[label] && $0 < label) })
      {
        right += 1
      }
    }
    return (ScoreScale.best(scores.f64, classes: classes, labels: judgedLabels), right)
  }
}

/// The sums of a regression of classes, a chunk of rows at a time.
private struct ClassSums {
  private(set) var sums: RidgeSums
  private let inputs, classes: Int
  private let rows, moments: View
  private var labels: [Int] = []

  /// Sums that use the memory of `rows`, theirs alone, and of `moments`.
  init(inputs: Int, classes: Int, rows: View, moments: View) {
    sums = RidgeSums(inputs: inputs, outputs: classes)
    (self.inputs, self.classes, self.rows, self.moments) = (inputs, classes, rows, moments)
  }

  mutating func add(_ row: UnsafePointer<Float>, label: Int, pool: any WorkPool) {
    let line = rows.f64 + labels.count * (inputs + 1)
    for column in 0..<inputs { line[column] = Double(row[column]) }
    line[inputs] = 1
    labels.append(label)
    if labels.count == rows.shape[0] { flush(pool) }
  }

  /// Adds the rows that wait.
  mutating func flush(_ pool: any WorkPool) {
    guard !labels.isEmpty else { return }
    let (width, row) = (inputs + 1, inputs + 1 + classes)
    Kernel.gemm(
      transA: true, m: width, n: width, k: labels.count, a: rows, lda: width, b: rows, ldb: width,
      c: moments, ldc: row, pool: pool)
    for index in 0..<width {
      (moments.f64 + index * row + width).update(repeating: 0, count: classes)
    }
    // A product with columns of which each row has one 1.
    for (place, label) in labels.enumerated() {
      let line = rows.f64 + place * width
      for index in 0..<width { moments.f64[index * row + width + label] += line[index] }
    }
    sums.add(moments.f64, row: row)
    labels.removeAll(keepingCapacity: true)
  }
}

/// One factor for all scores, so that their softmax says how likely classes are.
enum ScoreScale {
  /// Where it is looked for.
  static let range = 1.0...100

  /// The factor in `range` for which the mean cross-entropy of labels is least; that is convex in it.
  static func best(_ scores: UnsafePointer<Double>, classes: Int, labels: [Int]) -> Double {
    var (low, high) = (log(range.lowerBound), log(range.upperBound))
    for _ in 0..<24 {
      let middle = (low + high) / 2
      if slope(scores, classes: classes, labels: labels, at: exp(middle)) > 0 {
        high = middle
      } else {
        low = middle
      }
    }
    return exp((low + high) / 2)
  }

  /// The derivative of the summed cross-entropy by the factor.
  private static func slope(
    _ scores: UnsafePointer<Double>, classes: Int, labels: [Int], at factor: Double
  ) -> Double {
    var slope = 0.0
    for (row, label) in labels.enumerated() {
      let line = scores + row * classes
      let highest = (0..<classes).reduce(-Double.infinity) { max($0, line[$1]) }
      var (sum, mean) = (0.0, 0.0)
      for index in 0..<classes {
        let part = exp(factor * (line[index] - highest))
        sum += part
        mean += part * line[index]
      }
      slope += mean / sum - line[label]
    }
    return slope
  }
}
