import Testing
import VitIR
import VitPasses
import VitTestSupport
import Vitc

/// One network as several exporters wrote it (`tools/fixtures/make_pair_fixtures.py`).
@Suite("Differences of two models") struct DifferenceTests {
  static let others = ["dynamo18", "rewritten14"]

  private func model(_ name: String, raising: Bool = true) throws -> Model {
    try Model(contentsOf: Fixture.path("pairs/\(name).onnx"), raising: raising)
  }

  /// The graph with the first weight of its last perceptron scaled.
  private func drifted(_ model: Model) throws -> (graph: Graph, name: String) {
    var graph = model.graph
    let node = try #require(graph.nodes.last { $0.name == "vit.mlp" })
    let weight = try #require(node.operands[1])
    let tensor = try #require(graph.tensor(weight))
    graph.setTensor(
      Tensor(tensor.element, shape: tensor.shape, values: try tensor.doubles().map { $0 * 1.5 }), of: weight)
    return (graph, graph[weight].name)
  }

  @Test("exports of one network compute the same, whatever is called how", arguments: others)
  func behaviour(other: String) throws {
    let found = try Difference.find(model("script17"), model(other), tolerance: 1e-5)
    #expect(!found.contains { [.output, .value, .tensor].contains($0.kind) }, "\(found)")
    #expect(found.contains { $0.kind == .structure && $0.place == "signature" })
  }

  @Test("as their files have them, forms that differ are told, and that what follows agrees")
  func unraised() throws {
    let found = try Difference.find(
      model("script17", raising: false), model("rewritten14", raising: false), tolerance: 1e-5)
    #expect(!found.contains { [.output, .value].contains($0.kind) }, "\(found)")
    let gaps = found.filter {
      $0.kind == .structure && $0.message.contains(" against ") && $0.place != "signature"
    }
    #expect(
      gaps.contains { $0.message.contains("LayerNormalization") && $0.message.hasSuffix("agrees") }, "\(gaps)"
    )
  }

  @Test(
    "a weight that moved is found in another form of the network, and the first value behind it",
    arguments: others)
  func tensor(other: String) throws {
    let (graph, name) = try drifted(model(other))
    let found = try Difference.find(model("script17"), Model(graph), tolerance: 1e-5)
    let tensors = found.filter { $0.kind == .tensor }
    #expect(tensors.count == 1, "\(name): \(found)")
    let value = try #require(found.first { $0.kind == .value })
    #expect(value.place.contains("blocks.1") && value.place.contains("fc1"), "\(value)")
    #expect(found.contains { $0.kind == .output })
  }

  @Test("a block that is missing is told as that block") func missing() throws {
    let whole = try model("script17")
    var hybrid = whole.hybrid
    // The second block's attention adds nothing: its sum is what goes in.
    let graph = whole.graph
    let layer = try #require(whole.hybrid.layers.last)
    let output = try #require(layer.output)
    let place = try #require(graph.nodes.firstIndex { $0.operands.contains(output) })
    let stream = try #require(graph.nodes[place].operands.compactMap { $0 }.first { $0 != output })
    let sum = graph.nodes[place].results[0]
    for index in hybrid.graph.nodes.indices {
      hybrid.graph.nodes[index].operands = hybrid.graph.nodes[index].operands.map { $0 == sum ? stream : $0 }
    }
    hybrid.graph.removeDeadNodes()
    let found = try Difference.find(whole, Model(hybrid.graph), tolerance: 1e-5)
    let gaps = found.filter { $0.kind == .structure }
    #expect(gaps.count == 1, "\(found)")
    #expect(gaps.first?.place.contains("blocks.1/norm1") == true, "\(gaps)")
    #expect(gaps.first?.message.contains("vit.attention, vit.add") == true, "\(gaps)")
    #expect(!found.contains { $0.kind == .tensor })
  }

  @Test("the order by the data does not depend on the order of the file") func order() throws {
    let graph = try model("script17", raising: false).graph
    // Another order in which everything is defined before it is read: the last that can come, first.
    var rest = Set(graph.nodes.indices)
    let producer = graph.producers()
    var reordered: [Int] = []
    while !rest.isEmpty {
      let next = try #require(
        rest.filter { node in
          graph.nodes[node].operands.allSatisfy {
            $0.flatMap { producer[$0.index] }.map { !rest.contains($0) } ?? true
          }
        }.max())
      reordered.append(next)
      rest.remove(next)
    }
    var other = graph
    other.nodes = reordered.map { graph.nodes[$0] }
    #expect(reordered != Array(graph.nodes.indices))
    func names(_ graph: Graph) -> [String] {
      graph.nodesByDataflow().map { graph[graph.nodes[$0].results[0]].name }
    }
    #expect(names(graph) == names(other))
    #expect(try Difference.find(Model(graph), Model(other)).isEmpty)
  }

  @Test("only what commutes may read in another order, and too few inputs are an error") func commuting()
    throws
  {
    func model(_ line: String, inputs: String = "%x: f32[4], %y: f32[4]") throws -> Model {
      let scratch = try Scratch()
      let text = "version 2\ngraph \"g\" (\(inputs)) -> (z = %z) {\n  \(line) : f32[4]\n}\n"
      try scratch.write(Array(text.utf8), to: "m.vit")
      return try Model(contentsOf: scratch.file("m.vit"))
    }
    let sum = try Difference.find(model("%z = onnx.Add(%x, %y)"), model("%z = onnx.Add(%y, %x)"))
    #expect(sum.isEmpty, "\(sum)")
    let difference = try Difference.find(
      model("%z = onnx.Sub(%x, %y)"), model("%z = onnx.Sub(%y, %x)"), tolerance: 1e6)
    #expect(difference.map(\.kind) == [.structure], "\(difference)")
    #expect(throws: VitError.self) {
      try Difference.find(
        model("%z = onnx.Sub(%x, %y)"), model("%z = onnx.Sub(%x, %y)", inputs: "%y: f32[4], %x: f32[4]"),
        input: [Tensor(shape: [4], floats: [1, 2, 3, 4])])
    }
  }

  @Test("models that do not take the same inputs are told apart without a run") func inputs() throws {
    let small = try model("script17")
    let other = try Model(contentsOf: Fixture.path("teacher/fashion-vit.onnx"))
    let found = try Difference.find(small, other)
    #expect(found.contains { $0.kind == .output && $0.message.contains("is not run") }, "\(found)")
  }
}
