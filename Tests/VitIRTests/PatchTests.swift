import Testing
import VitIR
import VitTestSupport

@Suite struct PatchTests {
  /// `x → parts → … → parts`, `length` nodes.
  private func chain(_ length: Int) throws -> Graph {
    var builder = GraphBuilder(Graph(name: "chain"), registry: StandIn.registry)
    var value = builder.graph.addInput(TensorType(.f32, [2]), name: "x")
    for index in 0..<length { value = try builder.add(StandIn.Parts.self, [value], names: ["v\(index)"])[0] }
    builder.graph.outputs = [("y", value)]
    return builder.graph
  }

  private func lines(_ graph: Graph) throws -> [String] {
    try graph.text().split(separator: "\n").dropFirst().dropLast().map { $0.split(separator: " : ")[0] }.map {
      String($0.drop { $0 == " " })
    }
  }

  @Test("a rewrite takes the place of old nodes, which go")
  func replaces() throws {
    var graph = try chain(3)
    var patch = Patch(graph, registry: StandIn.registry)
    let x = graph.inputs[0]
    let old = try #require(graph.value(named: "v1"))
    let new = try patch.builder.add(StandIn.Add.self, [x, x], names: ["sum"])[0]
    #expect(try patch.replace(old, with: new, by: "double"))
    try graph.apply(patch)
    #expect(try lines(graph) == ["%sum = test.add(%x, %x)", "%v2 = test.parts(%sum)"])
    try Verifier.verify(graph, registry: StandIn.registry)
  }

  @Test("a value can be wrapped by what reads it, and an output replaced")
  func wraps() throws {
    var graph = try chain(2)
    var patch = Patch(graph, registry: StandIn.registry)
    for name in ["v0", "v1"] {
      let old = try #require(graph.value(named: name))
      let new = try patch.builder.add(StandIn.Parts.self, [old], names: ["\(name).wrapped"])[0]
      try patch.replace(old, with: new, by: "wrap")
    }
    try graph.apply(patch)
    #expect(
      try lines(graph) == [
        "%v0 = test.parts(%x)", "%v0.wrapped = test.parts(%v0)", "%v1 = test.parts(%v0.wrapped)",
        "%v1.wrapped = test.parts(%v1)",
      ])
    #expect(graph[graph.outputs[0].value].name == "v1.wrapped")
  }

  @Test("hundreds of rewrites in one patch read each other's results")
  func many() throws {
    var graph = try chain(800)
    var patch = Patch(graph, registry: StandIn.registry)
    for node in graph.nodes {
      let new = try patch.builder.add(StandIn.Add.self, [node.operands[0], node.operands[0]], names: ["sum"])
      try patch.replace(node.results, with: new, by: "double")
    }
    try graph.apply(patch)
    #expect(graph.nodes.count == 800 && graph.nodes.allSatisfy { $0.name == "test.add" })
    try Verifier.verify(graph)
  }

  @Test("a rewrite that changes a type is refused and leaves nothing")
  func typeChange() throws {
    let graph = try chain(1)
    var patch = Patch(graph, registry: StandIn.registry)
    let shape = patch.builder.integers([1, 2])
    let new = try patch.builder.add(StandIn.Reshape.self, [graph.inputs[0], shape])[0]
    let old = graph.outputs[0].value
    #expect(throws: VitError.self) { try patch.replace(old, with: new, by: "bad") }
    #expect(patch.isEmpty && patch.builder.graph.nodes.count == 1)
  }

  @Test("a value is replaced by one rewrite only, the first")
  func once() throws {
    let graph = try chain(1)
    var patch = Patch(graph, registry: StandIn.registry)
    let old = graph.outputs[0].value
    let sum = try patch.builder.add(StandIn.Add.self, [graph.inputs[0], graph.inputs[0]])[0]
    #expect(try patch.replace(old, with: sum, by: "first"))
    let other = try patch.builder.add(StandIn.Parts.self, [graph.inputs[0]])[0]
    #expect(try !patch.replace(old, with: other, by: "second"))
    #expect(patch.rewrites == ["first"] && patch.builder.graph.nodes.count == 2)
  }

  @Test("values that replace each other are an error")
  func circle() throws {
    var graph = try chain(2)
    var patch = Patch(graph, registry: StandIn.registry)
    let ids = graph.nodes.map { $0.results[0] }
    try patch.replace(ids[0], with: ids[1], by: "there")
    try patch.replace(ids[1], with: ids[0], by: "back")
    #expect(throws: VitError.self) { try graph.apply(patch) }
  }
}
