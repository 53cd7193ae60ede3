package import VitIR

/// The numbers of a compile that follow from the model and the budget, and the pipeline that they give.
package struct CompilePlan: Sendable {
  /// What runs.
  package private(set) var pipeline: Pipeline
  /// Samples that nothing is trained on.
  package let heldOut: Int

  /// How many images teacher and hybrid are measured on at the end.
  package let evaluation: Int
  /// What the budget buys; `nil` where a pipeline was given, of which that is not known.
  package let budget: Budget?

  /// The plan for a teacher, of which one sample costs `cost`, with so many samples to train on and to measure on. A step takes
  /// whole runs of a teacher whose batch is fixed. Its weights take `storedBytes` in a file.
  package init(
    _ options: CompilerOptions, teacher: Teacher, form: BatchForm, cost: ModelCost, samples: Int,
    evaluation: Int?, reading: Double, storedBytes: Int? = nil
  ) {
    var options = options
    let work = Double(max(cost.total.flops, 1))
    let trained = options.replacesLayers ? teacher.layers.filter(\.isReplaceable) : []
    let layers = trained.reduce(0) { sum, layer in
      teacher.graph.places(of: layer).reduce(sum) { $0 + Double(cost.nodes[$1].flops) }
    }
    let batch = form.rounded(options.batch ?? (work > 1e9 ? 32 : 64))
    // They are the same for every budget: the pipeline, which records all other numbers, then makes the same hybrid again.
    let share = CompilerOptions().timeBudget * 0.3
    let affordable = Int(min(share * Budget.rate / (work * Double(trained.count + 8)), 1e9))
    heldOut = options.heldOut ?? max(1, min(samples / 10, max(affordable, 32), 1000))
    let heldOut = heldOut
    func bought(_ options: CompilerOptions) -> Budget {
      Budget(
        seconds: options.timeBudget,
        work: Budget.Work(
          teacher: work, layers: layers, trials: trained.count, batch: batch, heldOut: heldOut,
          evaluation: evaluation ?? heldOut,
          searches: options.select == .auto ? ReductionSearch.measurements(of: teacher) : 0,
          choices: options.select == .auto && options.replacesLayers
            ? MixerChoices.most(solved: options.isSolved, beside: options.beside.kinds) : 0,
          narrower: options.select == .auto && options.replacesLayers && !options.makesOthers
            && options.deadline == nil
            ? MixerChoices.trained : 0, reading: reading),
        isSolved: options.isSolved,
        distilSteps: options.distilSteps, fineTuneSteps: options.fineTuneSteps,
        evaluated: options.evaluationImages, searching: options.searchTime)
    }
    var budget = bought(options)
    if CompilePlan.isBetterSolved(options, budget, trained, teacher) {
      (options.mixer, options.beside) = ("conv", .none)
      budget = bought(options)
    }
    self.evaluation = budget.evaluated
    self.budget = options.pipeline == nil ? budget : nil
    pipeline = options.pipeline(
      budget, heldOut: heldOut, batch: batch,
      size: .init(parameters: cost.total.parameters, flops: cost.total.flops, bytes: storedBytes))
  }

  /// Whether what the pipeline looks for is judged by how sure the teacher is of samples that it has not seen, where there are some.
  package var asksForProfile: Bool { budget != nil && pipeline.reduction != nil }

  /// The most samples that a profile is made of.
  package static let profiled = 256

  /// Has held-out samples weighted so that the teacher is as sure of them.
  package mutating func judge(like profile: MarginProfile) {
    pipeline.passes = pipeline.passes.map { pass in
      guard var select = pass as? Select, select.criterion == .auto else { return pass }
      select.reduction.profile = profile
      return select
    }
  }

  /// The fewest steps of distillation for which a mixer that needs them is put on trial where it is not asked for.
  private static let fewestSteps = 500

  /// Whether time buys more where all of it goes to images: taps are solved for, and beside a mixer that had few steps they are
  /// what is chosen, while it is images that choosing and solving want.
  private static func isBetterSolved(
    _ options: CompilerOptions, _ budget: Budget, _ layers: [Layer], _ teacher: Teacher
  ) -> Bool {
    guard options.beside == .conv, options.replacesLayers, !options.isSolved, options.distilSteps == nil,
      options.pipeline == nil, budget.distilSteps < fewestSteps
    else { return false }
    // Taps lie on a grid of a known number of patches.
    return layers.allSatisfy { layer in
      layer.input.flatMap { teacher.graph.type($0).shape.dropFirst().first?.fixedValue } != nil
    }
  }

  /// Throws where a teacher has no layer that can be replaced, and a usage error where such a layer is asked for.
  package static func check(_ options: CompilerOptions, _ layers: [Layer]) throws(VitError) {
    guard options.replacesLayers else { return }
    guard let first = layers.first else {
      throw VitError(
        "the model has no attention layers", code: "no-attention",
        help: "'vitc inspect --explain' tells what was nearly recognised")
    }
    if let obstacle = first.obstacle, layers.allSatisfy({ !$0.isReplaceable }) {
      throw VitError(
        "none of the \(layers.count) attention layers can be replaced: \(obstacle)", code: "no-replaceable")
    }
    guard options.pipeline == nil else { return }
    let replaceable = layers.filter(\.isReplaceable).map(\.index)
    func bad(_ message: String) -> VitError {
      VitError(
        message, kind: .usage, code: "layer-not-replaceable",
        help: "vitc inspect lists the layers and the reasons")
    }
    switch options.replace {
    case .count(let count) where count > replaceable.count:
      throw bad("\(count) layers are to be replaced, but only \(replaceable.count) of \(layers.count) can be")
    case .layers(let wanted):
      if let layer = wanted.first(where: { !replaceable.contains($0) }) {
        throw bad(
          layers.contains { $0.index == layer }
            ? "layer \(layer) cannot be replaced"
            : "there is no layer \(layer): the model has \(layers.count)")
      }
    default: break
    }
  }
}

extension Pipeline {
  /// What it looks for that a model can do without; `nil` where it does not.
  package var reduction: Reduction? {
    passes.lazy.compactMap { $0 as? Select }.first { $0.criterion == .auto }?.reduction
  }

  /// How many of a model's layers the pipeline replaces.
  func replacements(among layers: [Layer]) -> Int {
    for pass in passes.reversed() {
      if let select = pass as? Select { return select.count(among: layers) }
    }
    let replaceable = layers.filter(\.isReplaceable).map(\.index)
    var replaced: Set<Int> = []
    for case let swap as Swap in passes {
      switch swap.layers {
      case .all: replaced.formUnion(replaceable)
      case .listed(let numbers): replaced.formUnion(numbers)
      case .selected: break
      }
    }
    return replaced.count
  }
}
