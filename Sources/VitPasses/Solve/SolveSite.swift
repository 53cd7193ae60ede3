internal import VitIR

/// What `solve` can solve for: a mixer, the last map of a perceptron or of an attention that lost channels or heads, the output map of an
/// attention that uses another's map, or the linear map in the place of a block.
enum SolveSite {
  case mixer(MixerNode)
  /// By its number, in the hybrid and in its teacher.
  case perceptron(Int, ChannelSite, teacher: ChannelSite)
  /// In the hybrid, and what the teacher's gives.
  case attention(HeadSite, teacher: ValueID)
  /// In the hybrid, and what the teacher's gives.
  case shared(OutputMap, teacher: ValueID)
  case block(LinearBlock)

  /// What progress calls it.
  var label: String {
    switch self {
    case .mixer(let mixer): "layer \(mixer.layer.index)"
    case .perceptron(let index, _, _): "perceptron \(index)"
    case .attention(let site, _): "layer \(site.layer)"
    case .shared(let site, _): "layer \(site.layer)"
    case .block(let site): "layer \(site.layer)"
    }
  }

  /// The sites of a hybrid in the order in which they run; throws where its teacher is another model. Those of maps that were not
  /// changed lie behind the first that was.
  static func all(in hybrid: Hybrid, teacher: Teacher, reach: Solve.Reach) throws -> [SolveSite] {
    var sites: [(place: Int, site: SolveSite)] = []
    var unchanged: [(place: Int, site: SolveSite)] = []
    let consumers = hybrid.graph.consumers()
    for mixer in try MixerNode.all(in: hybrid, teacher: teacher) {
      sites.append((hybrid.graph.place(defining: mixer.layer.core) ?? 0, .mixer(mixer)))
    }
    for (index, pruned, original) in hybrid.perceptrons(beside: teacher)
    where hybrid.graph.type(pruned.result) == teacher.graph.type(original.result) {
      let entry = (pruned.node, SolveSite.perceptron(index, pruned, teacher: original))
      // A weight that others use is not theirs to change.
      let isOwn = [pruned.weight, pruned.bias].compactMap(\.self).allSatisfy {
        consumers[$0.index].count == 1
      }
      if pruned.channels < original.channels { sites.append(entry) } else if isOwn { unchanged.append(entry) }
    }
    let heads = try HeadSite.all(in: teacher.graph, layers: teacher.layers)
    for site in try HeadSite.all(in: hybrid.graph, layers: hybrid.layers) {
      guard let original = heads.first(where: { $0.layer == site.layer }),
        hybrid.graph.type(site.result) == teacher.graph.type(original.result)
      else { continue }
      let isChanged =
        site.weights.headDim < original.weights.headDim || site.weights.valueDim < original.weights.valueDim
        || site.weights.heads < original.weights.heads
      let entry = (site.node, SolveSite.attention(site, teacher: original.result))
      if isChanged { sites.append(entry) } else { unchanged.append(entry) }
    }
    for layer in hybrid.layers where layer.isShared {
      guard let map = OutputMap(layer, in: hybrid.graph), let original = teacher.layer(layer.index)?.output,
        hybrid.graph.type(map.result) == teacher.graph.type(original)
      else { continue }
      sites.append((map.node, .shared(map, teacher: original)))
    }
    for block in LinearBlock.all(in: hybrid, teacher: teacher) { sites.append((block.node, .block(block))) }
    if reach == .behind, let first = sites.map(\.place).min() {
      sites += unchanged.filter { $0.place > first }
    }
    return sites.sorted { $0.place < $1.place }.map(\.site)
  }
}
