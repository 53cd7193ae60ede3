internal import VitIR
internal import VitOps
internal import VitRuntime
internal import VitTrain

/// One sweep: a teacher that runs on batches, and a trainer for each layer.
final class DistilSession {
  private let mixers: [MixerNode]
  private let trainers: [MixerTrainer]
  private let tap: TeacherTap
  private let checks: TeacherTap
  /// What the steps take the teacher's values from.
  private let stepTap: TeacherTap
  private let teacher: Teacher
  private let context: PassContext
  private let dataCount: Int
  private let heldOutCount: Int
  private let batch: Int
  private let micro: Int
  /// The samples that are looked at to solve and, of these, to normalise, and those that decide what is kept.
  private let calibration, norming, judges: [Int]
  /// What the work is called while it goes on.
  private let phase: String
  /// For each mixer how many of its tokens are no patches, and where a tap has the table of their places, if it reads one.
  private let prefixes: [Int]
  private let tables: [Int?]
  /// The mean of ‖y‖² over calibration tokens times the tokens of a batch: what makes a loss of 1 mean "as
  /// bad as zero".
  private var norms: [Double] = []
  private var kept: [(error: LayerError, weights: [Tensor])] = []
  /// For each layer where its training went astray, if it did.
  private var divergences: [Layer.Divergence?]
  /// The loss of each layer.
  private var curves: [LossCurve] = []
  /// Where the training was stopped, if it was.
  private(set) var stop: PassResult.Stop?

  /// The loss from which training has gone astray: so many times as bad as a mixer that gives zeros.
  private static let hopeless = 8.0

  init(
    _ mixers: [MixerNode], teacher: Teacher, data: any SampleSource,
    heldOut: any SampleSource, batch: Int, images: Int, match: DistilMatch,
    precision: ProductPrecision, phase: String = Distil.name, context: PassContext
  ) throws {
    self.phase = phase
    self.mixers = mixers
    self.teacher = teacher
    self.context = context
    let few = min(images, Distil.usualImages)
    (calibration, norming, judges) = (data.spread(images), data.spread(few), heldOut.spread(few))
    prefixes = mixers.map { mixer in
      let tokens = teacher.graph.type(mixer.input).shape[1].fixedValue ?? 0
      return TokenGeometry(teacher.graph, tokens: tokens).prefix
    }
    divergences = Array(repeating: nil, count: mixers.count)
    let form = BatchForm(teacher.graph, sample: data.shape)
    self.batch = form.rounded(batch)
    var values: [ValueID] = []
    var factors: [Tensor?] = []
    for mixer in mixers {
      let scaled = mixer.scaled(in: teacher.graph)
      values += [mixer.input, scaled?.result ?? mixer.target, mixer.target]
      factors.append(scaled?.factors)
    }
    var tables: [Int?] = []
    for mixer in mixers {
      let table = mixer.region.needsPlaces ? teacher.graph.placeTable(of: mixer.input) : nil
      tables.append(table.map { _ in values.count })
      values += [table].compactMap(\.self)
    }
    self.tables = tables
    // By all layers that could be distilled: how sums are cut must not depend on which of them are.
    let layers = teacher.layers.flatMap { [$0.input, $0.output].compactMap { $0 } }
    let bytes = DistilSession.likesPerValue * MicroBatch.bytes(of: layers, in: teacher.graph)
    micro = form.count ?? MicroBatch.size(batch, bytesPerSample: bytes)
    let weights = try context.weights(of: teacher.graph)
    tap = try TeacherTap(
      teacher.graph, weights: weights, values: values, batch: micro, data: data, context: context)
    checks = try TeacherTap(
      teacher.graph, weights: weights, values: values, batch: micro, data: heldOut, context: context)
    let pool = context.pool(in: precision)
    stepTap =
      precision == .f32
      ? tap
      : try TeacherTap(
        teacher.graph, weights: weights, values: values, batch: micro, data: data, pool: pool,
        context: context)
    let outputs = tap.executor.outputs
    trainers = try mixers.enumerated().map { place, mixer in
      try MixerTrainer(
        mixer, of: teacher, tokens: outputs[3 * place].shape, places: tables[place].map { outputs[$0].shape },
        factors: factors[place], match: match, pool: pool)
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
  /// Where the tokens are, of which some were dropped.
  private func places(_ tap: TeacherTap, _ place: Int) -> View? {
    tables[place].map { tap.executor.outputs[$0] }
  }
  /// What the layer adds to the residual, scaled as it is there.
  private func target(_ tap: TeacherTap, _ place: Int) -> View { tap.executor.outputs[3 * place + 1] }
  /// What the layer's last linear map gives.
  private func branch(_ tap: TeacherTap, _ place: Int) -> View { tap.executor.outputs[3 * place + 2] }

  /// Runs `tap` on samples in order, whole micro-batches only (at least one, wrapping around).
  private func sweep(
    _ tap: TeacherTap, _ samples: [Int], _ work: String, _ body: () throws -> Void
  ) throws {
    let runs = max(1, samples.count / micro)
    for run in 0..<runs {
      if run > 0 { context.progress("\(phase), \(work)", run * micro, samples.count, "") }
      try context.checkCancelled()
      try tap.run((0..<micro).map { (index: samples[(run * micro + $0) % samples.count], variant: nil) })
      try body()
    }
  }

  /// Measures the targets' mean squares.
  func normalise() throws {
    var squares = TreeSum<[Double]>()
    var samples = 0
    try sweep(tap, norming, "looking") {
      samples += micro
      squares.add(
        trainers.enumerated().map { place, trainer in
          trainer.squaredTarget(input(tap, place), target(tap, place))
        })
    }
    norms = (squares.total ?? []).map { max($0 / Double(samples), .leastNormalMagnitude) * Double(batch) }
  }

  /// What solves for each mixer, its weights being as they are now.
  func solvers() throws -> [RegionSolver] {
    try trainers.enumerated().map { place, trainer in
      try RegionSolver(
        mixers[place], trainer.current, teacher: teacher, shape: input(tap, place).shape,
        places: places(tap, place)?.shape, pool: context.pool)
    }
  }

  /// Solves for each mixer's last linear map on calibration tokens, and before that, where it is `fitting`, for what lies
  /// before that map; kept where it is better.
  func solve(fitting: Bool) throws {
    let solvers = try solvers()
    if fitting, solvers.contains(where: { $0.hasFit }) {
      try sweep(tap, calibration, "fitting") {
        for (place, solver) in solvers.enumerated() {
          try solver.addFit(input(tap, place), teacher: input(tap, place))
        }
      }
      for solver in solvers { solver.finishFit() }
    }
    for solver in solvers { try solver.prepareReadout() }
    try sweep(tap, calibration, "solving") {
      for (place, solver) in solvers.enumerated() {
        try solver.add(input(tap, place), places: places(tap, place), branch(tap, place))
      }
    }
    for (solver, trainer) in zip(solvers, trainers) {
      try solver.finish()
      try trainer.apply(solver.region)
      trainer.resetAverage()
    }
    try keepIfBetter()
  }

  /// The error of each layer on the held-out samples.
  private func measured() throws -> [LayerError] {
    var errors = TreeSum<[LayerError]>()
    try sweep(checks, judges, "judging") {
      errors.add(
        trainers.enumerated().map { place, trainer in
          trainer.error(
            input(checks, place), places: places(checks, place), target(checks, place),
            prefix: prefixes[place])
        })
    }
    return errors.total ?? []
  }

  /// The errors of what is kept.
  var errors: [LayerError] { kept.map(\.error) }

  /// Keeps each layer's weights where they are better on the held-out samples, rows weighed as in least squares, than what was kept.
  private func keepIfBetter() throws {
    let errors = try measured()
    if kept.isEmpty {
      kept = try zip(errors, trainers).map { ($0, try $1.snapshot) }
      return
    }
    for (place, error) in errors.enumerated() where error.weighted < kept[place].error.weighted {
      kept[place] = (error, try trainers[place].snapshot)
    }
  }

  func train(steps: Int, schedule: Schedule, clip: Double) throws {
    guard steps > 0, trainers.contains(where: { $0.isTrainable }) else { return }
    if kept.isEmpty { try keepIfBetter() }
    var order = SampleOrder(count: dataCount, random: context.random("distil"))
    curves = mixers.map { LossCurve(pass: Distil.name, layer: $0.layer.index, steps: steps) }
    let first = try resume(of: steps)
    var running = [Double](repeating: 0, count: trainers.count)
    for step in first..<steps {
      if context.isLate() {
        stop = PassResult.Stop(pass: Distil.name, step: step, steps: steps)
        break
      }
      if context.isCancelled() {
        try save(step)
        try context.checkCancelled()
      }
      let samples = order.batch(step, size: batch)
      var losses = [Double](repeating: 0, count: trainers.count)
      for start in stride(from: 0, to: batch, by: micro) {
        try stepTap.run(samples[start..<start + micro].map { (index: $0.index, variant: $0.variant) })
        for (place, trainer) in trainers.enumerated() where trainer.isTrainable {
          losses[place] += trainer.accumulate(
            input(stepTap, place), places: places(stepTap, place), target(stepTap, place),
            scale: 1 / norms[place])
        }
      }
      for trainer in trainers where trainer.isTrainable {
        trainer.step(rate: schedule.rate(at: step), clip: clip)
      }
      for (place, loss) in losses.enumerated() where !(loss <= DistilSession.hopeless) {
        noteDivergence(of: place, step: step, rate: schedule.rate(at: step))
      }
      for place in losses.indices {
        if trainers[place].isTrainable { curves[place].add(losses[place], at: step) }
        running[place] = step == first ? losses[place] : 0.9 * running[place] + 0.1 * losses[place]
      }
      let mean = running.reduce(0, +) / Double(running.count)
      context.progress(phase, step + 1, steps, "error \(rounded(mean))")
      if (step + 1) % max(1, steps / 20) == 0 || step + 1 == steps { try save(step + 1) }
    }
    try keepIfBetter()
    for trainer in trainers { trainer.exchangeAverage() }
    try keepIfBetter()
  }

  /// Notes where a layer's training first went astray, and says so.
  private func noteDivergence(of place: Int, step: Int, rate: Double) {
    guard divergences[place] == nil else { return }
    divergences[place] = Layer.Divergence(step: step, rate: rate)
    context.report(
      Diagnostic(
        .warning,
        "\(Distil.name): layer \(mixers[place].layer.index) diverges at step \(step + 1), rate \(Float(rate))",
        code: "diverged", help: "the best weights before are kept; a lower rate may do better"))
  }

  private func rounded(_ value: Double) -> Double { (value * 1e4).rounded() / 1e4 }

  // MARK: Checkpoints

  /// The key of its state: where others were distilled before, it is that of these layers.
  private var checkpointKey: String {
    context.checkpointKey(
      context.parts.isEmpty ? Distil.name : "\(Distil.name)\(mixers.map(\.layer.index))")
  }

  private func save(_ step: Int) throws {
    guard let checkpoint = context.checkpoint else { return }
    let byteCount =
      8 + stepTap.screen.stateByteCount + trainers.reduce(0) { $0 + 24 + $1.optimiser.stateByteCount }
      + curves.reduce(0) { $0 + $1.stateByteCount }
    try checkpoint.save(byteCount, checkpointKey) { write in
      try withUnsafeBytes(of: Int64(step).littleEndian, write)
      try stepTap.screen.write(to: write)
      for (trainer, divergence) in zip(trainers, divergences) {
        try withUnsafeBytes(of: Int64(divergence?.step ?? -1).littleEndian, write)
        try withUnsafeBytes(of: (divergence?.rate ?? 0).bitPattern.littleEndian, write)
        try withUnsafeBytes(of: Int64(trainer.optimiser.stateByteCount).littleEndian, write)
        try trainer.optimiser.writeState(to: write)
      }
      for curve in curves { try curve.write(to: write) }
    }
  }

  /// Takes up a checkpoint, where there is one; the step to go on with.
  private func resume(of steps: Int) throws -> Int {
    try context.checkpoint?.load(checkpointKey) { reader in
      let step = try reader.integer(in: 0...steps, "the step")
      try stepTap.screen.restore(from: &reader)
      for (place, trainer) in trainers.enumerated() {
        let diverged = try reader.integer(in: -1...steps, "the step at which a layer diverged")
        let rate = try reader.number("the rate at which it did")
        if diverged >= 0 { divergences[place] = Layer.Divergence(step: diverged, rate: rate) }
        var state = try reader.part(try reader.integer(in: 0...reader.remaining, "the size of a state"))
        try trainer.restore(from: &state)
      }
      for place in curves.indices { try curves[place].restore(from: &reader) }
      return step
    } ?? 0
  }

  /// The layers with the weights that were kept.
  func finish() throws -> [DistilledLayer] {
    for tap in [tap, checks] + (stepTap.executor === tap.executor ? [] : [stepTap]) {
      try tap.screen.finish()
    }
    return try trainers.enumerated().map { place, trainer in
      if place < kept.count { try trainer.restore(kept[place].weights) }
      let error = place < kept.count ? kept[place].error : nil
      return DistilledLayer(
        layer: mixers[place].layer.index,
        errors: error.map {
          .init(
            relative: $0.relative, determination: $0.determination, prefix: $0.prefix, patches: $0.patches)
        }, tensors: try trainer.tensors, curve: place < curves.count ? curves[place] : nil,
        divergence: divergences[place])
    }
  }
}
