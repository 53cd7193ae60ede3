internal import VitIR
internal import VitPasses

/// The numbers of a compile that follow from the model and the budget.
struct CompilerPlan {
  let batch: Int
  /// Samples that nothing is trained on.
  let heldOut: Int
  let distilSteps: Int
  let fineTuneSteps: Int

  /// The samples that `score` looks at, twice each: as they are and with each layer dropped, roughly.
  private static let scored = 512

  init(_ options: CompilerOptions, cost: ModelCost, graph: Graph, layers all: [Layer], samples: Int) {
    let teacher = Double(max(cost.total.flops, 1))
    let trained = all.filter(\.isReplaceable)
    let layers = trained.reduce(0) { sum, layer in
      graph.places(of: layer).reduce(sum) { $0 + Double(cost.nodes[$1].flops) }
    }
    batch = options.batch ?? (teacher > 1e9 ? 32 : 64)
    // A tenth of the samples judges, or as many as a tenth of the default budget pays for. They are the same for every
    // budget: the pipeline, which records its steps, then makes the same hybrid again.
    let judged = trained.count + 8
    let share = CompilerOptions().timeBudget * 0.1
    let affordable = Int(min(share * Budget.rate / (teacher * Double(judged)), 1e9))
    heldOut = max(1, min(samples / 10, max(affordable, 32), 1000))
    let budget = Budget(
      seconds: options.timeBudget,
      work: Budget.Work(
        teacher: teacher, layers: layers, batch: batch, measured: CompilerPlan.scored + judged * heldOut))
    distilSteps = options.distilSteps ?? budget.distilSteps
    fineTuneSteps = options.fineTuneSteps ?? budget.fineTuneSteps
  }

  /// How many of the layers a pipeline replaces.
  static func replacements(of pipeline: Pipeline, among sites: [Layer]) -> Int {
    let replaceable = sites.filter(\.isReplaceable).count
    func listed(_ text: String) -> Int { text.split(separator: ",").count }
    func option(_ name: String, of pass: String) -> String? {
      pipeline.passes.last { type(of: $0).name == pass }?.options.first { $0.name == name }?.value
    }
    if let layers = option("layers", of: Select.name) { return listed(layers) }
    if let count = option("count", of: Select.name).flatMap({ Int($0) }) { return count }
    if let part = option("fraction", of: Select.name).flatMap({ Double($0) }) {
      return max(1, Int((part * Double(sites.count)).rounded()))
    }
    guard let layers = option("layers", of: Swap.name) else { return 0 }
    return layers.hasPrefix("[") ? listed(layers) : replaceable
  }

  /// The steps that a pipeline takes; zero where a pass does not occur in it.
  static func steps(of pipeline: Pipeline) -> (distil: Int, fineTune: Int, batch: Int) {
    func option(_ name: String, of pass: String) -> Int? {
      pipeline.passes.last { type(of: $0).name == pass }?.options.first { $0.name == name }.flatMap {
        Int($0.value)
      }
    }
    return (
      option("steps", of: Distil.name) ?? 0, option("steps", of: FineTune.name) ?? 0,
      option("batch", of: Distil.name) ?? option("batch", of: FineTune.name) ?? 64
    )
  }
}
