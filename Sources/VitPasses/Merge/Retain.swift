public import VitIR
internal import VitOps

/// Drops the patches that a layer attends to least, behind its mixer and before its perceptron, as in EViT (Liang et al., ICLR 2022) and
/// DynamicViT, without training: fewer tokens go on, and they are really gone.
///
/// A patch counts by the attention that the first token pays to it, the mean over heads, in the layer itself: its attention, or the exact
/// rows of its first tokens (`prefix=attend`); a layer without either takes the maps of the last one before it. In models
/// without such a token it is the attention of all tokens. Those that stay keep their order. What reads patches behind the last
/// layer, a mean or a dense output, gets of those that were dropped the value that they had last.
///
/// With `teacher=true`, before anything is replaced, the model that drops patches is the teacher of all passes behind it: mixers see, and
/// are compared on, those that it keeps alone.
public struct Retain: Pass {
  /// `retain`.
  public static let name = "retain"
  /// See `Pass`.
  public static let summary =
    "Drops the patches that are attended to least, layer by layer: fewer tokens go on"
  /// See `Pass`.
  public static let example = "retain{keep=[0.7,0.5]}"

  /// Tokens are gone.
  public var isLossy: Bool { true }

  /// How patches are chosen.
  public enum Rule: String, CaseIterable, Sendable {
    /// A fixed number: those that are attended to most.
    case topk
    /// As many as have not halted on the mean, which is trained: those that are farthest from it.
    case halt
  }

  /// How patches are chosen.
  public var rule: Rule
  /// The part of the patches that is kept each time, in `layers`; or behind each layer the part of all patches, in order.
  public var keep: [Double]
  /// The layers behind which patches are dropped, where `keep` is one number; by default three, at a quarter, a half and three quarters of the depth.
  public var layers: [Int]?
  /// Whether the model that drops patches is the teacher from then on: what replaces its layers learns from those that are left.
  public var makesTeacher: Bool

  /// How tokens halt, with that rule.
  public var halting = Halting()

  /// Options with a value that brings further options.
  public static let forms = [(name: "rule", value: "halt")]

  /// The pass.
  public init(keep: [Double] = [0.7], layers: [Int]? = nil, makesTeacher: Bool = false) {
    rule = .topk
    self.keep = keep
    self.layers = layers
    self.makesTeacher = makesTeacher
  }

  /// Takes `keep` (0.7), the part of the patches that is kept each time, and `layers` (at a quarter, a half and three quarters of the
  /// depth), behind which that is done; or for `keep` a list: behind each layer the part of all patches; `rule` (topk); and `teacher`
  /// (false): whether what comes of it is the teacher of all that follows. With `rule=halt` there are no `keep` and `layers`, but the options of `Halting`.
  public init(options: inout OptionReader) throws(VitError) {
    self.init()
    rule = try options.choice("rule", default: rule)
    makesTeacher = try options.value("teacher", default: makesTeacher)
    if rule == .halt {
      halting = try Halting(options: &options)
    } else {
      keep = try options.numbers("keep") ?? keep
      layers = try options.integers("layers")
    }
  }

  /// Throws where a part is none, or the options contradict each other.
  public func check() throws(VitError) {
    if rule == .halt { return try halting.check() }
    guard !keep.isEmpty, keep.allSatisfy({ $0 > 0 && $0 <= 1 }) else {
      throw VitError(
        "retain: option 'keep' has '\(keep.first { !($0 > 0 && $0 <= 1) } ?? 0)', expected parts above 0 and at most 1",
        kind: .usage, code: "option-value")
    }
    guard keep.count == 1 || layers == nil else {
      throw VitError(
        "retain: a list of parts says what each layer keeps, so 'layers' has nothing to say", kind: .usage,
        code: "option-value")
    }
    guard zip(keep, keep.dropFirst()).allSatisfy({ $0 >= $1 }) else {
      throw VitError(
        "retain: what is gone does not come back: expected parts that do not grow from layer to layer",
        kind: .usage, code: "option-value")
    }
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    let isOne = keep.count == 1
    if rule == .halt { return [("rule", rule.rawValue), ("teacher", "\(makesTeacher)")] + halting.options }
    return [("keep", isOne ? "\(keep[0])" : "[\(keep.map { "\($0)" }.joined(separator: ","))]")]
      + (layers.map { [("layers", "[\($0.map(String.init).joined(separator: ","))]")] } ?? [])
      + [("rule", rule.rawValue), ("teacher", "\(makesTeacher)")]
  }

  /// It drops once, and nothing that is merged.
  public var worksOnMergedTokens: Bool { false }

  /// Finds out whether tokens can be dropped, and rebuilds the graph behind the first layer in which some are.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    guard let first = hybrid.layers.first else {
      throw VitError(
        "retain: the model has no attention layers", code: "no-layers",
        help: "vitc inspect lists the layers and the reasons")
    }
    if makesTeacher { try hybrid.checkOwnTeacher(for: Self.name) }
    if rule == .halt { return try halt(&hybrid, context) }
    let parts = try schedule(hybrid.layers)
    guard let input = first.input, let tokens = hybrid.graph.type(input).shape.dropFirst().first?.fixedValue
    else {
      throw VitError(
        "retain: layer \(first.index) has no tokens whose number is known", code: "retain-impossible",
        location: Location(node: first.node))
    }
    let all = TokenGeometry(hybrid.graph, tokens: tokens).grid.count
    var left = all
    let counts = parts.map { part in
      // As many as are at least that part of all, one in any case.
      let kept = min(left, max(1, Int((part * Double(all) - 1e-6).rounded(.up))))
      defer { left = kept }
      return left - kept
    }
    guard let start = counts.firstIndex(where: { $0 > 0 }) else {
      return PassResult(notes: ["nothing to do"])
    }
    let sites = try MergeSite.all(in: hybrid, counts: counts, from: start, .dropped)
    var merger = Merger(
      hybrid.graph, layers: hybrid.layers, sites: sites, metric: .value, registry: context.registry,
      pool: context.pool)
    try merger.run()
    if let warning = merger.warning(Self.name) { context.report(warning) }
    (hybrid.graph, hybrid.layers) = (try merger.finish(), merger.layers)
    if makesTeacher { hybrid.teacher = Teacher(hybrid) }
    return PassResult(
      changes: sites.count,
      notes: sites.map { "layer \($0.layer): of \($0.patches) patches \($0.patches - $0.count) go on" })
  }

  /// Trains tokens to halt, and lets as many go on behind each block as on the mean have not.
  private func halt(_ hybrid: inout Hybrid, _ context: PassContext) throws -> PassResult {
    let run = try HaltingRun(halting, hybrid, context: context)
    var model = hybrid
    var found = try run.train(&model)
    var (left, counts) = (run.geometry.grid.count, [Int]())
    for next in found.left {
      counts.append(left - next)
      left = next
    }
    let sites = MergeSite.halting(
      in: model, counts: counts + [0], streams: run.streams, run.geometry)
    var merger = Merger(
      model.graph, layers: model.layers, sites: sites, metric: .value, registry: context.registry,
      pool: context.pool, halting: found.rule)
    try merger.run()
    if let warning = merger.warning(Self.name) { context.report(warning) }
    (hybrid.graph, hybrid.layers) = (try merger.finish(), merger.layers)
    if makesTeacher { hybrid.teacher = Teacher(hybrid) }
    found.result.changes = max(1, found.result.changes)
    found.result.notes += sites.filter { $0.count > 0 }.map {
      "block \($0.layer): of \($0.patches) patches \($0.patches - $0.count) go on"
    }
    return found.result
  }

  /// The part of all patches that goes on behind each layer; throws a usage error where the options are not for these layers.
  private func schedule(_ layers: [Layer]) throws(VitError) -> [Double] {
    if keep.count > 1 {
      guard keep.count == layers.count else {
        throw VitError(
          "retain: option 'keep' has \(keep.count) numbers, expected one, or one for each of \(layers.count) layers",
          kind: .usage, code: "option-value")
      }
      return keep
    }
    let places = self.layers ?? [1, 2, 3].map { layers.count * $0 / 4 }
    if let other = places.first(where: { place in !layers.contains { $0.index == place } }) {
      throw VitError(
        "retain: there is no layer \(other), expected 0 to \(layers.count - 1)", kind: .usage,
        code: "option-value")
    }
    var part = 1.0
    return layers.map { layer in
      if places.contains(layer.index) { part *= keep[0] }
      return part
    }
  }
}
