package import VitIR
internal import VitRuntime

/// What is found out while a compile runs, in the order in which it comes.
public enum CompileEvent: Sendable {
  /// The most that replacement can give, when `count` layers are replaced.
  case bound(Bound, count: Int)
  /// The pipeline that will run.
  case pipeline(String)
  /// The layers with their scores.
  case scores([Report.Layer])
  /// The layers with what was chosen, and why.
  case choice([Report.Layer], notes: [String])
}

/// One compile: a pipeline on a teacher, and what comes of it measured.
package struct CompileRun {
  private let teacher: Teacher
  private let plan: CompilePlan
  private let options: CompilerOptions
  private let data: Split
  private let shapes: [[Int]]
  private let pool: any WorkPool
  private let progress: Progress
  /// What the teacher's outputs mean, decided once from all samples.
  private let outputs: OutputKind
  /// The samples that no pass and no measurement took, for the teacher gives no numbers for them.
  private let leftOut = LeftOutSamples()

  /// The samples of a compile.
  package struct Split {
    /// What is trained on.
    package let training: any SampleSource
    /// What decides which weights are kept.
    package let heldOut: any SampleSource
    /// What is measured on at the end.
    package let evaluation: any SampleSource

    /// A split.
    package init(training: any SampleSource, heldOut: any SampleSource, evaluation: any SampleSource) {
      self.training = training
      self.heldOut = heldOut
      self.evaluation = evaluation
    }
  }

  /// A run of `plan` on `teacher`, one sample of which has the `shapes`.
  package init(
    _ plan: CompilePlan, teacher: Teacher, shapes: [[Int]], data: Split, options: CompilerOptions,
    pool: any WorkPool, progress: Progress
  ) {
    self.teacher = teacher
    self.plan = plan
    self.options = options
    self.data = data
    self.shapes = shapes
    self.pool = pool
    self.progress = progress
    outputs = OutputKind(
      teacher.graph, data: [data.training, data.heldOut, data.evaluation], progress.report)
  }

  /// Compiles; what was done so far is in `checkpoint` when it throws.
  package func compile(
    checkpoint: (any CheckpointStore)?, events: (CompileEvent) -> Void
  ) throws -> (hybrid: Hybrid, report: Report) {
    // Whatever does not fit is said before the teacher runs.
    try plan.pipeline.check()
    try plan.pipeline.rehearse(Hybrid(of: teacher), context: context())
    let bound = try bound()
    let count = plan.pipeline.replacements(among: teacher.layers)
    events(.bound(bound, count: count))
    events(.pipeline(plan.pipeline.description))
    let (hybrid, divergences) = try run(plan.pipeline, checkpoint: checkpoint, events: events)
    var report = try report(hybrid, bound: bound)
    report.divergences = divergences
    if options.comparesControls {
      let replaced = hybrid.replaced.map(\.index)
      report.controls = try Controls.pipelines(of: plan.pipeline, layers: replaced).map { kind, pipeline in
        let control = try run(pipeline).hybrid
        return Report.Control(mixer: kind, fidelity: try fidelity(of: control.graph))
      }
    }
    return (hybrid, report)
  }

  private func context() -> PassContext {
    let context = PassContext(pool: pool, registry: .standard, seed: options.seed, progress: progress)
    context.data = data.training
    context.heldOut = data.heldOut
    context.outputs = outputs
    context.leftOut = leftOut
    return context
  }

  /// Runs a pipeline on the teacher. What it takes in memory is gone when this returns.
  private func run(
    _ pipeline: Pipeline, checkpoint: (any CheckpointStore)? = nil,
    events: (CompileEvent) -> Void = { _ in }
  ) throws -> (hybrid: Hybrid, divergences: [PassResult.Divergence]) {
    let context = context()
    context.checkpoint = checkpoint
    let watcher = LayerWatcher()
    var hybrid = Hybrid(of: teacher)
    let results = try withoutActuallyEscaping(events) { events in
      watcher.events = events
      defer { watcher.events = { _ in } }
      return try pipeline.perform(on: &hybrid, context: context, observers: [watcher])
    }
    return (hybrid, results.flatMap(\.divergences))
  }

  private func bound() throws -> Bound {
    let executor = try Executor(
      teacher.graph, weights: WeightStore(teacher.graph), inputShapes: shapes, pool: pool)
    return try Bound(teacher.graph, layers: teacher.layers, executor: executor, pool: pool)
  }

  private func report(_ hybrid: Hybrid, bound: Bound) throws -> Report {
    func size(_ graph: Graph) throws -> Report.Size {
      let cost = try ModelCost(graph, inputShapes: shapes, pool: pool)
      return Report.Size(parameters: cost.total.parameters, flops: cost.total.flops)
    }
    let fidelity = try fidelity(of: hybrid.graph, named: "measure")
    let lost = [data.training, data.heldOut, data.evaluation].map(leftOut.count)
    let timing = try GraphTiming.times(
      [teacher.graph, hybrid.graph], shapes: [shapes, shapes], pool: pool, seconds: 1,
      isCancelled: progress.isCancelled)
    var report = Report(
      pipeline: plan.pipeline.description, seed: options.seed,
      mixer: hybrid.layers.first { !$0.isAttention }?.kind ?? Layer.attention,
      layers: Report.layers(of: hybrid, replaced: true), teacher: try size(teacher.graph),
      hybrid: try size(hybrid.graph), bound: bound, fidelity: fidelity,
      samples: (
        data.training.count - lost[0], data.heldOut.count - lost[1], data.evaluation.count - lost[2]
      ), timing: (timing[0], timing[1]))
    report.nonFiniteSamples = leftOut.count
    return report
  }

  private func fidelity(of graph: Graph, named phase: String? = nil) throws -> Fidelity {
    func advance(_ what: String) -> (Int, Int) -> Void {
      { done, total in if let phase { progress.advance("\(phase) \(what)", done, total, "") } }
    }
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: data.evaluation, context: context(), progress: advance("teacher"))
    leftOut.report(to: progress.report)
    return try meter.measure(graph, progress: advance("hybrid"))
  }
}

/// Tells of what passes find out about the layers while a pipeline runs.
private final class LayerWatcher: PassObserver {
  var events: (CompileEvent) -> Void = { _ in }

  func before(_ pass: any Pass, _ hybrid: Hybrid) {}

  func after(_ pass: any Pass, _ hybrid: Hybrid, _ result: Result<PassResult, any Error>) {
    guard case .success(let found) = result else { return }
    switch pass {
    case is Score: events(.scores(Report.layers(of: hybrid)))
    case is Select: events(.choice(Report.layers(of: hybrid), notes: found.notes))
    default: break
    }
  }
}
