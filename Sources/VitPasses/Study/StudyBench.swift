package import VitIR
internal import VitOps
internal import VitRuntime

/// What the jobs of a study work on: one teacher, its samples, and the protocol.
package struct StudyBench {
  /// The teacher.
  package let teacher: Teacher
  /// What mixers are trained and solved on, what trainings are judged by, and what models are measured on.
  package let training: any SampleSource, heldOut: any SampleSource, evaluation: any SampleSource
  /// What is done.
  package let plan: StudyProtocol
  /// Where it runs.
  package let pool: any WorkPool
  /// Who looks on.
  package let progress: Progress

  /// A bench.
  package init(
    _ teacher: Teacher, training: any SampleSource, heldOut: any SampleSource, evaluation: any SampleSource,
    plan: StudyProtocol, pool: any WorkPool, progress: Progress
  ) {
    self.teacher = teacher
    (self.training, self.heldOut, self.evaluation) = (training, heldOut, evaluation)
    self.plan = plan
    self.pool = pool
    self.progress = progress
  }

  /// A context of passes that begins anew: what it draws is decided by the protocol's seed and a number.
  func context(seed: Int = 0) -> PassContext {
    let context = PassContext(
      pool: pool, registry: .standard, seed: SplitMix(seed: UInt64(plan.seed)).split(seed).word,
      progress: progress)
    context.data = training
    context.heldOut = heldOut
    return context
  }

  /// What compares models with one on the samples to measure on.
  func meter(_ teacher: Graph, _ context: PassContext) throws -> FidelityMeter {
    try FidelityMeter(
      teacher: teacher, data: evaluation, samples: evaluation.spread(plan.measured), context: context)
  }

  /// What a model costs for a sample.
  package func cost(_ graph: Graph) throws -> Cost {
    let form = BatchForm(graph, sample: training.shape)
    return try ModelCost(
      graph, inputShapes: InputShapes.of(graph, batch: form.count ?? 1, data: training),
      samples: form.count ?? 1, pool: pool
    ).total
  }

  /// A model whose layers, or those listed, have a form in their place, each solved or distilled on what the teacher's layer reads.
  func replaced(
    _ teacher: Teacher, by form: StudyProtocol.Form, seed: Int, layers: Swap.LayerSet = .all,
    _ context: PassContext
  ) throws -> Hybrid {
    var hybrid = Hybrid(of: teacher)
    let passes: [any Pass] = [
      Swap(mixer: form.mixer, prefix: try PrefixRows(form.prefix), layers: layers),
      Distil(steps: form.steps, batch: plan.batch, rate: plan.distilRate, images: plan.fitted),
    ]
    try run(passes, on: &hybrid, context)
    return hybrid
  }

  /// Runs passes on a model.
  func run(_ passes: [any Pass], on hybrid: inout Hybrid, _ context: PassContext) throws {
    _ = try Pipeline(passes).perform(on: &hybrid, context: context, observers: [])
  }

  /// Training end to end of so many steps.
  func fineTune(_ steps: Int, train: FineTune.Scope = .all) -> FineTune {
    FineTune(steps: steps, batch: plan.batch, rate: plan.fineTuneRate, train: train)
  }
}

extension SplitMix {
  /// One number of the stream, as a seed.
  fileprivate var word: UInt64 {
    var copy = self
    return copy.next()
  }
}
