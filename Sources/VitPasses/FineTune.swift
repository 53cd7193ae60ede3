public import VitIR
internal import VitRuntime
internal import VitTrain

/// Trains the whole hybrid towards the teacher: hidden states, softened logits and, where there are any,
/// labels (Mixers.md §3).
///
/// Keeps the better of before and after on the held-out samples, of the last weights and their running
/// average; a rate that makes things worse in the first tenth of the steps is backed off once.
public struct FineTune: Pass {
  /// `fine-tune`.
  public static let name = "fine-tune"
  /// See `Pass`.
  public static let summary = "Trains the hybrid end to end towards the teacher"
  /// See `Pass`.
  public static let example =
    "swap{layers=[0]},distil{steps=100},select{layers=[0]},restore,fine-tune{steps=50}"

  /// What is trained.
  public enum Scope: String, CaseIterable, Sendable {
    /// All weights.
    case all
    /// Those of the blocks in which a mixer stands: mixers, norms and perceptrons.
    case blocks
    /// All but those that make attention maps: queries and keys.
    case besideMaps = "beside-maps"
  }

  /// What is trained.
  public var train: Scope
  /// Steps of the optimiser.
  public var steps: Int
  /// Samples of a step.
  public var batch: Int
  /// The highest learning rate; without one the best of several on the held-out samples.
  public var rate: Double?
  /// The norm to which the gradient is clipped.
  public var clip: Double
  /// What logits are divided by before they are compared.
  public var temperature: Double
  /// The held-out samples that decide which weights are kept; by default all.
  public var images: Int?
  /// What the products of its steps are computed in.
  public var precision: ProductPrecision

  /// The pass.
  public init(
    steps: Int = 200, batch: Int = 64, rate: Double? = nil, clip: Double = 1, temperature: Double = 2,
    images: Int? = nil, train: Scope = .all, precision: ProductPrecision = .f32
  ) {
    self.precision = precision
    self.train = train
    self.steps = steps
    self.batch = batch
    self.rate = rate
    self.clip = clip
    self.temperature = temperature
    self.images = images
  }

  /// Takes `steps` (200), `batch` (64), `rate` (by default the best on the held-out samples of 0.001 to
  /// 0.000005, tried for a tenth of the steps each, from the highest on until one is worse than that before), `clip` (1), `temperature` (2), `images` (all held-out ones): those that decide which weights are kept, and `train` (all;
  /// blocks: only the weights of the blocks in which a mixer stands; or beside-maps: all but those of queries and keys), and `precision` (f32; or bf16): what the products of
  /// its steps are computed in.
  public init(options: inout OptionReader) throws(VitError) {
    self.init()
    steps = try options.value("steps", default: steps)
    batch = try options.value("batch", default: batch)
    if options.word("rate", of: ["auto"]) == nil, let text = options.text("rate") {
      guard let value = Double(text) else { throw FineTune.badRate(text) }
      rate = value
    }
    clip = try options.value("clip", default: clip)
    temperature = try options.value("temperature", default: temperature)
    images = try options.optional("images")
    train = try options.choice("train", default: train)
    precision = try options.choice("precision", default: precision)
  }

  /// Throws where a number is out of range.
  public func check() throws(VitError) {
    if let rate, !(rate > 0 && rate.isFinite) { throw FineTune.badRate("\(rate)") }
    guard clip > 0, temperature > 0, (images ?? 1) > 0 else {
      throw VitError(
        "fine-tune: expected clip > 0, temperature > 0 and images > 0", kind: .usage, code: "option-value")
    }
    try Effort.check(FineTune.name, steps: steps, batch: batch)
  }

  private static func badRate(_ text: String) -> VitError {
    VitError(
      "fine-tune: option 'rate' cannot be '\(text)' (expected a number above 0, or auto)", kind: .usage,
      code: "option-value")
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    [
      ("steps", "\(steps)"), ("batch", "\(batch)"), ("rate", rate.map { "\($0)" } ?? "auto"),
      ("clip", "\(clip)"),
      ("temperature", "\(temperature)"),
    ] + (images.map { [("images", "\($0)")] } ?? []) + [("train", train.rawValue)] + precision.option
  }

  /// The rates tried where none is given, from the highest on.
  static let rates = [1e-3, 5e-4, 1e-4, 2e-5, 5e-6]
  /// How many of them are tried, as a rule, before a lower one does no better.
  static let usualTrials = 4

  /// Trains; where an operation has no gradient, warns and leaves the graph as it is.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    guard steps > 0 else { return PassResult() }
    let teacher = try hybrid.teacher(for: FineTune.name)
    guard try hybrid.graph.firstDifference(from: teacher.graph) != nil else {
      return context.nothingReplaced(for: FineTune.name)
    }
    let data = try context.samples(for: FineTune.name)
    let heldOut = context.heldOut ?? data
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: heldOut, samples: heldOut.spread(images), context: context)
    let graph = hybrid.graph
    let before = try meter.measure(graph)
    let trainer: HybridTrainer
    do {
      trainer = try self.trainer(of: hybrid, teacher, data, context)
    } catch let error as VitError where error.diagnostic.code == "no-gradient" {
      var note = error.diagnostic
      note.severity = .warning
      note.help = "the hybrid is left as it was distilled"
      context.report(note)
      return PassResult(notes: ["not trained"])
    }
    let start = try trainer.weights(of: graph)
    var step = 0
    if let resumed = try trainer.resume(of: steps) {
      step = resumed
    } else {
      trainer.peak = try rate ?? chooseRate(trainer, start, meter, graph, context)
    }
    var schedule = Schedule(peak: trainer.peak, steps: steps)
    let probe = max(1, steps / 10)
    var stop: PassResult.Stop?
    while step < steps {
      if context.isLate() {
        stop = PassResult.Stop(pass: FineTune.name, step: step, steps: steps)
        break
      }
      var isLost = false
      var isWorse = false
      if step == probe, !trainer.isProbed {
        let damage = try trainer.measure(graph, by: meter).damage
        isWorse = !(damage <= before.damage * FineTune.early)
        isLost = !(damage <= before.damage * FineTune.hopeless)
        trainer.isProbed = !isWorse
      }
      if !isWorse {
        isLost = !(try trainer.train(step, of: steps, rate: schedule.rate(at: step), clip: clip).isFinite)
      }
      if isLost || isWorse {
        trainer.noteSetback(step: step, rate: schedule.rate(at: step), isLost ? .lost : .worse)
        // What comes after a loss that is no number is lost; the rate is backed off once.
        if trainer.isProbed { break }
        try trainer.reset(to: start)
        schedule = Schedule(peak: schedule.peak / 4, steps: steps)
        trainer.peak = schedule.peak
        trainer.isProbed = true
        step = 0
        continue
      }
      step += 1
      if step % probe == 0 || step == steps { try trainer.save(step) }
    }
    try trainer.finish()
    // The optimiser has both, the last weights and their average: no copy is made of either.
    var best = (damage: before.damage, label: "before")
    for label in ["after", "averaged"] {
      if label == "averaged" { trainer.exchangeAverage() }
      let damage = try trainer.measure(graph, by: meter).damage
      if damage < best.damage { best = (damage, label) }
    }
    switch best.label {
    case "before": try trainer.restore(start)
    case "after": trainer.exchangeAverage()
    default: break
    }
    hybrid.graph = trainer.graph(from: graph)
    return PassResult(
      changes: trainer.parameterCount,
      notes: [
        "rate \(schedule.peak), kept the weights \(best.label)", "damage \(before.damage) to \(best.damage)",
      ], divergences: trainer.divergences, stops: stop.map { [$0] } ?? [],
      damage: (before.damage, best.damage), curves: [trainer.curve].filter { !$0.points.isEmpty })
  }

  /// What trains `hybrid`.
  func trainer(
    of hybrid: Hybrid, _ teacher: Teacher, _ data: any SampleSource, _ context: PassContext
  ) throws -> HybridTrainer {
    try HybridTrainer(
      hybrid, teacher: teacher, data: data, train: train, batch: batch, temperature: temperature,
      steps: steps, precision: precision, context: context)
  }

  /// The largest rate whose trial leaves little more damage than the best one's.
  ///
  /// A trial is a tenth of the steps, and at least 25 of them where there are a hundred: shorter ones only show that large
  /// rates have not settled yet. For the same reason the largest of nearly equal rates is taken.
  private func chooseRate(
    _ trainer: HybridTrainer, _ start: [Tensor], _ meter: FidelityMeter, _ graph: Graph,
    _ context: PassContext
  ) throws -> Double {
    var trials: [(damage: Double, rate: Double)] = []
    let count = FineTune.trialSteps(of: steps)
    for rate in FineTune.rates where !context.isLate() {
      let schedule = Schedule(peak: rate, steps: count)
      var first: Double?
      var isLost = false
      for step in 0..<count where !isLost && !context.isLate() {
        let loss = try trainer.train(
          step, of: count, rate: schedule.rate(at: step), clip: clip, phase: "rate \(rate)")
        isLost = !(loss <= FineTune.hopeless * (first ?? loss))
        if isLost { trainer.noteSetback(step: step, rate: rate, .lostTrial) }
        first = first ?? loss
      }
      let known = trials.last?.damage
      if !isLost { trials.append((try trainer.measure(graph, by: meter).damage, rate)) }
      try trainer.reset(to: start)
      if let known, let damage = trials.last?.damage, damage >= known { break }
    }
    let least = trials.reduce(Double.infinity) { min($0, $1.damage) }
    return trials.first { $0.damage <= least * 1.2 }?.rate ?? FineTune.rates[FineTune.rates.count - 1]
  }

  /// How many times what it began with the damage may be after a tenth of the steps. Adam's first steps have the size of the
  /// rate in every weight, whatever the gradient's noise: a model that is nearly right gets worse by them (1.6 times, seen at the
  /// best rate on a teacher with 12 layers), and better as the rate falls.
  private static let early = 2.5
  /// How many times what it began with a loss, or the damage, may reach before training counts as astray.
  private static let hopeless = 8.0

  /// The steps that one rate is tried for.
  static func trialSteps(of steps: Int) -> Int { max(1, steps / 10, min(25, steps / 4)) }
}
