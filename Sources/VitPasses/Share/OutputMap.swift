internal import VitIR
internal import VitOps

/// The linear map behind an attention whose queries and keys are values of their own.
struct OutputMap {
  /// The layer's number.
  let layer: Int
  /// The place of its node.
  let node: Int
  /// What it reads: the attended values.
  let input: ValueID
  /// Its weight, `[outputs, inputs]`, and bias, which nothing else reads.
  let weight: ValueID
  let bias: ValueID?
  /// What it gives.
  let result: ValueID

  /// The map of a layer; `nil` where no linear map with weights of its own gives what the layer gives.
  init?(_ layer: Layer, in graph: Graph) {
    guard let output = layer.output, let place = graph.place(defining: output) else { return nil }
    let node = graph.nodes[place]
    let consumers = graph.consumers()
    func isOwn(_ id: ValueID) -> Bool { graph.tensor(id) != nil && consumers[id.index] == [place] }
    guard (node.operation as? VitLinear)?.activation == Activation.none, let input = node.operands[0],
      let weight = node.operands[1], isOwn(weight)
    else { return nil }
    let bias = node.operands.count > 2 ? node.operands[2] : nil
    guard bias.map(isOwn) ?? true else { return nil }
    (self.layer, self.node, self.input, self.weight) = (layer.index, place, input, weight)
    (self.bias, result) = (bias, output)
  }
}
