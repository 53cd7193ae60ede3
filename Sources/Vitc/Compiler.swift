internal import VitFormats
public import VitIR
public import VitPasses
internal import VitRuntime

/// Makes a smaller, faster hybrid of a trained vision transformer.
public struct Compiler: Sendable {
  /// How it compiles.
  public let options: CompilerOptions

  /// What is found out while a compile runs, in the order in which it comes.
  public enum Event: Sendable {
    /// The most that replacement can give, when `count` layers are replaced.
    case bound(Bound, count: Int)
    /// The pipeline that will run.
    case pipeline(String)
    /// The scores of the layers.
    case scores([Report.Layer])
    /// The layers chosen, and why.
    case choice([Report.Layer], notes: [String])
  }

  /// What a compile makes.
  public struct Compilation: Sendable {
    /// The hybrid, its weights rounded, with probes and lineage.
    public var model: Model
    /// What was found out, chosen and reached.
    public var report: Report
  }

  /// A compiler; throws a usage error where the options make no sense.
  public init(_ options: CompilerOptions = CompilerOptions()) throws(VitError) {
    try options.validate()
    self.options = options
  }

  /// Throws a usage error where `options` go on from a checkpoint and there is none.
  public static func checkCheckpoint(_ options: CompilerOptions) throws(VitError) {
    guard options.resumes else { return }
    guard let path = options.checkpoint else {
      throw VitError(
        "there is no checkpoint to go on from: the output is a device or a pipe", kind: .usage,
        code: "no-checkpoint")
    }
    if !CheckpointFile.exists(path) { throw CheckpointFile.missing(path) }
  }

  /// Compiles `teacher`, trained on `data` (synthetic images by default) and measured on `evaluation` (by default the part of
  /// the data that nothing was trained on).
  ///
  /// Throws where the teacher has no layer that can be replaced or weights that are no numbers, and when it is stopped.
  public func compile(
    _ teacher: Model, _ data: Samples? = nil, evaluation: Samples? = nil, progress: Progress = Progress(),
    events: (Event) -> Void = { _ in }
  ) throws -> Compilation {
    do {
      let run = try CompilerRun(teacher, data, evaluation, options, progress)
      return try run.compile(events)
    } catch let error as VitError where error.kind == .input { throw error.at(Location(file: teacher.path)) }
  }
}

/// One compile.
final class CompilerRun {
  private let teacher: Model
  private let options: CompilerOptions
  private let progress: Progress
  private let pool: any WorkPool
  private let origin: Teacher
  private let data: Samples
  private let training: Samples
  private let heldOut: Samples
  private let evaluation: Samples
  private let pipeline: Pipeline
  private let checkpoint: CheckpointFile?
  private let lineage: [(key: String, value: String)]

  init(
    _ original: Model, _ data: Samples?, _ evaluation: Samples?, _ options: CompilerOptions,
    _ progress: Progress
  ) throws {
    self.options = options
    self.progress = progress
    if let problem = original.diagnostics.first(where: { $0.code == "non-finite-weight" }) {
      throw VitError(
        problem.message, code: problem.code, help: "a model with such weights cannot be distilled")
    }
    try CompilerRun.check(options, original.hybrid.layers)
    pool = ThreadPool(threads: options.threads)
    let data = try data ?? Samples.synthetic(for: original, seed: options.seed, report: progress.report)
    self.data = data
    var teacher = original
    if let hybrid = try ModelShapes(original.graph).fixed(to: data.shape, pool: pool) {
      progress.report(
        Diagnostic(
          .note, "the model takes images of any size; the hybrid is for \(data.shape)", code: "fixed-size"))
      teacher.hybrid = hybrid
    }
    self.teacher = teacher
    origin = Teacher(teacher.hybrid)
    let cost = try ModelCost(teacher.graph, inputShapes: teacher.inputShapes(), pool: pool)
    let plan = CompilerPlan(
      options, cost: cost, graph: teacher.graph, layers: origin.layers, samples: data.count)
    pipeline = try options.pipeline(
      distilSteps: plan.distilSteps, fineTuneSteps: plan.fineTuneSteps, batch: plan.batch)
    for case let swap as Swap in pipeline.passes { try swap.check(teacher.hybrid) }
    // A single sample has to do for both.
    (training, heldOut) =
      data.count > 1 ? data.holdingOut(plan.heldOut, seed: options.seed) : (data, data)
    self.evaluation = evaluation ?? heldOut
    let lineage = try Lineage.entries(
      teacher: teacher, data: data, pipeline: pipeline, seed: options.seed)
    self.lineage = lineage
    checkpoint = try options.checkpoint.map { path in
      try CheckpointFile(
        path: path, identity: Lineage.digest(lineage), resuming: options.resumes, report: progress.report)
    }
  }

  /// Throws where there is no layer that can be replaced, and a usage error where such a layer is asked for.
  private static func check(_ options: CompilerOptions, _ sites: [Layer]) throws(VitError) {
    guard let first = sites.first else {
      throw VitError(
        "the model has no attention layers", code: "no-attention",
        help: "'vitc inspect --explain' tells what was nearly recognised")
    }
    if let obstacle = first.obstacle, sites.allSatisfy({ !$0.isReplaceable }) {
      throw VitError(
        "none of the \(sites.count) attention layers can be replaced: \(obstacle)", code: "no-replaceable")
    }
    guard options.passes == nil else { return }
    let replaceable = sites.filter(\.isReplaceable).map(\.index)
    func bad(_ message: String) -> VitError {
      VitError(
        message, kind: .usage, code: "layer-not-replaceable",
        help: "vitc inspect lists the layers and the reasons")
    }
    switch options.replace {
    case .count(let count) where count > replaceable.count:
      throw bad("\(count) layers are to be replaced, but only \(replaceable.count) of \(sites.count) can be")
    case .layers(let layers):
      if let layer = layers.first(where: { !replaceable.contains($0) }) {
        throw bad(
          sites.contains { $0.index == layer }
            ? "layer \(layer) cannot be replaced" : "there is no layer \(layer): the model has \(sites.count)"
        )
      }
    default: break
    }
  }

  func compile(_ events: (Compiler.Event) -> Void) throws -> Compiler.Compilation {
    do {
      let result = try train(events)
      checkpoint?.remove()
      return result
    } catch let error as VitError where error.kind == .interrupted {
      throw explained(error)
    } catch {
      checkpoint?.remove()
      throw error
    }
  }

  private func explained(_ error: VitError) -> VitError {
    guard let checkpoint, !checkpoint.isEmpty else { return error }
    var copy = error
    copy.diagnostic.message = "interrupted; what was trained so far is in '\(checkpoint.path)'"
    copy.diagnostic.help = "the same command with --resume goes on from there"
    return copy
  }

  private func train(_ events: (Compiler.Event) -> Void) throws -> Compiler.Compilation {
    let bound = try self.bound()
    events(.bound(bound, count: count))
    events(.pipeline(pipeline.description))
    var (hybrid, layers) = try hybrid(events)
    hybrid.graph = try hybrid.graph.roundingWeights(to: options.weights)
    var report = try report(hybrid, bound: bound, layers: layers)
    report.controls = try controls(report.selected)
    var contents = VModFile(hybrid)
    contents.preprocessing = training.settings
    contents.labels = teacher.labels ?? []
    contents.lineage = lineage
    contents.probes = try probes(hybrid.graph)
    contents.report = report.json(withTimes: false).text
    if !options.isReproducible { contents.measurements = report.json().text }
    let model = Model(contents, path: nil, format: .vmod, files: [], byteCount: 0, diagnostics: [])
    return Compiler.Compilation(model: model, report: report)
  }

  /// Runs the pipeline. What it takes in memory is gone when this returns.
  private func hybrid(_ events: (Compiler.Event) -> Void) throws -> (Hybrid, [Report.Layer]) {
    let context = PassContext(pool: pool, registry: .vitc, seed: options.seed, progress: progress)
    context.data = training
    context.heldOut = heldOut
    context.checkpoint = checkpoint
    let watcher = LayerWatcher()
    var hybrid = Hybrid(of: origin)
    try withoutActuallyEscaping(events) { events in
      watcher.events = events
      defer { watcher.events = { _ in } }
      try pipeline.run(on: &hybrid, context: context, observers: [watcher])
    }
    // What was chosen on the way does not count, but what the hybrid has in the place of attention.
    let replaced = hybrid.replaced.map(\.index)
    let layers = Report.layers(of: hybrid).map { layer in
      var layer = layer
      layer.isSelected = replaced.contains(layer.index)
      return layer
    }
    hybrid.teacher = nil
    return (hybrid, layers)
  }

  /// How many layers will be replaced.
  private var count: Int {
    CompilerPlan.replacements(of: pipeline, among: origin.layers)
  }

  private func bound() throws -> Bound {
    let executor = try Executor(
      teacher.graph, weights: WeightStore(teacher.graph), inputShapes: teacher.inputShapes(), pool: pool)
    return try Bound(teacher.graph, layers: origin.layers, executor: executor, pool: pool)
  }

  private func report(_ hybrid: Hybrid, bound: Bound, layers: [Report.Layer]) throws -> Report {
    func size(_ graph: Graph, _ bytes: Int?) throws -> Report.Size {
      let cost = try ModelCost(graph, inputShapes: teacher.inputShapes(), pool: pool)
      return Report.Size(parameters: cost.total.parameters, flops: cost.total.flops, bytes: bytes)
    }
    let fidelity = try fidelity(of: hybrid.graph)
    let shapes = try teacher.inputShapes()
    let timing = try Evaluation.times(
      [teacher.graph, hybrid.graph], shapes: [shapes, shapes], pool: pool, seconds: 1, progress: progress)
    return Report(
      pipeline: pipeline.description, seed: options.seed, mixer: mixer(of: hybrid), layers: layers,
      teacher: try size(teacher.graph, teacher.byteCount), hybrid: try size(hybrid.graph, nil), bound: bound,
      fidelity: fidelity, samples: (training.count, heldOut.count, evaluation.count),
      timing: (timing[0], timing[1]))
  }

  private func fidelity(of hybrid: Graph) throws -> Fidelity {
    let context = PassContext(pool: pool, registry: .vitc, seed: options.seed, progress: progress)
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: evaluation, context: context,
      progress: { progress.advance("measure teacher", $0, $1, "") })
    return try meter.measure(hybrid) { progress.advance("measure hybrid", $0, $1, "") }
  }

  /// The kind of the first mixer.
  private func mixer(of hybrid: Hybrid) -> String {
    hybrid.layers.first { !$0.isAttention }?.kind ?? Layer.attention
  }

  /// The same layers replaced by mixers that do not mix, or by nothing, trained for the same steps.
  private func controls(_ layers: [Int]) throws -> [Report.Control] {
    guard options.comparesControls, !layers.isEmpty else { return [] }
    return try ["none", "pointwise"].filter { $0 != options.mixer }.map { mixer in
      var same = options
      same.mixer = mixer
      same.replace = .layers(layers)
      (same.width, same.heads, same.order) = (nil, nil, nil)
      let context = PassContext(pool: pool, registry: .vitc, seed: options.seed, progress: progress)
      context.data = training
      context.heldOut = heldOut
      var hybrid = Hybrid(of: origin)
      let steps = CompilerPlan.steps(of: pipeline)
      let passes = try same.pipeline(
        distilSteps: steps.distil, fineTuneSteps: steps.fineTune, batch: steps.batch)
      try passes.run(on: &hybrid, context: context)
      let meter = try FidelityMeter(teacher: teacher.graph, data: evaluation, context: context)
      return Report.Control(
        mixer: mixer, fidelity: try meter.measure(try hybrid.graph.roundingWeights(to: options.weights)))
    }
  }

  /// Inputs of the model with what it gives for them, computed from the rounded weights.
  private func probes(_ graph: Graph) throws -> [Probe] {
    let session = try Session(graph, pool: pool)
    let batch = teacher.batchSymbol == nil ? 1 : min(2, heldOut.count)
    let shape = [batch] + heldOut.shape
    let input = try Tensor(.f32, shape: shape) { buffer in
      let values = buffer.bindMemory(to: Float.self)
      let size = values.count / batch
      for row in 0..<batch {
        try heldOut.read(
          row, variant: nil, into: UnsafeMutableBufferPointer(rebasing: values[row * size..<(row + 1) * size])
        )
      }
    }
    let outputs = try session.run([input])
    let tolerance = 1e-3
    return [
      Probe(
        inputs: zip(graph.inputs, [input]).map { (graph[$0].name, $1) },
        outputs: zip(graph.outputs, outputs).map { ($0.name, $1) }, tolerance: tolerance)
    ]
  }
}

/// Tells of what passes find out about the layers while a pipeline runs.
private final class LayerWatcher: PassObserver {
  var events: (Compiler.Event) -> Void = { _ in }

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
