import Testing
import VitFormats
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

struct TrimTests {
  private func images(_ count: Int, _ shape: [Int] = TinyViT.shape) -> Tensor {
    var random = SplitMix(seed: 5)
    let values = (0..<count * shape.reduce(1, *)).map { _ in random.normal() }
    return Tensor(.f32, shape: [count] + shape, values: values)
  }

  /// The largest difference of the first outputs, over their magnitude.
  private func difference(_ a: Graph, _ b: Graph, _ inputs: [Tensor]) throws -> Double {
    let (x, y) = (try Zoo.run(a, inputs)[0], try Zoo.run(b, inputs)[0])
    #expect(x.shape == y.shape)
    let (p, q) = (try x.doubles(), try y.doubles())
    return zip(p, q).map { abs($0 - $1) }.max().map { $0 / max(1, p.map(abs).max() ?? 1) } ?? .infinity
  }

  private func flops(_ graph: Graph, _ shape: [Int]) throws -> Int {
    try ModelCost(graph, inputShapes: [shape], pool: SerialPool()).total.flops
  }

  @Test(
    "a model without the rows that nobody reads gives what it gave, for less",
    arguments: ["", "swap{mixer=glr,layers=[1]}", "swap{mixer=pointwise,layers=[1]}", "swap{layers=[0]}"])
  func exact(_ pipeline: String) throws {
    let before = pipeline.isEmpty ? try TinyViT.model() : try apply(pipeline, to: try TinyViT.model())
    let after = try apply("trim", to: before)
    #expect(try difference(before.graph, after.graph, [images(3)]) < 1e-5)
    // The last block holds half of the work, of which the tokens but one are most.
    let (was, becomes) = (
      try flops(before.graph, [1] + TinyViT.shape), try flops(after.graph, [1] + TinyViT.shape)
    )
    #expect(Double(becomes) < 0.85 * Double(was), "\(becomes) of \(was)")
    #expect(after.layers.map(\.index) == [0, 1])
    #expect(after.layers.map(\.kind) == before.layers.map(\.kind))
    #expect(after.layers[1].output != before.layers[1].output || pipeline.contains("glr"))
    #expect(try apply("trim", to: after).graph.nodes.count == after.graph.nodes.count)
  }

  @Test("attention that lost its rows is a layer that says so, and stays one through text") func layers()
    throws
  {
    let hybrid = try apply("trim", to: try TinyViT.model())
    #expect(hybrid.layers[0].isReplaceable)
    #expect(hybrid.layers[1].isAttention)
    #expect(hybrid.layers[1].obstacle == "it computes only 1 of its tokens")
    let again = try Hybrid(
      text: Array(try hybrid.text(TextOptions()).utf8), file: "t.vit", registry: .standard)
    #expect(again.layers.map(\.obstacle) == hybrid.layers.map(\.obstacle))
  }

  @Test("where all tokens are read, or a second reader wants them, nothing changes") func untouched() throws {
    let pooled = try TinyViT.model(classToken: false)
    #expect(try apply("trim", to: pooled).graph.nodes.map(\.name) == pooled.graph.nodes.map(\.name))
    var model = try TinyViT.graph()
    let last = try #require(model.nodes.last { $0.name == "vit.layer_norm" }?.results.first)
    model.outputs.append((name: "tokens", value: last))
    let both = try apply("trim", to: Hybrid(finding: model))
    #expect(both.graph.nodes.map(\.name) == model.nodes.map(\.name))
  }

  @Test("tokens picked twice are kept once, causal attention keeps its rows, a table of scores loses its own")
  func readers() throws {
    for (name, attributes) in [
      ("plain", [("heads", Attribute.int(2))]),
      ("causal", [("heads", .int(2)), ("causal", .bool(true))]),
    ] {
      for table in [[1, 2, 6, 6], [1, 2, 1, 6]] {
        var model = ModelBuilder(name)
        let x = model.input([.symbol("batch"), 6, 8])
        let w = (0..<4).map { _ in model.weight([8, 8]) }
        let bias = model.weight(table, scale: 1)
        let y = try model.add(
          "vit.attention", [x, w[0], nil, w[1], nil, w[2], nil, w[3], nil, bias], attributes)
        let sum = try model.add("vit.add", [x, y])
        let first = try model.add("onnx.Gather", [sum, model.integers([3, 1])], [("axis", .int(1))])
        let second = try model.add(
          "onnx.Slice", [sum, model.integers([1]), model.integers([2]), model.integers([1])])
        let graph = model.finish(first, second)
        let trimmed = try apply("trim", to: Hybrid(finding: graph)).graph
        #expect(try difference(graph, trimmed, [images(2, [6, 8])]) < 1e-5)
        let (a, b) = (
          try Zoo.run(graph, [images(2, [6, 8])])[1], try Zoo.run(trimmed, [images(2, [6, 8])])[1]
        )
        #expect(zip(try a.doubles(), try b.doubles()).allSatisfy { abs($0 - $1) < 1e-5 })
        #expect(trimmed.nodes.contains { $0.name == "vit.sdpa" } == (name == "plain"))
      }
    }
  }

  @Test("models of the zoo give what they gave", .enabled(if: Zoo.isThere, "the zoo is not there")) func zoo()
    throws
  {
    var changed = 0
    for model in Zoo.models {
      guard let loaded = try? Zoo.read("open/" + model.file).graph else { continue }
      let before = try apply("fold,raise,dce", to: Hybrid(loaded))
      let after = try apply("trim", to: before)
      guard after.graph.nodes.map(\.name) != before.graph.nodes.map(\.name) else { continue }
      changed += 1
      let inputs = try model.inputs.map { try NPY.read(Zoo.file("open/" + $0.npy)) }
      #expect(try difference(before.graph, after.graph, inputs) < 2e-5, "\(model.file)")
    }
    #expect(changed > 5)
  }
}
