extension Graph {
  /// Throws unless the graph is in single-assignment form and closed: names are unique, every value is
  /// defined once and before it is read, constants have tensors of their type, outputs are defined.
  ///
  /// Linear in the size of the graph. Types are `Verifier`'s to check.
  public func checkInvariants() throws(VitError) {
    var defined = [Bool](repeating: false, count: values.count)
    for (index, value) in values.enumerated() {
      guard self.value(named: value.name)?.index == index else {
        throw broken("the name '\(value.name)' stands for two values")
      }
      guard value.isConstant, let tensor = tensors[value.name] else { continue }
      guard tensor.type.computed == value.type else {
        throw broken("the constant '\(value.name)' is \(value.type), but its tensor \(tensor.type)")
      }
      defined[index] = true
    }
    for name in tensors.names where value(named: name).map({ self[$0].isConstant }) != true {
      throw broken("the tensor '\(name)' belongs to no constant")
    }

    func define(_ id: ValueID, _ what: String, _ location: Location) throws(VitError) {
      guard values.indices.contains(id.index) else { throw broken("\(what) is of another graph", location) }
      guard !values[id.index].isConstant else {
        throw broken("\(what) '\(self[id].name)' is a constant", location)
      }
      guard !defined[id.index] else { throw broken("\(what) '\(self[id].name)' is defined twice", location) }
      defined[id.index] = true
    }
    func read(_ id: ValueID, _ what: String, _ location: Location) throws(VitError) {
      guard values.indices.contains(id.index) else { throw broken("\(what) is of another graph", location) }
      guard !defined[id.index] else { return }
      let value = values[id.index]
      throw broken(
        "\(what) '\(value.name)' \(value.isConstant ? "has no tensor" : "is read before it is defined")",
        location)
    }

    for id in inputs { try define(id, "the input", Location()) }
    for node in nodes {
      for case let id? in node.operands { try read(id, "the operand", node.location) }
      for id in node.results { try define(id, "the result", node.location) }
    }
    var names: Set<String> = []
    for output in outputs {
      try read(output.value, "the output", Location())
      guard names.insert(output.name).inserted else { throw broken("there are two outputs '\(output.name)'") }
    }
  }
}

/// That a graph which our own code made is not well formed.
private func broken(_ message: String, _ location: Location = Location()) -> VitError {
  VitError("invalid graph: \(message)", kind: .environment, code: "invalid-graph", location: location)
}

/// Checks what a pass has made of a graph.
public enum Verifier {
  /// Throws unless the graph's invariants hold, every noted type is what the type rules say, and, where a
  /// registry is given, every operation can be made again from its name and attributes; `fold` computes what
  /// follows from constants.
  public static func verify(
    _ graph: Graph, registry: Registry? = nil, fold: GraphBuilder.Fold? = nil
  ) throws(VitError) {
    try graph.checkInvariants()
    for input in graph.inputs {
      do { try graph.type(input).validate() } catch { throw broken(error.diagnostic.message) }
    }
    let types = try GraphBuilder.infer(graph, inputTypes: graph.inputs.map(graph.type)) {
      node, operands, results throws(VitError) in try fold?(node, operands, results) ?? []
    }.types
    for node in graph.nodes {
      for id in node.results where types[id.index] != graph.type(id) {
        throw broken(
          "'\(graph[id].name)' is noted as \(graph.type(id)), but '\(node.name)' gives \(types[id.index])",
          node.location)
      }
      guard let registry else { continue }
      do throws(VitError) {
        let attributes = node.operation.attributes
        let again = try registry.make(node.name, attributes).attributes
        // Compared as text: NaN is equal to itself there.
        guard again.text == attributes.text else {
          throw broken("'\(node.name)' with \(attributes.text) reads back as \(again.text)")
        }
      } catch { throw error.at(node.location) }
    }
  }
}
