internal import VitFormats
public import VitIR
public import VitPasses
internal import VitRuntime

/// Makes a smaller, faster hybrid of a trained vision transformer.
public struct Compiler: Sendable {
  /// How it compiles.
  public let options: CompilerOptions

  /// What is found out while a compile runs, in the order in which it comes.
  public typealias Event = CompileEvent

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
  /// Throws where the teacher has no layer that can be replaced or weights that are no numbers, and when it is stopped. What
  /// `options.checkpoint` names stays, whatever the end: who keeps the result removes it, as `compile(_:_:to:)` does.
  public func compile(
    _ teacher: Model, _ data: Samples? = nil, evaluation: Samples? = nil, progress: Progress = Progress(),
    events: (Event) -> Void = { _ in }
  ) throws -> Compilation {
    try compilation(teacher, data, evaluation, progress, events)
  }

  /// Compiles as `compile` does and writes the hybrid to `path`. `other` is handed the models of other points of the search,
  /// where `options` ask for them: as they are made, one by one, before the hybrid is written.
  ///
  /// The checkpoint goes when the output is in its place, and only then: it survives errors, a full disk and a kill.
  @discardableResult
  public func compile(
    _ teacher: Model, _ data: Samples? = nil, evaluation: Samples? = nil, to path: String,
    as format: Model.Format? = nil, progress: Progress = Progress(), events: (Event) -> Void = { _ in },
    other: (Compilation) throws -> Void = { _ in }
  ) throws -> Compilation {
    var result = try compilation(teacher, data, evaluation, progress, events, other) { result in
      try result.model.write(to: path, as: format, atMost: options.target?.byteCount ?? .max)
    }
    result.report.hybrid.bytes = TextFile.byteCount(of: path)
    return result
  }

  /// The layers that a compile of `teacher` may distil, each of which can be a step of its own (`makePart`): all that can be replaced,
  /// where which are is only found out on the way. None where the pipeline distils nothing.
  ///
  /// Throws as `compile` does where the options do not fit the teacher.
  public func parts(of teacher: Model) throws -> [Int] {
    // Layers are looked for in floats, as where they are replaced.
    let layers = try (teacher.inFloats(threads: options.threads) ?? teacher).hybrid.layers
    try CompilePlan.check(options, layers)
    guard options.replacesLayers else { return [] }
    let replaceable = layers.filter(\.isReplaceable).map(\.index)
    guard let passes = options.pipeline?.passes else {
      if case .layers(let chosen) = options.replace { return Set(chosen).sorted() }
      return replaceable
    }
    guard let end = passes.firstIndex(where: { $0 is Distil }) else { return [] }
    var parts: Set<Int> = []
    for case let swap as Swap in passes[..<end] {
      switch swap.layers {
      case .listed(let listed): parts.formUnion(listed)
      case .all, .selected: parts.formUnion(replaceable)
      }
    }
    return parts.sorted()
  }

  /// Does a step of a compile that is done in several: what is next to be done for one layer alone, for `options.parts` of the compile
  /// itself. That is to distil it, or, where `options.parts` have all layers distilled, to make what else may stand in its place
  /// (`choosesParts`). With the same teacher, data and options a compile gives the same bytes as without.
  ///
  /// The file at `path` appears whole or not at all. Throws as `compile` does, and a usage error where the pipeline distils nothing.
  public func makePart(
    _ layer: Int, of teacher: Model, _ data: Samples? = nil, evaluation: Samples? = nil, to path: String,
    progress: Progress = Progress()
  ) throws {
    let layers = try parts(of: teacher)
    guard layers.isEmpty || layers.contains(layer) else {
      throw VitError(
        "layer \(layer) has no part of its own, only \(layers) have", kind: .usage,
        code: "layer-not-replaceable", help: "'vitc plan' lists the steps of a compile")
    }
    do { try CompileJob(teacher, data, evaluation, options, progress).makePart(layer, to: path) } catch let
      error as VitError where error.kind == .input
    { throw error.at(Location(file: teacher.path)) }
  }

  /// Whether there may be something else to stand in the place of a layer that was distilled, which is a step of its own.
  public var choosesParts: Bool {
    guard let passes = options.pipeline?.passes else {
      return options.replacesLayers && options.select == .auto
    }
    guard let end = passes.firstIndex(where: { $0 is Distil }), end + 1 < passes.count else { return false }
    return (passes[end + 1] as? Select)?.criterion == .auto
  }

  /// Compiles, hands the result to `keep`, and removes the checkpoint where that is done and nothing was thrown.
  private func compilation(
    _ teacher: Model, _ data: Samples?, _ evaluation: Samples?, _ progress: Progress,
    _ events: (Event) -> Void, _ other: (Compilation) throws -> Void = { _ in },
    keep: ((Compilation) throws -> Void)? = nil
  ) throws -> Compilation {
    do {
      let job = try CompileJob(teacher, data, evaluation, options, progress)
      do {
        let result = try job.run(events, other)
        try keep?(result)
        if keep != nil { job.checkpoint?.remove() }
        return result
      } catch let error as VitError {
        // A file that holds nothing to go on from is of no use to anybody.
        if error.kind == .check, job.checkpoint?.isEmpty ?? false { job.checkpoint?.remove() }
        throw job.explained(error)
      }
    } catch let error as VitError where error.kind == .input { throw error.at(Location(file: teacher.path)) }
  }
}

/// One compile: the files that a run takes its teacher, data and checkpoint from, and what goes into its output beside the
/// hybrid.
private struct CompileJob {
  private let teacher: Model
  private let options: CompilerOptions
  private let pool: any WorkPool
  private let run: CompileRun
  private let training: Samples
  private let heldOut: Samples
  private let lineage: [(key: String, value: String)]
  private let form: BatchForm
  private let identity: Digest
  private let parts: [CheckpointFile]
  /// Where what was trained so far is kept.
  let checkpoint: CheckpointFile?

  init(
    _ original: Model, _ data: Samples?, _ evaluation: Samples?, _ options: CompilerOptions,
    _ progress: Progress
  ) throws {
    let options = data == nil ? try options.withoutData() : options
    self.options = options
    if let weight = original.nonFiniteWeights.first {
      throw VitError(
        weight.message, code: "non-finite-weight", help: "a model with such weights cannot be distilled")
    }
    pool = ThreadPool.shared(threads: options.threads)
    let floats = try original.inFloats(threads: options.threads)
    for note in floats?.diagnostics ?? [] where note.code == "dequantised" { progress.report(note) }
    var teacher = floats ?? original
    let data =
      try data
      ?? Samples.synthetic(
        for: original, seed: options.seed, threads: options.threads, report: progress.report)
    let context = PassContext(pool: pool, registry: .vitc, seed: options.seed, progress: progress)
    if try FixSize(sample: data.shape).run(on: &teacher.hybrid, context: context).changes > 0 {
      progress.report(
        Diagnostic(
          .note, "the model takes images of any size; the hybrid is for \(data.shape)", code: "fixed-size"))
    }
    self.teacher = teacher
    try CompilePlan.check(options, teacher.hybrid.layers)
    let origin = Teacher(teacher.hybrid)
    let shapes = try teacher.inputShapes()
    form = BatchForm(teacher.graph, sample: data.shape)
    if let batch = options.batch, form.rounded(batch) != batch {
      progress.report(
        Diagnostic(
          .note, "a step takes \(form.rounded(batch)) samples, for the batch is fixed at \(form.count ?? 1)",
          code: "rounded-batch"))
    }
    var plan = CompilePlan(
      options, teacher: origin, form: form,
      cost: try ModelCost(teacher.graph, inputShapes: shapes, samples: form.count ?? 1, pool: pool),
      samples: data.count, evaluation: evaluation?.count,
      reading: data.areFiles ? Budget.readingFile : Budget.reading,
      storedBytes: options.target.map { $0.byteCount < .max } ?? false
        ? try VModWriter.frameByteCount(
          options.narrowed(teacher.graph), weights: options.weights.isQuantised ? .f16 : options.weights)
        : nil)
    for case let swap as Swap in plan.pipeline.passes { try swap.check(teacher.hybrid) }
    if let evaluation, plan.asksForProfile {
      let unseen = evaluation.sampled(min(plan.evaluation, CompilePlan.profiled), seed: options.seed)
      let meter = try FidelityMeter(
        teacher: teacher.graph, data: unseen, context: context, screening: false,
        progress: { progress.advance("look at unseen", $0, $1, "") })
      if let profile = meter.profile { plan.judge(like: profile) }
    }
    let split = try data.holdingOut(plan.heldOut, seed: options.seed)
    training = split.training
    // What is measured at the end is not what was chosen by: without data of its own it is the other half of what is held out.
    let halves =
      evaluation == nil && split.heldOut.count > 1
      ? try split.heldOut.holdingOut(split.heldOut.count / 2, seed: options.seed)
      : (training: split.heldOut, heldOut: evaluation ?? split.heldOut)
    heldOut = halves.training
    run = CompileRun(
      plan, teacher: origin, shapes: shapes,
      data: .init(
        training: training, heldOut: heldOut,
        evaluation: (evaluation ?? halves.heldOut).sampled(plan.evaluation, seed: options.seed)),
      quantised: floats == nil ? nil : original.graph, options: options, pool: pool, progress: progress)
    lineage = try Lineage.entries(
      teacher: teacher, data: data, evaluation: evaluation, pipeline: plan.pipeline, seed: options.seed,
      heldOut: plan.heldOut, measured: plan.evaluation, deadline: options.deadline)
    let identity = Lineage.digest(lineage)
    self.identity = identity
    parts = try options.parts.map { try CheckpointFile(part: $0, identity: identity) }
    checkpoint = try options.checkpoint.map { path in
      try CheckpointFile(
        path: path, identity: identity, resuming: options.resumes, report: progress.report)
    }
  }

  /// An error, with what it leaves behind to go on from.
  func explained(_ error: VitError) -> VitError {
    guard let checkpoint, !checkpoint.isEmpty else { return error }
    var copy = error
    let place = "what was trained so far is in '\(checkpoint.path)'"
    if error.kind == .interrupted {
      copy.diagnostic.message = "interrupted; \(place)"
      copy.diagnostic.help = "the same command with --resume goes on from there"
    } else {
      let help = error.diagnostic.help.map { "\($0); " } ?? ""
      copy.diagnostic.help = "\(help)\(place): the same command with --resume goes on from there"
    }
    return copy
  }

  func run(
    _ events: (Compiler.Event) -> Void, _ other: (Compiler.Compilation) throws -> Void
  ) throws -> Compiler.Compilation {
    let (hybrid, report) = try run.compile(checkpoint: checkpoint, parts: parts, events: events) {
      hybrid, report in
      try other(compilation(hybrid, report))
    }
    return try compilation(hybrid, report)
  }

  /// Does what is next to be done for one layer alone, and writes it to `path`.
  func makePart(_ layer: Int, to path: String) throws {
    // What is written is there whole, or not at all.
    let part = GatheredPart()
    try run.makePart(layer, after: parts, in: part)
    try CheckpointFile.write(part.entries, to: path, identity: identity)
  }

  /// A hybrid with what goes with it.
  private func compilation(_ hybrid: Hybrid, _ report: Report) throws -> Compiler.Compilation {
    var (hybrid, report) = (hybrid, report)
    report.teacher.bytes = teacher.byteCount
    hybrid.teacher = nil
    let card = Model.Card(preprocessing: training.settings, labels: teacher.labels ?? [])
    let origin = Model.Origin(
      lineage: lineage, probes: try probes(hybrid.graph), report: report.json(withTimes: false).text,
      measurements: options.isReproducible ? nil : report.json().text)
    return Compiler.Compilation(model: Model(hybrid, card: card, origin: origin), report: report)
  }

  /// Inputs of the model with what it gives for them, computed from the rounded weights.
  ///
  /// The first held-out samples for which those are numbers; throws where there are none.
  private func probes(_ graph: Graph) throws -> [Probe] {
    let session = try Session(graph, pool: pool)
    let batch = form.count ?? min(2, heldOut.count)
    for first in 0...max(0, heldOut.count - batch) {
      let samples = (first..<first + batch).map { $0 % heldOut.count }
      let given = try graph.inputs.enumerated().map { place, id in
        try tensor(of: samples, input: place, graph.type(id).element)
      }
      let outputs = try session.run(given)
      guard try outputs.allSatisfy({ try $0.isFinite() }) else { continue }
      return [
        Probe(
          inputs: zip(graph.inputs, given).map { (graph[$0].name, $1) },
          outputs: zip(graph.outputs, outputs).map { ($0.name, $1) }, tolerance: CompileJob.tolerance)
      ]
    }
    throw VitError(
      "the hybrid gives no numbers for any of \(heldOut.count) held-out samples", kind: .check,
      code: "non-finite-hybrid")
  }

  /// What held-out samples give to the input at `place`; what takes whole numbers is kept as such.
  private func tensor(of samples: [Int], input place: Int, _ element: ElementType) throws -> Tensor {
    let sample = place == 0 ? heldOut.shape : heldOut.furtherShapes[place - 1]
    let shape = form.shape(samples.count, sample)
    let floats = try Tensor(.f32, shape: shape) { buffer in
      let values = buffer.bindMemory(to: Float.self)
      let size = values.count / samples.count
      for (row, index) in samples.enumerated() {
        let target = UnsafeMutableBufferPointer(rebasing: values[row * size..<(row + 1) * size])
        if place == 0 {
          try heldOut.read(index, variant: nil, into: target)
        } else {
          try heldOut.readFurther(index, input: place - 1, into: target)
        }
      }
    }
    return element.isFloat ? floats : Tensor(element, shape: shape, values: try floats.doubles())
  }

  /// How far outputs may be from a probe's.
  private static let tolerance = 1e-3
}
