public import VitIR
internal import VitOps
internal import VitRuntime

/// Leaves out hidden channels of perceptrons, plain and gated, or whole heads of attention layers; the last map of each makes up
/// for them by least squares on what the model computes for some samples. No gradient is taken.
///
/// Perceptrons are numbered in the order of the graph. The two maps of a gated one may be one that is cut in two. Which channels go, and what the others take over, is the optimal brain
/// surgeon's choice (Hassibi and Stork, 1993) for the whole last map: the error after compensation grows least. Of heads the
/// channels go together, and heads that share keys with these. Takes O(channels³) for each perceptron or layer; its sums of
/// products are held for as many at once as fit into half a gigabyte.
public struct Prune: Pass {
  /// `prune`.
  public static let name = "prune"
  /// See `Pass`.
  public static let summary =
    "Leaves out hidden channels of perceptrons, or heads, and lets the others make up for them"
  /// See `Pass`.
  public static let example = "prune{mlp=0.5,images=64,tile=8}"

  /// Channels are gone.
  public var isLossy: Bool { true }

  /// How the channels that stay make up for those that go.
  public enum Compensation: String, CaseIterable, Sendable {
    /// By ridge regression of what all gave.
    case ridge
    /// By the mean of those that go, in the bias.
    case mean
    /// Not at all.
    case none
  }

  /// How the channels that stay are shared out among perceptrons.
  public enum Allocation: String, CaseIterable, Sendable {
    /// Each keeps the same part.
    case uniform
    /// Where they do least for the outputs, more of them go.
    case damage
  }

  /// The part of the perceptrons' channels that stays.
  public var mlp: Double
  /// How many stay in each perceptron, in order, in place of a part; 0 for all.
  public var counts: [Int]?
  /// The part of the heads of each attention layer that stays; `nil` for all.
  public var heads: Double?
  /// How many heads stay in each layer, in order, in place of a part; 0 for all.
  public var headCounts: [Int]?
  /// The samples that are looked at.
  public var images: Int
  /// Counts of channels are multiples of this.
  public var tile: Int
  /// How the others make up for them.
  public var compensate: Compensation
  /// How the channels that stay are shared out among perceptrons.
  public var allocate: Allocation

  /// The pass; half of the channels stay where nothing is said of them nor of heads.
  public init(
    mlp: Double? = nil, counts: [Int]? = nil, heads: Double? = nil, headCounts: [Int]? = nil,
    images: Int = 300, tile: Int = 32, compensate: Compensation = .ridge, allocate: Allocation = .damage
  ) {
    self.mlp = mlp ?? (heads == nil && headCounts == nil ? 0.5 : 1)
    self.counts = counts
    (self.heads, self.headCounts) = (heads, headCounts)
    self.images = images
    self.tile = tile
    self.compensate = compensate
    self.allocate = allocate
  }

  /// Takes `mlp` (0.5, or 1 where there are `heads`), the part of the channels that stays, or `counts`, how many stay in each
  /// perceptron; `heads` (all), the part of each layer's heads that stays, or a list, as `heads=[6,0,4]`, with a number for each
  /// layer; `images` (300); `tile` (32), of which counts of channels are multiples; `compensate` (ridge), how the others make up for
  /// those that go; and `allocate` (damage), how the channels that stay are shared out.
  public init(options: inout OptionReader) throws(VitError) {
    let mlp: Double? = try options.optional("mlp")
    let counts = try options.integers("counts")
    let (heads, headCounts) = try options.part("heads")
    self.init(mlp: mlp, counts: counts, heads: heads, headCounts: headCounts)
    images = try options.value("images", default: images)
    tile = try options.value("tile", default: tile)
    compensate = try options.choice("compensate", default: compensate)
    allocate = try options.choice("allocate", default: allocate)
  }

  /// Throws where a number makes no sense.
  public func check() throws(VitError) {
    guard [mlp, heads ?? 1].allSatisfy({ $0 > 0 && $0 <= 1 }), images > 0, (1...4096).contains(tile),
      ((counts ?? []) + (headCounts ?? [])).allSatisfy({ $0 >= 0 })
    else {
      throw VitError(
        "prune: expected mlp and heads above 0 and at most 1, images > 0, a tile from 1 to 4096, and counts of at least 0",
        kind: .usage, code: "option-value")
    }
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    func list(_ name: String, _ counts: [Int]?) -> [(name: String, value: String)] {
      counts.map { [(name, "[\($0.map(String.init).joined(separator: ","))]")] } ?? []
    }
    return [("mlp", "\(mlp)")] + list("counts", counts) + (heads.map { [("heads", "\($0)")] } ?? [])
      + list("heads", headCounts)
      + [("images", "\(images)"), ("tile", "\(tile)"), ("compensate", compensate.rawValue)]
      + [("allocate", allocate.rawValue)]
  }

  /// Looks at samples, and takes heads and channels out.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    guard heads != nil || headCounts != nil else { return try pruneChannels(of: &hybrid, context) }
    var result = try pruneHeads(of: &hybrid, context)
    if result == nil {
      context.report(
        Diagnostic(
          .warning, "prune: the model has no attention layer that is one operation with maps of its own",
          code: "nothing-to-prune"))
    }
    if mlp < 1 || counts != nil {
      let channels = try pruneChannels(of: &hybrid, context)
      result = PassResult(
        changes: (result?.changes ?? 0) + channels.changes, notes: (result?.notes ?? []) + channels.notes)
    }
    return result ?? PassResult(notes: ["nothing to do"])
  }

  /// Finds the perceptrons, looks at samples, and takes channels out.
  private func pruneChannels(of hybrid: inout Hybrid, _ context: PassContext) throws -> PassResult {
    let sites = ChannelSite.all(in: hybrid.graph)
    guard !sites.isEmpty else {
      context.report(
        Diagnostic(
          .warning, "prune: the model has no perceptron whose hidden channels nothing else reads",
          code: "nothing-to-prune"))
      return PassResult(notes: ["nothing to do"])
    }
    var kept = try keeping(sites)
    if allocate == .damage, counts == nil {
      kept = try ChannelAllocation(self, sites, hybrid, context).counts(keeping: mlp, tile: tile)
    }
    let chosen = sites.indices.filter { kept[$0] < sites[$0].channels }
    var notes: [String] = []
    for group in Prune.groups(chosen.map { ($0, sites[$0].channels) }) {
      let moments = try self.moments(group.map { sites[$0] }, hybrid.graph, context)
      for (place, moments) in zip(group, moments) {
        let (surgeries, _) = try Surgery.all(
          sites[place], in: hybrid.graph, moments: moments, keeping: [kept[place]], compensate,
          pool: context.pool)
        for surgery in surgeries { try surgery.apply(to: &hybrid.graph) }
        notes.append("perceptron \(place): \(kept[place]) of \(sites[place].channels) channels")
        context.progress(Prune.name, notes.count, chosen.count, "perceptron \(place)")
      }
    }
    if chosen.contains(where: { !sites[$0].cuts.isEmpty }) { hybrid.graph.removeDeadNodes() }
    try hybrid.graph.inferTypes(pool: context.pool)
    return PassResult(changes: chosen.count, notes: notes)
  }

  /// How many channels stay in each perceptron; throws a usage error where `counts` are not for these.
  private func keeping(_ sites: [ChannelSite]) throws(VitError) -> [Int] {
    guard let counts else {
      return sites.map { site in
        let tiles = (mlp * Double(site.channels) / Double(tile)).rounded()
        return min(site.channels, tile * max(1, Int(tiles)))
      }
    }
    guard counts.count == sites.count, zip(counts, sites).allSatisfy({ $0 <= $1.channels }) else {
      let most = sites.map { String($0.channels) }.joined(separator: ",")
      throw VitError(
        "prune: option 'counts' has \(counts.count) numbers, expected one for each of \(sites.count) perceptrons,"
          + " at most [\(most)]", kind: .usage, code: "option-value")
    }
    return zip(counts, sites).map { $0 == 0 ? $1.channels : $0 }
  }

  /// Sites whose sums are held together.
  static func groups(_ sites: [(place: Int, channels: Int)]) -> [[Int]] {
    var groups: [[Int]] = []
    var bytes = 0
    for (place, channels) in sites {
      let more = 8 * (channels + 1) * (channels + 1)
      if groups.isEmpty || bytes + more > Prune.bytes {
        groups.append([])
        bytes = 0
      }
      groups[groups.count - 1].append(place)
      bytes += more
    }
    return groups
  }

  /// The bytes that sums may take.
  private static let bytes = 512 << 20

  /// The moments of sites' channels over the samples.
  func moments(
    _ sites: [ChannelSite], _ graph: Graph, _ context: PassContext
  ) throws -> [ChannelMoments] {
    try moments(of: sites.map(\.channels), graph, context) { builder in
      var values: [ValueID] = []
      for site in sites { values.append(try site.tap(&builder)) }
      return values
    }
  }

  /// The moments over the samples of values of so many channels each, which `tap` adds to a graph.
  func moments(
    of channels: [Int], for pass: String = Prune.name, _ graph: Graph, _ context: PassContext,
    tap: (inout GraphBuilder) throws -> [ValueID]
  ) throws -> [ChannelMoments] {
    var builder = GraphBuilder(graph, registry: context.registry)
    let values = try tap(&builder)
    var moments: [ChannelMoments] = []
    try TeacherTap.each(builder.graph, values: values, images: images, for: pass, context: context) {
      views in
      if moments.isEmpty {
        moments = zip(channels, views).map { channels, hidden in
          ChannelMoments(
            channels: channels, weights: TokenGeometry.rowWeights(of: hidden.shape, in: graph))
        }
      }
      for place in moments.indices { try moments[place].add(views[place], pool: context.pool) }
    }
    return moments
  }
}
