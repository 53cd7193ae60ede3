internal import VitIR
internal import VitPasses
internal import Vitc

/// How good `select{by=auto}` searches; prints, asserts nothing.
public enum SearchBenchmarks {
  /// The study as a pass, so that it gets a teacher, data and mixers on trial as `select` does.
  private struct Study: Pass {
    static let name = "study"
    static let summary = "Studies the search"
    static let combinations = 50
    static let rivals = 500
    /// Beyond that damage nobody cares how models are ordered.
    static let limit = 0.2

    init(options: inout OptionReader) throws(VitError) {}
    var options: [(name: String, value: String)] { [] }
    func run(on graph: inout Graph, context: PassContext) throws -> PassResult { PassResult(changes: 0) }

    func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
      let reduction = Reduction(limit: Study.limit)
      let study = try SearchStudy(hybrid, reduction, images: 500, context: context)
      let samples = try study.combinations(3 * Study.combinations).filter { $0.measured < Study.limit }
        .prefix(Study.combinations)
      let correlation = RankCorrelation.spearman(samples.map(\.estimated), samples.map(\.measured)) ?? .nan
      print(
        "\(samples.count) random models of a damage below \(Study.limit): rank correlation \(correlation)")
      for point in try study.greedy() where point.damage > 0.01 && point.damage < Study.limit {
        print("greedy: cost \(point.cost), damage \(point.damage)")
        guard point.damage < 0.1, point.damage > 0.03 else { continue }
        let rivals = try study.rivals(Study.rivals, cost: point.cost).filter { $0.cost <= point.cost * 1.005 }
        let best = rivals.map(\.measured).min() ?? .nan
        print("  of \(rivals.count) random models that cost no more the best has \(best)")
        break
      }
      return PassResult(changes: 0)
    }
  }

  /// Studies the search on the model at `path`, with `conv` on trial in every layer and images of `data`.
  public static func run(_ path: String, data name: String, threads: Int) throws {
    let teacher = try Model(contentsOf: path)
    let data = try Samples(name, for: teacher, purpose: .calibration, threads: threads) { _ in }
    let parts = try data.holdingOut(1000, seed: 0)
    let pipeline = try Pipeline(
      "swap{mixer=conv,layers=all},distil{steps=0,images=300},study",
      known: Pipeline.standardPasses + [Study.self])
    _ = try pipeline.run(on: teacher, parts.training, heldOut: parts.heldOut, threads: threads)
  }
}
