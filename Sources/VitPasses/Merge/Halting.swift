public import VitIR
internal import VitOps
internal import VitRuntime
internal import VitTrain

/// Tokens that halt by themselves, as in A-ViT (Yin et al., CVPR 2022; Mixers.md §4): what `retain{rule=halt}` trains, and how many of them
/// then go on.
public struct Halting: Hashable, Sendable {
  /// Steps of the optimiser, and samples of a step.
  public var steps = 300, batch = 64
  /// The highest learning rate.
  public var rate = 2e-4
  /// What the mean number of blocks that a token goes through costs.
  ///
  /// Of A-ViT's hundred epochs it was 0.0005, and `prior` 0.001: in some hundred steps hardly anything halts by these.
  public var ponder = 0.01
  /// What it costs that tokens halt elsewhere than around `depth`.
  public var prior = 0.02
  /// The block around which tokens are to halt, from 1; `nil` for two thirds of them.
  public var depth: Double?
  /// The factor of the first channel in a score; `nil` for 4 over its deviation.
  public var gamma: Double?
  /// What is taken from that; `nil` for the least with which hardly anything halts before training.
  public var beta: Double?
  /// How near to 1 the sum of a token's scores has to come.
  public var epsilon = 0.01
  /// How many patches go on behind a block: so many times as many as on the mean have not halted.
  public var capacity = 1.0
  /// The samples on which scores are scaled, and those that have not halted are counted.
  public var images = 256

  /// How scores are made.
  struct Rule: Hashable {
    let gamma, beta, epsilon: Double
  }

  /// The usual numbers.
  public init() {}

  /// Takes `steps` (300), `batch` (64), `rate` (0.0002), `ponder` (0.01), `prior` (0.02), `depth` (auto), `gamma` (auto), `beta`
  /// (auto), `epsilon` (0.01), `capacity` (1) and `images` (256).
  public init(options: inout OptionReader) throws(VitError) {
    self.init()
    steps = try options.value("steps", default: steps)
    batch = try options.value("batch", default: batch)
    rate = try options.value("rate", default: rate)
    ponder = try options.value("ponder", default: ponder)
    prior = try options.value("prior", default: prior)
    func number(_ name: String) throws(VitError) -> Double? {
      options.word(name, of: ["auto"]) == nil ? try options.optional(name, or: "auto") : nil
    }
    depth = try number("depth")
    gamma = try number("gamma")
    beta = try number("beta")
    epsilon = try options.value("epsilon", default: epsilon)
    capacity = try options.value("capacity", default: capacity)
    images = try options.value("images", default: images)
  }

  /// Throws where a number is out of range.
  func check() throws(VitError) {
    func bad(_ what: String) -> VitError {
      VitError("retain: expected \(what)", kind: .usage, code: "option-value")
    }
    guard rate > 0, rate.isFinite, images > 0 else { throw bad("rate > 0 and images > 0") }
    guard ponder >= 0, ponder.isFinite, prior >= 0, prior.isFinite else {
      throw bad("ponder and prior of at least 0")
    }
    guard epsilon > 0, epsilon < 1 else { throw bad("epsilon between 0 and 1, found \(epsilon)") }
    guard capacity > 0, capacity.isFinite else { throw bad("capacity > 0, found \(capacity)") }
    guard gamma.map({ $0 > 0 && $0.isFinite }) ?? true, beta?.isFinite ?? true,
      depth.map({ $0 >= 1 && $0.isFinite }) ?? true
    else { throw bad("gamma > 0, a number for beta and depth of at least 1") }
    try Effort.check(Retain.name, steps: steps, batch: batch)
  }

  /// All options.
  var options: [(name: String, value: String)] {
    func text(_ value: Double?) -> String { value.map { "\($0)" } ?? "auto" }
    return [
      ("steps", "\(steps)"), ("batch", "\(batch)"), ("rate", "\(rate)"), ("ponder", "\(ponder)"),
      ("prior", "\(prior)"), ("depth", text(depth)), ("gamma", text(gamma)), ("beta", text(beta)),
      ("epsilon", "\(epsilon)"), ("capacity", "\(capacity)"), ("images", "\(images)"),
    ]
  }
}

/// One training of a hybrid whose tokens halt.
struct HaltingRun {
  private let halting: Halting
  private let context: PassContext
  private let blocks: [ResidualBlock]
  /// How the tokens lie.
  let geometry: TokenGeometry

  /// What was found.
  struct Found {
    /// How scores are made.
    let rule: Halting.Rule
    /// How many patches are left behind each block but the last.
    let left: [Int]
    /// What training says.
    var result = PassResult()
  }

  /// Throws where tokens of the model cannot halt.
  init(_ halting: Halting, _ hybrid: Hybrid, context: PassContext) throws(VitError) {
    (self.halting, self.context) = (halting, context)
    guard !hybrid.layers.isEmpty else {
      throw VitError(
        "retain: the model has no attention layers", code: "no-layers",
        help: "vitc inspect lists the layers and the reasons")
    }
    var blocks: [ResidualBlock] = []
    for layer in hybrid.layers {
      do throws(ResidualBlock.Obstacle) {
        blocks.append(try ResidualBlock(layer, in: hybrid.graph, hybrid.layers))
      } catch {
        throw VitError(
          "retain: tokens cannot halt behind layer \(layer.index): \(error.reason)",
          code: "retain-impossible",
          location: Location(node: layer.node))
      }
    }
    self.blocks = blocks
    let tokens = blocks.first.flatMap { hybrid.graph.type($0.after).shape[1].fixedValue } ?? 0
    geometry = TokenGeometry(hybrid.graph, tokens: tokens)
    guard geometry.prefix > 0 else {
      throw VitError(
        "retain: rule=halt needs a class token, whose output is a mean over blocks, and the model has none",
        code: "retain-impossible", help: "retain{rule=topk} drops patches of such a model")
    }
    guard blocks.count > 1 else {
      throw VitError(
        "retain: one block alone has nothing behind which tokens could halt", code: "retain-impossible")
    }
    try MergeSite.checkHalting(hybrid)
  }

  /// The residual stream behind each block.
  var streams: [ValueID] { blocks.map(\.after) }

  /// Trains `hybrid` towards its teacher, and counts what has not halted.
  func train(_ hybrid: inout Hybrid) throws -> Found {
    let data = try context.samples(for: Retain.name)
    let heldOut = context.heldOut ?? data
    let teacher = try hybrid.teacher(for: Retain.name)
    let rule = try calibrate(hybrid.graph)
    let halted = try HaltedGraph(
      hybrid, blocks: blocks, rule: rule, prefix: geometry.prefix, registry: context.registry)
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: heldOut, samples: heldOut.spread(halting.images), context: context)
    var result = PassResult()
    let before = try meter.measure(halted.graph).damage
    var after = before
    if halting.steps > 0 {
      let loss = HaltingLoss(
        ponder: halting.ponder, prior: halting.prior,
        depth: halting.depth ?? 2 * Double(blocks.count) / 3, epsilon: halting.epsilon,
        prefix: geometry.prefix)
      let trainer = try HybridTrainer(
        hybrid, teacher: teacher, data: data, train: .all, batch: halting.batch, temperature: 2,
        steps: halting.steps, context: context, pass: Retain.name,
        halting: HybridTrainer.Halting(graph: halted.graph, scores: halted.scores, loss: loss))
      result.stops = try steps(of: trainer)
      after = try trainer.measure(halted.graph, by: meter).damage
      trainer.exchangeAverage()
      let averaged = try trainer.measure(halted.graph, by: meter).damage
      if averaged < after { after = averaged } else { trainer.exchangeAverage() }
      hybrid.graph = trainer.graph(from: hybrid.graph)
      result.changes = trainer.parameterCount
      result.divergences = trainer.divergences
      result.curves = [trainer.curve].filter { !$0.points.isEmpty }
    }
    result.damage = (before, after)
    result.notes = [
      "scores are σ(\(Float(rule.gamma)) · channel 0 − \(Float(rule.beta)))", "damage \(before) to \(after)",
    ]
    var trained = halted.graph
    trained.setTensors(
      trained.tensors.names.compactMap { name in hybrid.graph.tensors[name].map { (name, $0) } })
    return Found(rule: rule, left: try count(trained, halted.sums, rule), result: result)
  }

  /// The steps; where training was stopped, if it was.
  private func steps(of trainer: HybridTrainer) throws -> [PassResult.Stop] {
    let schedule = Schedule(peak: halting.rate, steps: halting.steps)
    var step = try trainer.resume(of: halting.steps) ?? 0
    while step < halting.steps {
      if context.isLate() {
        return [PassResult.Stop(pass: Retain.name, step: step, steps: halting.steps)]
      }
      let loss = try trainer.train(step, of: halting.steps, rate: schedule.rate(at: step), clip: 1)
      guard loss.isFinite else {
        trainer.noteSetback(step: step, rate: schedule.rate(at: step), .lost)
        break
      }
      step += 1
      if step % max(1, halting.steps / 20) == 0 || step == halting.steps { try trainer.save(step) }
    }
    try trainer.finish()
    return []
  }

  /// The first channels of tokens behind each block but the last, by block, sample and token.
  private func channels(_ graph: Graph) throws -> [[Float]] {
    var result = [[Float]](repeating: [], count: blocks.count - 1)
    try TeacherTap.each(
      graph, values: streams.dropLast(), images: halting.images, for: Retain.name, context: context
    ) { views in
      for (place, view) in views.enumerated() {
        let width = view.shape[2]
        result[place] += (0..<view.count / width).map { view.f32[$0 * width] }
      }
    }
    return result
  }

  /// How scores are made of the first channel, which in a trained teacher can have any mean and deviation: so that scores are steep, and
  /// training starts near the teacher.
  ///
  /// β is the least with which one patch in twenty halts before the last block, and a twentieth of the class token's weight lies
  /// before it: larger ones leave nothing to learn from, for scores near 0 have hardly any gradient.
  private func calibrate(_ graph: Graph) throws -> Halting.Rule {
    if let gamma = halting.gamma, let beta = halting.beta {
      return Halting.Rule(gamma: gamma, beta: beta, epsilon: halting.epsilon)
    }
    let channels = try channels(graph)
    let all = channels.joined().map(Double.init)
    let mean = all.reduce(0, +) / Double(max(1, all.count))
    let variance = all.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(max(1, all.count))
    let gamma = halting.gamma ?? 4 / max(variance.squareRoot(), 1e-6)
    func rule(_ beta: Double) -> Halting.Rule {
      Halting.Rule(gamma: gamma, beta: beta, epsilon: halting.epsilon)
    }
    if let beta = halting.beta { return rule(beta) }
    let (least, most) = ((all.min() ?? 0) * gamma, (all.max() ?? 0) * gamma)
    var (low, high) = (least - 20, most + 20)
    for _ in 0..<50 {
      let middle = (low + high) / 2
      if isNearTeacher(channels, rule(middle)) { high = middle } else { low = middle }
    }
    return rule(high)
  }

  /// Whether hardly anything halts before the last block.
  private func isNearTeacher(_ channels: [[Float]], _ rule: Halting.Rule) -> Bool {
    let tokens = geometry.prefix + geometry.grid.count
    let count = channels[0].count
    var (halted, patches, weight) = (0, 0, 0.0)
    for place in 0..<count {
      let sum = channels.reduce(0.0) { $0 + HaltingLoss.score(rule.gamma * Double($1[place]) - rule.beta) }
      if place % tokens >= geometry.prefix {
        patches += 1
        halted += sum >= 1 - rule.epsilon ? 1 : 0
      } else if place % tokens == 0 {
        weight += min(1, sum)
      }
    }
    return 20 * halted <= patches && 20 * weight <= Double(count / tokens)
  }

  /// How many patches are left behind each block but the last: as many as on the mean have not halted, at least one and no more than
  /// before.
  private func count(_ graph: Graph, _ sums: [ValueID], _ rule: Halting.Rule) throws -> [Int] {
    var (alive, images) = ([Int](repeating: 0, count: sums.count), 0)
    try TeacherTap.each(
      graph, values: sums, images: halting.images, for: Retain.name, context: context
    ) { views in
      images += views[0].shape[0]
      for (place, view) in views.enumerated() {
        let tokens = view.shape[1]
        // As the graph compares them: in 32 bits.
        let end = Float(1 - rule.epsilon)
        alive[place] += (0..<view.count).count { $0 % tokens >= geometry.prefix && view.f32[$0] < end }
      }
    }
    var left = geometry.grid.count
    return alive.map { alive in
      let mean = halting.capacity * Double(alive) / Double(max(1, images))
      left = min(left, max(1, Int((mean - 1e-9).rounded(.up))))
      return left
    }
  }
}
