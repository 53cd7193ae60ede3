import Foundation
import Testing
import VitIR
import VitOps
import VitPasses
import VitTestSupport

/// What of a model is learned, and what training leaves as it is.
@Suite("Parameters")
struct ParameterTests {
  private func names(_ graph: Graph) -> Set<String> { Set(graph.parameters().map { graph[$0.id].name }) }

  /// Images [batch, 3, 8, 8] that are standardised, a stem with a batch norm, two attentions of two heads over 16 tokens
  /// with a learned bias of the scores, of which the second turns queries and keys by their positions and has a mask such
  /// as shifted windows have, added or `subtracted`; then classes.
  private func windowed(mask number: Double = -100, subtracted: Bool = false) throws -> Graph {
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
    x = try attend(&model, x) { _, heads in
      heads
    } masking: { _, scores in
      scores
    }
    let angles = (0..<16 * 8).map { Double($0 / 8) * pow(0.3, Double($0 % 4)) }
    let tables = (
      model.builder.constant(angles.map { cos($0) }, shape: [16, 8], name: "cosines"),
      model.builder.constant(angles.map { sin($0) }, shape: [16, 8], name: "sines")
    )
    let hidden = (0..<256).map { ($0 / 16 / 8 == $0 % 16 / 8) ? 0.0 : subtracted ? -number : number }
    let mask = model.builder.constant(hidden, shape: [1, 16, 16], name: "mask")
    x = try attend(&model, x) { model, heads in
      try turned(&model, heads, tables.0, tables.1)
    } masking: { model, scores in
      try model.add(subtracted ? "onnx.Sub" : "onnx.Add", [scores, mask])
    }
    x = try model.add("onnx.ReduceMean", [x, model.integers([1])], [("keepdims", .int(0))])
    return model.finish(try model.linear(x, 16, TinyViT.classes))
  }

  /// Adds what two heads see of the 16 tokens, with a bias of the scores looked up in a table.
  private func attend(
    _ model: inout ModelBuilder, _ x: ValueID,
    turning: (inout ModelBuilder, ValueID) throws -> ValueID,
    masking: (inout ModelBuilder, ValueID) throws -> ValueID
  ) throws -> ValueID {
    let parts = try model.split(try model.linear(x, 16, 48), 3, axis: 2)
    let heads = try parts.map { try model.transpose(try model.reshape($0, [-1, 16, 2, 8]), [0, 2, 1, 3]) }
    let (queries, keys) = (try turning(&model, heads[0]), try turning(&model, heads[1]))
    var scores = try model.add("onnx.MatMul", [queries, try model.transpose(keys, [0, 1, 3, 2])])
    scores = try model.add("onnx.Mul", [scores, model.number(0.35)])
    let table = try model.add(
      "onnx.Gather",
      [
        model.weight([49, 2], name: "table", scale: 0.3),
        model.builder.integers((0..<256).map { $0 * 7 % 49 }, name: "places"),
      ])
    let bias = try model.transpose(try model.reshape(table, [16, 16, 2]), [2, 0, 1])
    scores = try model.add("onnx.Add", [scores, bias])
    scores = try masking(&model, scores)
    let mixed = try model.add("onnx.MatMul", [try model.add("onnx.Softmax", [scores]), heads[2]])
    let joined = try model.reshape(try model.transpose(mixed, [0, 2, 1, 3]), [-1, 16, 16])
    return try model.add("onnx.Add", [x, try model.linear(joined, 16, 16)])
  }

  /// Heads of which channels half a head apart are turned.
  private func turned(
    _ model: inout ModelBuilder, _ heads: ValueID, _ cosines: ValueID, _ sines: ValueID
  ) throws -> ValueID {
    let halves = try model.split(heads, 2, axis: 3)
    let across = try model.add(
      "onnx.Concat", [try model.add("onnx.Neg", [halves[1]]), halves[0]], [("axis", .int(3))])
    return try model.add(
      "onnx.Add",
      [try model.add("onnx.Mul", [heads, cosines]), try model.add("onnx.Mul", [across, sines])])
  }

  private let fixed: Set<String> = [
    "mean", "deviation", "bn.mean", "bn.var", "mask", "places", "cosines", "sines",
  ]
  private let learned: Set<String> = ["windows", "bn.gain", "bn.bias", "positions", "table"]

  @Test(
    "masks, statistics and tables of indices and angles are not learned; weights, biases, gains and tables are",
    arguments: [false, true])
  func roles(subtracted: Bool) throws {
    let graph = try windowed(subtracted: subtracted)
    #expect(names(graph).isDisjoint(with: fixed))
    #expect(names(graph).isSuperset(of: learned))
    #expect(names(try apply("fold,raise,dce", to: graph)).isDisjoint(with: fixed))
  }

  @Test("what hides nothing from a softmax is a learned table")
  func mildBias() throws {
    for subtracted in [false, true] {
      #expect(names(try windowed(mask: -4, subtracted: subtracted)).contains("mask"))
    }
  }

  @Test(
    "training leaves a finite mask, statistics and tables of indices and angles as they are",
    arguments: [false, true])
  func training(subtracted: Bool) throws {
    let context = TinyViT.context(count: 64, heldOut: 32)
    let teacher = try apply("raise", to: Hybrid(windowed(subtracted: subtracted)), context)
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

  /// Heads [batch, 2, 4, 8] of which pairs of channels are turned, as exporters write it: half a head apart with one
  /// table for both halves, or neighbours cut apart; then attention and a gain.
  private func rotary(
    interleaved: Bool, cosines: (Double) -> Double = { cos($0) }, sines: (Double) -> Double = { sin($0) }
  ) throws -> Graph {
    var model = ModelBuilder("rotary")
    let x = try model.linear(model.input([.symbol("batch"), 4, 16]), 16, 16)
    let heads = try model.transpose(try model.reshape(x, [-1, 4, 2, 8]), [0, 2, 1, 3])
    let width = interleaved ? 4 : 8
    let angles = (0..<4 * width).map { Double($0 / width) * pow(0.3, Double($0 % width % 4)) }
    let c = model.builder.constant(angles.map(cosines), shape: [4, width], name: "cosines")
    let s = model.builder.constant(angles.map(sines), shape: [4, width], name: "sines")
    let turned: ValueID
    if interleaved {
      let pairs = try model.split(try model.reshape(heads, [-1, 2, 4, 4, 2]), 2, axis: 4)
        .map { try model.reshape($0, [-1, 2, 4, 4]) }
      let first = try model.add(
        "onnx.Sub", [try model.add("onnx.Mul", [pairs[0], c]), try model.add("onnx.Mul", [s, pairs[1]])])
      let second = try model.add(
        "onnx.Add", [try model.add("onnx.Mul", [pairs[0], s]), try model.add("onnx.Mul", [pairs[1], c])])
      turned = try model.add("onnx.Concat", [first, second], [("axis", .int(3))])
    } else {
      turned = try self.turned(&model, heads, c, s)
    }
    let seen = try model.add("vit.sdpa", [turned, turned, heads, nil])
    return model.finish(try model.add("onnx.Mul", [seen, model.weight([8], name: "gain")]))
  }

  @Test("cosines and sines of rotary positions are not learned, raised or not", arguments: [false, true])
  func rotaryTables(interleaved: Bool) throws {
    let graph = try rotary(interleaved: interleaved)
    for graph in [graph, try apply("fold,raise,dce", to: graph)] {
      #expect(names(graph).isDisjoint(with: ["cosines", "sines"]))
      #expect(names(graph).contains("gain"))
    }
    let count = try apply("fold,raise,dce", to: graph).parameterCount
    #expect(count == 16 * 16 + 16 + 8)
    let rounded = try graph.roundingWeights(to: .f16)
    for name in ["cosines", "sines"] { #expect(rounded.tensors[name]?.element == .f32) }
  }

  @Test("tables that turn nothing are learned: other factors, or the same for every channel")
  func factorsOfSums() throws {
    #expect(names(try rotary(interleaved: false, sines: { 0.1 * $0 })).isSuperset(of: ["cosines", "sines"]))
    let half = try rotary(
      interleaved: false, cosines: { _ in 0.5.squareRoot() }, sines: { _ in 0.5.squareRoot() })
    #expect(names(half).isSuperset(of: ["cosines", "sines"]))
  }

  @Test(
    "the parameters of a model with rotary positions are those that its exporter counts",
    .enabled(if: Zoo.isThere, "VITC_ZOO names no folder of models"))
  func rotaryModel() throws {
    let graph = try Zoo.read("open/timm_eva02_rope_ts17.onnx").graph
    // Two layers turn queries and keys with two tables of 16 positions and 16 channels each.
    let hybrid = try apply("fold,raise,dce", to: graph)
    let tables = Set(hybrid.nodes.flatMap(\.operands).compactMap { $0 }).filter {
      hybrid[$0].isConstant && hybrid.type($0) == TensorType(.f32, [16, 16])
    }
    #expect(!tables.isEmpty)
    #expect(tables.isDisjoint(with: hybrid.parameters().map(\.id)))
  }

  /// Scores [batch, 2, 4, 4] of which a mask of zeros and ones, times 10,000, is subtracted; or to which what it leaves
  /// is added, times −10,000; then the softmax.
  private func subtracting(_ form: MaskForm) throws -> Graph {
    var model = ModelBuilder("subtracting")
    let scores = try model.reshape(model.input([.symbol("batch"), 8, 4]), [-1, 2, 4, 4])
    let bits = (0..<16).map { $0 % 4 > $0 / 4 ? 1.0 : 0 }
    func mask(_ number: (Double) -> Double) -> ValueID {
      model.builder.constant(bits.map(number), shape: [1, 1, 4, 4], name: "mask")
    }
    var sum: ValueID
    switch form {
    case .number: sum = try model.add("onnx.Sub", [scores, mask { 10_000 * $0 }])
    case .moved:
      sum = try model.add("onnx.Sub", [scores, try model.transpose(mask { 10_000 * $0 }, [0, 1, 3, 2])])
    case .product:
      sum = try model.add(
        "onnx.Sub", [scores, try model.add("onnx.Mul", [model.number(10_000), mask { $0 }])])
    case .negated:
      sum = try model.add("onnx.Add", [scores, try model.add("onnx.Neg", [mask { 10_000 * $0 }])])
    case .rest:
      let rest = try model.add("onnx.Sub", [model.number(1), mask { 1 - $0 }])
      sum = try model.add("onnx.Add", [scores, try model.add("onnx.Mul", [rest, model.number(-10_000)])])
    }
    sum = try model.add("onnx.Add", [sum, model.weight([2, 1, 1], name: "table")])
    return model.finish(try model.add("onnx.Softmax", [sum]))
  }

  private enum MaskForm: CaseIterable { case number, moved, product, negated, rest }

  @Test(
    "a mask that is subtracted from scores is none of the parameters, a learned bias is",
    arguments: MaskForm.allCases)
  private func subtractedMask(form: MaskForm) throws {
    let graph = try subtracting(form)
    for graph in [graph, try apply("fold,raise,dce", to: graph)] {
      let found = graph.parameters().filter { (graph.tensor($0.id)?.count ?? 0) > 1 }.map {
        graph[$0.id].name
      }
      #expect(found == ["table"])
    }
  }

  @Test("a table that is multiplied with scores may be large")
  func temperature() throws {
    var model = ModelBuilder("temperature")
    let scores = try model.reshape(model.input([.symbol("batch"), 8, 4]), [-1, 2, 4, 4])
    let factor = model.builder.constant([60, 90], shape: [2, 1, 1], name: "factor")
    let graph = model.finish(
      try model.add("onnx.Softmax", [try model.add("onnx.Mul", [scores, factor])]))
    #expect(names(graph) == ["factor"])
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
