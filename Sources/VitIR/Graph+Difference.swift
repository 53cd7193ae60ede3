extension Graph {
  /// What first tells this graph from `other`, in words, or `nil` where they are the same: names, types,
  /// operations, attributes, origins, tensors.
  ///
  /// How values are numbered does not matter, nor do values that nobody defines or reads. With
  /// `comparingValues` the tensors' bytes count too, and a tensor that cannot be read throws.
  public func firstDifference(from other: Graph, comparingValues: Bool = true) throws -> String? {
    func differ(_ what: String, _ a: String, _ b: String) -> String? {
      a == b ? nil : "\(what): \(a) against \(b)"
    }
    func signature(_ graph: Graph) -> String {
      let inputs = graph.inputs.map { "\(graph[$0].name): \(graph.type($0))" }
      let outputs = graph.outputs.map { "\($0.name) = \(graph[$0.value].name)" }
      return "(\(inputs.joined(separator: ", "))) -> (\(outputs.joined(separator: ", ")))"
    }
    func line(_ graph: Graph, _ node: Node) -> String {
      let operands = node.operands.map { $0.map { graph[$0].name } ?? "_" }
      let results = node.results.map { "\(graph[$0].name): \(graph.type($0))" }
      let origin = node.location.node ?? ""
      return "\(results) = \(node.name)\(operands) \(node.operation.attributes.text) \(origin)"
    }
    if let found = differ("name", name, other.name) ?? differ("signature", signature(self), signature(other))
      ?? differ("annotations", annotations.text, other.annotations.text)
      ?? differ("number of nodes", "\(nodes.count)", "\(other.nodes.count)")
      ?? differ("number of tensors", "\(tensors.names.count)", "\(other.tensors.names.count)")
    {
      return found
    }
    for (index, (a, b)) in zip(nodes, other.nodes).enumerated() {
      if let found = differ("node \(index)", line(self, a), line(other, b)) { return found }
    }
    for (a, b) in zip(tensors.names, other.tensors.names) {
      guard a == b, let x = tensors[a], let y = other.tensors[b] else { return differ("tensor", a, b) }
      if let found = differ("tensor '\(a)'", x.type.description, y.type.description) { return found }
      if !comparingValues || (x.isElided && y.isElided) { continue }
      let same = try x.storage.withBytes { p in try y.storage.withBytes { q in p.elementsEqual(q) } }
      if !same { return "tensor '\(a)': the values differ" }
    }
    return nil
  }
}
