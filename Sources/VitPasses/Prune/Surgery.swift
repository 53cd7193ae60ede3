internal import VitIR
internal import VitOps

/// What comes of a perceptron without some channels.
struct Surgery {
  private let site: ChannelSite
  private let kept: [Int]
  private let weight: Tensor
  private let bias: Tensor?

  /// How many channels stay.
  var count: Int { kept.count }

  /// What is added to the mean squared error of a perceptron's branch, by how many of its channels are left, falling.
  typealias Errors = [(left: Int, error: Double)]

  /// Takes channels out of `site` until each of `counts` is left; throws where what they give is no number.
  static func all(
    _ site: ChannelSite, in graph: Graph, moments: ChannelMoments, keeping counts: [Int],
    _ compensation: Prune.Compensation, pool: any WorkPool
  ) throws -> (surgeries: [Surgery], errors: Errors) {
    guard let tensor = graph.tensor(site.weight) else {
      throw VitError("a perceptron has no weight", code: "invalid-graph")
    }
    let old = try tensor.doubles()
    guard
      let elimination = try ChannelElimination(
        old, outputs: tensor.shape[0], covariance: moments.covariance(centred: site.bias != nil),
        scales: graph.scaled(site.result)?.factors.doubles(), keeping: counts, pool: pool)
    else {
      throw VitError(
        "prune: what the channels before '\(graph.nodes[site.node].name)' give is no number or does not vary",
        code: "solve-singular", location: graph.nodes[site.node].location)
    }
    let bias = try site.bias.flatMap(graph.tensor)?.doubles()
    let surgeries = elimination.choices.map { choice in
      Surgery(
        site, old, bias: bias, outputs: tensor.shape[0], mean: moments.mean, choice, compensation)
    }
    return (surgeries, elimination.errors)
  }

  private init(
    _ site: ChannelSite, _ old: [Double], bias: [Double]?, outputs: Int, mean: [Double],
    _ choice: ChannelElimination.Choice, _ compensation: Prune.Compensation
  ) {
    self.site = site
    kept = choice.inputs
    let (channels, count) = (site.channels, choice.inputs.count)
    let plain = (0..<outputs).flatMap { output in choice.inputs.map { old[output * channels + $0] } }
    let new = compensation == .ridge ? choice.weight : plain
    weight = Tensor(.f32, shape: [outputs, count], values: new)
    guard compensation != .none, let bias else {
      self.bias = nil
      return
    }
    // The mean of what the map gives stays as it was.
    let values = (0..<outputs).map { output in
      let before = (0..<channels).reduce(0.0) { $0 + old[output * channels + $1] * mean[$1] }
      let after = choice.inputs.enumerated().reduce(0.0) { sum, channel in
        sum + new[output * count + channel.offset] * mean[channel.element]
      }
      return bias[output] + before - after
    }
    self.bias = Tensor(.f32, shape: [outputs], values: values)
  }

  /// Writes the smaller perceptron into a graph, whose types do not follow yet.
  func apply(to graph: inout Graph) throws {
    for constant in site.constants {
      guard let tensor = graph.tensor(constant.value) else { continue }
      let entries = (0..<constant.runs).flatMap { run in kept.map { run * site.channels + $0 } }
      graph.setTensor(try tensor.entries(entries, axis: constant.axis), of: constant.value)
    }
    for cut in site.cuts { try graph.set(cut, channels: kept.count) }
    graph.setTensor(weight, of: site.weight)
    if let bias, let value = site.bias { graph.setTensor(bias, of: value) }
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
