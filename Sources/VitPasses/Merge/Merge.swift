public import VitIR
internal import VitOps
internal import VitRuntime

/// Merges tokens that are alike, behind the mixer of a layer and before its perceptron, as in token merging (Bolya et al., ICLR
/// 2023): fewer tokens go on. No parameter changes and nothing is trained.
///
/// The sequence stays in the order of the grid's rows, so that scans behind it work; a mixer that needs the grid gets it back
/// and gives each token the mean over its places. Attention counts a merged token as many times as it stands for patches. What
/// reads patches behind the last layer, a mean or a dense output, gets one token for each place again. Tokens before the
/// patches are never merged.
public struct Merge: Pass {
  /// `merge`.
  public static let name = "merge"
  /// See `Pass`.
  public static let summary = "Merges patches that are alike, layer by layer: fewer tokens go on"
  /// See `Pass`.
  public static let example = "merge{counts=[2,1]}"

  /// Tokens are gone.
  public var isLossy: Bool { true }

  /// What patches are compared by.
  public enum Metric: String, CaseIterable, Sendable {
    /// The mean of the heads' values, where the layer has values; else its input.
    case value
    /// The layer's input.
    case input
  }

  /// How many patches are merged in each layer of the second half but the last, where there are no `counts`.
  public var count: Int
  /// How many are merged in each layer, in order.
  public var counts: [Int]?
  /// Whether each layer says itself how many, as `select` found out.
  public var isChosen = false
  /// What patches are compared by.
  public var metric: Metric

  /// The pass.
  public init(count: Int = 8, counts: [Int]? = nil, metric: Metric = .value) {
    self.count = count
    self.counts = counts
    self.metric = metric
  }

  /// As many as `select` chose for each layer.
  static var chosen: Merge {
    var merge = Merge()
    merge.isChosen = true
    return merge
  }

  /// Takes `count` (8), how many patches are merged in each layer of the second half but the last, or `counts`, how many in
  /// each layer, or `chosen`: as many as `select` found out; and `metric` (value, or input): what they are compared by.
  public init(options: inout OptionReader) throws(VitError) {
    self.init()
    count = try options.value("count", default: count)
    isChosen = options.word("counts", of: ["chosen"]) != nil
    if !isChosen { counts = try options.integers("counts", or: "chosen") }
    metric = try options.choice("metric", default: metric)
  }

  /// Throws where a number is negative.
  public func check() throws(VitError) {
    guard count >= 0, counts?.allSatisfy({ $0 >= 0 }) ?? true else {
      throw VitError(
        "merge: expected counts of at least 0", kind: .usage, code: "option-value")
    }
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    (isChosen || counts != nil ? [] : [("count", "\(count)")])
      + (isChosen ? [("counts", "chosen")] : [])
      + (counts.map { [("counts", "[\($0.map(String.init).joined(separator: ","))]")] } ?? [])
      + [("metric", metric.rawValue)]
  }

  /// It merges once.
  public var worksOnMergedTokens: Bool { false }

  /// Finds out whether tokens can be merged, and rebuilds the graph behind the first layer in which some are.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    guard !hybrid.layers.isEmpty else {
      throw VitError(
        "merge: the model has no attention layers", code: "no-layers",
        help: "vitc inspect lists the layers and the reasons")
    }
    let counts = try schedule(hybrid.layers)
    guard let first = counts.firstIndex(where: { $0 > 0 }) else {
      var result = PassResult(notes: ["nothing to do"])
      if isChosen { result.found = [] }
      return result
    }
    let sites = try MergeSite.all(in: hybrid, counts: counts, from: first)
    var merger = Merger(
      hybrid.graph, layers: hybrid.layers, sites: sites, metric: metric, registry: context.registry,
      pool: context.pool)
    try merger.run()
    if let warning = merger.warning(Self.name) { context.report(warning) }
    (hybrid.graph, hybrid.layers) = (try merger.finish(), merger.layers)
    for (place, count) in counts.enumerated() { hybrid.layers[place].merges = count }
    var result = PassResult(
      changes: sites.count,
      notes: sites.map { "layer \($0.layer): \($0.patches) patches become \($0.patches - $0.count)" })
    if isChosen { result.found = [Merge(counts: counts, metric: metric)] }
    return result
  }

  /// How many patches are merged in each layer; throws a usage error where `counts` are not for these layers.
  private func schedule(_ layers: [Layer]) throws(VitError) -> [Int] {
    if isChosen { return layers.map(\.merges) }
    guard let counts else {
      return layers.indices.map {
        $0 >= layers.count / 2 && $0 + 1 < layers.count && !layers[$0].isRemoved ? count : 0
      }
    }
    guard counts.count == layers.count else {
      throw VitError(
        "merge: option 'counts' has \(counts.count) numbers, expected one for each of \(layers.count) layers",
        kind: .usage, code: "option-value")
    }
    return counts
  }
}
