import FoundationEssentials
import Glibc
import Testing
import VitIR
import VitPasses
import VitTestSupport

/// The statistics of a study, against SciPy's and NumPy's.
@Suite struct StudyStatisticsTests {
  /// `golden/statistics/study.json`.
  private struct Expected: Decodable {
    struct Cell: Decodable {
      let unit: Int, condition: String, y: Double, x: [Double]
    }
    struct Pooled: Decodable { let slope: Double, error: Double }
    struct Standardised: Decodable { let slopes: [Double], errors: [Double] }
    struct Holm: Decodable { let from: [Double], to: [Double] }
    struct Quantile: Decodable { let p: Double, degrees: Int, t: Double }
    let cells: [Cell]
    let slopes: [Double]
    let mean: Double, error: Double, half95: Double, half90: Double, sign_flip: Double
    let pooled: Pooled
    let table: [[Double]]
    let damage: [Double]
    let standardised: Standardised
    let holm: Holm
    let quantiles: [Quantile]
  }

  private let expected: Expected

  init() throws {
    let data = try Data(contentsOf: URL(fileURLWithPath: Fixture.path("statistics/study.json")))
    expected = try JSONDecoder().decode(Expected.self, from: data)
  }

  private var cells: [StudyStatistics.Cell] {
    expected.cells.map { StudyStatistics.Cell(unit: $0.unit, condition: $0.condition, y: $0.y, x: $0.x) }
  }

  @Test(
    "slopes within layers are least squares with constants of layers and teachers, though a cell is missing")
  func slopes() throws {
    let found = StudyStatistics.slopes(cells)
    #expect(found.map(\.unit) == Array(0..<8))
    for (own, wanted) in zip(found, expected.slopes) { #expect(abs(own.slope - wanted) < 1e-9) }
    let estimate = try #require(StudyStatistics.Estimate(found.map(\.slope)))
    #expect(abs(estimate.mean - expected.mean) < 1e-9)
    #expect(abs(estimate.error - expected.error) < 1e-9)
    #expect(abs(estimate.half95 - expected.half95) < 1e-7)
    #expect(abs(estimate.half90 - expected.half90) < 1e-7)
  }

  @Test("signs are flipped in all ways")
  func signs() {
    #expect(StudyStatistics.signFlip(expected.slopes) == expected.sign_flip)
    #expect(StudyStatistics.signFlip([]) == 1)
    #expect(StudyStatistics.signFlip([1, 1, 1]) == 0.25)
    // Of many values patterns are drawn, the same each time.
    let many = (0..<20).map { Double($0 % 3) - 0.9 }
    #expect(StudyStatistics.signFlip(many) == StudyStatistics.signFlip(many))
    #expect(StudyStatistics.signFlip((0..<20).map { _ in 1 }) < 1e-4)
  }

  @Test("a pooled slope with another predictor beside it has the jackknife's error")
  func pooled() throws {
    let found = try #require(StudyStatistics.pooledSlope(cells))
    #expect(abs(found.mean - expected.pooled.slope) < 1e-9)
    #expect(abs(found.error - expected.pooled.error) < 1e-9)
  }

  @Test("standardised slopes have errors that hold where residuals differ")
  func standardised() throws {
    let found = try #require(StudyStatistics.standardised(expected.damage, expected.table))
    for (own, wanted) in zip(found, zip(expected.standardised.slopes, expected.standardised.errors)) {
      #expect(abs(own.mean - wanted.0) < 1e-9)
      #expect(abs(own.error - wanted.1) < 1e-9)
    }
    // A column that is the sum of others tells nothing.
    #expect(StudyStatistics.standardised(expected.damage, expected.table.map { $0 + [$0[0] + $0[1]] }) == nil)
    #expect(StudyStatistics.standardised([1, 2, 3], [[1], [1], [1]]) == nil)
  }

  @Test("Student's t and Holm's correction")
  func quantiles() {
    for entry in expected.quantiles {
      let found = StudyStatistics.quantile(entry.p, degrees: entry.degrees)
      #expect(abs(found / entry.t - 1) < 1e-8, "\(entry.p), \(entry.degrees)")
    }
    #expect(StudyStatistics.quantile(0.975, degrees: 0) == .infinity)
    for (own, wanted) in zip(StudyStatistics.holm(expected.holm.from), expected.holm.to) {
      #expect(abs(own - wanted) < 1e-12)
    }
  }
}

/// What a study does and what it draws from records, without a model.
@Suite struct StudyPlanTests {
  private func layers(_ count: Int, sparsity: (Int) -> Double = { _ in 0.5 }) -> [Layer] {
    var graph = Graph(name: "layers")
    let core = graph.addInput(TensorType(.f32, fixed: [1]), name: "x")
    return (0..<count).map { index in
      var layer = Layer(
        index: index, kind: Layer.attention, heads: 1, node: "", core: core, input: nil,
        output: nil, parameters: 0, obstacle: nil)
      layer.scores["entropy"] = .float(sparsity(index))
      return layer
    }
  }

  @Test("sizes make sense, and what does not is refused by its name", arguments: StudyProtocol.Size.allCases)
  func sizes(_ size: StudyProtocol.Size) throws {
    try StudyProtocol(size).check()
    var plan = StudyProtocol(size)
    plan.retention.keep = [0.5, 1.5]
    #expect(throws: VitError.self) { try plan.check() }
    plan = StudyProtocol(size)
    plan.retention.keep = [0.9, 0.9001]
    #expect(throws: VitError.self) { try plan.check() }
    plan = StudyProtocol(size)
    plan.replacement.groups = ["sparse", "middle"]
    let error = #expect(throws: VitError.self) { try plan.check() }
    #expect(error?.diagnostic.message.contains("'middle'") ?? false)
    plan = StudyProtocol(size)
    plan.replacement.groups = ["damage"]
    #expect(throws: VitError.self) { try plan.check() }
    plan = StudyProtocol(size)
    plan.position.forms[0].mixer = "lstm{form=wide}"
    #expect(throws: VitError.self) { try plan.check() }
    plan = StudyProtocol(size)
    plan.measured = 0
    #expect(throws: VitError.self) { try plan.check() }
  }

  @Test("jobs have names of their own that are names of files")
  func jobs() {
    for size in StudyProtocol.Size.allCases {
      let names = StudyJob.all(of: StudyProtocol(size), layers: layers(8)).map(\.name)
      #expect(Set(names).count == names.count)
      #expect(names.allSatisfy { name in name.allSatisfy { $0.isLetter || $0.isNumber || $0 == "-" } })
    }
  }

  @Test("subsets are all of them, or balanced draws with their complements")
  func subsets() {
    var plan = StudyProtocol()
    let all = plan.drawnSubsets(of: Array(0..<8))
    #expect(all.count == 70)
    #expect(Set(all).count == 70)
    #expect(all.allSatisfy { $0.count == 4 && $0 == $0.sorted() })
    plan.subsets.most = 60
    let drawn = plan.drawnSubsets(of: Array(0..<12))
    #expect(drawn.count == 60)
    #expect(Set(drawn).count == 60)
    let sum = drawn.flatMap { $0 }.reduce(0, +)
    #expect(Double(sum) / Double(60 * 6) == 5.5)
    #expect(drawn == plan.drawnSubsets(of: Array(0..<12)))
    // Fewer than are wanted.
    plan.subsets.most = 5
    #expect(plan.drawnSubsets(of: [0, 1, 2]).count == 3)
  }

  @Test("pairs have the middle's depth, the sparsest beside the densest")
  func pairs() {
    let sparsity = [0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.6, 0.4]
    let pairs = StudyProtocol().pairs(of: layers(8) { sparsity[$0] })
    #expect(pairs.count == 4)
    for pair in pairs {
      #expect(pair.sparse.reduce(0, +) == 14)
      #expect(pair.dense.reduce(0, +) == 14)
      func mean(_ subset: [Int]) -> Double { subset.reduce(0) { $0 + sparsity[$1] } }
      #expect(mean(pair.sparse) >= mean(pair.dense))
    }
  }

  /// Records of a study in which the logarithm of an error is `-slope` times sparsity, apart from layers and teachers.
  private func records(slope: Double, noise: Double, sham: Double = 0) -> [StudyRecord] {
    var random = SplitMix(seed: 3)
    var records: [StudyRecord] = []
    func add(_ arm: String, _ layer: Int, sparsity: Double, effect: Double) {
      records.append(
        StudyRecord(
          "layer",
          [
            ("arm", .text(arm)), ("layer", .number(Double(layer))), ("entropy", .number(sparsity)),
            ("dependence", .number(random.normal())),
            ("given", .number(arm == "sham" ? Double(layer % 3) : sparsity)),
          ]))
      let logarithm = 0.3 * Double(layer) + effect + noise * random.normal()
      records.append(
        StudyRecord(
          "single",
          [
            ("arm", .text(arm)), ("layer", .number(Double(layer))), ("mixer", .text("conv")),
            ("prefix", .text("auto")),
            ("patch_error", .number(exp(logarithm))), ("damage", .number(exp(logarithm - 1))),
          ]))
    }
    for square in 0..<2 {
      for teacher in 0..<3 {
        let arm = "square-\(square)-\(teacher)"
        records.append(StudyRecord("teacher", [("arm", .text(arm)), ("kept", .number(1))]))
        for layer in 0..<8 {
          let sparsity = Double((layer + teacher + square) % 3)
          add(arm, layer, sparsity: sparsity, effect: slope * sparsity + 0.1 * Double(teacher))
        }
      }
    }
    for layer in 0..<8 {
      add("original", layer, sparsity: 1, effect: 0)
      add("sham", layer, sparsity: 1, effect: sham * Double(layer % 3))
    }
    return records
  }

  @Test("a slope that is there is found, and its size is the records'")
  func sparsity() throws {
    let found = StudyAnalysis(records(slope: -0.5, noise: 0.02), layers: Array(0..<8))
    #expect(found.verdict == .sparsity)
    // A standard deviation of 0, 1 and 2 is the root of two thirds.
    #expect(abs(try #require(found.primary).estimate.mean + 0.5 * (2.0 / 3).squareRoot()) < 0.02)
    #expect(!found.isOpposite)
    // Seven layers are counted: the last one is left out.
    #expect(found.primary?.estimate.units == 7)
  }

  @Test("none of size, the other side, noise, and a sham that does the same are no sparsity")
  func others() {
    #expect(StudyAnalysis(records(slope: 0, noise: 0.02), layers: Array(0..<8)).verdict == .position)
    let opposite = StudyAnalysis(records(slope: 0.5, noise: 0.02), layers: Array(0..<8))
    #expect(opposite.verdict == .undecided)
    #expect(opposite.isOpposite)
    // What disturbs values as much does the same to the error.
    let sham = StudyAnalysis(records(slope: -0.1, noise: 0.005, sham: -0.5), layers: Array(0..<8))
    #expect((sham.sham?.mean ?? 0) < -0.2)
    #expect(sham.verdict != .sparsity)
    #expect(StudyAnalysis(records(slope: 0, noise: 1), layers: Array(0..<8)).verdict == .undecided)
    #expect(StudyAnalysis([], layers: []).verdict == .undecided)
    #expect(StudyAnalysis([], layers: []).primary == nil)
  }
}
