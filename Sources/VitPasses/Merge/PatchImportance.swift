public import VitIR
internal import VitOps
internal import VitRuntime

/// How many patches go on behind each layer of a model that drops some, and how much those that are left count in the attention of the model
/// that has all, beside those that are gone.
public struct PatchImportance: Sendable {
  /// One layer.
  public struct Layer: Hashable, Sendable {
    /// Its number.
    public let layer: Int
    /// The part of all patches that goes on behind it.
    public let part: Double
    /// The attention that a patch gets that goes on, and one that does not, on the mean over samples and heads: 1 where all get the same.
    /// `nil` where there are none, or the layer has no map.
    public let kept, dropped: Double?
  }

  /// The layers, in order.
  public let layers: [Layer]

  /// Looks at `images` samples. A model that drops none is looked at as `Retain` makes it, with seven in ten kept each time; `nil` where it
  /// cannot, and where tokens are merged, or the other model has not all of them.
  public init?(of model: Hybrid, in whole: Hybrid, images: Int, context: PassContext) throws {
    var model = model
    if model.graph.mergedTokens == nil {
      do { _ = try Retain(keep: [Retention.drawn]).run(on: &model, context: context) } catch is VitError {
        return nil
      }
    }
    guard let tokens = model.graph.mergedTokens, tokens.areDropped, whole.graph.mergedTokens == nil,
      whole.layers.map(\.index) == model.layers.map(\.index)
    else { return nil }
    let alive = try PatchImportance.tables(of: model, images, context)
    let maps = try PatchImportance.attention(in: whole, tokens, images, context)
    layers = model.layers.enumerated().map { place, layer in
      guard let isLeft = alive[place] else {
        return Layer(
          layer: layer.index, part: 1, kept: maps[place].map { _ in 1 }, dropped: nil)
      }
      let count = isLeft.reduce(0) { $0 + $1.count { $0 } }
      let part = Double(count) / Double(max(1, isLeft.reduce(0) { $0 + $1.count }))
      var (sums, counts) = ([0.0, 0.0], [0, 0])
      for (own, map) in zip(isLeft, maps[place] ?? []) where own.count == map.count {
        for (isKept, value) in zip(own, map) {
          sums[isKept ? 0 : 1] += value
          counts[isKept ? 0 : 1] += 1
        }
      }
      let all = (sums[0] + sums[1]) / Double(max(1, counts[0] + counts[1]))
      func relative(_ index: Int) -> Double? {
        counts[index] > 0 && all > 0 ? sums[index] / Double(counts[index]) / all : nil
      }
      return Layer(layer: layer.index, part: part, kept: relative(0), dropped: relative(1))
    }
  }

  /// For each layer and sample which patches are left behind it; `nil` where all are.
  private static func tables(
    of model: Hybrid, _ images: Int, _ context: PassContext
  ) throws -> [[[Bool]]?] {
    let graph = model.graph
    let nodes = graph.nodes.enumerated().filter { $0.element.isAny(TokenKeep.self, TokenKeepLeast.self) }
    let values = nodes.compactMap(\.element.results.first)
    var isLeft = [[[Bool]]](repeating: [], count: nodes.count)
    try TeacherTap.each(graph, values: values, images: images, for: "report", context: context) { views in
      for (place, view) in views.enumerated() {
        let places = view.shape[1]
        guard case .int(let count)? = nodes[place].element.operation.attributes["count"],
          case .int(let prefix)? = nodes[place].element.operation.attributes["prefix"]
        else { continue }
        isLeft[place] += (0..<view.shape[0]).map { sample in
          (0..<places).map { view.i64[sample * places + $0] < Int64(prefix + count) }
        }
      }
    }
    let cores = model.layers.map { graph.place(defining: $0.core) ?? 0 }
    return cores.indices.map { place in
      // Up to the next layer patches are dropped behind this one.
      let end = place + 1 < cores.count ? cores[place + 1] : graph.nodes.count
      return nodes.lastIndex { $0.offset < end }.map { isLeft[$0] }
    }
  }

  /// For each layer and sample the attention that patches get: of the first token, or where there is none of all; `nil` where it has no map.
  private static func attention(
    in whole: Hybrid, _ tokens: MergedTokens, _ images: Int, _ context: PassContext
  ) throws -> [[[Double]]?] {
    let attention = whole.layers.filter { $0.isAttention }
    let tap = try MapTap(whole.graph, layers: attention, registry: context.registry)
    let known = zip(attention, tap.maps).compactMap { layer, map in map.map { (layer: layer.index, map: $0) }
    }
    var found: [Int: [[Double]]] = [:]
    guard !known.isEmpty else { return whole.layers.map { _ in nil } }
    try TeacherTap.each(
      tap.graph, values: known.map(\.map), images: images, for: "report", context: context
    ) { views in
      for (entry, view) in zip(known, views) {
        guard view.rank == 4, view.element == .f32, view.shape[2] == tokens.all, view.shape[3] == tokens.all
        else { continue }
        let (heads, count) = (view.shape[1], tokens.all)
        let rows = tokens.prefix > 0 ? 1 : count
        found[entry.layer, default: []] += (0..<view.shape[0]).map { sample in
          var sums = [Double](repeating: 0, count: count - tokens.prefix)
          for head in 0..<heads {
            let map = view.f32 + (sample * heads + head) * count * count
            for row in 0..<rows {
              for patch in sums.indices { sums[patch] += Double(map[row * count + tokens.prefix + patch]) }
            }
          }
          return sums
        }
      }
    }
    return whole.layers.map { found[$0.index] }
  }
}
