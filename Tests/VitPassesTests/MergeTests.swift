import Testing
import VitFormats
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

@Suite("merge")
struct MergeTests {
  private func images(_ count: Int) -> Tensor {
    Tensor.random([count] + TinyViT.shape, seed: 5)
  }

  private func flops(_ graph: Graph) throws -> Int {
    try ModelCost(graph, inputShapes: [[1] + TinyViT.shape], pool: SerialPool()).total.flops
  }

  /// A model in which patches come in pairs of equal ones: merging these changes nothing.
  private func paired(_ hybrid: Hybrid) throws -> Hybrid {
    var graph = hybrid.graph
    let positions = try #require(graph.value(named: "positions"))
    let shape = graph.type(positions).extents
    let token = [Double](repeating: 0, count: shape[2])
    graph.setTensor(
      Tensor(.f32, shape: shape, values: (0..<shape[1]).flatMap { _ in token }), of: positions)
    return Hybrid(finding: graph)
  }

  /// Images whose patches at even and odd places are the same.
  private func pairedImages(_ count: Int) throws -> Tensor {
    let values = try images(count).doubles()
    var result = values
    for index in values.indices where index % 8 % 4 >= 2 { result[index] = values[index - 2] }
    return Tensor(.f32, shape: [count] + TinyViT.shape, values: result)
  }

  @Test("merging equal patches changes nothing", arguments: [true, false], ["value", "input"])
  func equalPatches(_ classToken: Bool, _ metric: String) throws {
    let before = try paired(TinyViT.model(layers: 3, classToken: classToken))
    let after = try apply("merge{counts=[8,0,0],metric=\(metric)}", to: before)
    let input = try pairedImages(3)
    let (x, y) = (try Zoo.run(before.graph, [input])[0], try Zoo.run(after.graph, [input])[0])
    #expect(try relativeDifference(y, x) < 2e-5)
    #expect(try flops(after.graph) < flops(before.graph))
    #expect(after.layers.map(\.index) == [0, 1, 2] && after.layers.allSatisfy(\.isReplaceable))
  }

  @Test(
    "mixers behind a merge of equal patches give what they gave",
    arguments: [
      "conv", "conv{mean=false}", "static", "pointwise", "none",
    ])
  func mixers(_ mixer: String) throws {
    let before = try apply(
      "swap{mixer=\(mixer),layers=[1]}", to: paired(TinyViT.model(layers: 3)))
    let after = try apply("merge{counts=[8,0,0]}", to: before)
    let input = try pairedImages(2)
    let (x, y) = (try Zoo.run(before.graph, [input])[0], try Zoo.run(after.graph, [input])[0])
    // Taps tell equal patches apart by their places, and what was merged has the mean of them.
    let isExact = !mixer.hasPrefix("conv") && mixer != "static"
    #expect(try relativeDifference(y, x) < (isExact ? 2e-5 : 0.5), "\(mixer)")
    #expect(after.layers[1].kind == before.layers[1].kind)
    #expect(after.graph.type(try #require(after.layers[1].output)).shape[1] == 9)
  }

  @Test(
    "scans walk the tokens that are left",
    arguments: ["glr", "lstm", "lstm{form=full}", "ssd", "retention", "mamba"], ["last", "middle", "double"])
  func scans(_ mixer: String, _ placement: String) throws {
    let before = try apply(
      "swap{mixer=\(mixer),layers=[1],placement=\(placement)}", to: TinyViT.model(layers: 3))
    let after = try apply("merge{counts=[3,3,0]}", to: before)
    #expect(after.graph.type(after.layers[1].core).shape[1] == 14)
    #expect(after.graph.type(try #require(after.layers[2].input)).shape[1] == 11)
    #expect(try Zoo.run(after.graph, [images(2)])[0].doubles().allSatisfy(\.isFinite))
  }

  @Test(
    "one image alone gives the bytes that it gives with any number of threads, and nearly those in a batch")
  func threads() throws {
    let hybrid = try apply("merge{counts=[3,4,0]}", to: TinyViT.model(layers: 3))
    func run(_ input: Tensor, _ threads: Int) throws -> [Double] {
      let executor = try Executor(
        hybrid.graph, weights: WeightStore(hybrid.graph), inputShapes: [input.shape],
        pool: ThreadPool(threads: threads))
      for (index, value) in try input.doubles().enumerated() { executor.inputs[0].f32[index] = Float(value) }
      executor.run()
      return try Tensor(copying: executor.outputs[0]).doubles()
    }
    let all = try run(images(4), 1)
    #expect(try run(images(4), 3) == all)
    let values = try images(4).doubles()
    for image in 0..<4 {
      let one = Tensor(
        .f32, shape: [1] + TinyViT.shape, values: Array(values[image * 192..<(image + 1) * 192]))
      let alone = try run(one, 2)
      #expect(try run(one, 1) == alone)
      #expect(zip(alone, all[image * 5..<image * 5 + 5]).allSatisfy { abs($0 - $1) < 1e-5 })
    }
  }

  @Test("a dense output has a token for each place") func dense() throws {
    var graph = try TinyViT.graph(layers: 2)
    let last = try #require(graph.nodes.last { $0.name == "vit.layer_norm" }?.results.first)
    graph.outputs.append((name: "tokens", value: last))
    let before = Hybrid(finding: graph)
    let after = try apply("merge{counts=[5,0]}", to: before)
    let (x, y) = (try Zoo.run(before.graph, [images(2)]), try Zoo.run(after.graph, [images(2)]))
    #expect(y[1].shape == x[1].shape)
    let rows = try y[1].doubles()
    let first = (0..<17).map { Array(rows[$0 * 16..<($0 + 1) * 16]) }
    #expect(Set(first).count == 12)
    #expect(after.graph.count("vit.unmerge") == 1)
  }

  @Test("the mean over patches weighs tokens by their sizes, and so does a mean behind registers")
  func pooling() throws {
    let after = try apply("merge{counts=[4,3,0]}", to: TinyViT.model(layers: 3, classToken: false))
    #expect(after.graph.count("vit.unmerge") == 1)
    let place = try #require(after.graph.nodes.firstIndex { $0.name == "vit.unmerge" })
    #expect(after.graph.nodes[place + 1].name == "onnx.ReduceMean")
    // What is normalised is what is left.
    #expect(after.graph.type(try #require(after.graph.nodes[place].operands[0])).shape[1] == 9)
  }

  @Test("the default schedule merges in the second half but the last layer") func schedule() throws {
    let after = try apply("merge{count=3}", to: TinyViT.model(layers: 6))
    let counts = after.layers.compactMap { $0.input.flatMap { after.graph.type($0).shape[1].fixedValue } }
    #expect(counts == [17, 17, 17, 17, 14, 11])
    let none = try apply("merge", to: TinyViT.model(layers: 2))
    #expect(none.graph.count("vit.merge") == 0)
    #expect(
      try Pipeline("merge{counts=[2,1],metric=input}").description
        == "merge{counts=[2,1],metric=input}")
  }

  @Test("trim works behind it, and the last block still computes one row") func trim() throws {
    let merged = try apply("merge{counts=[3,3,0]}", to: TinyViT.model(layers: 3))
    let trimmed = try apply("trim", to: merged)
    let (x, y) = (try Zoo.run(merged.graph, [images(3)])[0], try Zoo.run(trimmed.graph, [images(3)])[0])
    #expect(try relativeDifference(y, x) < 1e-5)
    #expect(trimmed.graph.count("vit.prefix_attention") == 1)
    #expect(trimmed.graph.nodes.first { $0.name == "vit.prefix_attention" }?.operands.count == 10)
    #expect(try flops(trimmed.graph) < flops(merged.graph))
    let other = try apply("trim,merge{counts=[3,3,0]}", to: TinyViT.model(layers: 3))
    let z = try Zoo.run(other.graph, [images(3)])[0]
    #expect(try relativeDifference(z, x) < 1e-5)
  }

  @Test(
    "fine-tune trains behind it",
    arguments: ["", "swap{mixer=conv,layers=[1]},", "swap{mixer=glr,layers=[2]},"])
  func training(_ swap: String) throws {
    let context = TinyViT.context()
    context.heldOut = context.data
    var hybrid = try TinyViT.model(layers: 3)
    let pipeline = try Pipeline("\(swap)merge{counts=[3,3,0]},fine-tune{steps=40,batch=12,rate=0.001}")
    let results = try pipeline.run(on: &hybrid, context: context)
    let damage = try #require(results.last?.damage)
    #expect(damage.after < damage.before)
    #expect(hybrid.graph.count("vit.merge") == 2)
  }

  @Test("channels are pruned behind it, rows of the class token weighing as before") func pruning() throws {
    let hybrid = try apply(
      "merge{counts=[3,3,0]},prune{mlp=0.5,images=8,tile=8}", to: TinyViT.model(layers: 3))
    #expect(try Zoo.run(hybrid.graph, [images(2)])[0].doubles().allSatisfy(\.isFinite))
  }

  @Test("text and .vmod keep it") func files() throws {
    let hybrid = try apply("merge{counts=[3,3,0]}", to: TinyViT.model(layers: 3))
    var options = TextOptions()
    options.inlineFloats = .max
    options.inlineIntegers = .max
    let again = try Hybrid(text: Array(try hybrid.text(options).utf8), file: "m.vit", registry: .standard)
    #expect(try again.text(options) == hybrid.text(options))
    let scratch = try Scratch()
    let path = scratch.file("m.vmod")
    try VModWriter.write(VModFile(hybrid), to: path)
    let read = try VModReader.read(path: path, registry: .standard)
    #expect(
      try Zoo.run(read.graph, [images(2)])[0].doubles() == Zoo.run(hybrid.graph, [images(2)])[0].doubles())
  }

  @Test(
    "what cannot be is refused with the reason",
    arguments: [
      ("merge{counts=[1]}", "has 1 numbers, expected one for each of 3 layers"),
      ("merge{counts=[9,0,0]}", "layer 0 cannot merge 9 of 16 patches, expected at most 8"),
      ("merge{counts=[8,4,3]}", "layer 2 cannot merge 3 of 4 patches, expected at most 2"),
      ("merge{count=-1}", "expected counts of at least 0"),
      ("merge{metric=keys}", "expected one of value, input"),
      ("merge{counts=[1,1,0]},merge{counts=[1,0,0]}", "merge: tokens of the model are merged"),
      ("swap{layers=[0]},merge{counts=[1,0,0]},distil{steps=1}", "distil: tokens of the model are merged"),
      ("swap{layers=[0]},merge{counts=[1,0,0]},solve", "solve: tokens of the model are merged"),
      ("swap{layers=[0]},merge{counts=[1,0,0]},select", "select: tokens of the model are merged"),
      ("share{layers=[2],images=0},merge{counts=[1,0,0]}", "layer 1: other layers use its queries and keys"),
      ("merge{counts=[1,0,0]},score", "score: tokens of the model are merged"),
      ("merge{counts=[1,0,0]},swap{layers=[0]}", "swap: tokens of the model are merged"),
      (
        "swap{mixer=glr,order=cross,heads=4,layers=[1]},merge{counts=[1,0,0]}",
        "layer 1: it scans columns of the grid"
      ),
    ])
  func refusals(_ pipeline: String, _ message: String) throws {
    let error = #expect(throws: VitError.self) {
      try apply(pipeline, to: TinyViT.model(layers: 3))
    }
    let found = error?.diagnostic.message ?? ""
    #expect(found.contains(message), "\(found)")
  }

  @Test("positions, order and axes that merged tokens do not have are named")
  func positions() throws {
    func model(
      _ shape: Shape = [.symbol("batch"), 6, 8],
      _ attention: (inout ModelBuilder, ValueID, [ValueID?]) throws -> ValueID
    ) throws -> Hybrid {
      var model = ModelBuilder("two")
      var x = model.input(shape)
      if shape.count == 2 { x = try model.add("onnx.Unsqueeze", [x, model.integers([0])]) }
      for index in 0..<2 {
        let w = (0..<4).flatMap { _ -> [ValueID?] in [model.weight([8, 8]), nil] }
        let normal = try model.add("vit.layer_norm", [x, model.weight([8]), model.weight([8])])
        let y =
          index == 0
          ? try model.add("vit.attention", [normal] + w, [("heads", .int(2))])
          : try attention(&model, normal, w)
        x = try model.add("vit.add", [x, y])
      }
      return Hybrid(finding: model.finish(x))
    }
    let cases: [(Hybrid, String)] = [
      (
        try model { try $0.add("vit.attention", [$1] + $2 + [$0.weight([2, 6, 6])], [("heads", .int(2))]) },
        "layer 1: its attention adds numbers to the scores by place"
      ),
      (
        try model { try $0.add("vit.attention", [$1] + $2, [("heads", .int(2)), ("causal", .bool(true))]) },
        "layer 1: its attention is causal"
      ),
      (
        try model { model, x, w in
          func map(_ place: Int) throws -> ValueID {
            let flat = try model.add("vit.linear", [x, w[place]])
            let heads = try model.reshape(flat, [-1, 6, 2, 4])
            return try model.transpose(heads, [0, 2, 1, 3])
          }
          let table = model.weight([1, 1, 6, 4])
          let q = try model.add("onnx.Mul", [try map(0), table])
          let k = try model.add("onnx.Mul", [try map(2), table])
          let y = try model.add("vit.sdpa", [q, k, try map(4)])
          let joined = try model.reshape(try model.transpose(y, [0, 2, 1, 3]), [-1, 6, 8])
          return try model.add("vit.linear", [joined, w[6]])
        }, "layer 1: between its maps and its scores are other operations"
      ),
      (
        try model { model, x, w in
          let windows = try model.reshape(x, [-1, 3, 8])
          let y = try model.add("vit.attention", [windows] + w, [("heads", .int(2))])
          return try model.reshape(y, [-1, 6, 8])
        }, "layer 1: it has 3 tokens where another layer has 6"
      ),
      (
        try model([.fixed(6), .fixed(8)]) {
          try $0.add("vit.attention", [$1] + $2, [("heads", .int(2))])
        }, "layer 0: the model has no batch axis"
      ),
    ]
    for (hybrid, message) in cases {
      let error = #expect(throws: VitError.self) { try apply("merge{counts=[1,0]}", to: hybrid) }
      #expect(error?.diagnostic.message.contains(message) ?? false, "\(error?.diagnostic.message ?? "")")
    }
    let plain = Hybrid(finding: try apply("dce", to: ModelBuilder.plain()))
    let error = #expect(throws: VitError.self) { try apply("merge{counts=[1]}", to: plain) }
    #expect(error?.diagnostic.message == "merge: the model has no attention layers")
  }
}

extension ModelBuilder {
  fileprivate static func plain() throws -> Graph {
    var model = ModelBuilder("plain")
    let x = model.input([.symbol("batch"), 4])
    let y = try model.add("onnx.Tanh", [x])
    return model.finish(y)
  }
}
