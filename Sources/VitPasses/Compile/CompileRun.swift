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
  /// The seconds that the compile is expected to take, at the nominal rate and on this machine.
  case duration(nominal: Double, here: Double)
}

/// One compile: a pipeline on a teacher, and what comes of it measured.
package struct CompileRun {
  private let teacher: Teacher
  /// The model whose numbers the teacher has as floats, where it is quantised.
  private let quantised: Graph?
  private let plan: CompilePlan
  private let options: CompilerOptions
  private let data: Split
  private let shapes: [[Int]]
  /// The samples that inputs of these shapes hold.
  private let samples: Int
  private let pool: any WorkPool
  private let progress: Progress
  /// What the teacher's outputs mean, decided once from all samples.
  private let outputs: OutputKind
  /// The samples that no pass and no measurement took, for the teacher gives no numbers for them.
  private let leftOut = LeftOutSamples()
  private let start = ContinuousClock.now

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

  /// A run of `plan` on `teacher`, whose inputs have the `shapes` for one sample, or for as many as it takes at once; the
  /// teacher may be the float form of a `quantised` model.
  package init(
    _ plan: CompilePlan, teacher: Teacher, shapes: [[Int]], data: Split, quantised: Graph? = nil,
    options: CompilerOptions, pool: any WorkPool, progress: Progress
  ) {
    self.teacher = teacher
    self.quantised = quantised
    self.plan = plan
    self.options = options
    self.data = data
    self.shapes = shapes
    samples = BatchForm(teacher.graph, sample: data.training.shape).count ?? 1
    self.pool = pool
    self.progress = progress
    outputs = OutputKind(
      teacher.graph, data: [data.training, data.heldOut, data.evaluation], progress.report)
  }

  /// Compiles; layers that are in `parts` are not distilled again. What was done so far is in `checkpoint` when it throws.
  /// `other` is handed the models of other points of the search, where they are asked for.
  package func compile(
    checkpoint: (any CheckpointStore)?, parts: [any CheckpointStore] = [],
    events: (CompileEvent) -> Void, other: (Hybrid, Report) throws -> Void = { _, _ in }
  ) throws -> (hybrid: Hybrid, report: Report) {
    // Whatever does not fit is said before the teacher runs.
    try plan.pipeline.check()
    try plan.pipeline.rehearse(Hybrid(of: teacher), context: context())
    let bound = try bound()
    // What does not fit is said before any work.
    if timedBatch > 1 { _ = try GraphTiming.executor(teacher.graph, shapes: timedShapes, pool: pool) }
    let count = plan.pipeline.replacements(among: teacher.layers)
    if count > 0 { events(.bound(bound, count: count)) }
    events(.pipeline(plan.pipeline.description))
    let speed = try speed()
    if let budget = plan.budget {
      events(.duration(nominal: budget.seconds, here: budget.seconds(at: speed)))
    }
    let watcher = SearchWatcher()
    let sizes = SizeWatcher { [self] in
      try ModelCost($0, inputShapes: shapes, samples: samples, pool: pool).total
    }
    let (hybrid, results) = try run(
      plan.pipeline, checkpoint: checkpoint, parts: parts, clock: clock(speed), watchers: [watcher, sizes],
      events: events)
    let explicit = Pipeline(zip(plan.pipeline.passes, results).flatMap { $1.found ?? [$0] })
    let meter = try meter(named: "measure")
    var (report, each) = try report(hybrid, bound: bound, meter)
    report.found = results.contains { $0.found != nil } ? explicit.description : nil
    report.aim = CompilerOptions.maximumDrop(plan.pipeline)
    report.points = results.flatMap(\.points)
    report.stages = zip(plan.pipeline.passes, results).compactMap { pass, result in
      result.damage.map { Report.Stage(pass: type(of: pass).name, damage: $0) }
    }
    report.steps = sizes.steps
    report.curves = results.flatMap(\.curves)
    report.divergences = results.flatMap(\.divergences)
    report.stops = results.flatMap(\.stops)
    if options.comparesControls {
      let replaced = hybrid.replaced.map(\.index)
      report.controls = try Controls.pipelines(of: explicit, layers: replaced).compactMap {
        kind, pipeline in
        guard let control = try self.control(kind, pipeline) else { return nil }
        let measured = try meter.samples(control.graph)
        return Report.Control(
          mixer: kind, fidelity: measured.fidelity, excess: each.excess(of: measured.each))
      }
    }
    try addFloors(to: &report, replaced: hybrid.replaced.map(\.index))
    if options.makesOthers, let others = OtherPoints(plan.pipeline, results, before: watcher.before) {
      try make(others, meter, bound: bound, other)
    }
    return (hybrid, report)
  }

  /// Does for one layer what is next to be done for it alone, and keeps it in `store`: distils it, or, where `parts` have it and all
  /// others, makes what else may stand in its place. A layer that is not replaced leaves nothing there.
  ///
  /// Throws a usage error where the pipeline distils nothing.
  package func makePart(_ layer: Int, after parts: [any CheckpointStore], in store: any CheckpointStore)
    throws
  {
    try plan.pipeline.check()
    let passes = plan.pipeline.passes
    guard let end = passes.firstIndex(where: { $0 is Distil }) else {
      throw VitError(
        "the pipeline distils nothing, so it has no parts", kind: .usage, code: "no-parts",
        help: "'vitc plan' lists the steps of a compile")
    }
    let pipeline = Pipeline(Array(passes[...end]))
    try pipeline.rehearse(Hybrid(of: teacher), context: context())
    let context = context()
    (context.parts, context.part) = (parts, (layer, store))
    var hybrid = Hybrid(of: teacher)
    _ = try pipeline.perform(on: &hybrid, context: context, observers: [])
    guard !parts.isEmpty, passes.indices.contains(end + 1), let select = passes[end + 1] as? Select else {
      return
    }
    context.place = end + 1
    try select.makeChoices(of: layer, &hybrid, context)
  }

  /// Makes the models of other points, and measures each.
  private func make(
    _ others: OtherPoints, _ meter: FidelityMeter, bound: Bound, _ body: (Hybrid, Report) throws -> Void
  ) throws {
    for (done, pipeline) in others.pipelines.enumerated() {
      var hybrid = others.before
      let results = try pipeline.perform(on: &hybrid, context: context(), observers: [])
      var (report, _) = try report(hybrid, bound: bound, meter)
      report.found =
        Pipeline(
          others.ahead
            + zip(pipeline.passes, results).flatMap { $1.found ?? [$0] }
        ).description
      try body(hybrid, report)
      progress.advance("other points", done + 1, others.pipelines.count, "")
    }
  }

  /// Adds to each layer of `report` the errors of controls that are solved for in its place.
  private func addFloors(to report: inout Report, replaced layers: [Int]) throws {
    guard let (swaps, distil) = Controls.floors(of: plan.pipeline, layers: layers) else { return }
    var floors: [(kind: String, hybrid: Hybrid)] = []
    for (kind, swap) in swaps {
      if let floor = try control(kind, Pipeline([swap])) { floors.append((kind, floor)) }
    }
    let errors = try distil.solvedErrors(of: floors.map(\.hybrid), phase: "floors", context: context())
    for (floor, errors) in zip(floors, errors) {
      for place in report.layers.indices {
        if let error = errors[report.layers[place].index] { report.layers[place].floors[floor.kind] = error }
      }
    }
  }

  /// What a control's pipeline gives; `nil` where the control asks more of the model than its mixer does: a fixed number of
  /// tokens.
  private func control(_ kind: String, _ pipeline: Pipeline) throws -> Hybrid? {
    do { return try run(pipeline).hybrid } catch let error as VitError where error.kind == .usage {
      progress.report(
        Diagnostic(.note, "no control \(kind): \(error.diagnostic.message)", code: "no-control"))
      return nil
    }
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
    _ pipeline: Pipeline, checkpoint: (any CheckpointStore)? = nil, parts: [any CheckpointStore] = [],
    clock: DeadlineClock? = nil,
    watchers: [any PassObserver] = [], events: (CompileEvent) -> Void = { _ in }
  ) throws -> (hybrid: Hybrid, results: [PassResult]) {
    let context = context()
    (context.checkpoint, context.parts) = (checkpoint, parts)
    let watcher = LayerWatcher()
    clock?.watch(context)
    var hybrid = Hybrid(of: teacher)
    let results = try withoutActuallyEscaping(events) { events in
      watcher.events = events
      defer { watcher.events = { _ in } }
      return try pipeline.perform(
        on: &hybrid, context: context,
        observers: [watcher] + watchers + (clock.map { [$0] } ?? []))
    }
    return (hybrid, results)
  }

  private func bound() throws -> Bound {
    let executor = try Executor(
      teacher.graph, weights: WeightStore(teacher.graph), inputShapes: shapes, pool: pool)
    return try Bound(teacher.graph, layers: teacher.layers, executor: executor, pool: pool)
  }

  /// The floating-point operations that the teacher does in a second here, on a batch as passes run it.
  private func speed() throws -> Double {
    let cost = try ModelCost(teacher.graph, inputShapes: shapes, samples: samples, pool: pool).total.flops
    let isOpen = BatchForm(teacher.graph, sample: data.training.shape).count == nil
    let batch = isOpen ? max(1, min(32, Int(2e10) / max(cost, 1))) : 1
    let executor = try GraphTiming.executor(
      teacher.graph, shapes: shapes.map { [batch * $0[0]] + $0.dropFirst() }, pool: pool)
    let times = (0..<3).map { _ in ContinuousClock().measure { executor.run() } / .seconds(1) }
    return Double(cost * batch * samples) / max(times.min() ?? 1, 1e-9)
  }

  /// What keeps a deadline, where there is one: time is left to judge and to measure.
  private func clock(_ speed: Double) throws -> DeadlineClock? {
    guard let deadline = options.deadline else { return nil }
    let cost = try ModelCost(teacher.graph, inputShapes: shapes, samples: samples, pool: pool).total.flops
    var runs = 2 * data.evaluation.count
    for pass in plan.pipeline.passes {
      switch pass {
      case let select as Select where select.criterion.isDamage && select.layers == nil:
        runs += (1 + teacher.layers.count) * (select.images ?? data.heldOut.count)
      case let solve as Solve:
        runs += 3 * (solve.judged ?? data.heldOut.count) + 4 * min(solve.images, data.training.count)
      case let tune as FineTune: runs += Budget.fineTuneMeasurements * (tune.images ?? data.heldOut.count)
      default: break
      }
    }
    let rest = Budget.overhead + Double(runs) * Double(cost) / speed
    return DeadlineClock(
      plan.pipeline, start: start, training: max(deadline - 1.3 * rest, 0.3 * deadline))
  }

  /// The runs of the teacher's inputs that are timed at once.
  private var timedBatch: Int {
    BatchForm(teacher.graph, sample: data.training.shape).count == nil ? options.timedBatch : 1
  }

  private var timedShapes: [[Int]] { shapes.map { [timedBatch * $0[0]] + $0.dropFirst() } }

  private func report(
    _ hybrid: Hybrid, bound: Bound, _ meter: FidelityMeter
  ) throws -> (Report, SampleDamages) {
    let baseline = try baseline()
    let costs = try [baseline, hybrid].map {
      try ModelCost($0.graph, inputShapes: shapes, samples: samples, pool: pool)
    }
    let sizes = costs.map { Report.Size(parameters: $0.total.parameters, flops: $0.total.flops) }
    var layers = Report.layers(of: hybrid, replaced: true)
    for place in layers.indices {
      let attention = baseline.layers.first { $0.index == layers[place].index }
      layers[place].attention = attention.map { costs[0].layer($0, of: baseline.graph) }
      layers[place].cost = costs[1].layer(hybrid.layers[place], of: hybrid.graph)
    }
    let (fidelity, each) = try meter.samples(hybrid.graph) { progress.advance("measure hybrid", $0, $1, "") }
    let lost = [data.training, data.heldOut, data.evaluation].map(leftOut.count)
    let timed = timedShapes
    let timing = try GraphTiming.times(
      [baseline.graph, hybrid.graph], shapes: [timed, timed], pool: pool, seconds: 1, most: 300,
      isCancelled: progress.isCancelled)
    var report = Report(
      pipeline: plan.pipeline.description, seed: options.seed,
      mixer: hybrid.replaced.isEmpty
        ? Layer.attention : Set(hybrid.replaced.map(\.kind)).sorted().joined(separator: ", "),
      layers: layers, teacher: sizes[0], hybrid: sizes[1], bound: bound, fidelity: fidelity,
      samples: (
        data.training.count - lost[0], data.heldOut.count - lost[1], data.evaluation.count - lost[2]
      ), timing: (timing[0], timing[1]))
    report.nonFiniteSamples = leftOut.count
    report.timedBatch = timedBatch * samples
    try report.note(hybrid, beside: teacher)
    report.quantised = try quantised.map { try meter.measure($0) }
    report.retained = try retained(hybrid, meter)
    return (report, each)
  }

  /// Both gaps, where the hybrid learned from a teacher that drops tokens and is made in this compile.
  private func retained(_ hybrid: Hybrid, _ meter: FidelityMeter) throws -> Report.Retained? {
    guard let own = hybrid.teacher?.graph, own.mergedTokens != teacher.graph.mergedTokens else { return nil }
    let masked = try FidelityMeter(
      teacher: own, data: data.evaluation, context: context(), screening: false)
    return Report.Retained(
      teacher: try meter.measure(own), hybrid: try masked.measure(hybrid.graph))
  }

  /// The teacher as its cost is compared: without the rows that nobody reads where the hybrid is without them, so that no
  /// mixer is credited with those.
  private func baseline() throws -> Hybrid {
    var whole = Hybrid(of: teacher)
    if let trim = plan.pipeline.passes.first(where: { $0 is Trim }) {
      _ = try trim.run(on: &whole, context: context())
    }
    return whole
  }

  /// What compares models with the teacher on the evaluation data.
  private func meter(named phase: String? = nil) throws -> FidelityMeter {
    let meter = try FidelityMeter(teacher: teacher.graph, data: data.evaluation, context: context()) {
      if let phase { progress.advance("\(phase) teacher", $0, $1, "") }
    }
    leftOut.report(to: progress.report)
    return meter
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

/// Notes how large the model is behind each pass.
private final class SizeWatcher: PassObserver {
  private let cost: (Graph) throws -> Cost
  private(set) var steps: [Report.Step] = []

  init(cost: @escaping (Graph) throws -> Cost) { self.cost = cost }

  func before(_ pass: any Pass, _ hybrid: Hybrid) {}

  func after(_ pass: any Pass, _ hybrid: Hybrid, _ result: Result<PassResult, any Error>) throws {
    guard case .success = result else { return }
    let cost = try cost(hybrid.graph)
    steps.append(
      Report.Step(
        pass: type(of: pass).name, size: Report.Size(parameters: cost.parameters, flops: cost.flops)))
  }
}

/// Tells passes that train when their time is over: each has an equal part of what is left when it begins.
private final class DeadlineClock: PassObserver {
  private let end: ContinuousClock.Instant
  private var trainings: Int
  private var isLate: (() -> Bool)?

  /// A clock for a pipeline that began at `start` and has so many seconds.
  init(_ pipeline: Pipeline, start: ContinuousClock.Instant, training seconds: Double) {
    end = start + .seconds(seconds)
    trainings = pipeline.passes.count(where: DeadlineClock.isTraining)
  }

  private static func isTraining(_ pass: any Pass) -> Bool {
    switch pass {
    case let distil as Distil: distil.steps > 0
    case let tune as FineTune: tune.steps > 0
    case let retain as Retain: retain.rule == .halt && retain.halting.steps > 0
    default: false
    }
  }

  /// Tells what runs in `context`.
  func watch(_ context: PassContext) { context.isLate = { [self] in isLate?() ?? false } }

  func before(_ pass: any Pass, _ hybrid: Hybrid) {
    guard DeadlineClock.isTraining(pass) else { return }
    let now = ContinuousClock.now
    let own = now + (end - now) / Double(max(trainings, 1))
    trainings -= 1
    isLate = { ContinuousClock.now >= own }
  }

  func after(_ pass: any Pass, _ hybrid: Hybrid, _ result: Result<PassResult, any Error>) { isLate = nil }
}
