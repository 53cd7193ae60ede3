internal import Glibc

/// What a study's records say of the question: is a layer with sparser attention easier to replace than another at the same depth?
package struct StudyAnalysis: Sendable {
  /// The answer.
  package enum Verdict: String, Sendable {
    /// Sparser layers are easier to replace, whatever their depth.
    case sparsity
    /// At equal depth sparsity changes less than what would matter.
    case position
    /// The interval is too wide for either.
    case undecided = "undecided at this size"
  }

  /// One slope of a logarithm on sparsity (a standard deviation of it), within layers.
  package struct Slope: Hashable, Sendable {
    /// What is explained.
    package let endpoint: String
    /// The measure of sparsity, or of what else it is regressed on.
    package let predictor: String
    /// The mean over layers.
    package let estimate: StudyStatistics.Estimate
    /// How often a mean as far from 0 comes of random signs.
    package let signFlip: Double
    /// The same, as one of several questions.
    package var together: Double?
  }

  /// The answer, and its interval.
  package let verdict: Verdict
  /// The slope that it is about; `nil` where there are not enough teachers.
  package let primary: Slope?
  /// The same slope with the dependence on the image beside sparsity.
  package let beside: StudyStatistics.Estimate?
  /// The slope on a sparsity that was not there: of the teacher whose values are noisy.
  package let sham: StudyStatistics.Estimate?
  /// Slopes of other measures and endpoints.
  package let secondary: [Slope]
  /// Of subsets: what standardised means of their layers' sparsity, depth, dependence and the sum of single damages explain of the
  /// logarithm of their damage.
  package let subsets: [(name: String, estimate: StudyStatistics.Estimate)]

  /// Whether the slope is off 0 on the side that nobody asked about: sparser layers are harder to replace.
  package var isOpposite: Bool {
    primary.map { $0.estimate.mean - $0.estimate.half95 > 0 && $0.signFlip < 0.05 } ?? false
  }

  /// How large a slope is one of size: a fifth of how much layers differ.
  package static let bound = 0.12

  /// Draws conclusions from records; those of the last layer are left out, for a class head reads none of its patches.
  package init(_ records: [StudyRecord], layers: [Int]) {
    let counted = Set(layers.dropLast())
    let table = CellTable(records, layers: counted)
    func slope(_ endpoint: String, _ predictor: String, form: StudyForm?) -> Slope? {
      let slopes = StudyStatistics.slopes(table.cells(endpoint, [predictor], form: form)).map(\.slope)
      guard let estimate = StudyStatistics.Estimate(slopes) else { return nil }
      return Slope(
        endpoint: form.map { "\(endpoint) of \($0.name)" } ?? endpoint, predictor: predictor,
        estimate: estimate,
        signFlip: StudyStatistics.signFlip(slopes))
    }
    let forms = table.forms
    primary = forms.first.flatMap { slope("patch_error", "entropy", form: $0) }
    beside = forms.first.flatMap {
      StudyStatistics.pooledSlope(table.cells("patch_error", ["entropy", "dependence"], form: $0))
    }
    sham = forms.first.flatMap { form in
      StudyStatistics.Estimate(
        StudyStatistics.slopes(table.shamCells("patch_error", form: form)).map(\.slope))
    }
    var others: [Slope?] = []
    if let first = forms.first {
      others += ["gini", "dependence", "distance"].map { slope("patch_error", $0, form: first) }
      others += ["prefix_error", "damage"].map { slope($0, "entropy", form: first) }
    }
    others.append(slope("sensitivity", "entropy", form: nil))
    others += forms.dropFirst().flatMap { form in
      ["patch_error", "damage"].map { slope($0, "entropy", form: form) }
    }
    var known = others.compactMap { $0 }
    for (place, value) in StudyStatistics.holm(known.map(\.signFlip)).enumerated() {
      known[place].together = value
    }
    secondary = known
    verdict = StudyAnalysis.verdict(primary, beside, sham)
    subsets = StudyAnalysis.subsets(records, table)
  }

  /// Sparsity, where the slope is below 0 by every test; position, where all of it is small; else undecided.
  private static func verdict(
    _ primary: Slope?, _ beside: StudyStatistics.Estimate?, _ sham: StudyStatistics.Estimate?
  ) -> Verdict {
    guard let primary else { return .undecided }
    let estimate = primary.estimate
    let isOff = estimate.mean < 0 && estimate.mean + estimate.half95 < 0
    let keeps = beside.map { $0.mean < 0 && $0.mean + $0.half95 < 0 } ?? false
    let isReal =
      sham.map { abs($0.mean) <= bound || estimate.mean + estimate.half95 < -abs($0.mean) } ?? false
    if isOff, primary.signFlip < 0.05, keeps, isReal { return .sparsity }
    if estimate.mean - estimate.half90 > -bound, estimate.mean + estimate.half90 < bound { return .position }
    return .undecided
  }

  /// What explains the damage of subsets.
  private static func subsets(
    _ records: [StudyRecord], _ table: CellTable
  ) -> [(name: String, estimate: StudyStatistics.Estimate)] {
    guard let form = table.forms.first else { return [] }
    var y: [Double] = []
    var x: [[Double]] = []
    for record in records where record.kind == "subset" {
      guard let layers = record.integers("layers"), !layers.isEmpty, let damage = record.number("damage"),
        damage > 0
      else { continue }
      func mean(_ name: String) -> Double? {
        let values = layers.compactMap { table.score(name, arm: "original", layer: $0) }
        return values.count == layers.count ? values.reduce(0, +) / Double(values.count) : nil
      }
      let singles = layers.compactMap { table.endpoint("damage", arm: "original", layer: $0, form: form) }
      guard let sparsity = mean("entropy"), let dependence = mean("dependence"), singles.count == layers.count
      else { continue }
      y.append(log(damage))
      x.append([
        sparsity, Double(layers.reduce(0, +)) / Double(layers.count), dependence,
        log(singles.reduce(0) { $0 + exp($1) }),
      ])
    }
    guard let estimates = StudyStatistics.standardised(y, x) else { return [] }
    return Array(zip(["sparsity", "depth", "dependence", "sum of single damages"], estimates)).map {
      ($0, $1)
    }
  }
}

/// What stands in layers, as records name it.
struct StudyForm: Hashable {
  let mixer: String, prefix: String

  init?(_ record: StudyRecord) {
    guard let mixer = record.text("mixer"), let prefix = record.text("prefix") else { return nil }
    (self.mixer, self.prefix) = (mixer, prefix)
  }

  var name: String { prefix == "auto" ? mixer : "\(mixer) with prefix=\(prefix)" }
}

/// The records of the position study as numbers of layers in teachers.
struct CellTable {
  private let layers: Set<Int>
  /// The arms that are regressed on: teachers of squares that recovered.
  private let arms: [String]
  private var scores: [String: Double] = [:]
  private var endpoints: [String: (sum: Double, count: Double)] = [:]
  /// The forms in the order in which they were tried.
  private(set) var forms: [StudyForm] = []

  init(_ records: [StudyRecord], layers: Set<Int>) {
    self.layers = layers
    let recovered = records.filter { $0.kind == "teacher" && $0.integer("kept") == 1 }.compactMap {
      $0.text("arm")
    }
    let squares = Dictionary(
      grouping: recovered.filter { $0.hasPrefix("square-") },
      by: { $0.split(separator: "-").prefix(2).joined() })
    // One teacher alone of a square says nothing: levels are not apart from depth then.
    arms = recovered.filter { arm in squares.values.contains { $0.count > 1 && $0.contains(arm) } }
    for record in records {
      guard let arm = record.text("arm") else { continue }
      guard let layer = record.integer("layer") else { continue }
      switch record.kind {
      case "layer":
        for field in record.fields {
          if case .number(let value?) = field.value { scores["\(arm) \(layer) \(field.name)"] = value }
        }
      case "single":
        guard let form = StudyForm(record) else { continue }
        if !forms.contains(form) { forms.append(form) }
        for name in ["patch_error", "prefix_error", "damage"] {
          if let value = record.number(name), value > 0 {
            add(log(value), "\(arm) \(layer) \(name) \(form.name)")
          }
        }
      case "noise":
        if let value = record.number("damage"), value > 0 { add(log(value), "\(arm) \(layer) sensitivity") }
      default: break
      }
    }
  }

  private mutating func add(_ value: Double, _ key: String) {
    let old = endpoints[key] ?? (0, 0)
    endpoints[key] = (old.sum + value, old.count + 1)
  }

  /// A score of a layer in an arm.
  func score(_ name: String, arm: String, layer: Int) -> Double? { scores["\(arm) \(layer) \(name)"] }

  /// The logarithm of what was measured, the mean over seeds and draws.
  func endpoint(_ name: String, arm: String, layer: Int, form: StudyForm?) -> Double? {
    let key = form.map { "\(arm) \(layer) \(name) \($0.name)" } ?? "\(arm) \(layer) \(name)"
    return endpoints[key].map { $0.sum / $0.count }
  }

  /// The cells of a regression over teachers of squares; predictors are in standard deviations over all cells.
  func cells(_ endpoint: String, _ predictors: [String], form: StudyForm?) -> [StudyStatistics.Cell] {
    cells(endpoint, predictors, form: form, arms: arms.map { ($0, $0) })
  }

  /// The same of two teachers, the original and the one with noisy values, which is given the sparsities of the first teacher of the
  /// first square: what is found then is not sparsity's doing.
  func shamCells(_ endpoint: String, form: StudyForm) -> [StudyStatistics.Cell] {
    let spread = spread("entropy")
    return cells(
      endpoint, ["entropy"], form: form, arms: [("original", "original"), ("sham", "square-0-0")],
      spread: spread)
  }

  private func cells(
    _ endpoint: String, _ predictors: [String], form: StudyForm?, arms: [(endpoint: String, score: String)],
    spread: Double? = nil
  ) -> [StudyStatistics.Cell] {
    let spreads = predictors.map { spread ?? self.spread($0) }
    return layers.sorted().flatMap { layer in
      arms.compactMap { arm -> StudyStatistics.Cell? in
        let x = zip(predictors, spreads).compactMap { name, spread in
          score(name, arm: arm.score, layer: layer).map { $0 / spread }
        }
        guard let y = self.endpoint(endpoint, arm: arm.endpoint, layer: layer, form: form),
          x.count == predictors.count, x.allSatisfy(\.isFinite), y.isFinite
        else { return nil }
        return StudyStatistics.Cell(unit: layer, condition: arm.endpoint, y: y, x: x)
      }
    }
  }

  /// The standard deviation of a score over all layers and teachers of squares.
  private func spread(_ name: String) -> Double {
    let values = layers.sorted().flatMap { layer in arms.compactMap { score(name, arm: $0, layer: layer) } }
    let mean = values.reduce(0, +) / Double(max(values.count, 1))
    let square = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(max(values.count, 1))
    return square > 0 ? square.squareRoot() : 1
  }
}
