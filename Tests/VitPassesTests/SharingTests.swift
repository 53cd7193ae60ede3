import Testing
import VitIR
import VitOps
import VitPasses
import VitTestSupport

@Suite("Weights that several nodes share") struct SharingTests {
  /// A model whose block is applied `times` times with the same weights: norm, queries, keys and values in one map, attention,
  /// projection, norm, MLP.
  private func repeated(_ times: Int) throws -> Graph {
    var graph = AttentionGraph()
    let width = graph.width
    func weight(_ shape: [Int], _ name: String) -> ValueID { graph.model.weight(shape, name: name) }
    let (gain, shift) = (weight([width], "gain"), weight([width], "shift"))
    let (all, allBias) = (weight([width, 3 * width], "qkv"), weight([3 * width], "qkv.bias"))
    let (out, outBias) = (weight([width, width], "out"), weight([width], "out.bias"))
    let (up, upBias) = (weight([2 * width, width], "up"), weight([2 * width], "up.bias"))
    let (down, downBias) = (weight([width, 2 * width], "down"), weight([width], "down.bias"))
    func linear(_ x: ValueID, _ matrix: ValueID, _ bias: ValueID, turned: Bool = false) throws -> ValueID {
      // As exporters write it: the weight is turned anew for each use.
      let matrix = turned ? try graph.model.transpose(matrix, [1, 0]) : matrix
      return try graph.model.add("onnx.Add", [try graph.model.add("onnx.MatMul", [x, matrix]), bias])
    }
    func norm(_ x: ValueID) throws -> ValueID {
      try graph.model.add("onnx.LayerNormalization", [x, gain, shift], [("axis", .int(-1))])
    }
    var x = graph.x
    for _ in 0..<times {
      let parts = try graph.model.split(try linear(try norm(x), all, allBias), 3, axis: -1).map {
        try graph.split($0)
      }
      let probabilities = try graph.softmax(try graph.scores(parts[0], parts[1]))
      let joined = try graph.model.transpose(
        try graph.model.add("onnx.MatMul", [probabilities, parts[2]]), [0, 2, 1, 3])
      x = try graph.model.add(
        "onnx.Add", [x, try linear(try graph.model.reshape(joined, [0, 0, -1]), out, outBias)])
      let inner = try graph.model.add("onnx.Gelu", [try linear(try norm(x), up, upBias, turned: true)])
      x = try graph.model.add("onnx.Add", [x, try linear(inner, down, downBias, turned: true)])
    }
    return graph.model.finish(x)
  }

  private func parameters(_ graph: Graph) -> Int {
    graph.tensors.names.reduce(0) { total, name in
      guard let tensor = graph.tensors[name], tensor.element.isFloat, tensor.count > 1 else { return total }
      return total + tensor.count
    }
  }

  @Test("a block applied several times has the weights of one, however it was raised")
  func block() throws {
    let (one, three) = (try repeated(1), try repeated(3))
    #expect(parameters(one) == parameters(three))
    let (raised, raisedOnce) = (try apply("fold,raise,dce", to: three), try apply("fold,raise,dce", to: one))
    #expect(raised.count("vit.attention") == 3 && raised.count("vit.mlp") == 3)
    #expect(parameters(raised) == parameters(raisedOnce))
    #expect(parameters(raised) == parameters(one))
    #expect(try outputDifference(three, raised, [[2, 5, 8]]) < 1e-5)
    for name in raised.tensors.names where (raised.tensors[name]?.count ?? 0) > 1 {
      let id = try #require(raised.value(named: name))
      #expect(raised.nodes.filter { $0.operands.contains(id) }.count >= 3, "\(name)")
    }
  }

  @Test("a weight that is used as it is and turned round is one weight") func tied() throws {
    var model = ModelBuilder()
    let x = model.input([.symbol("batch"), 4, 6])
    let weight = model.weight([6, 6], name: "tied")
    let turned = try model.transpose(weight, [1, 0])
    let inner = try model.add("onnx.MatMul", [x, weight])
    let again = try model.add("onnx.MatMul", [inner, turned])
    let row = try model.add("onnx.Gather", [weight, model.integers([1])], [("axis", .int(0))])
    let graph = model.finish(try model.add("onnx.Add", [again, row]))
    let raised = try apply("fold,raise,dce", to: graph)
    #expect(try outputDifference(graph, raised, [[2, 4, 6]]) < 1e-5)
    // What was gathered is a constant of its own; the map and its transpose are views of one file's bytes.
    let stored = raised.tensors.names.compactMap { raised.tensors[$0] }.filter { $0.count == 36 }
    #expect(stored.count <= 2)
    let original = try #require(graph.tensors["tied"])
    #expect(stored.contains { $0.storage === original.storage })
    #expect(original.transposed().transposed().storage === original.storage)
  }

  @Test("weights that happen to be equal stay two") func equal() throws {
    var model = ModelBuilder()
    let x = model.input([.symbol("batch"), 4, 6])
    let values = (0..<36).map(Double.init)
    let (a, b) = (
      model.builder.constant(values, shape: [6, 6], name: "a"),
      model.builder.constant(values, shape: [6, 6], name: "b")
    )
    let graph = model.finish(
      try model.add("onnx.MatMul", [try model.add("onnx.MatMul", [x, a]), b]))
    let raised = try apply("fold,raise,dce", to: graph)
    #expect(parameters(raised) == 72)
  }

  @Test("a constant computed twice from the same ones is one, from others or otherwise another")
  func folded() throws {
    var model = ModelBuilder()
    let x = model.input([.symbol("batch"), 6])
    let (a, b) = (model.weight([6], name: "a"), model.weight([6], name: "b"))
    var y = x
    for (name, left, right) in [
      ("onnx.Add", a, b), ("onnx.Add", a, b), ("onnx.Mul", a, b), ("onnx.Add", a, a),
    ] {
      y = try model.add("onnx.Mul", [y, try model.add(name, [left, right])])
    }
    let graph = model.finish(y)
    let folded = try apply("fold,dce", to: graph)
    #expect(parameters(folded) == 18)
    #expect(try outputDifference(graph, folded, [[2, 6]]) < 1e-6)
  }

  @Test("fine-tuning trains a shared weight as one") func training() throws {
    var graph = try TinyViT.graph(layers: 3)
    // The second and the third block take the weights of the first where they have the same operations.
    let mlps = graph.nodes.indices.filter { graph.nodes[$0].name == "vit.mlp" }
    for place in mlps.dropFirst() {
      graph.nodes[place].operands =
        [graph.nodes[place].operands[0]] + graph.nodes[mlps[0]].operands.dropFirst()
    }
    graph.removeDeadNodes()
    let before = parameters(graph)
    let context = TinyViT.context()
    let hybrid = try apply(
      "swap{layers=[0],prefix=mixer},fine-tune{steps=4,batch=4,rate=0.0025}", to: Hybrid(finding: graph),
      context
    ).graph
    let after = hybrid.nodes.filter { $0.name == "vit.mlp" }
    #expect(after.count == 3)
    for node in after { #expect(node.operands.dropFirst() == after[0].operands.dropFirst()) }
    #expect(parameters(hybrid) < before + 4 * TinyViT.width * TinyViT.width)
    let weight = try #require(after[0].operands[1])
    #expect(
      try hybrid.tensor(weight)?.floats()
        != graph.tensor(try #require(graph.nodes[mlps[0]].operands[1]))?.floats())
  }
}
