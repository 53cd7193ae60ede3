public import VitIR
internal import VitOps

/// Replaces attention layers by mixers, initialised from the attention where that is defined.
public struct Swap: Pass {
  /// `swap`.
  public static let name = "swap"
  /// See `Pass`.
  public static let summary = "Replaces the selected attention layers by mixers"

  private let mixer: String
  private let width: Double?
  private let heads: Int?
  private let order: ScanOrder.Pattern
  private let placement: ScanOrder.Placement
  private let layers: LayerSet

  /// Which layers.
  enum LayerSet: Equatable {
    /// Those that `select` marked.
    case selected
    /// All that can be.
    case all
    /// These.
    case listed([Int])
  }

  /// Takes `mixer` (glr), `width` (a fraction of the model's; by default the mixer's own), `heads`, `order`
  /// (bidirectional), `placement` (last) and `layers` (`selected`, `all` or numbers).
  public init(options: inout OptionReader) throws(VitError) {
    mixer = try options.value("mixer", default: "glr")
    _ = try Mixers.named(mixer)
    width = try options.optional("width")
    heads = try options.optional("heads")
    order = try options.choice("order", default: .bidirectional)
    placement = try options.choice("placement", default: .last)
    var reader = options
    switch reader.text("layers") {
    case nil, "selected": layers = .selected
    case "all": layers = .all
    default: layers = .listed(try options.integers("layers") ?? [])
    }
    _ = options.text("layers")
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    var result = [("mixer", mixer)]
    if let width { result.append(("width", "\(width)")) }
    if let heads { result.append(("heads", "\(heads)")) }
    result.append(("order", order.rawValue))
    result.append(("placement", placement.rawValue))
    switch layers {
    case .selected: result.append(("layers", "selected"))
    case .all: result.append(("layers", "all"))
    case .listed(let numbers):
      result.append(("layers", "[\(numbers.map(String.init).joined(separator: ","))]"))
    }
    return result
  }

  /// Replaces each layer; throws where a listed one cannot be, or nothing is selected.
  public func run(on graph: inout Graph, context: PassContext) throws -> PassResult {
    if context.teacher == nil { context.teacher = graph }
    let sites = AttentionLayers.find(in: graph).layers
    let chosen = try choose(sites, graph)
    guard !chosen.isEmpty else {
      throw VitError(
        "no layer is selected", code: "nothing-selected", help: "run select before swap, or name the layers")
    }
    var rewriter = Rewriter(graph, registry: context.registry)
    var notes: [String] = []
    for site in chosen {
      let random = context.random("swap").split(site.index)
      let layout = try self.layout(site, graph)
      try replace(site, layout, random, &rewriter)
      notes.append("layer \(site.index): \(mixer), width \(layout.width), heads \(layout.heads)")
    }
    graph = try rewriter.finish()
    return PassResult(changes: chosen.count, notes: notes)
  }

  private func choose(_ sites: [AttentionLayer], _ graph: Graph) throws(VitError) -> [AttentionLayer] {
    switch layers {
    case .all: return sites.filter { $0.isReplaceable }
    case .selected:
      return sites.filter { graph.nodes[$0.place].annotations["selected"] == .bool(true) && $0.isReplaceable }
    case .listed(let numbers):
      var result: [AttentionLayer] = []
      for number in numbers.sorted() {
        guard let site = sites.first(where: { $0.index == number }) else {
          throw VitError(
            "there is no layer \(number): the model has \(sites.count)", kind: .usage, code: "layer-unknown")
        }
        if let obstacle = site.obstacle {
          throw VitError(
            "layer \(number) cannot be replaced: \(obstacle)", kind: .usage, code: "layer-not-replaceable",
            location: Location(node: site.node))
        }
        if !result.contains(where: { $0.index == number }) { result.append(site) }
      }
      return result
    }
  }

  private func layout(_ site: AttentionLayer, _ graph: Graph) throws(VitError) -> MixerLayout {
    guard let input = site.input, let output = site.output, let extents = graph.type(input).fixedShapeTail(2),
      let outputDim = graph.type(output).shape.last?.fixedValue
    else {
      throw VitError(
        "layer \(site.index) has an unknown number of tokens", code: "tokens-unknown",
        location: Location(node: site.node),
        help: "give the image size when the model is loaded")
    }
    let kind = try Mixers.named(mixer)
    let geometry = TokenGeometry(graph, tokens: extents[0])
    let scan = try ScanOrder(
      order, grid: geometry.grid, prefix: geometry.prefix, outputs: geometry.outputs, placement: placement)
    let inner = try MixerLayout.width(width ?? kind.defaultWidth, of: extents[1])
    var count = heads ?? 0
    if heads == nil {
      count = try MixerLayout.defaultHeads(width: inner, teacherHeads: site.heads, order: scan)
    }
    return try MixerLayout(dim: extents[1], outputDim: outputDim, width: inner, heads: count, order: scan)
  }

  private func replace(
    _ site: AttentionLayer, _ layout: MixerLayout, _ random: SplitMix, _ rewriter: inout Rewriter
  ) throws {
    guard let input = site.input, let output = site.output else { return }
    let kind = try Mixers.named(mixer)
    var random = random
    let attention = try AttentionWeights(site, rewriter.graph, directions: layout.order.directionCount)
    let tensors = try kind.initialise(layout, from: attention, random: &random)
    var operands: [ValueID?] = [input]
    for (parameter, tensor) in zip(kind.parameters(layout), tensors) {
      operands.append(
        rewriter.builder.graph.addConstant(tensor, name: "mixer.\(site.index).\(parameter.name)"))
    }
    let node = rewriter.nodes[site.place]
    let target = rewriter.graph[output].name
    let results = try rewriter.builder.add(
      kind.init(layout), operands, names: ["mixer.\(site.index)"], location: node.location)
    let place = rewriter.builder.graph.nodes.count - 1
    var annotations = node.annotations
    annotations["layer"] = .int(site.index)
    annotations["target"] = .string(target)
    rewriter.builder.graph.nodes[place].annotations = annotations
    try rewriter.replace(output, with: results[0], by: Swap.name)
  }
}

extension AttentionWeights {
  /// The weights of a layer that was raised to one operation, with the lags that `score` noted; `nil` for
  /// other layers.
  init?(_ site: AttentionLayer, _ graph: Graph, directions: Int) throws {
    let node = graph.nodes[site.place]
    guard node.name == "vit.attention" else { return nil }
    func tensor(_ index: Int) -> Tensor? {
      guard index < node.operands.count, let id = node.operands[index] else { return nil }
      return graph.tensor(id)
    }
    guard let wq = tensor(1), let wk = tensor(3), let wv = tensor(5), let wo = tensor(7) else { return nil }
    var groups = site.heads
    if case .int(let value)? = node.operation.attributes["kv_heads"] { groups = value }
    var lag: [[Double]] = []
    if case .floats(let all)? = node.annotations["score.lag"], all.count == 4 * site.heads {
      lag = (0..<directions).map { Array(all[$0 * site.heads..<($0 + 1) * site.heads]) }
    }
    self.init(
      wq: wq, wk: wk, wv: wv, wo: wo, bq: tensor(2), bk: tensor(4), bv: tensor(6), bo: tensor(8),
      heads: site.heads,
      kvHeads: groups, lag: lag)
  }
}
