public import VitIR
internal import VitTrain

/// Trains every mixer of the graph on the tokens that the teacher has before it, towards what the teacher's
/// layer gave there (Mixers.md §3): all layers in one sweep of the data, each with its own optimiser.
public struct Distil: Pass {
  /// `distil`.
  public static let name = "distil"
  /// See `Pass`.
  public static let summary = "Trains the mixers layer by layer towards the attention they replace"
  /// See `Pass`.
  public static let example = "swap{layers=all},distil{steps=100,batch=16}"

  /// Steps of the optimiser.
  public var steps: Int
  /// Samples of a step.
  public var batch: Int
  /// The highest learning rate.
  public var rate: Double
  /// The norm to which a layer's gradient is clipped.
  public var clip: Double
  /// Whether mixers are also solved for in closed form: what their own fits give, then the last linear map by ridge
  /// regression; before the steps, and that map again behind them.
  public var solve: Bool
  /// What the steps bring together.
  public var match: DistilMatch

  /// Samples of the held-out split that decide which weights are kept, and of the data that the readout is solved on.
  public var images: Int

  /// What the products of its steps are computed in.
  public var precision: ProductPrecision

  /// The pass.
  public init(
    steps: Int = 400, batch: Int = 64, rate: Double = 2e-3, clip: Double = 1, solve: Bool = true,
    images: Int = Distil.usualImages, match: DistilMatch = .output, precision: ProductPrecision = .f32
  ) {
    self.precision = precision
    self.steps = steps
    self.batch = batch
    self.rate = rate
    self.clip = clip
    self.solve = solve
    self.images = images
    self.match = match
  }

  /// Takes `steps` (400), `batch` (64), `rate` (0.002), `clip` (1), `solve` (true), whether mixers are
  /// also solved for in closed form, `images` (256), on which that is done and, on no more than 256, the weights are judged, and
  /// `match` (output), what the steps bring together, and `precision` (f32; or bf16), what their products are computed in.
  public init(options: inout OptionReader) throws(VitError) {
    self.init()
    steps = try options.value("steps", default: steps)
    batch = try options.value("batch", default: batch)
    rate = try options.value("rate", default: rate)
    clip = try options.value("clip", default: clip)
    solve = try options.value("solve", default: solve)
    images = try options.value("images", default: images)
    match = try options.choice("match", default: match)
    precision = try options.choice("precision", default: precision)
  }

  /// Throws where a number is out of range.
  public func check() throws(VitError) {
    guard rate > 0, rate.isFinite, clip > 0, images > 0 else {
      throw VitError(
        "distil: expected rate > 0, clip > 0 and images > 0", kind: .usage, code: "option-value")
    }
    try Effort.check(Distil.name, steps: steps, batch: batch)
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    [
      ("steps", "\(steps)"), ("batch", "\(batch)"), ("rate", "\(rate)"), ("clip", "\(clip)"),
      ("solve", "\(solve)"), ("images", "\(images)"), ("match", match.rawValue),
    ] + precision.option
  }

  /// The images that do for a layer.
  public static let usualImages = 256

  /// Trains, and keeps for each layer the best weights on the held-out samples: first, last or averaged.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    let teacher = try hybrid.teacher(for: Distil.name)
    let mixers = try MixerNode.all(in: hybrid, teacher: teacher)
    guard !mixers.isEmpty else { return context.nothingReplaced(for: Distil.name) }
    var known: [Int: DistilledLayer] = [:]
    for mixer in mixers {
      known[mixer.layer.index] = try context.distilled(mixer, by: self)
    }
    let wanted = mixers.filter { mixer in
      known[mixer.layer.index] == nil && context.part.map { $0.layer == mixer.layer.index } ?? true
    }
    var stop: PassResult.Stop?
    if !wanted.isEmpty {
      let session = try session(of: wanted, teacher, context)
      try session.normalise()
      if solve { try session.solve(fitting: true) }
      try session.train(steps: steps, schedule: Schedule(peak: rate, steps: steps), clip: clip)
      if solve, steps > 0 { try session.solve(fitting: false) }
      for layer in try session.finish() { known[layer.layer] = layer }
      stop = session.stop
    }
    let layers = mixers.compactMap { known[$0.layer.index] }
    if let part = context.part {
      for mixer in wanted {
        try known[mixer.layer.index]?.save(
          in: part.store, context.distilKey(mixer, self), leftOut: context.leftOut.found)
      }
    }
    for layer in layers { layer.apply(to: &hybrid) }
    return PassResult(
      changes: layers.count, notes: layers.compactMap(\.note),
      divergences: layers.compactMap { layer in
        layer.divergence.map {
          PassResult.Divergence(pass: Distil.name, layer: layer.layer, step: $0.step, rate: $0.rate)
        }
      }, stops: stop.map { [$0] } ?? [],
      curves: layers.compactMap(\.curve).filter { !$0.points.isEmpty })
  }

  /// The errors of the mixers of several hybrids of one teacher, by layer, each solved for in closed form; all of them on the same run
  /// over the samples.
  package func solvedErrors(of hybrids: [Hybrid], phase: String, context: PassContext) throws -> [[Int:
    Double]]
  {
    guard let first = hybrids.first else { return [] }
    let teacher = try first.teacher(for: Distil.name)
    let mixers = try hybrids.map { try MixerNode.all(in: $0, teacher: teacher) }
    let session = try session(of: mixers.flatMap(\.self), teacher, context, phase: phase)
    try session.solve(fitting: true)
    var errors = session.errors[...]
    return mixers.map { mixers in
      defer { errors = errors.dropFirst(mixers.count) }
      return Dictionary(
        zip(mixers.map(\.layer.index), errors.map(\.relative)), uniquingKeysWith: { first, _ in first })
    }
  }

  /// What trains these mixers.
  func session(
    of mixers: [MixerNode], _ teacher: Teacher, _ context: PassContext, phase: String = Distil.name
  ) throws -> DistilSession {
    let data = try context.samples(for: Distil.name)
    return try DistilSession(
      mixers, teacher: teacher, data: data, heldOut: context.heldOut ?? data,
      batch: batch, images: images, match: match, precision: precision, phase: phase, context: context)
  }
}
