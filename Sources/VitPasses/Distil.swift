public import VitIR
internal import VitOps
internal import VitRuntime
internal import VitTrain

/// Trains every mixer of the graph on the tokens that the teacher has before it, towards what the teacher's
/// layer gave there (Mixers.md §3): all layers in one sweep of the data, each with its own optimiser.
public struct Distil: Pass {
  /// `distil`.
  public static let name = "distil"
  /// See `Pass`.
  public static let summary = "Trains the mixers layer by layer towards the attention they replace"

  private let steps: Int
  private let batch: Int
  private let rate: Double
  private let clip: Double
  private let solve: Bool

  /// Takes `steps` (400), `batch` (64), `rate` (0.002), `clip` (1) and `solve` (true): whether the last
  /// linear map is also solved for by ridge regression.
  public init(options: inout OptionReader) throws(VitError) {
    steps = try options.value("steps", default: 400)
    batch = try options.value("batch", default: 64)
    rate = try options.value("rate", default: 2e-3)
    clip = try options.value("clip", default: 1)
    solve = try options.value("solve", default: true)
    guard rate > 0, rate.isFinite, clip > 0 else {
      throw VitError("distil: expected rate > 0 and clip > 0", kind: .usage, code: "option-value")
    }
    try Effort.check(Distil.name, steps: steps, batch: batch)
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    [
      ("steps", "\(steps)"), ("batch", "\(batch)"), ("rate", "\(rate)"), ("clip", "\(clip)"),
      ("solve", "\(solve)"),
    ]
  }

  /// Samples of the held-out split that decide which weights are kept, and of the data that the readout is
  /// solved on.
  static let checkSamples = 256

  /// Trains, and keeps for each layer the best weights on the held-out samples: first, last or averaged.
  public func run(on graph: inout Graph, context: PassContext) throws -> PassResult {
    let teacher = try context.teacher(for: Distil.name)
    let data = try context.samples(for: Distil.name)
    let mixers = MixerNode.new(in: graph, context: context)
    guard !mixers.isEmpty else { return PassResult() }
    let session = try DistilSession(
      mixers, graph: graph, teacher: teacher, data: data, heldOut: context.heldOut ?? data, batch: batch,
      context: context)
    try session.normalise()
    if solve { try session.solveReadouts(keepBetter: false) }
    try session.train(steps: steps, schedule: Schedule(peak: rate, steps: steps), clip: clip)
    if solve { try session.solveReadouts(keepBetter: true) }
    return try session.finish(&graph)
  }
}

/// One sweep: a teacher that runs on batches, and a trainer for each layer.
private final class DistilSession {
  private let mixers: [MixerNode]
  private let trainers: [MixerTrainer]
  private let tap: TeacherTap
  private let checks: TeacherTap
  private let context: PassContext
  private let dataCount: Int
  private let heldOutCount: Int
  private let batch: Int
  private let micro: Int
  /// The mean of ‖y‖² over calibration tokens times the tokens of a batch: what makes a loss of 1 mean "as
  /// bad as zero".
  private var norms: [Double] = []
  private var kept: [(error: LayerError, weights: [Tensor])] = []

  init(
    _ mixers: [MixerNode], graph: Graph, teacher: Graph, data: any SampleSource, heldOut: any SampleSource,
    batch: Int,
    context: PassContext
  ) throws {
    self.mixers = mixers
    self.context = context
    self.batch = batch
    var values: [ValueID] = []
    var factors: [Tensor?] = []
    for mixer in mixers {
      let (input, target) = try mixer.taps(in: teacher, from: graph)
      let scaled = mixer.scaled(target, in: teacher)
      values += [input, scaled?.result ?? target, target]
      factors.append(scaled?.factors)
    }
    // By all layers that could be distilled: how sums are cut must not depend on which of them are.
    let layers = AttentionLayers.find(in: teacher).layers.flatMap { [$0.input, $0.output].compactMap { $0 } }
    micro = MicroBatch.size(
      batch, bytesPerSample: DistilSession.likesPerValue * MicroBatch.bytes(of: layers, in: teacher))
    let weights = try context.weights(of: teacher)
    tap = try TeacherTap(
      teacher, weights: weights, values: values, batch: micro, data: data, pool: context.pool)
    checks = try TeacherTap(
      teacher, weights: weights, values: values, batch: micro, data: heldOut, pool: context.pool)
    // An image may be several groups of tokens.
    let outputs = tap.executor.outputs
    trainers = try mixers.enumerated().map { place, mixer in
      try MixerTrainer(
        graph, node: mixer.node, layer: mixer.layer, factors: factors[place],
        batch: outputs[3 * place].shape[0], pool: context.pool)
    }
    dataCount = data.count
    heldOutCount = heldOut.count
    guard dataCount > 0, heldOutCount > 0 else {
      throw VitError("there are no samples to distil on", code: "data-empty")
    }
  }

  /// How many values as large as a layer's tokens its trainer holds for each of those that it reads, about.
  private static let likesPerValue = 4

  private func input(_ tap: TeacherTap, _ place: Int) -> View { tap.executor.outputs[3 * place] }
  /// What the layer adds to the residual, scaled as it is there.
  private func target(_ tap: TeacherTap, _ place: Int) -> View { tap.executor.outputs[3 * place + 1] }
  /// What the layer's last linear map gives.
  private func branch(_ tap: TeacherTap, _ place: Int) -> View { tap.executor.outputs[3 * place + 2] }

  /// Runs `tap` on the first samples of its data in order, whole micro-batches only (at least one, wrapping
  /// around).
  private func sweep(_ tap: TeacherTap, count: Int, limit: Int, _ body: () throws -> Void) throws {
    let runs = max(1, min(count, limit) / micro)
    for run in 0..<runs {
      try context.checkCancelled()
      try tap.run((0..<micro).map { (index: (run * micro + $0) % count, variant: nil) })
      try body()
    }
  }

  /// Measures the targets' mean squares.
  func normalise() throws {
    var squares = [Double](repeating: 0, count: trainers.count)
    var samples = 0
    try sweep(tap, count: dataCount, limit: Distil.checkSamples) {
      samples += micro
      for place in trainers.indices {
        squares[place] += SquaredNorm.squared(target(tap, place), pool: context.pool)
      }
    }
    norms = squares.map { max($0 / Double(samples), .leastNormalMagnitude) * Double(batch) }
  }

  /// Solves each mixer's last linear map on calibration tokens.
  func solveReadouts(keepBetter: Bool) throws {
    if keepBetter { try keepIfBetter() }
    var regressions: [(place: Int, inner: Executor?, readout: Readout)] = []
    for (place, trainer) in trainers.enumerated() {
      guard let readout = trainer.makeReadout() else { continue }
      regressions.append((place, try trainer.innerExecutor(), readout))
    }
    try sweep(tap, count: dataCount, limit: Distil.checkSamples) {
      for index in regressions.indices {
        let place = regressions[index].place
        let empty = View(base: branch(tap, place).base, element: .f32, shape: [0])
        if let inner = regressions[index].inner {
          inner.inputs[0].copy(from: input(tap, place))
          inner.run()
        }
        regressions[index].readout.add(
          regressions[index].inner?.outputs[0] ?? empty, branch(tap, place), pool: context.pool)
      }
    }
    for regression in regressions {
      guard let solution = regression.readout.solve() else { continue }
      trainers[regression.place].apply(weight: solution.weight, bias: solution.bias)
      trainers[regression.place].resetAverage()
    }
    try keepIfBetter()
  }

  /// The error of each layer on the held-out samples.
  private func errors() throws -> [LayerError] {
    var errors = trainers.indices.map { LayerError(width: target(checks, $0).shape.last ?? 1) }
    try sweep(checks, count: heldOutCount, limit: Distil.checkSamples) {
      for (place, trainer) in trainers.enumerated() {
        let y = target(checks, place)
        errors[place].add(
          error: trainer.squaredError(input(checks, place), y), of: y,
          squares: SquaredNorm.squared(y, pool: context.pool))
      }
    }
    return errors
  }

  /// Keeps each layer's weights where they are better on the held-out samples than what was kept.
  private func keepIfBetter() throws {
    let errors = try errors()
    if kept.isEmpty {
      kept = zip(errors, trainers).map { ($0, $1.snapshot) }
      return
    }
    for (place, error) in errors.enumerated() where error.relative < kept[place].error.relative {
      kept[place] = (error, trainers[place].snapshot)
    }
  }

  func train(steps: Int, schedule: Schedule, clip: Double) throws {
    guard steps > 0, trainers.contains(where: { $0.isTrainable }) else { return }
    if kept.isEmpty { try keepIfBetter() }
    var order = SampleOrder(count: dataCount, random: context.random("distil"))
    let first = try resume(of: steps)
    var running = [Double](repeating: 0, count: trainers.count)
    for step in first..<steps {
      if context.isCancelled() {
        try save(step)
        try context.checkCancelled()
      }
      let samples = order.batch(step, size: batch)
      var losses = [Double](repeating: 0, count: trainers.count)
      for start in stride(from: 0, to: batch, by: micro) {
        try tap.run(samples[start..<start + micro].map { (index: $0.index, variant: $0.variant) })
        for (place, trainer) in trainers.enumerated() where trainer.isTrainable {
          losses[place] += trainer.accumulate(input(tap, place), target(tap, place), scale: 1 / norms[place])
        }
      }
      for trainer in trainers where trainer.isTrainable {
        trainer.step(rate: schedule.rate(at: step), clip: clip)
      }
      for place in losses.indices {
        running[place] = step == first ? losses[place] : 0.9 * running[place] + 0.1 * losses[place]
      }
      let mean = running.reduce(0, +) / Double(running.count)
      context.progress(Distil.name, step + 1, steps, "error \(rounded(mean))")
      if (step + 1) % max(1, steps / 20) == 0 || step + 1 == steps { try save(step + 1) }
    }
    try keepIfBetter()
    for trainer in trainers { trainer.exchangeAverage() }
    try keepIfBetter()
  }

  private func rounded(_ value: Double) -> Double { (value * 1e4).rounded() / 1e4 }

  // MARK: Checkpoints

  private func save(_ step: Int) throws {
    guard let checkpoint = context.checkpoint else { return }
    let byteCount = 8 + trainers.reduce(0) { $0 + 8 + $1.optimiser.stateByteCount }
    try checkpoint.save(byteCount, context.checkpointKey(Distil.name)) { write in
      try withUnsafeBytes(of: Int64(step).littleEndian, write)
      for trainer in trainers {
        try withUnsafeBytes(of: Int64(trainer.optimiser.stateByteCount).littleEndian, write)
        try trainer.optimiser.writeState(to: write)
      }
    }
  }

  /// Takes up a checkpoint, where there is one; the step to go on with.
  private func resume(of steps: Int) throws -> Int {
    guard let bytes = try context.checkpoint?.load(context.checkpointKey(Distil.name)) else { return 0 }
    let foreign = VitError("the checkpoint belongs to another distillation", code: "checkpoint")
    var offset = 0
    func number() throws(VitError) -> Int {
      guard offset + 8 <= bytes.count else { throw foreign }
      defer { offset += 8 }
      let bits = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: Int64.self) }
      return Int(truncatingIfNeeded: Int64(littleEndian: bits))
    }
    let step = try number()
    guard (0...steps).contains(step) else { throw foreign }
    for trainer in trainers {
      let size = try number()
      guard size >= 0, size <= bytes.count - offset else { throw foreign }
      try trainer.restore(Array(bytes[offset..<offset + size]))
      offset += size
    }
    guard offset == bytes.count else { throw foreign }
    return step
  }

  /// Writes the weights that were kept into the graph, and the errors as annotations.
  func finish(_ graph: inout Graph) throws -> PassResult {
    var notes: [String] = []
    for (place, trainer) in trainers.enumerated() {
      if place < kept.count { try trainer.restore(kept[place].weights) }
      for (name, tensor) in trainer.tensors {
        if let id = graph.value(named: name) { graph.setTensor(tensor, of: id) }
      }
      guard place < kept.count else { continue }
      let error = kept[place].error
      graph.nodes[mixers[place].place].annotations["distil.error"] = .float(error.relative)
      graph.nodes[mixers[place].place].annotations["distil.r2"] = .float(error.determination)
      notes.append("layer \(trainer.layer): error \(rounded(error.relative))")
    }
    return PassResult(changes: trainers.count, notes: notes)
  }
}

/// How long passes may be told to train.
package enum Effort {
  /// The steps that may be asked for.
  package static let steps = 0...100_000_000
  /// The samples of a step that may be asked for.
  package static let batch = 1...65536

  /// Throws a usage error where a pass is asked for more or less.
  static func check(_ pass: String, steps: Int, batch: Int) throws(VitError) {
    guard Effort.steps.contains(steps), Effort.batch.contains(batch) else {
      throw VitError(
        "\(pass): expected steps in 0…\(Effort.steps.upperBound) and a batch in 1…\(Effort.batch.upperBound), found "
          + "\(steps) and \(batch)", kind: .usage, code: "option-value")
    }
  }
}

/// How many samples run at once: so many that the values looked at stay within bounds, whatever the batch.
enum MicroBatch {
  /// The bytes that the values looked at may take.
  private static let limit = 128 << 20

  /// The largest divisor of `batch` that stays within bounds.
  static func size(_ batch: Int, bytesPerSample: Int) -> Int {
    let most = max(1, limit / max(1, bytesPerSample))
    return (1...batch).last { batch % $0 == 0 && $0 <= most } ?? 1
  }

  /// The bytes of values for one sample.
  static func bytes(of values: [ValueID], in graph: Graph) -> Int {
    values.reduce(0) { total, id in
      let type = graph.type(id)
      let count = type.shape.dropFirst().reduce(1) { product, dimension in
        let (next, overflow) = product.multipliedReportingOverflow(by: dimension.fixedValue ?? 1)
        return overflow ? limit : next
      }
      return total + min(count, limit) * type.element.size
    }
  }
}
