public import VitIR

/// Chooses the layers to replace: by an index that `score` found, by measured damage, by place, or by name.
public struct Select: Pass {
  /// `select`.
  public static let name = "select"
  /// See `Pass`.
  public static let summary = "Chooses the layers to replace"

  /// What layers are ranked by.
  public enum Criterion: String, CaseIterable, Sendable {
    /// The damage of swapping that one layer for its mixer, measured on the held-out samples; least first.
    case swap
    /// Sparsity by entropy; sparsest first.
    case entropy
    /// Sparsity by the Gini index; sparsest first.
    case gini
    /// Sparsity by Hoyer's index; sparsest first.
    case hoyer
    /// Sparsity by the share of keys that holds nine tenths of the mass; sparsest first.
    case topMass = "top-mass"
    /// Mean attention distance; nearest first.
    case distance
    /// How far the layer turns the residual stream; least first.
    case cosine
    /// The damage of dropping the layer; least first.
    case drop
    /// The first layers.
    case first
    /// The last layers.
    case last

    /// The score that it ranks by, and whether larger comes first.
    public var score: (name: String, largestFirst: Bool)? {
      switch self {
      case .entropy: ("entropy", true)
      case .gini: ("gini", true)
      case .hoyer: ("hoyer", true)
      case .topMass: ("top_mass", true)
      case .distance: ("distance", false)
      case .cosine: ("cosine", false)
      case .drop: ("drop", false)
      case .swap, .first, .last: nil
      }
    }
  }

  /// What layers are ranked by.
  public var criterion: Criterion
  /// How many are chosen; without it `fraction` says so.
  public var count: Int?
  /// Which part of all attention layers is chosen.
  public var fraction: Double
  /// The layers themselves, whatever they are ranked by.
  public var layers: [Int]?
  /// The held-out samples that the damage is measured on; by default all.
  public var images: Int?

  /// The pass.
  public init(
    by criterion: Criterion = .swap, count: Int? = nil, fraction: Double = 0.5, layers: [Int]? = nil,
    images: Int? = nil
  ) {
    self.criterion = criterion
    self.count = count
    self.fraction = fraction
    self.layers = layers
    self.images = images
  }

  /// Takes `by` (swap), `count`, `fraction` (0.5, of all attention layers; used where there is no count), `layers`,
  /// which wins over the others, and `images` (all held-out ones): those that the damage is measured on.
  public init(options: inout OptionReader) throws(VitError) {
    self.init()
    criterion = try options.choice("by", default: criterion)
    count = try options.optional("count")
    fraction = try options.value("fraction", default: fraction)
    layers = try options.integers("layers")
    images = try options.optional("images")
  }

  /// Throws where nothing could be chosen.
  public func check() throws(VitError) {
    guard (count ?? 1) > 0, (images ?? 1) > 0, fraction > 0, fraction <= 1 else {
      throw VitError(
        "select: expected a count and images of at least 1 and a fraction in (0, 1]", kind: .usage,
        code: "option-value")
    }
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    if let layers { return [("layers", "[\(layers.map(String.init).joined(separator: ","))]")] }
    let amount = count.map { ("count", "\($0)") } ?? ("fraction", "\(fraction)")
    return [("by", criterion.rawValue), amount] + (images.map { [("images", "\($0)")] } ?? [])
  }

  /// How many layers are chosen among `all`.
  func count(among all: [Layer]) -> Int {
    layers?.count ?? count ?? max(1, Int((fraction * Double(all.count)).rounded()))
  }

  /// Sets the choice of each layer that can be replaced, or is on trial; with `by=swap`, measures the damage of each
  /// candidate first, and chooses among them.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    let candidates = hybrid.layers.filter { $0.isReplaceable || $0.isReplaced }
    guard !candidates.isEmpty else {
      throw VitError(
        hybrid.layers.isEmpty ? "the model has no attention layers" : "no attention layer can be replaced",
        code: "no-attention", help: "vitc inspect lists the layers and the reasons")
    }
    if let layers {
      for number in layers where !candidates.contains(where: { $0.index == number }) {
        throw VitError(
          "layer \(number) cannot be replaced or does not exist", kind: .usage, code: "layer-unknown",
          help: "vitc inspect lists the layers and the reasons")
      }
      choose(Set(layers), among: candidates, &hybrid)
      return PassResult(changes: layers.count, notes: ["layers \(layers.sorted()), as asked for"])
    }
    if criterion == .swap { try measure(&hybrid, context) }
    let ranked = try rank(measured(hybrid.layers.filter { $0.isReplaceable || $0.isReplaced }))
    let wanted = count(among: hybrid.layers)
    guard wanted <= ranked.count else {
      throw VitError(
        "\(wanted) layers are to be replaced, but only \(ranked.count) can be", kind: .usage,
        code: "count-too-large",
        help: criterion == .swap ? "select{by=swap} chooses among the layers that were swapped" : nil)
    }
    let chosen = ranked.prefix(wanted).map(\.index)
    choose(Set(chosen), among: candidates, &hybrid)
    return PassResult(
      changes: chosen.count,
      notes: ["layers \(chosen.sorted()) by \(criterion.rawValue), best first \(chosen)"])
  }

  func choose(_ chosen: Set<Int>, among candidates: [Layer], _ hybrid: inout Hybrid) {
    for candidate in candidates {
      guard let place = hybrid.place(of: candidate.index) else { continue }
      hybrid.layers[place].choice = chosen.contains(candidate.index) ? .selected : .kept
    }
  }

  /// With `by=swap`, those whose mixer was measured: the others were not put on trial, and stay as they are. All where none was.
  private func measured(_ layers: [Layer]) -> [Layer] {
    guard criterion == .swap else { return layers }
    let measured = layers.filter { $0.candidates.last?.damage != nil }
    return measured.isEmpty ? layers : measured
  }

  private func rank(_ layers: [Layer]) throws(VitError) -> [Layer] {
    if criterion == .first { return layers }
    if criterion == .last { return layers.reversed() }
    let largestFirst = criterion.score?.largestFirst ?? false
    var scored: [(layer: Layer, value: Double)] = []
    for layer in layers {
      let found = criterion.score.map { layer.score($0.name) } ?? layer.candidates.last?.damage
      guard let value = found else {
        throw VitError(
          "layer \(layer.index) has no score '\(criterion.rawValue)'", kind: .usage, code: "score-missing",
          location: Location(node: layer.node),
          help: criterion == .swap ? "run swap and distil before select{by=swap}" : "run score before select")
      }
      scored.append((layer, value.isNaN ? (largestFirst ? -.infinity : .infinity) : value))
    }
    return scored.sorted { a, b in
      if a.value == b.value { return a.layer.index < b.layer.index }
      return largestFirst ? a.value > b.value : a.value < b.value
    }.map(\.layer)
  }

  /// Measures for each mixer what it does to the teacher's outputs when it alone stands in.
  private func measure(_ hybrid: inout Hybrid, _ context: PassContext) throws {
    guard !hybrid.replaced.isEmpty else { return }
    let teacher = try hybrid.teacher(for: Select.name)
    let mixers = try MixerNode.all(in: hybrid, teacher: teacher)
    let data = try context.heldOut ?? context.samples(for: Select.name)
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: data, samples: data.spread(images), context: context)
    for (done, mixer) in mixers.enumerated() {
      let alone = try MixerNode.transplant(
        [mixer], from: hybrid.graph, into: teacher, registry: context.registry)
      let damage = try meter.measure(alone.graph).damage
      if let place = hybrid.place(of: mixer.layer.index) {
        hybrid.layers[place].candidates[mixer.layer.candidates.count - 1].damage = damage
      }
      context.progress(Select.name, done + 1, mixers.count, "layer \(mixer.layer.index)")
    }
  }
}
