package import VitIR
internal import VitOps

extension Graph {
  /// The residual stream before and behind the place where a branch is added to it; `nil` where it is not.
  func residual(
    behind branch: ValueID?, _ known: [[Int]]? = nil
  ) -> (before: ValueID, after: ValueID)? {
    guard var value = branch else { return nil }
    let consumers = known ?? self.consumers()
    for _ in 0..<4 {
      guard consumers[value.index].count == 1, let place = consumers[value.index].first else { return nil }
      let node = nodes[place]
      guard let result = node.results.first else { return nil }
      if node.isAny(VitAdd.self, Onnx.add), let a = node.operands[0], let b = node.operands[1] {
        let other = a == value ? b : a
        guard type(other) == type(result) else { return nil }
        return (other, result)
      }
      guard node.isAny(VitScale.self, Onnx.mul) else { return nil }
      value = result
    }
    return nil
  }
}

extension Graph {
  /// Where a branch is scaled channel by channel by constants, and nothing else reads it: what comes of it, and the factors.
  func scaled(_ branch: ValueID) -> (result: ValueID, factors: Tensor)? {
    let readers = nodes.filter { $0.operands.contains(branch) }
    guard readers.count == 1, let reader = readers.first, reader.operation is VitScale,
      !outputs.contains(where: { $0.value == branch }), reader.operands[0] == branch,
      let factors = reader.operands[1].flatMap(tensor), let result = reader.results.first
    else { return nil }
    return (result, factors)
  }
}

extension Teacher {
  /// The residual stream before and behind a layer.
  func residual(of index: Int) -> (before: ValueID, after: ValueID)? {
    graph.residual(behind: layer(index)?.output)
  }
}

extension Graph {
  /// What is behind `value`, on the way to the outputs, with `value` as its only input; `nil` where anything there reads an
  /// input of the model past it.
  func part(from value: ValueID) -> Graph? {
    guard !inputs.contains(value), !outputs.contains(where: { inputs.contains($0.value) }) else { return nil }
    var rest = self
    rest.nodes.removeAll { $0.results.contains(value) }
    rest.inputs = inputs + [value]
    rest.removeDeadNodes()
    let reads = rest.nodes.contains { node in
      node.operands.contains { $0.map(inputs.contains) ?? false }
    }
    guard !reads else { return nil }
    rest.inputs = [value]
    return rest
  }
}

extension Teacher {
  /// The last value of the residual stream before a node, at or behind its first layer; `nil` where there is none.
  package func stream(before node: Int) -> ValueID? {
    let values = layers.compactMap { graph.residual(behind: $0.output) }.flatMap { [$0.before, $0.after] }
    let places = values.compactMap { value in graph.place(defining: value).map { (value, $0) } }
    return places.filter { $0.1 < node }.max { $0.1 < $1.1 }?.0
  }
}
