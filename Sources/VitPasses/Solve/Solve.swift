public import VitIR
internal import VitOps
internal import VitRuntime

/// Solves the mixers of a hybrid in closed form, from the first layer to the last, each on what the layers before it really
/// give: no gradient is taken.
///
/// With `stream`, a layer is fitted to what brings the hybrid's residual stream back to the teacher's,
/// `y* = (rᵀ + γ ⊙ yᵀ − rˢ) / γ`, so that it makes up for the layers before; with `branch`, to what the teacher's layer gives.
/// Kept where the hybrid is nearer to the teacher on the held-out samples than before.
public struct Solve: Pass {
  /// `solve`.
  public static let name = "solve"
  /// See `Pass`.
  public static let summary = "Solves the mixers in closed form, layer by layer on the hybrid's own stream"
  /// See `Pass`.
  public static let example = "swap{layers=[0]},solve{images=64}"

  /// What a layer is fitted to.
  public enum Target: String, CaseIterable, Sendable {
    /// What brings the residual stream back to the teacher's.
    case stream
    /// What the teacher's layer gives.
    case branch
  }

  /// The samples that are solved on.
  public var images: Int
  /// What a layer is fitted to.
  public var target: Target
  /// Whether what lies before the last linear map is fitted as well, where there is a fit.
  public var fit: Bool
  /// The held-out samples that decide whether the result is kept; by default all.
  public var judged: Int?

  /// The pass.
  public init(images: Int = 512, target: Target = .stream, fit: Bool = true, judged: Int? = nil) {
    self.images = images
    self.target = target
    self.fit = fit
    self.judged = judged
  }

  /// Takes `images` (512): the samples that are solved on; `target` (stream, or branch); `fit` (true): whether what lies before
  /// the last linear map is fitted, too; and `judged` (all held-out samples): those that decide whether the result is kept.
  public init(options: inout OptionReader) throws(VitError) {
    self.init()
    images = try options.value("images", default: images)
    target = try options.choice("target", default: target)
    fit = try options.value("fit", default: fit)
    judged = try options.optional("judged")
  }

  /// Throws where there is nothing to solve on.
  public func check() throws(VitError) {
    guard images > 0, (judged ?? 1) > 0 else {
      throw VitError("solve: expected images > 0 and judged > 0", kind: .usage, code: "option-value")
    }
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    [("images", "\(images)"), ("target", target.rawValue), ("fit", "\(fit)")]
      + (judged.map { [("judged", "\($0)")] } ?? [])
  }

  /// Solves layer after layer, and keeps the result where it is better.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    let teacher = try hybrid.teacher(for: Solve.name)
    let mixers = try MixerNode.all(in: hybrid, teacher: teacher)
    guard !mixers.isEmpty else { return context.nothingReplaced(for: Solve.name) }
    let data = try context.samples(for: Solve.name)
    let heldOut = context.heldOut ?? data
    guard data.count > 0, heldOut.count > 0 else {
      throw VitError("there are no samples to solve on", code: "data-empty")
    }
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: heldOut, samples: heldOut.spread(judged), context: context)
    let before = try meter.measure(hybrid.graph).damage
    var solved = hybrid
    let sweep = SolveSweep(
      teacher, data: data, samples: data.spread(images), target: target, fit: fit, context: context)
    for (done, mixer) in mixers.enumerated() {
      let region = try sweep.solve(mixer, in: solved.graph)
      for constant in region.constants {
        if let id = solved.graph.value(named: constant.name) {
          solved.graph.setTensor(constant.tensor, of: id)
        }
      }
      context.progress(Solve.name, done + 1, mixers.count, "layer \(mixer.layer.index)")
    }
    let after = try meter.measure(solved.graph).damage
    let isBetter = after < before
    if isBetter { hybrid = solved }
    return PassResult(
      changes: isBetter ? mixers.count : 0,
      notes: ["damage \(before) to \(after)" + (isBetter ? "" : ": kept as it was")],
      damage: (before, min(before, after)))
  }
}

/// One way down through teacher and hybrid, on the same samples.
private final class SolveSweep {
  private let teacher: Teacher
  private let original: SampleStream
  /// The same samples in the hybrid, once it is known which of them the teacher gives numbers for.
  private var own: SampleStream?
  private let data: any SampleSource
  private let batch: Int
  private let target: Solve.Target
  private let fit: Bool
  private let context: PassContext

  init(
    _ teacher: Teacher, data: any SampleSource, samples: [Int], target: Solve.Target, fit: Bool,
    context: PassContext
  ) {
    self.teacher = teacher
    self.data = data
    self.target = target
    self.fit = fit
    self.context = context
    let layers = teacher.layers.compactMap(\.input)
    let bytes = layers.map { MicroBatch.bytes(of: [$0], in: teacher.graph) }.max() ?? 1
    batch = max(1, min(samples.count, 32, SolveSweep.bytes / max(1, bytes)))
    original = SampleStream(teacher.graph, data: data, samples: samples, batch: batch, context: context)
  }

  /// The bytes that the tokens of a batch may take.
  private static let bytes = 4 << 20

  /// The mixer, solved on what comes to it in `graph`, in which those before it are solved.
  func solve(_ mixer: MixerNode, in graph: Graph) throws -> MixerRegion {
    let index = mixer.layer.index
    let ends = (teacher.residual(of: index), graph.residual(behind: mixer.layer.output))
    // Without a residual stream the layer is fitted to the teacher's.
    let isCorrecting = target == .stream && ends.0 != nil && ends.1 != nil
    let factors = try mixer.scaled(in: teacher.graph)?.factors.floats()
    let weights = (try context.weights(of: teacher.graph), try context.weights(of: graph))
    if let before = ends.0?.before { try original.advance(teacher.graph, weights: weights.0, to: before) }
    let own =
      self.own
      ?? SampleStream(graph, data: data, samples: original.samples, batch: batch, context: context)
    self.own = own
    if let before = ends.1?.before { try own.advance(graph, weights: weights.1, to: before) }
    guard let tokens = mixer.layer.input else { return mixer.region }
    let tapped = [mixer.input, mixer.target] + (isCorrecting ? [ends.0?.after].compactMap { $0 } : [])
    let inputs = [tokens] + (isCorrecting ? [ends.1?.before].compactMap { $0 } : [])
    var solver: RegionSolver?
    func sweep(_ body: (RegionSolver, [View], [View]) throws -> Void) throws {
      try original.pairs(
        with: own, teacher.graph, weights.0, tapped, graph, weights.1, inputs
      ) { teacher, student in
        if solver == nil {
          solver = try RegionSolver(
            mixer, mixer.region, teacher: self.teacher, shape: student[0].shape, pool: context.pool)
        }
        if let solver { try body(solver, teacher, student) }
      }
    }
    if fit {
      try sweep { solver, teacher, student in try solver.addFit(student[0], teacher: teacher[0]) }
      solver?.finishFit()
    }
    var isReady = false
    try sweep { solver, teacher, student in
      if !isReady { try solver.prepareReadout() }
      isReady = true
      if isCorrecting {
        correct(teacher[1], after: teacher[2], before: student[1], factors)
      }
      try solver.add(student[0], teacher[1])
    }
    try solver?.finish()
    return solver?.region ?? mixer.region
  }

  /// `y ← (after − before) / γ`: what brings the stream to the teacher's. Channels that are scaled by next to nothing keep `y`.
  private func correct(_ y: View, after: View, before: View, _ factors: [Float]?) {
    let width = y.shape.last ?? 1
    for index in 0..<y.count {
      let factor = factors.map { $0[index % width] } ?? 1
      if abs(factor) >= 1e-6 { y.f32[index] = (after.f32[index] - before.f32[index]) / factor }
    }
  }
}
