import Testing
import VitIR
import VitOps
import VitPasses
import VitTestSupport

/// What of a model is learned, and what training leaves as it is.
@Suite("Parameters")
struct ParameterTests {
  private func names(_ graph: Graph) -> Set<String> { Set(graph.parameters().map { graph[$0.id].name }) }

  /// Images [batch, 3, 8, 8] that are standardised, a stem with a batch norm, one attention of two heads over 16 tokens
  /// with a learned bias of the scores and a mask such as shifted windows have, then classes.
  private func windowed(mask number: Double = -100) throws -> Graph {
    var model = ModelBuilder("windowed")
    let batch = Dimension.symbol("batch")
    let image = model.input([batch, 3, 8, 8], name: "image")
    let mean = model.builder.constant([0.4, 0.5, 0.6], shape: [1, 3, 1, 1], name: "mean")
    let deviation = model.builder.constant([0.2, 0.3, 0.4], shape: [3, 1, 1], name: "deviation")
    let seen = try model.add("onnx.Div", [try model.add("onnx.Sub", [image, mean]), deviation])
    var x = try model.builder.add(
      model.builder.registry.make("onnx.Conv", Attributes([("strides", .ints([2, 2]))])),
      [seen, model.weight([16, 3, 2, 2], name: "windows", scale: 0.3)])[0]
    x = try model.add(
      "onnx.BatchNormalization",
      [
        x, model.builder.constant((0..<16).map { 1 + 0.01 * Double($0) }, shape: [16], name: "bn.gain"),
        model.weight([16], name: "bn.bias", scale: 0.1), model.weight([16], name: "bn.mean", scale: 0.1),
        model.builder.constant((0..<16).map { 0.5 + 0.1 * Double($0) }, shape: [16], name: "bn.var"),
      ])
    x = try model.transpose(try model.reshape(x, [-1, 16, 16]), [0, 2, 1])
    x = try model.add("onnx.Add", [x, model.weight([1, 16, 16], name: "positions", scale: 0.1)])
    x = try attend(&model, x, mask: nil)
    let hidden = (0..<256).map { ($0 / 16 / 8 == $0 % 16 / 8) ? 0.0 : number }
    x = try attend(&model, x, mask: model.builder.constant(hidden, shape: [1, 16, 16], name: "mask"))
    x = try model.add("onnx.ReduceMean", [x, model.integers([1])], [("keepdims", .int(0))])
    return model.finish(try model.linear(x, 16, TinyViT.classes))
  }

  /// Adds what two heads see of the 16 tokens, with a bias of the scores looked up in a table.
  private func attend(_ model: inout ModelBuilder, _ x: ValueID, mask: ValueID?) throws -> ValueID {
    let parts = try model.split(try model.linear(x, 16, 48), 3, axis: 2)
    let heads = try parts.map { try model.transpose(try model.reshape($0, [-1, 16, 2, 8]), [0, 2, 1, 3]) }
    var scores = try model.add("onnx.MatMul", [heads[0], try model.transpose(heads[1], [0, 1, 3, 2])])
    scores = try model.add("onnx.Mul", [scores, model.number(0.35)])
    let table = try model.add(
      "onnx.Gather",
      [
        model.weight([49, 2], name: "table", scale: 0.3),
        model.builder.integers((0..<256).map { $0 * 7 % 49 }, name: "places"),
      ])
    let bias = try model.transpose(try model.reshape(table, [16, 16, 2]), [2, 0, 1])
    scores = try model.add("onnx.Add", [scores, bias])
    if let mask { scores = try model.add("onnx.Add", [scores, mask]) }
    let mixed = try model.add("onnx.MatMul", [try model.add("onnx.Softmax", [scores]), heads[2]])
    let joined = try model.reshape(try model.transpose(mixed, [0, 2, 1, 3]), [-1, 16, 16])
    return try model.add("onnx.Add", [x, try model.linear(joined, 16, 16)])
  }

  private let fixed: Set<String> = ["mean", "deviation", "bn.mean", "bn.var", "mask", "places"]
  private let learned: Set<String> = ["windows", "bn.gain", "bn.bias", "positions", "table"]

  @Test("masks, statistics and index tables are not learned; weights, biases, gains and tables are")
  func roles() throws {
    let graph = try windowed()
    #expect(names(graph).isDisjoint(with: fixed))
    #expect(names(graph).isSuperset(of: learned))
    #expect(names(try apply("fold,raise,dce", to: graph)).isDisjoint(with: fixed))
  }

  @Test("what hides nothing from a softmax is a learned table")
  func mildBias() throws { #expect(names(try windowed(mask: -4)).contains("mask")) }

  @Test("training leaves a finite mask, statistics and index tables as they are")
  func training() throws {
    let context = TinyViT.context(count: 64, heldOut: 32)
    let teacher = try apply("raise", to: Hybrid(windowed()), context)
    let start = try apply("swap{layers=[0],mixer=none}", to: teacher, context)
    let before = try start.weightBytes()
    let tuned = try apply("fine-tune{steps=40,batch=16,rate=0.003}", to: start, context)
    let after = try tuned.weightBytes()
    let changed = Set(before.keys.filter { before[$0] != after[$0] })
    let kept = fixed.subtracting(["places"]).union(["places.1"])  // those of the layer that stays
    #expect(Set(before.keys).isSuperset(of: kept))
    #expect(changed.isDisjoint(with: kept), "\(changed)")
    #expect(changed.isSuperset(of: ["windows", "bn.gain", "positions"]), "\(changed)")
  }

  @Test(
    "a mask in an attention's scores is none of its parameters, a learned bias is", arguments: [-1e9, 0.5])
  func attentionBias(number: Double) throws {
    var model = ModelBuilder()
    let x = model.input([.symbol("batch"), 4, 8])
    let bias = model.builder.constant(
      (0..<16).map { $0 % 5 == 0 ? 0 : number }, shape: [1, 1, 4, 4], name: "scores")
    let q = try model.reshape(x, [-1, 4, 2, 4])
    let heads = try model.transpose(q, [0, 2, 1, 3])
    let graph = model.finish(try model.add("vit.sdpa", [heads, heads, heads, bias]))
    #expect(names(graph).contains("scores") == (number > 0))
  }

  @Test("a constant that several nodes read is one parameter")
  func shared() throws {
    var model = ModelBuilder()
    let x = model.input([.symbol("batch"), 8])
    let weight = model.weight([8, 8], name: "shared")
    let once = try model.add("onnx.MatMul", [x, weight])
    let graph = model.finish(try model.add("onnx.MatMul", [once, weight]))
    #expect(graph.parameters().count == 1)
    #expect(graph.parameterCount == 64)
  }

  @Test("steps and zero points of quantised numbers are not learned")
  func quantised() throws {
    var model = ModelBuilder()
    let x = model.input([.symbol("batch"), 8])
    let steps = model.builder.constant((0..<8).map { 0.01 + 0.001 * Double($0) }, shape: [8], name: "steps")
    let bytes = model.builder.graph.addConstant(
      Tensor(.i8, shape: [8, 8], values: (0..<64).map { Double($0 - 32) }), name: "bytes")
    let weight = try model.add("onnx.DequantizeLinear", [bytes, steps], [("axis", .int(1))])
    let graph = model.finish(try model.add("onnx.MatMul", [x, weight]))
    #expect(names(graph) == ["bytes"])
  }
}
