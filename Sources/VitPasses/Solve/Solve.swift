public import VitIR
internal import VitOps
internal import VitRuntime

/// Solves the mixers of a hybrid, the last maps of what lost channels or its own attention map, and what stands for whole blocks,
/// in closed form, from the first layer to the last, each on what the layers before it really give: no gradient is taken.
///
/// With `stream`, a layer is fitted to what brings the hybrid's residual stream back to the teacher's,
/// `y* = (rᵀ + γ ⊙ yᵀ − rˢ) / γ`, so that it makes up for the layers before; with `branch`, to what the teacher's layer gives.
/// With `reach=behind` the last maps of perceptrons and attention that nobody changed are solved, too, where something before them
/// was; those that several nodes share stay. How much a map is drawn to the teacher's is decided by samples it is not solved on.
/// Kept where the hybrid is nearer to the teacher on the held-out samples than before.
public struct Solve: Pass {
  /// `solve`.
  public static let name = "solve"
  /// See `Pass`.
  public static let summary =
    "Solves mixers, and the last maps of what lost channels, in closed form, layer by layer on the hybrid's own stream"
  /// See `Pass`.
  public static let example = "swap{layers=[0]},solve{images=64}"

  /// What a layer is fitted to.
  public enum Target: String, CaseIterable, Sendable {
    /// What brings the residual stream back to the teacher's.
    case stream
    /// What the teacher's layer gives.
    case branch
  }

  /// Which maps are solved.
  public enum Reach: String, CaseIterable, Sendable {
    /// Those of what was changed.
    case changed
    /// Those too of perceptrons and attention behind the first change, so that they make up for what comes before them.
    case behind
  }

  /// The samples that are solved on.
  public var images: Int
  /// What a layer is fitted to.
  public var target: Target
  /// Which maps are solved.
  public var reach: Reach
  /// Whether what lies before the last linear map is fitted as well, where there is a fit.
  public var fit: Bool
  /// The held-out samples that decide whether the result is kept; by default all.
  public var judged: Int?

  /// The pass.
  public init(
    images: Int = 512, target: Target = .stream, reach: Reach = .behind, fit: Bool = true, judged: Int? = nil
  ) {
    self.reach = reach
    self.images = images
    self.target = target
    self.fit = fit
    self.judged = judged
  }

  /// Takes `images` (512): the samples that are solved on; `target` (stream, or branch); `reach` (behind, or changed):
  /// whether maps are solved that were not changed; `fit` (true): whether what lies before
  /// the last linear map is fitted, too; and `judged` (all held-out samples): those that decide whether the result is kept.
  public init(options: inout OptionReader) throws(VitError) {
    self.init()
    images = try options.value("images", default: images)
    target = try options.choice("target", default: target)
    reach = try options.choice("reach", default: reach)
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
    [("images", "\(images)"), ("target", target.rawValue), ("reach", reach.rawValue), ("fit", "\(fit)")]
      + (judged.map { [("judged", "\($0)")] } ?? [])
  }

  /// Solves layer after layer, and keeps the result where it is better.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    let teacher = try hybrid.teacher(for: Solve.name)
    let sites = try SolveSite.all(in: hybrid, teacher: teacher, reach: reach)
    guard !sites.isEmpty else { return context.nothingReplaced(for: Solve.name) }
    try Blas.require(on: context.pool)
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
    for (done, site) in sites.enumerated() {
      solved.graph.setTensors(try sweep.solve(site, in: solved.graph))
      context.progress(Solve.name, done + 1, sites.count, site.label)
    }
    let after = try meter.measure(solved.graph).damage
    let isBetter = after < before
    if isBetter { hybrid = solved }
    return PassResult(
      changes: isBetter ? sites.count : 0,
      notes: ["damage \(before) to \(after)" + (isBetter ? "" : ": kept as it was")],
      damage: (before, min(before, after)))
  }
}

extension Graph {
  /// Gives constants other numbers, by name.
  mutating func setTensors(_ tensors: [(name: String, tensor: Tensor)]) {
    for (name, tensor) in tensors {
      if let id = value(named: name) { setTensor(tensor, of: id) }
    }
  }
}
