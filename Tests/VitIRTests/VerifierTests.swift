import Testing
import VitIR
import VitTestSupport

@Suite struct VerifierTests {
  private func failure(_ change: (inout Graph) throws -> Void) throws -> String? {
    var graph = try SampleGraph.small()
    try Verifier.verify(graph, registry: StandIn.registry)
    try change(&graph)
    do {
      try Verifier.verify(graph, registry: StandIn.registry)
      return nil
    } catch {
      #expect(error.kind == .environment && error.diagnostic.code == "invalid-graph")
      return error.diagnostic.message
    }
  }

  @Test("order, single assignment and closedness are checked")
  func structure() throws {
    #expect(
      try failure { $0.nodes.swapAt(0, 1) }
        == "invalid graph: the operand 'logits' is read before it is defined")
    #expect(
      try failure { $0.nodes.append($0.nodes[0]) } == "invalid graph: the result 'logits' is defined twice")
    #expect(
      try failure { $0.nodes[0].results = [$0.inputs[0]] }
        == "invalid graph: the result 'pixel_values' is defined twice")
    #expect(
      try failure { $0.nodes.removeLast() } == "invalid graph: the output 'flat' is read before it is defined"
    )
    #expect(
      try failure { $0.outputs.append($0.outputs[0]) } == "invalid graph: there are two outputs 'logits'")
    #expect(
      try failure { graph in
        let weight = try #require(graph.value(named: "head.weight"))
        graph.nodes[0].results = [weight]
      } == "invalid graph: the result 'head.weight' is a constant")
    #expect(
      try failure { graph in
        var other = graph
        for index in 0..<9 { _ = other.addInput(TensorType(.f32, []), name: "n\(index)") }
        graph.nodes[0].operands[0] = other.inputs.last
      } == "invalid graph: the operand is of another graph")
  }

  @Test("constants need their tensors, of their type")
  func constants() throws {
    #expect(
      try failure { $0.tensors["head.weight"] = nil }
        == "invalid graph: the operand 'head.weight' has no tensor")
    #expect(
      try failure { $0.tensors["head.weight"] = Tensor(shape: [2], floats: [1, 2]) }
        == "invalid graph: the constant 'head.weight' is f32[4, 3], but its tensor f32[2]")
    #expect(
      try failure { $0.tensors["stray"] = Tensor(shape: [2], floats: [1, 2]) }
        == "invalid graph: the tensor 'stray' belongs to no constant")
  }

  @Test("noted types are what the type rules say")
  func types() throws {
    #expect(
      try failure { $0.setType(TensorType(.f32, [1]), of: $0.nodes[0].results[0]) }
        == "invalid graph: 'logits' is noted as f32[1], but 'test.linear' gives f32[batch, 3]")
  }

  @Test("weights are rounded where that is harmless and biases are not")
  func rounding() throws {
    var graph = Graph(name: "g")
    let matrix = graph.addConstant(Tensor(shape: [2, 2], floats: [1, 0.1, -3, 1e-3]), name: "matrix")
    let bias = graph.addConstant(Tensor(shape: [1, 1, 2], floats: [1, 0.1]), name: "bias")
    let mask = graph.addConstant(Tensor(shape: [2, 2], floats: [0, -1e30, -1e30, 0]), name: "mask")
    let holes = graph.addConstant(Tensor(shape: [2, 2], floats: [0, -.infinity, .nan, 0]), name: "holes")
    let rounded = try graph.roundingWeights(to: .f16)
    #expect([matrix, bias, mask, holes].map { rounded.tensor($0)?.element } == [.f16, .f32, .f32, .f16])
    #expect(try rounded.tensor(matrix)?.floats() == [1, 0.099975586, -3, 0.0010004044])
    #expect(rounded.type(matrix) == TensorType(.f32, [2, 2]))
    #expect(try rounded.roundingWeights(to: .f16).firstDifference(from: rounded) == nil)
    #expect(try graph.roundingWeights(to: .f32).firstDifference(from: graph) == nil)
  }
}
