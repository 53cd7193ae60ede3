public import VitIR
internal import VitOps

/// Lets attention layers apply the attention map of a layer before to their own values: their queries and keys, with the maps that
/// make them, are gone.
///
/// A layer reads the queries and keys, and what is added to the scores, of the nearest layer before it that has attention; where
/// that uses another's, so does this. Its output map is then solved, from the first layer to the last, as in `solve`. Without
/// `layers`, those share whose mean maps are like the other's: Pearson's correlation of the maps' means over samples, head by
/// head, the mean over heads.
public struct Share: Pass {
  /// `share`.
  public static let name = "share"
  /// See `Pass`.
  public static let summary = "Lets attention layers use the attention map of the layer before them"
  /// See `Pass`.
  public static let example = "share{layers=[1],images=16}"

  /// Queries and keys are gone.
  public var isLossy: Bool { true }

  /// The numbers of the layers that share; `nil` for those whose maps are alike.
  public var layers: [Int]?
  /// How alike mean maps must be, where no layers are given.
  public var correlation: Double
  /// The samples on which maps are compared and output maps solved; 0 leaves output maps as they were.
  public var images: Int

  /// The pass.
  public init(layers: [Int]? = nil, correlation: Double = 0.8, images: Int = 512) {
    self.layers = layers
    self.correlation = correlation
    self.images = images
  }

  /// Takes `layers`, or `correlation` (0.8), how alike the mean maps of those must be that share; and `images` (512), on which maps
  /// are compared and output maps solved: 0 leaves the output maps of listed layers as they were.
  public init(options: inout OptionReader) throws(VitError) {
    self.init()
    layers = try options.integers("layers")
    let wanted: Double? = try options.optional("correlation")
    guard layers == nil || wanted == nil else {
      throw VitError(
        "share: expected layers or a correlation, found both", kind: .usage, code: "option-value")
    }
    correlation = wanted ?? correlation
    images = try options.value("images", default: images)
  }

  /// Throws where a number makes no sense.
  public func check() throws(VitError) {
    guard correlation >= -1, correlation <= 1, images >= (layers == nil ? 1 : 0) else {
      throw VitError(
        "share: expected a correlation from -1 to 1, and images of at least 1, or 0 with layers",
        kind: .usage,
        code: "option-value")
    }
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    let which = layers.map { ("layers", "[\($0.map(String.init).joined(separator: ","))]") }
    return [which ?? ("correlation", "\(correlation)"), ("images", "\(images)")]
  }

  /// Lets the layers share, and solves their output maps; throws where a listed layer cannot.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    var result = PassResult()
    var chosen = Array(Set(layers ?? [])).sorted()
    if layers == nil {
      (chosen, result.notes) = try alike(&hybrid, context)
      result.found = chosen.isEmpty ? [] : [Share(layers: chosen, images: images)]
    } else {
      for index in chosen {
        guard let layer = hybrid.layers.first(where: { $0.index == index }) else {
          throw VitError(
            "share: there is no layer \(index): the model has \(hybrid.layers.count)", kind: .usage,
            code: "layer-unknown", help: "vitc inspect lists the layers")
        }
        do { try share(layer, in: &hybrid, context) } catch let error as VitError where error.kind != .usage {
          throw VitError(
            "share: layer \(index) cannot share a map: \(error.diagnostic.message)", kind: .usage,
            code: "layer-not-shareable", location: Location(node: layer.node))
        }
      }
    }
    if images > 0, !chosen.isEmpty { try solve(chosen, in: &hybrid, context) }
    result.changes = chosen.count
    if !chosen.isEmpty { result.notes.append("layers \(chosen) use the map of a layer before") }
    return result
  }

  /// The layer whose map another would use: the nearest with attention.
  private func source(of layer: Layer, in hybrid: Hybrid) -> Layer? {
    hybrid.layers.last { $0.index < layer.index && ($0.isAttention || $0.isShared) }
  }

  /// Lets a layer use the map of the nearest attention layer before it; throws what is in the way, and changes nothing then.
  private func share(_ layer: Layer, in hybrid: inout Hybrid, _ context: PassContext) throws {
    guard layer.isAttention else {
      throw VitError(layer.isShared ? "it does already" : "it is no attention, but \(layer.kind)")
    }
    guard let source = source(of: layer, in: hybrid) else {
      throw VitError("no attention layer is before it")
    }
    var shared = hybrid
    let given = try AttentionCore.laidOpen(source.index, in: &shared, registry: context.registry)
    let own = try AttentionCore.laidOpen(layer.index, in: &shared, registry: context.registry)
    if let obstacle = own.obstacle(to: given, in: shared.graph) { throw VitError(obstacle) }
    guard let place = shared.place(of: layer.index), let root = shared.place(of: source.index) else { return }
    guard OutputMap(shared.layers[place], in: shared.graph) != nil else {
      throw VitError("no linear map of its own gives what it gives")
    }
    guard !reads(own, beside: shared.layers[place], shared.graph) else {
      throw VitError("other layers use its map")
    }
    var rewriter = Rewriter(shared.graph, registry: context.registry)
    if let node = shared.graph.place(defining: shared.layers[place].core) {
      rewriter.builder.location = shared.graph.nodes[node].location
    }
    let core = try rewriter.builder.add(
      given.operation, [given.queries, given.keys, own.values] + (given.bias.map { [$0] } ?? []))[0]
    try rewriter.replace(shared.layers[place].core, with: core, by: Share.name)
    shared.graph = try rewriter.finish()
    if !shared.layers[root].isShared {
      shared.layers[root].obstacle = "other layers use its queries and keys"
    }
    shared.layers[place].core = core
    shared.layers[place].kind = Layer.shared
    shared.layers[place].obstacle = "it uses the queries and keys of a layer before"
    (shared.layers[place].choice, shared.layers[place].candidates) = (.undecided, [])
    if let input = layer.input, let output = shared.layers[place].output {
      shared.layers[place].parameters = shared.graph.parameterCount(from: input, to: output)
    }
    hybrid = shared
  }

  /// Whether another layer reads the queries of this.
  private func reads(_ core: AttentionCore, beside layer: Layer, _ graph: Graph) -> Bool {
    graph.nodes.contains {
      $0.operation is VitSDPA && $0.operands[0] == core.queries && !$0.results.contains(layer.core)
    }
  }

  /// Lets those share whose mean maps are alike; gives their numbers, and what was found out about each layer, in whose scores
  /// it is noted as `correlation`.
  private func alike(
    _ hybrid: inout Hybrid, _ context: PassContext
  ) throws -> (chosen: [Int], notes: [String]) {
    let attention = hybrid.layers.filter { $0.isAttention || $0.isShared }
    let maps = try MeanMaps(hybrid, of: attention, images: images, context: context)
    /// The layer whose map a layer uses now.
    var roots: [Int: Int] = [:]
    var (chosen, notes): ([Int], [String]) = ([], [])
    for (done, layer) in attention.enumerated() where layer.isAttention {
      guard let nearest = source(of: layer, in: hybrid)?.index, let place = hybrid.place(of: layer.index)
      else {
        continue
      }
      let root = roots[nearest] ?? nearest
      var note = "layer \(layer.index): "
      if let found = maps.correlation(root, layer.index) {
        hybrid.layers[place].scores["correlation"] = .float(found)
        note += "correlation \((found * 1000).rounded() / 1000) with layer \(root)"
        do {
          if found >= correlation {
            try share(hybrid.layers[place], in: &hybrid, context)
            chosen.append(layer.index)
            roots[layer.index] = root
          }
        } catch let error as VitError where error.kind != .usage {
          note += ", but \(error.diagnostic.message)"
        }
      } else {
        let heads = hybrid.layers.first { $0.index == root }?.heads ?? 0
        note += "no maps like those of layer \(root): \(layer.heads) heads against \(heads)"
      }
      notes.append(note)
      context.progress(Share.name, done + 1, attention.count, note)
    }
    return (chosen, notes)
  }

  /// Solves the output maps of layers, from the first to the last.
  private func solve(_ chosen: [Int], in hybrid: inout Hybrid, _ context: PassContext) throws {
    let data = try context.samples(for: Share.name)
    guard data.count > 0 else { throw VitError("there are no samples to solve on", code: "data-empty") }
    let sites = try SolveSite.all(in: hybrid, teacher: hybrid.teacher(for: Share.name), reach: .changed)
      .filter {
        if case .shared(let map, _) = $0 { chosen.contains(map.layer) } else { false }
      }
    let sweep = SolveSweep(
      try hybrid.teacher(for: Share.name), data: data, samples: data.spread(images), target: .stream,
      fit: false,
      context: context)
    for (done, site) in sites.enumerated() {
      hybrid.graph.setTensors(try sweep.solve(site, in: hybrid.graph))
      context.progress(Share.name, done + 1, sites.count, site.label)
    }
  }
}
