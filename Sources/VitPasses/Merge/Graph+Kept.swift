internal import VitIR
internal import VitOps

extension Graph {
  /// The graph with the tokens that `teacher` keeps in place of those that it would keep itself, where both drop tokens at the same
  /// places: the teacher's nodes that say which run before its own. Values are the same, and so is all else where nothing is dropped.
  func keeping(tokensOf teacher: Graph) throws(VitError) -> Graph {
    let (own, theirs) = (tables, teacher.tables)
    guard !own.isEmpty, own.map(type) == theirs.map(teacher.type), inputs.count == teacher.inputs.count else {
      return self
    }
    var part = teacher
    part.outputs = theirs.map { (teacher[$0].name, $0) }
    part.removeDeadNodes()
    var result = self
    var moved = Dictionary(
      zip(teacher.inputs + theirs, inputs + own), uniquingKeysWith: { first, _ in first })
    var nodes: [Node] = []
    for node in part.nodes {
      let operands = node.operands.map { operand -> ValueID? in
        guard let operand else { return nil }
        if let known = moved[operand] { return known }
        guard let tensor = part.tensor(operand) else { return nil }
        let copy = result.addConstant(tensor, name: "teacher.\(part[operand].name)")
        moved[operand] = copy
        return copy
      }
      let results = node.results.map { value in
        let copy = moved[value] ?? result.addValue(part.type(value), name: "teacher.\(part[value].name)")
        moved[value] = copy
        return copy
      }
      nodes.append(
        Node(node.operation, operands: operands, results: results, location: node.location))
    }
    let given = Set(own)
    result.nodes = nodes + self.nodes.filter { !$0.results.contains(where: given.contains) }
    return result
  }

  /// The tables that say which tokens go on, in the order in which they are made.
  private var tables: [ValueID] {
    nodes.filter { $0.isAny(TokenKeep.self, TokenKeepLeast.self) }.compactMap(\.results.first)
  }
}
