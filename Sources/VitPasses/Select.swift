public import VitIR
internal import VitOps

/// Marks the layers to replace: by an index that `score` found, by measured damage, by place, or by name.
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

    /// The annotation that holds the index, and whether larger comes first.
    public var annotation: (name: String, largestFirst: Bool)? {
      switch self {
      case .swap: ("swap.damage", false)
      case .entropy: ("score.entropy", true)
      case .gini: ("score.gini", true)
      case .hoyer: ("score.hoyer", true)
      case .topMass: ("score.top_mass", true)
      case .distance: ("score.distance", false)
      case .cosine: ("score.cosine", false)
      case .drop: ("score.drop", false)
      case .first, .last: nil
      }
    }
  }

  private let criterion: Criterion
  private let count: Int?
  private let fraction: Double
  private let layers: [Int]?

  /// Takes `by` (swap), `count`, `fraction` (0.5, of all attention layers; used where there is no count) and
  /// `layers`, which wins over the others.
  public init(options: inout OptionReader) throws(VitError) {
    criterion = try options.choice("by", default: .swap)
    count = try options.optional("count")
    fraction = try options.value("fraction", default: 0.5)
    layers = try options.integers("layers")
    guard (count ?? 1) > 0, fraction > 0, fraction <= 1 else {
      throw VitError(
        "select: expected a count of at least 1 and a fraction in (0, 1]", kind: .usage, code: "option-value")
    }
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    if let layers { return [("layers", "[\(layers.map(String.init).joined(separator: ","))]")] }
    let amount = count.map { ("count", "\($0)") } ?? ("fraction", "\(fraction)")
    return [("by", criterion.rawValue), amount]
  }

  /// Marks nodes with `selected`; with `by=swap`, measures first and notes `swap.damage`.
  public func run(on graph: inout Graph, context: PassContext) throws -> PassResult {
    let sites = AttentionLayers.find(in: graph).layers
    let trial = MixerNode.new(in: graph, context: context)
    let candidates = sites.filter { site in site.isReplaceable || trial.contains { $0.place == site.place } }
    guard !candidates.isEmpty else {
      throw VitError(
        sites.isEmpty ? "the model has no attention layers" : "no attention layer can be replaced",
        code: "no-attention", help: "vitc inspect lists the layers and the reasons")
    }
    if let layers {
      for number in layers where !candidates.contains(where: { $0.index == number }) {
        throw VitError(
          "layer \(number) cannot be replaced or does not exist", kind: .usage, code: "layer-unknown",
          help: "vitc inspect lists the layers and the reasons")
      }
      mark(candidates, Set(layers), &graph)
      return PassResult(changes: layers.count, notes: ["layers \(layers.sorted()), as asked for"])
    }
    if criterion == .swap { try measure(trial, &graph, context) }
    let ranked = try rank(candidates, graph)
    let wanted = count ?? max(1, Int((fraction * Double(sites.count)).rounded()))
    guard wanted <= candidates.count else {
      throw VitError(
        "\(wanted) layers are to be replaced, but only \(candidates.count) can be", kind: .usage,
        code: "count-too-large")
    }
    let chosen = ranked.prefix(wanted).map(\.index)
    mark(candidates, Set(chosen), &graph)
    return PassResult(
      changes: chosen.count,
      notes: ["layers \(chosen.sorted()) by \(criterion.rawValue), best first \(chosen)"])
  }

  private func mark(_ sites: [AttentionLayer], _ chosen: Set<Int>, _ graph: inout Graph) {
    for site in sites { graph.nodes[site.place].annotations["selected"] = .bool(chosen.contains(site.index)) }
  }

  private func rank(_ sites: [AttentionLayer], _ graph: Graph) throws(VitError) -> [AttentionLayer] {
    guard let (name, largestFirst) = criterion.annotation else {
      return criterion == .first ? sites : sites.reversed()
    }
    var scored: [(site: AttentionLayer, value: Double)] = []
    for site in sites {
      guard case .float(let value)? = graph.nodes[site.place].annotations[name] else {
        throw VitError(
          "layer \(site.index) has no '\(name)'", kind: .usage, code: "score-missing",
          location: Location(node: site.node),
          help: criterion == .swap ? "run swap and distil before select{by=swap}" : "run score before select")
      }
      scored.append((site, value.isNaN ? (largestFirst ? -.infinity : .infinity) : value))
    }
    return scored.sorted { a, b in
      if a.value == b.value { return a.site.index < b.site.index }
      return largestFirst ? a.value > b.value : a.value < b.value
    }.map(\.site)
  }

  /// Notes for each mixer what it does to the teacher's outputs when it alone stands in.
  private func measure(_ trial: [MixerNode], _ graph: inout Graph, _ context: PassContext) throws {
    guard !trial.isEmpty else { return }
    let teacher = try context.teacher(for: Select.name)
    let data = try context.heldOut ?? context.samples(for: Select.name)
    let meter = try FidelityMeter(teacher: teacher, data: data, context: context)
    for (done, mixer) in trial.enumerated() {
      let alone = try MixerNode.transplant([mixer], from: graph, into: teacher, registry: context.registry)
      let fidelity = try meter.measure(alone)
      graph.nodes[mixer.place].annotations["swap.damage"] = .float(fidelity.damage)
      context.progress(Select.name, done + 1, trial.count, "layer \(mixer.layer)")
    }
  }
}
