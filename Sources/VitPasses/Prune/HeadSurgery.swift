internal import VitIR
internal import VitOps

/// An attention layer without some of its heads, for which the output map of the others makes up. Heads that share keys and values
/// go together.
struct HeadSurgery {
  private let site: HeadSite
  private let map: ShorterMap

  /// How many heads go together.
  private var shared: Int { site.weights.heads / site.weights.kvHeads }

  /// The heads that stay, in order.
  var heads: [Int] { keys.flatMap { $0 * shared..<($0 + 1) * shared } }

  /// The heads of keys and values that stay.
  private var keys: [Int] {
    let width = shared * site.weights.valueDim
    return stride(from: 0, to: map.kept.count, by: width).map { map.kept[$0] / width }
  }

  /// Takes heads out of a layer until `count` are left, by the moments of what its output map reads; throws where those are no
  /// numbers.
  init(
    _ site: HeadSite, in graph: Graph, moments: ChannelMoments, keeping count: Int,
    _ compensation: Prune.Compensation, pool: any WorkPool
  ) throws {
    let (node, width) = (graph.nodes[site.node], site.weights.valueDim)
    let maps = try ShorterMap.all(
      weight: node.operand(7, of: site), bias: node.operands.count > 8 ? node.operands[8] : nil,
      result: site.result, of: node, in: graph, moments: moments, keeping: [count * width],
      together: site.weights.heads / site.weights.kvHeads * width, compensation, pool: pool
    ).maps
    guard let map = maps.first else { throw site.broken }
    (self.site, self.map) = (site, map)
  }

  /// Writes the smaller layer into a graph, whose types do not follow yet.
  func apply(to graph: inout Graph) throws {
    let node = graph.nodes[site.node]
    func keep(_ parts: [Int], of count: Int, _ operands: [Int]) throws {
      for operand in operands where operand < node.operands.count {
        guard let id = node.operands[operand], let tensor = graph.tensor(id) else { continue }
        let width = tensor.shape[0] / count
        let rows = parts.flatMap { $0 * width..<($0 + 1) * width }
        graph.setTensor(try tensor.entries(rows, axis: 0), of: id)
      }
    }
    try keep(heads, of: site.weights.heads, [1, 2])
    try keep(keys, of: site.weights.kvHeads, [3, 4, 5, 6])
    graph.setTensor(map.weight, of: try node.operand(7, of: site))
    if let bias = map.bias, let id = node.operands[8] { graph.setTensor(bias, of: id) }
    if let id = site.perHeadBias(in: graph), let tensor = graph.tensor(id) {
      // Other layers may read it, too.
      let own = try tensor.entries(heads, axis: tensor.shape.count - 3)
      graph.nodes[site.node].operands[9] = graph.addConstant(own, name: graph[id].name)
    }
    var attributes = node.operation.attributes
    attributes["heads"] = .int(heads.count)
    attributes["kv_heads"] = .int(keys.count)
    attributes["scale"] = .float(site.scale)
    var reader = AttributeReader(attributes)
    graph.nodes[site.node].operation = try VitAttention(attributes: &reader)
  }

  /// What was found out about each head of a layer, of those that stay.
  func scores(_ scores: Attributes) -> Attributes {
    let count = site.weights.heads
    let stays = Set(heads)
    return Attributes(
      scores.entries.map { name, value in
        guard case .floats(let list) = value, !list.isEmpty, list.count.isMultiple(of: count) else {
          return (name, value)
        }
        return (name, .floats(list.indices.filter { stays.contains($0 % count) }.map { list[$0] }))
      })
  }
}

extension HeadSite {
  /// Whether heads can go: what is added to scores, if it is another for each head, is known.
  func canLoseHeads(in graph: Graph) -> Bool {
    perHeadBias(in: graph).map { graph.tensor($0) != nil } ?? true
  }

  /// What is added to the scores, where it is another for each head.
  fileprivate func perHeadBias(in graph: Graph) -> ValueID? {
    let operands = graph.nodes[node].operands
    guard operands.count > 9, let id = operands[9] else { return nil }
    let shape = graph.type(id).shape
    return shape.count > 2 && shape[shape.count - 3] != 1 ? id : nil
  }

  fileprivate var broken: VitError {
    VitError("layer \(layer) has no output map", code: "invalid-graph")
  }
}

extension Node {
  fileprivate func operand(_ index: Int, of site: HeadSite) throws(VitError) -> ValueID {
    guard index < operands.count, let id = operands[index] else { throw site.broken }
    return id
  }
}
