internal import VitIR
internal import VitOps

/// The linear map at the end of a classifier: what gives the scores of classes, `[batch, classes]`.
struct ClassifierMap {
  /// The place of its node.
  let node: Int
  /// What it reads, `[batch, width]`.
  let input: ValueID
  /// The numbers that it reads of each sample.
  let width: Int

  /// Finds it; throws an error that says what is in the way where the first output is not the result of one that nobody else
  /// reads.
  init(of graph: Graph) throws(VitError) {
    guard let output = graph.outputs.first else {
      throw VitError("head: the model has no outputs", code: "no-outputs")
    }
    let type = graph.type(output.value)
    guard type.rank == 2, type.shape[1].isFixed else {
      throw ClassifierMap.obstacle(
        output.name, "has the type \(type), expected scores [batch, classes]",
        help: "a head is put on a model of which the first output is a row of scores for each image")
    }
    guard let place = graph.place(defining: output.value) else {
      throw ClassifierMap.obstacle(output.name, "is not the result of an operation", help: nil)
    }
    let found = graph.nodes[place]
    guard let linear = found.operation as? VitLinear else {
      throw ClassifierMap.obstacle(
        output.name, "is the result of '\(found.name)', expected a linear map",
        at: found, help: ClassifierMap.help(found))
    }
    guard linear.activation == .none else {
      throw ClassifierMap.obstacle(
        output.name, "is '\(linear.activation.rawValue)' of a linear map, expected the map alone", at: found,
        help: nil)
    }
    guard found.operands.count >= 2, let input = found.operands[0],
      found.operands.dropFirst().allSatisfy({ $0.map { graph.tensor($0) != nil } ?? true })
    else {
      throw ClassifierMap.obstacle(
        output.name, "comes of a map whose weight is computed, expected a constant", at: found, help: nil)
    }
    let readers = graph.nodes.filter { $0.operands.contains(output.value) }.map(\.name)
    guard readers.isEmpty, graph.outputs.count(where: { $0.value == output.value }) == 1 else {
      throw ClassifierMap.obstacle(
        output.name,
        "is read by " + (readers.first.map { "'\($0)'" } ?? "another output") + ", too, expected an end",
        at: found, help: nil)
    }
    guard graph.type(input).rank == 2, let width = graph.type(input).shape[1].fixedValue, width > 0 else {
      throw ClassifierMap.obstacle(
        output.name, "comes of a map of \(graph.type(input)), expected [batch, width]", at: found, help: nil)
    }
    (node, self.input, self.width) = (place, input, width)
  }

  private static func obstacle(
    _ output: String, _ message: String, at node: Node? = nil, help: String?
  ) -> VitError {
    VitError(
      "head: the output '\(output)' \(message)", code: "head-output",
      location: Location(node: node?.location.node), help: help)
  }

  /// What may help where another operation is the last.
  private static func help(_ node: Node) -> String? {
    if node.isAny(Onnx.softmax, Onnx.logSoftmax, Onnx.sigmoid) {
      return "export the model without it: scores are what is solved for"
    }
    if node.isAny(Onnx.matMul, Onnx.gemm, Onnx.add) {
      return "run 'fold,raise,dce' before, which makes linear maps of products"
    }
    return "a head takes the place of a classifier's last linear map, and this model has none at its end"
  }

  /// Puts another map in its place, `[classes, width]` and `[classes]`.
  func replace(weight: Tensor, bias: Tensor, in graph: inout Graph) {
    let operands = [
      input, graph.addConstant(weight, name: "head.weight"), graph.addConstant(bias, name: "head.bias"),
    ]
    graph.nodes[node].operands = operands
    for result in graph.nodes[node].results {
      let type = graph.type(result)
      graph.setType(
        TensorType(type.element, Array(type.shape.prefix(1)) + [.fixed(weight.shape[0])]), of: result)
    }
    graph.removeDeadNodes()
  }
}
