public import VitIR
internal import VitOps
internal import VitRuntime

/// Gives the heads of attention layers fewer channels: the pair of maps for queries and keys, and that for values and the
/// output, become those of a lower rank that matter most for what the model computes for some samples. Where `maps` are asked for,
/// two smaller ones stand in for a linear map likewise. No gradient is taken.
///
/// Layers are numbered as elsewhere. The mean square error of the scores, and of what a layer gives, is the least for that
/// many channels (Eckart and Young, 1936, weighted by second moments); heads that share keys and values are reduced together.
/// O(heads · channels³) for a layer, O(channels³) for a map, in double.
public struct Factorise: Pass {
  /// `factorise`.
  public static let name = "factorise"
  /// See `Pass`.
  public static let summary = "Gives the heads of attention layers fewer channels, by what matters most"
  /// See `Pass`.
  public static let example = "factorise{scores=0.5,values=0.75,images=64,tile=1}"

  /// Channels are gone.
  public var isLossy: Bool { true }

  /// Linear maps that are factorised where that saves weights.
  public enum Maps: String, CaseIterable, Sendable {
    /// Those of attention layers that are nodes of their own: between their parts lie norms or rotary positions. Layers that are one
    /// operation have `scores` and `values`.
    case attention
    /// Those of perceptrons, plain and gated.
    case perceptrons
    /// All, that of the head included.
    case all
    /// None.
    case none
  }

  /// The part of the channels of a head's queries and keys that stays.
  public var scores: Double
  /// The part of the channels of a head's values that stays.
  public var values: Double
  /// How many stay of queries and keys in each layer, in order, in place of a part; 0 for all.
  public var scoreCounts: [Int]?
  /// How many stay of values in each layer, in order, in place of a part; 0 for all.
  public var valueCounts: [Int]?
  /// The linear maps that become two.
  public var maps: Maps
  /// The part of a map's weights that the two have.
  public var rank: Double
  /// The samples that are looked at.
  public var images: Int
  /// Counts are multiples of this.
  public var tile: Int

  /// The pass; half of the channels of queries and keys stay where nothing is said of them nor of maps.
  public init(
    scores: Double? = nil, values: Double = 1, scoreCounts: [Int]? = nil, valueCounts: [Int]? = nil,
    maps: Maps = .none, rank: Double = 0.5, images: Int = 300, tile: Int = 8
  ) {
    (self.scores, self.values) = (scores ?? (maps == .none ? 0.5 : 1), values)
    (self.maps, self.rank) = (maps, rank)
    (self.scoreCounts, self.valueCounts) = (scoreCounts, valueCounts)
    (self.images, self.tile) = (images, tile)
  }

  /// Takes `scores` (0.5, or 1 where there are `maps`) and `values` (1), the parts of a head's channels that stay, or lists, as
  /// `scores=[16,0,8]`, with a number for each layer; `maps` (none), the linear maps that become two, of which `rank` (0.5) is the
  /// part of a map's weights that the two have together; `images` (300); and `tile` (8), of which parts make multiples.
  public init(options: inout OptionReader) throws(VitError) {
    self.init(maps: try options.choice("maps", default: .none))
    rank = try options.value("rank", default: rank)
    let (scores, values) = (try options.part("scores"), try options.part("values"))
    (self.scores, scoreCounts) = (scores.part ?? self.scores, scores.counts)
    (self.values, valueCounts) = (values.part ?? self.values, values.counts)
    images = try options.value("images", default: images)
    tile = try options.value("tile", default: tile)
  }

  /// Throws where a number makes no sense.
  public func check() throws(VitError) {
    guard [scores, values, rank].allSatisfy({ $0 > 0 && $0 <= 1 }), images > 0, (1...4096).contains(tile),
      ((scoreCounts ?? []) + (valueCounts ?? [])).allSatisfy({ $0 >= 0 })
    else {
      throw VitError(
        "factorise: expected parts above 0 and at most 1, lists of counts from 0 in the place of scores and values, images > 0 and a"
          + " tile from 1 to 4096",
        kind: .usage, code: "option-value")
    }
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    func text(_ part: Double, _ counts: [Int]?) -> String {
      counts.map { "[\($0.map(String.init).joined(separator: ","))]" } ?? "\(part)"
    }
    return [
      ("scores", text(scores, scoreCounts)), ("values", text(values, valueCounts)), ("maps", maps.rawValue),
      ("rank", "\(rank)"), ("images", "\(images)"), ("tile", "\(tile)"),
    ]
  }

  /// Looks at samples, and reduces each layer, and maps.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    guard maps != .none else { return try factoriseHeads(of: &hybrid, context) }
    var result = PassResult()
    if scores < 1 || values < 1 || scoreCounts != nil || valueCounts != nil {
      result = try factoriseHeads(of: &hybrid, context)
    }
    guard let found = try factoriseMaps(of: &hybrid, context) else {
      context.report(
        Diagnostic(
          .warning,
          "factorise: the model has no map of that kind of which two smaller ones would save weights",
          code: "nothing-to-factorise"))
      result.notes.append("no map to factorise")
      return result
    }
    return PassResult(changes: result.changes + found.changes, notes: result.notes + found.notes)
  }

  /// Looks at samples, and reduces the heads of each layer.
  private func factoriseHeads(of hybrid: inout Hybrid, _ context: PassContext) throws -> PassResult {
    let sites = try HeadSite.all(in: hybrid.graph, layers: hybrid.layers)
    let wanted = (
      try counts(scoreCounts, scores, sites.map(\.weights.headDim), hybrid.layers.count, sites, "scores"),
      try counts(valueCounts, values, sites.map(\.weights.valueDim), hybrid.layers.count, sites, "values")
    )
    let chosen = sites.indices.filter {
      wanted.0[$0] < sites[$0].weights.headDim || wanted.1[$0] < sites[$0].weights.valueDim
    }
    guard !sites.isEmpty else {
      context.report(
        Diagnostic(
          .warning, "factorise: the model has no attention layer that is one operation with maps of its own",
          code: "nothing-to-factorise"))
      return PassResult(notes: ["nothing to do"])
    }
    var notes: [String] = []
    let factors = try self.factors(chosen.map { sites[$0] }, hybrid.graph, context)
    for (place, factors) in zip(chosen, factors) {
      try factors.apply(scores: wanted.0[place], values: wanted.1[place], to: &hybrid.graph)
      notes.append(
        "layer \(sites[place].layer): \(wanted.0[place]) of \(sites[place].weights.headDim) channels of a head for scores, "
          + "\(wanted.1[place]) of \(sites[place].weights.valueDim) for values")
    }
    hybrid.graph.removeDeadNodes()
    try hybrid.graph.inferTypes(pool: context.pool)
    if !chosen.isEmpty { hybrid.findLayers() }
    return PassResult(changes: chosen.count, notes: notes)
  }

  /// How many channels stay in each site; throws a usage error where a list is not for this model.
  private func counts(
    _ counts: [Int]?, _ part: Double, _ channels: [Int], _ layers: Int, _ sites: [HeadSite], _ name: String
  ) throws(VitError) -> [Int] {
    guard let counts else {
      return channels.map { channels in
        min(channels, tile * max(1, Int((part * Double(channels) / Double(tile)).rounded())))
      }
    }
    var most = [Int](repeating: 0, count: layers)
    for (site, channels) in zip(sites, channels) where site.layer < layers { most[site.layer] = channels }
    guard counts.count == layers, zip(counts, most).allSatisfy({ $0 <= $1 }) else {
      throw VitError(
        "factorise: option '\(name)' has \(counts.count) numbers, expected one for each of \(layers) layers, at most \(most)",
        kind: .usage, code: "option-value", help: "0 leaves a layer as it is")
    }
    return zip(sites, channels).map { counts[$0.layer] == 0 ? $1 : counts[$0.layer] }
  }

  /// The factors of layers, from one run of the model on the samples.
  func factors(_ sites: [HeadSite], _ graph: Graph, _ context: PassContext) throws -> [HeadFactors] {
    guard !sites.isEmpty else { return [] }
    var moments = sites.map { TokenMoments(dim: $0.weights.wq.shape[1], attending: 0) }
    try TeacherTap.each(
      graph, values: sites.map(\.input), images: images, for: Factorise.name, context: context
    ) { views in
      for place in moments.indices { try moments[place].add(views[place], pool: context.pool) }
    }
    return try zip(sites, moments).map { site, moments in
      try HeadFactors(
        site, moments: moments.all, scales: graph.scaled(site.result)?.factors.doubles(), pool: context.pool)
    }
  }
}
