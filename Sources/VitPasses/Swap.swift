public import VitIR
public import VitOps

/// Replaces attention layers by mixers, initialised from the attention where that is defined.
public struct Swap: Pass {
  /// `swap`.
  public static let name = "swap"
  /// See `Pass`.
  public static let summary = "Replaces the selected attention layers by mixers"
  /// See `Pass`.
  public static let example = "swap{mixer=lstm,layers=[0]}"

  /// How tokens are scanned.
  public typealias Order = ScanOrder.Pattern

  /// Which layers.
  public enum LayerSet: Hashable, Sendable {
    /// Those that `select` chose.
    case selected
    /// All that can be.
    case all
    /// These.
    case listed([Int])
  }

  /// The kind of the mixer, with its own options in braces where they are not the defaults.
  public var mixer: String
  /// Its inner width as a fraction of the model's; by default the mixer's own.
  public var width: Double?
  /// Its heads; by default as many as fit.
  public var heads: Int?
  /// How tokens are scanned.
  public var order: Order
  /// Where output tokens are read.
  public var placement: ScanOrder.Placement
  /// How the rows of the tokens before the patches are made.
  public var prefix: PrefixRows
  /// Which layers are replaced.
  public var layers: LayerSet
  /// The samples by which the scores of the tokens before the patches are reduced.
  public var images: Int

  /// The pass.
  public init(
    mixer: String = "glr", width: Double? = nil, heads: Int? = nil,
    order: Order = .bidirectional, placement: ScanOrder.Placement = .last,
    prefix: PrefixRows = .automatic, layers: LayerSet = .selected, images: Int = 128
  ) {
    self.mixer = mixer
    self.width = width
    self.heads = heads
    self.order = order
    self.placement = placement
    self.prefix = prefix
    self.layers = layers
    self.images = images
  }

  /// Takes `mixer` (glr), `width` (a fraction of the model's; by default the mixer's own), `heads`, `order`
  /// (bidirectional), `placement` (last), `prefix` (auto; or mixer, or attend with `rank` and `own`), `layers` (`selected`,
  /// `all` or numbers) and `images` (128).
  public init(options: inout OptionReader) throws(VitError) {
    self.init()
    mixer = try options.value("mixer", default: mixer)
    width = try options.optional("width")
    heads = try options.optional("heads")
    order = try options.choice("order", default: order)
    placement = try options.choice("placement", default: placement)
    prefix = try PrefixRows(options.text("prefix") ?? prefix.text)
    images = try options.value("images", default: images)
    if let set = options.word("layers", of: ["selected", "all"]) {
      layers = set == "all" ? .all : .selected
    } else if let numbers = try options.integers("layers") {
      layers = .listed(numbers)
    }
  }

  /// How many times the model's width a mixer may have.
  private static let maximumWidth = 64.0

  /// Throws where there is no such mixer, or none of such a size.
  public func check() throws(VitError) {
    _ = try MixerRequest(mixer)
    if let width, !(width > 0 && width <= Swap.maximumWidth) {
      throw VitError(
        "swap: option 'width' cannot be '\(width)' (expected a part of the model's width above 0)",
        kind: .usage,
        code: "option-value")
    }
    guard images > 0 else {
      throw VitError("swap: expected images > 0", kind: .usage, code: "option-value")
    }
    if let heads, heads < 1 {
      throw VitError(
        "swap: option 'heads' cannot be '\(heads)' (expected at least 1)", kind: .usage, code: "option-value")
    }
  }

  /// Throws a usage error where the options fit no layer of `hybrid` that they may be meant for, so that nobody waits for
  /// scores to learn that.
  package func check(_ hybrid: Hybrid) throws {
    let request = try MixerRequest(mixer)
    var failure: VitError?
    for layer in hybrid.layers where layer.isReplaceable {
      if case .listed(let numbers) = layers, !numbers.contains(layer.index) { continue }
      do {
        _ = try request.make(layout(layer, hybrid.graph, request))
        _ = try attendedPrefix(layer, hybrid.graph)
        // Which ones are selected is not known yet.
        if layers == .selected { return }
      } catch let error as VitError { if error.kind == .usage { failure = failure ?? error } }
    }
    if let failure { throw failure }
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    var result = [("mixer", (try? MixerRequest(mixer).text) ?? mixer)]
    if let width { result.append(("width", "\(width)")) }
    if let heads { result.append(("heads", "\(heads)")) }
    result.append(("order", order.rawValue))
    result.append(("placement", placement.rawValue))
    result.append(("prefix", prefix.text))
    switch layers {
    case .selected: result.append(("layers", "selected"))
    case .all: result.append(("layers", "all"))
    case .listed(let numbers):
      result.append(("layers", "[\(numbers.map(String.init).joined(separator: ","))]"))
    }
    return result + [("images", "\(images)")]
  }

  /// Replaces each layer; throws where a listed one cannot be, or nothing is selected.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    let chosen = try choose(hybrid.layers)
    guard !chosen.isEmpty else {
      throw VitError(
        "no layer is selected", code: "nothing-selected", help: "run select before swap, or name the layers")
    }
    let request = try MixerRequest(mixer)
    var transplant = Transplant(hybrid.graph, layers: hybrid.layers, registry: context.registry)
    var notes: [String] = []
    let moments = try tokenMoments(chosen, request, hybrid, context)
    for layer in chosen {
      let layout = try self.layout(layer, hybrid.graph, request)
      try replace(layer, request, layout, hybrid.graph, moments[layer.index], context, &transplant)
      notes.append("layer \(layer.index): \(request.text), width \(layout.width), heads \(layout.heads)")
    }
    (hybrid.graph, hybrid.layers) = try transplant.finish()
    return PassResult(changes: chosen.count, notes: notes)
  }

  private func choose(_ all: [Layer]) throws(VitError) -> [Layer] {
    switch layers {
    case .all: return all.filter { $0.isReplaceable }
    case .selected: return all.filter { $0.choice == .selected && $0.isReplaceable }
    case .listed(let numbers):
      var result: [Layer] = []
      for number in numbers.sorted() {
        guard let layer = all.first(where: { $0.index == number }) else {
          throw VitError(
            "there is no layer \(number): the model has \(all.count)", kind: .usage, code: "layer-unknown")
        }
        if let obstacle = layer.obstacle {
          throw VitError(
            "layer \(number) cannot be replaced: \(obstacle)", kind: .usage, code: "layer-not-replaceable",
            location: Location(node: layer.node))
        }
        if !result.contains(where: { $0.index == number }) { result.append(layer) }
      }
      return result
    }
  }

  private func layout(
    _ layer: Layer, _ graph: Graph, _ request: MixerRequest
  ) throws -> MixerLayout {
    guard let input = layer.input, let output = layer.output,
      let extents = graph.type(input).fixedShapeTail(2),
      let outputDim = graph.type(output).shape.last?.fixedValue
    else {
      throw VitError(
        "layer \(layer.index) has an unknown number of tokens", code: "tokens-unknown",
        location: Location(node: layer.node),
        help: "give the image size when the model is loaded")
    }
    // What it is for tokens that are left is decided once it is known whether it needs their grid.
    let geometry = TokenGeometry(graph, tokens: graph.left(extents[0])?.all ?? extents[0])
    let scan = try ScanOrder(
      order, grid: geometry.grid, prefix: geometry.prefix, outputs: geometry.outputs, placement: placement)
    let own = try request.defaultWidth
    let inner = try MixerLayout.width(width ?? own, of: extents[1])
    var count = heads ?? 0
    if heads == nil {
      count = try MixerLayout.defaultHeads(
        width: inner, teacherHeads: layer.heads, order: scan, splitsHeads: request.splitsHeads)
    }
    let ownsPrefix = try attendedPrefix(layer, graph) == nil
    return try MixerLayout(
      dim: extents[1], outputDim: outputDim, width: inner, heads: count, order: scan, ownsPrefix: ownsPrefix,
      splitsHeads: request.splitsHeads)
  }

  private func replace(
    _ layer: Layer, _ request: MixerRequest, _ layout: MixerLayout, _ graph: Graph, _ moments: TokenMoments?,
    _ context: PassContext, _ transplant: inout Transplant
  ) throws {
    guard let place = graph.place(defining: layer.core) else { return }
    let mixer = try request.make(layout)
    var random = context.random(Swap.name).split(layer.index)
    var attention = try AttentionWeights(
      layer, graph.nodes[place], graph, directions: layout.order.directionCount)
    if let whole = attention, let moments, let rank = Swap.rank(whole, layout),
      let factors = try ValueFactors(
        whole, moments: moments.all, scales: layer.output.flatMap(graph.scaled)?.factors.doubles(),
        pool: context.pool)
    {
      let parts = layout.heads / whole.heads
      attention = try factors.narrowed(
        whole, rank: rank, parts: layout.heads % whole.heads == 0 && rank % max(1, parts) == 0 ? parts : 1)
    }
    let tensors = try mixer.initialise(layout, from: attention, random: &random)
    let name = "mixer.\(layer.index)"
    let parameters = zip(mixer.parameters(layout), tensors).map { parameter, tensor in
      (name: "\(name).\(parameter.name)", tensor: tensor)
    }
    var region = try self.region(layer, mixer, parameters, graph, location: graph.nodes[place].location)
    // Where one map of values serves both, their rows lose the same channels.
    let prefix = try attendedPrefix(layer, graph, mixer.values == nil ? nil : attention)
    if let prefix { region = try prefix.behind(region, name: name, tokens: moments, pool: context.pool) }
    try transplant.replace(layer.index, with: region)
    let text = request.text(
      with: Attributes([
        ("width", .int(layout.width)), ("heads", .int(layout.heads)), ("order", .string(order.rawValue)),
        ("placement", .string(placement.rawValue)), ("prefix", .string(prefix?.text ?? "mixer")),
      ]))
    transplant[layer.index]?.candidates.append(Layer.Candidate(mixer: text))
    if layer.choice != .selected { transplant[layer.index]?.choice = .onTrial }
  }

  /// What stands in the layer's place; throws a usage error where the mixer cannot work on tokens of which some were dropped.
  private func region(
    _ layer: Layer, _ mixer: any Mixer, _ parameters: [(name: String, tensor: Tensor)], _ graph: Graph,
    location: Location
  ) throws(VitError) -> MixerRegion {
    guard let count = layer.input.flatMap({ graph.type($0).shape[1].fixedValue }),
      let left = graph.left(count)
    else { return MixerRegion(mixer, parameters, location: location) }
    do {
      return try MixerRegion(
        mixer, parameters, left: count - left.prefix, prefix: left.prefix, location: location)
    } catch {
      throw VitError(
        "swap: at layer \(layer.index) some tokens were dropped: \(error.diagnostic.message)", kind: .usage,
        code: "option-value", location: Location(node: layer.node),
        help: "take another order, or another mixer")
    }
  }

  /// How many channels of each head of values are left to a mixer of fewer channels; `nil` where it has as many, or they are not
  /// those of the heads.
  private static func rank(_ attention: AttentionWeights, _ layout: MixerLayout) -> Int? {
    let channels = attention.heads * attention.valueDim
    guard attention.kvHeads == attention.heads, layout.width > 0, layout.width < channels,
      layout.width % attention.heads == 0
    else { return nil }
    return layout.width / attention.heads
  }

  /// The attention that a layer's first tokens keep, with the layer's weights or others; `nil` where the mixer makes their rows.
  private func attendedPrefix(
    _ layer: Layer, _ graph: Graph, _ weights: AttentionWeights? = nil
  ) throws -> AttendedPrefix? {
    guard let place = graph.place(defining: layer.core),
      let tokens = layer.input.flatMap({ graph.type($0).shape[1].fixedValue })
    else { return nil }
    let node = graph.nodes[place]
    return try AttendedPrefix(
      prefix, layer, node, weights ?? AttentionWeights(layer, node, graph, directions: 0),
      TokenGeometry(graph, tokens: tokens))
  }

  /// What the tokens of layers are like whose first tokens attend by fewer channels or whose mixer has fewer, as far as there
  /// are data: one run of the model on some samples.
  private func tokenMoments(
    _ layers: [Layer], _ request: MixerRequest, _ hybrid: Hybrid, _ context: PassContext
  ) throws -> [Int: TokenMoments] {
    guard !context.isRehearsal, let data = context.data, data.count > 0 else { return [:] }
    var wanted: [(index: Int, input: ValueID)] = []
    var moments: [Int: TokenMoments] = [:]
    for layer in layers {
      guard let input = layer.input, let dim = hybrid.graph.type(input).shape[2].fixedValue,
        let place = hybrid.graph.place(defining: layer.core)
      else { continue }
      let prefix = try attendedPrefix(layer, hybrid.graph)
      let attention = try AttentionWeights(layer, hybrid.graph.nodes[place], hybrid.graph, directions: 0)
      let layout = try self.layout(layer, hybrid.graph, request)
      let isNarrow = attention.map { Swap.rank($0, layout) != nil } ?? false
      guard isNarrow || prefix?.isReduced ?? false else { continue }
      wanted.append((layer.index, input))
      moments[layer.index] = TokenMoments(dim: dim, attending: prefix?.count ?? 0)
    }
    guard !wanted.isEmpty else { return [:] }
    try TeacherTap.each(
      hybrid.graph, values: wanted.map(\.input), images: images, for: Swap.name, context: context
    ) { views in
      for (layer, view) in zip(wanted, views) { try moments[layer.index]?.add(view, pool: context.pool) }
    }
    return moments
  }
}

extension AttentionWeights {
  /// The weights of a layer that was raised to one operation, with the lags that `score` noted; `nil` for
  /// other layers.
  init?(_ layer: Layer, _ node: Node, _ graph: Graph, directions: Int) throws {
    guard node.operation is VitAttention else { return nil }
    func tensor(_ index: Int) -> Tensor? {
      guard index < node.operands.count, let id = node.operands[index] else { return nil }
      return graph.tensor(id)
    }
    guard let wq = tensor(1), let wk = tensor(3), let wv = tensor(5), let wo = tensor(7) else { return nil }
    var heads = layer.heads
    if case .int(let value)? = node.operation.attributes["heads"] { heads = value }
    var groups = heads
    if case .int(let value)? = node.operation.attributes["kv_heads"] { groups = value }
    var lag: [[Double]] = []
    if case .floats(let all)? = layer.scores["lag"], all.count == 4 * heads {
      lag = (0..<directions).map { Array(all[$0 * heads..<($0 + 1) * heads]) }
    }
    self.init(
      wq: wq, wk: wk, wv: wv, wo: wo, bq: tensor(2), bk: tensor(4), bv: tensor(6), bo: tensor(8),
      heads: heads, kvHeads: groups, lag: lag)
  }
}
