internal import VitIR
internal import VitOps
internal import VitRuntime
internal import VitTrain

/// Trains what the layers of a hybrid have learned against its teacher.
final class HybridTrainer {
  private let teacherRun: Executor
  private let student: Executor
  private let tape: Tape
  private let optimiser: AdamW
  private let names: [String]
  private let weights: [View]
  private let reader: BatchReader
  private let screen: SampleScreen
  private let context: PassContext
  private let batch: Int
  private let micro: Int
  private let temperature: Double
  private let kind: OutputKind
  private let hiddenCount: Int
  /// The name of the pass that trains.
  private let pass: String
  private let halting: Halting?
  private var order: SampleOrder
  /// The highest rate of the run, kept in checkpoints.
  var peak = 0.0
  /// Whether it was looked at if that rate makes things worse; kept in checkpoints.
  var isProbed = false
  /// The losses of the steps, those of trials left out; kept in checkpoints.
  private(set) var curve: LossCurve
  /// Where training or a trial of a rate went astray; kept in checkpoints.
  private(set) var divergences: [PassResult.Divergence] = []

  /// What is trained where tokens halt.
  struct Halting {
    /// The hybrid with tokens masked that have halted.
    let graph: Graph
    /// The scores behind each layer but the last.
    let scores: [ValueID]
    /// What they cost.
    let loss: HaltingLoss
  }

  /// How much larger the mixers' rate is than that of the weights that were trained before.
  private static let mixerFactor = 2.0

  init(
    _ hybrid: Hybrid, teacher: Teacher, data: any SampleSource, train: FineTune.Scope, batch: Int,
    temperature: Double, steps: Int, precision: ProductPrecision = .f32, context: PassContext,
    pass: String = FineTune.name, halting: Halting? = nil
  ) throws {
    (self.pass, self.halting) = (pass, halting)
    curve = LossCurve(pass: pass, steps: steps)
    // Hidden states are compared token by token: those that the teacher keeps.
    let graph = try halting?.graph ?? hybrid.graph.keeping(tokensOf: teacher.graph)
    let mixers = try MixerNode.all(in: hybrid, teacher: teacher)
    let parameters = Set(mixers.flatMap(\.parameters))
    self.context = context
    let form = BatchForm(graph, sample: data.shape)
    self.batch = form.rounded(batch)
    self.temperature = temperature
    kind = context.outputs(of: teacher.graph, data)
    // Masked tokens have other states than the teacher's.
    let hidden = halting == nil ? HybridTrainer.hiddenStates(hybrid, teacher) : []
    hiddenCount = hidden.count
    var tapped = graph
    tapped.outputs += hidden.map { (graph[$0.student].name, $0.student) }
    tapped.outputs += (halting?.scores ?? []).map { (graph[$0].name, $0) }
    var watched = teacher.graph
    watched.outputs += hidden.map { (watched[$0.teacher].name, $0.teacher) }
    let blocks = train == .blocks ? HybridTrainer.blocks(hybrid) : nil
    let fixed = train == .besideMaps ? HybridTrainer.mapWeights(graph) : []
    let trainable = HybridTrainer.trainable(hybrid.graph).filter {
      blocks?.contains($0.id) ?? !fixed.contains($0.id)
    }
    names = trainable.map { graph[$0.id].name }
    let store = try context.weights(of: tapped, trainable: Set(names))
    micro = try form.count ?? HybridTrainer.microBatch(batch, tapped, store, data, context.pool)
    let shapes = try InputShapes.of(graph, batch: micro, data: data)
    let pool = context.pool(in: precision)
    teacherRun = try Executor(
      watched, weights: context.weights(of: watched), inputShapes: shapes, packing: false, pool: pool)
    student = try Executor(tapped, weights: store, inputShapes: shapes, training: true, pool: pool)
    tape = try Tape(student, parameters: trainable.map(\.id))
    weights = names.compactMap { store.view($0) }
    optimiser = try AdamW(
      parameters: weights, gradients: tape.parameterGradients,
      decays: trainable.map(\.decays),
      factors: names.map { parameters.contains($0) ? HybridTrainer.mixerFactor : 1 }, pool: context.pool)
    reader = BatchReader(data: data, pool: context.pool)
    screen = SampleScreen(data, context: context)
    order = SampleOrder(count: data.count, random: context.random(pass))
  }

  /// The number of weights.
  var parameterCount: Int { weights.reduce(0) { $0 + $1.count } }

  /// The parameters of a graph, finite floats of more than one number, and whether weight decay is for them: for
  /// matrices and windows, not for tables of positions and single tokens.
  private static func trainable(_ graph: Graph) -> [(id: ValueID, decays: Bool)] {
    // What only says which tokens go on has no gradient, and stays as it is.
    let read = Set(
      graph.nodes.filter { !($0.operation is TokenKeep) }.flatMap { $0.operands.compactMap(\.self) })
    return graph.parameters().compactMap { id, roles in
      guard read.contains(id), graph.type(id).element == .f32, let tensor = graph.tensor(id),
        tensor.count > 1,
        let numbers = try? tensor.floats(), numbers.allSatisfy(\.isFinite)
      else { return nil }
      return (id, roles.contains(.weight) && tensor.shape.count >= 2 && tensor.shape[0] != 1)
    }
  }

  /// What makes the maps of attention: the maps of queries and keys with their biases.
  private static func mapWeights(_ graph: Graph) -> Set<ValueID> {
    graph.nodes.reduce(into: []) { result, node in
      guard node.operation is VitAttention else { return }
      result.formUnion(node.operands.dropFirst().prefix(4).compactMap { $0 })
    }
  }

  /// How many samples run at once, by what the plan of one takes.
  private static func microBatch(
    _ batch: Int, _ graph: Graph, _ weights: WeightStore, _ data: any SampleSource, _ pool: any WorkPool
  ) throws -> Int {
    let one = try Executor(
      graph, weights: weights, inputShapes: InputShapes.of(graph, batch: 1, data: data), training: true,
      pool: pool)
    return MicroBatch.size(batch, bytesPerSample: one.plan.byteCount)
  }

  /// The residual stream behind each replaced block and behind the last one, in both graphs; what lies behind a layer is
  /// found in each by its own layers.
  private static func hiddenStates(
    _ hybrid: Hybrid, _ teacher: Teacher
  ) -> [(student: ValueID, teacher: ValueID)] {
    var result: [(student: ValueID, teacher: ValueID)] = []
    let student = stream(hybrid.graph, hybrid.layers)
    let original = stream(teacher.graph, teacher.layers)
    for (place, layer) in hybrid.layers.enumerated()
    where !layer.isAttention || place == hybrid.layers.count - 1 {
      // What blocks that are gone have in common with the one before is compared behind the last of them.
      guard let value = student[place], let twin = original[place],
        teacher.graph.type(twin) == hybrid.graph.type(value), !student[(place + 1)...].contains(value)
      else { continue }
      result.append((value, twin))
    }
    return result
  }

  /// What is read in the blocks in which mixers or shared maps stand, or of which a linear map is left: from the residual stream
  /// before each to that behind it.
  private static func blocks(_ hybrid: Hybrid) -> Set<ValueID> {
    let graph = hybrid.graph
    let behind = stream(graph, hybrid.layers)
    var result: Set<ValueID> = []
    for (place, layer) in hybrid.layers.enumerated()
    where layer.isReplaced || layer.isShared || layer.isRemoved {
      let before = graph.residual(behind: layer.output)?.before ?? layer.input
      guard let before, let end = behind[place] ?? layer.output else { continue }
      for node in graph.nodes(from: before, to: end) {
        result.formUnion(graph.nodes[node].operands.compactMap { $0 })
      }
    }
    return result
  }

  /// The residual stream behind the block of each layer: before the norm of the next, and behind the last addition.
  private static func stream(_ graph: Graph, _ layers: [Layer]) -> [ValueID?] {
    let producers = graph.producers()
    return layers.indices.map { place in
      guard place + 1 < layers.count else {
        if layers[place].isRemoved { return layers[place].output }
        guard let output = layers[place].output, graph.type(output).rank == 3 else { return nil }
        let last = graph.nodes.last { node in
          node.operation is VitAdd && node.results.first.map { graph.type($0) == graph.type(output) } ?? false
        }
        return last?.results.first
      }
      guard !layers[place + 1].isRemoved, let input = layers[place + 1].input,
        let producer = producers[input.index],
        graph.nodes[producer].operation is VitLayerNorm
      else { return layers[place + 1].input }
      return graph.nodes[producer].operands[0]
    }
  }

  /// One step: `batch` samples in micro-batches, then the optimiser. Returns the loss before it.
  @discardableResult
  func train(_ step: Int, of steps: Int, rate: Double, clip: Double, phase: String? = nil) throws
    -> Double
  {
    let isTrial = phase != nil
    if context.isCancelled() {
      if !isTrial { try save(step) }
      try context.checkCancelled()
    }
    // The weight of the hidden states falls to nothing over the first 70 % of the steps.
    let hiddenWeight = 0.5 * max(0, 1 - Double(step) / (0.7 * Double(steps)))
    let samples = order.batch(step, size: batch)
    var loss = 0.0
    for start in stride(from: 0, to: batch, by: micro) {
      var part = samples[start..<start + micro].map { (index: $0.index, variant: Optional($0.variant)) }
      repeat {
        try reader.read(part, into: teacherRun.inputs)
        // The teacher may write over its inputs.
        for (own, read) in zip(student.inputs, teacherRun.inputs) { own.copy(from: read) }
        teacherRun.run()
      } while try screen.replace(&part, by: teacherRun.outputs)
      student.run()
      tape.zeroOutputGradients()
      loss += outputLoss(part.map { reader.data.label($0.index) })
      if hiddenWeight > 0 { loss += hiddenLoss(hiddenWeight) }
      if let halting { loss += haltingLoss(halting) }
      tape.backward()
    }
    if !isTrial { curve.add(loss, at: step) }
    optimiser.step(rate: rate, clip: clip)
    tape.zeroGradients()
    context.progress(phase ?? pass, step + 1, steps, "loss \((loss * 1e4).rounded() / 1e4)")
    return loss
  }

  private func outputLoss(_ labels: [Int?]) -> Double {
    let outputs = student.outputs.count - hiddenCount - (halting?.scores.count ?? 0)
    if kind == .classes, let gradient = tape.outputGradients[0] {
      let loss = Loss.distillation(
        student: student.outputs[0], teacher: teacherRun.outputs[0], labels: labels, temperature: temperature,
        weight: 1,
        labelWeight: 0.1, batch: batch, adding: gradient)
      return loss.divergence + 0.1 * loss.crossEntropy
    }
    return (0..<outputs).reduce(0) { $0 + relativeLoss($1, weight: 1 / Double(outputs)) }
  }

  private func hiddenLoss(_ weight: Double) -> Double {
    let end = student.outputs.count - (halting?.scores.count ?? 0)
    return (end - hiddenCount..<end).reduce(0) {
      $0 + relativeLoss($1, weight: weight / Double(max(1, hiddenCount)))
    }
  }

  /// What halting costs; each micro-batch has its prior.
  private func haltingLoss(_ halting: Halting) -> Double {
    let first = student.outputs.count - halting.scores.count
    let weight = Double(micro) / Double(batch)
    let parts = halting.loss(
      Array(student.outputs[first...]), weight: weight, adding: Array(tape.outputGradients[first...]))
    return weight * (halting.loss.ponder * parts.ponder + halting.loss.prior * parts.prior)
  }

  /// weight · ‖student − teacher‖² / ‖teacher‖² of one output over the batch.
  private func relativeLoss(_ index: Int, weight: Double) -> Double {
    let target = teacherRun.outputs[index]
    let norm = SquaredNorm.squared(target, pool: context.pool) * Double(batch / micro)
    return Loss.squaredError(
      student.outputs[index], target, scale: weight / max(norm, 1e-12), adding: tape.outputGradients[index],
      pool: context.pool)
  }

  /// What makes training start anew at a lower rate, or a rate be given up.
  enum Setback {
    /// Training, or the trial of a rate, went astray.
    case lost, lostTrial
    /// The rate is too high to begin with.
    case worse
  }

  /// Says why training at this rate ends; what went astray is noted.
  func noteSetback(step: Int, rate: Double, _ setback: Setback) {
    let at = "at step \(step + 1), rate \(Float(rate))"
    if setback == .worse {
      return context.report(
        Diagnostic(
          .note, "\(pass): backs off \(at): the outputs are farther from the teacher's than before",
          code: "back-off"))
    }
    divergences.append(PassResult.Divergence(pass: pass, step: step, rate: rate))
    context.report(
      Diagnostic(
        setback == .lost ? .warning : .note,
        "\(pass): \(setback == .lost ? "training" : "the trial of a rate") diverges \(at)",
        code: "diverged"))
  }

  /// Throws where more than a tenth of the samples had to be left out.
  func finish() throws(VitError) { try screen.finish() }

  // MARK: Weights

  /// The weights that `graph` has, which are the trainer's before it has trained; its own tensors where they are floats of
  /// 32 bits.
  func weights(of graph: Graph) throws -> [Tensor] {
    try zip(names, weights).map { name, view in
      if let tensor = graph.tensors[name], tensor.element == .f32 {
        tensor
      } else {
        try Tensor(copying: view)
      }
    }
  }

  /// Takes weights back.
  func restore(_ tensors: [Tensor]) throws {
    for (view, tensor) in zip(weights, tensors) {
      try tensor.storage.withBytes {
        UnsafeMutableRawBufferPointer(start: view.base, count: view.byteCount).copyMemory(from: $0)
      }
    }
  }

  /// Starts anew from these weights.
  func reset(to tensors: [Tensor]) throws {
    try restore(tensors)
    optimiser.resetState()
    curve.clear()
  }

  /// Exchanges the weights and their running average.
  func exchangeAverage() { optimiser.exchangeAverage() }

  /// Compares `graph`, with the weights as they are, with the teacher.
  func measure(_ graph: Graph, by meter: FidelityMeter) throws -> Fidelity {
    try meter.measure(graph, weights: student.weights)
  }

  /// `graph` with the weights as they are, in the trainer's own memory: it must not train on.
  func graph(from graph: Graph) -> Graph {
    var result = graph
    for name in names {
      if let id = result.value(named: name), let tensor = student.weights.tensor(name) {
        result.setTensor(tensor, of: id)
      }
    }
    return result
  }

  // MARK: Checkpoints

  /// Keeps what it takes to go on with `step`, where there is a store.
  func save(_ step: Int) throws {
    guard let checkpoint = context.checkpoint else { return }
    let byteCount =
      33 + screen.stateByteCount + 16 * divergences.count + optimiser.stateByteCount + curve.stateByteCount
    try checkpoint.save(byteCount, context.checkpointKey(pass)) { write in
      try withUnsafeBytes(of: Int64(step).littleEndian, write)
      try withUnsafeBytes(of: peak.bitPattern.littleEndian, write)
      try withUnsafeBytes(of: UInt8(isProbed ? 1 : 0), write)
      try screen.write(to: write)
      try withUnsafeBytes(of: Int64(divergences.count).littleEndian, write)
      for divergence in divergences {
        try withUnsafeBytes(of: Int64(divergence.step).littleEndian, write)
        try withUnsafeBytes(of: divergence.rate.bitPattern.littleEndian, write)
      }
      try withUnsafeBytes(of: Int64(optimiser.stateByteCount).littleEndian, write)
      try optimiser.writeState(to: write)
      try curve.write(to: write)
    }
  }

  /// Takes up a checkpoint; the step to go on with, or `nil` where there is none.
  func resume(of steps: Int) throws -> Int? {
    try context.checkpoint?.load(context.checkpointKey(pass)) { reader in
      let done = try reader.integer(in: 0...steps, "the step")
      peak = try reader.number("the rate")
      isProbed = try reader.flag("whether the rate was tried")
      try screen.restore(from: &reader)
      let count = try reader.integer(in: 0...reader.remaining / 16, "the number of divergences")
      divergences = try (0..<count).map { _ in
        PassResult.Divergence(
          pass: pass, step: try reader.integer(in: 0...Int.max, "the step of a divergence"),
          rate: try reader.number("the rate of a divergence"))
      }
      var state = try reader.part(try reader.integer(in: 0...reader.remaining, "the size of a state"))
      try optimiser.restore(from: &state)
      try curve.restore(from: &reader)
      return done
    }
  }
}
