internal import VitIR
internal import VitOps

/// What comes of a perceptron without some channels.
struct Surgery {
  private let site: ChannelSite
  private let map: ShorterMap

  /// How many channels stay.
  var count: Int { map.kept.count }

  /// What is added to the mean squared error of a perceptron's branch, by how many of its channels are left, falling.
  typealias Errors = ShorterMap.Errors

  /// Takes channels out of `site` until each of `counts` is left; throws where what they give is no number.
  static func all(
    _ site: ChannelSite, in graph: Graph, moments: ChannelMoments, keeping counts: [Int],
    _ compensation: Prune.Compensation, pool: any WorkPool
  ) throws -> (surgeries: [Surgery], errors: Errors) {
    let (maps, errors) = try ShorterMap.all(
      weight: site.weight, bias: site.bias, result: site.result, of: graph.nodes[site.node], in: graph,
      moments: moments, keeping: counts, compensation, pool: pool)
    return (maps.map { Surgery(site: site, map: $0) }, errors)
  }

  /// Writes the smaller perceptron into a graph, whose types do not follow yet.
  func apply(to graph: inout Graph) throws {
    for constant in site.constants {
      guard let tensor = graph.tensor(constant.value) else { continue }
      let entries = (0..<constant.runs).flatMap { run in map.kept.map { run * site.channels + $0 } }
      graph.setTensor(try tensor.entries(entries, axis: constant.axis), of: constant.value)
    }
    for cut in site.cuts { try graph.set(cut, channels: count) }
    graph.setTensor(map.weight, of: site.weight)
    if let bias = map.bias, let value = site.bias { graph.setTensor(bias, of: value) }
  }
}

extension Graph {
  /// Lets a node cut runs of so many channels. What says so may be another node's, too, and is not written to.
  fileprivate mutating func set(_ cut: ChannelSite.Cut, channels: Int) throws(VitError) {
    let node = nodes[cut.node]
    guard let operation = node.operation as? any CuttingOperation,
      let cutting = try operation.cutting(cut.ranges(channels), along: cut.axis, of: operands(of: node))
    else { return }
    nodes[cut.node].operation = cutting.operation
    for (operand, values) in cutting.numbers {
      guard let id = node.operands[operand], let old = tensor(id) else { continue }
      let numbers = Tensor(old.element, shape: old.shape, values: values.map(Double.init))
      nodes[cut.node].operands[operand] = addConstant(numbers, name: self[id].name)
    }
  }
}
