internal import VitIR
internal import VitOps

/// A linear map without some of its inputs, for which the others make up.
struct ShorterMap {
  /// The inputs that stay, in order.
  let kept: [Int]
  /// The map of these.
  let weight: Tensor
  /// Its bias; `nil` where it has none, or keeps its own.
  let bias: Tensor?

  /// What is added to the mean squared error of what the map gives, by how many inputs are left, falling.
  typealias Errors = [(left: Int, error: Double)]

  /// Takes inputs from the map of a node until each of `counts` is left, so many at a time as go `together`; throws where what they
  /// give is no number. The result counts as it is scaled behind the node.
  static func all(
    weight: ValueID, bias: ValueID?, result: ValueID, of node: Node, in graph: Graph, moments: ChannelMoments,
    keeping counts: [Int], together: Int = 1, _ compensation: Prune.Compensation, pool: any WorkPool
  ) throws -> (maps: [ShorterMap], errors: Errors) {
    guard let tensor = graph.tensor(weight) else {
      throw VitError("a map has no weight", code: "invalid-graph", location: node.location)
    }
    let old = try tensor.doubles()
    guard
      let elimination = try ChannelElimination(
        old, outputs: tensor.shape[0], covariance: moments.covariance(centred: bias != nil),
        scales: graph.scaled(result)?.factors.doubles(), keeping: counts, together: together, pool: pool)
    else {
      throw VitError(
        "prune: what the channels before '\(node.name)' give is no number or does not vary",
        code: "solve-singular", location: node.location)
    }
    let numbers = try bias.flatMap(graph.tensor)?.doubles()
    let maps = elimination.choices.map {
      ShorterMap(old, tensor.shape, bias: numbers, mean: moments.mean, $0, compensation)
    }
    return (maps, elimination.errors)
  }

  private init(
    _ old: [Double], _ shape: [Int], bias: [Double]?, mean: [Double], _ choice: ChannelElimination.Choice,
    _ compensation: Prune.Compensation
  ) {
    let (outputs, channels, count) = (shape[0], shape[1], choice.inputs.count)
    kept = choice.inputs
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
}
