import Testing
import VitFormats
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

@Suite("Layers that share an attention map")
struct ShareTests {
  private static let factors = (0..<TinyViT.width).map { 0.3 + 0.05 * Double($0) }

  private func damage(_ hybrid: Hybrid, _ teacher: Hybrid, _ context: PassContext) throws -> Double {
    try FidelityMeter(teacher: teacher.graph, data: context.samples(for: "test"), context: context)
      .measure(hybrid.graph).damage
  }

  @Test("outputs, correlations and solved maps are those that NumPy finds in double")
  func reference() throws {
    for fixture in try DepthFixture.all() {
      let teacher = try fixture.model()
      let context = DepthFixture.context()
      let plain = try apply("share{layers=[1,2],images=0}", to: teacher, context)
      #expect(DepthFixture.difference(try DepthFixture.logits(plain.graph), fixture.shared) < 1e-5)
      let solved = try apply("share{layers=[1,2],images=64}", to: teacher, context)
      for map in fixture.sharedMaps {
        let output = try #require(solved.layers[map.layer].output)
        let node = try #require(solved.graph.nodes.first { $0.results.contains(output) })
        for (operand, expected) in [(1, map.weight), (2, map.bias)] {
          let tensor = try #require(node.operands[operand].flatMap(solved.graph.tensor))
          #expect(DepthFixture.difference(try tensor.doubles(), expected) < 1e-3)
        }
      }
      #expect(DepthFixture.difference(try DepthFixture.logits(solved.graph), fixture.sharedSolved) < 1e-3)
      // Where none is like the other, none shares, and each is compared with the one before.
      var same = teacher
      let notes = try Pipeline("share{images=64}").run(on: &same, context: context)[0].notes
      #expect(notes.count == 3 && same.layers.allSatisfy(\.isReplaceable))
      for (note, pair) in zip(notes, fixture.correlations) {
        let rounded = (pair.value * 1000).rounded() / 1000
        #expect(note == "layer \(pair.b): correlation \(rounded) with layer \(pair.a)")
        #expect(abs(try #require(same.layers[pair.b].score("correlation")) - pair.value) < 1e-5)
      }
      // Where all are, all use the first one's: of the third it is compared with that.
      let all = try Pipeline("share{correlation=-1.0,images=64}").run(on: &same, context: context)[0]
      let last = try #require(fixture.correlations.last)
      #expect(all.notes[1].contains("\((last.value * 1000).rounded() / 1000) with layer 0"))
      #expect(same.layers.map(\.kind) == ["attention", "shared", "shared", "shared"])
    }
  }

  @Test("queries and keys are gone, their weights too, and layers say what they are")
  func gone() throws {
    let teacher = try TinyViT.model(layers: 4)
    let shared = try apply("share{layers=[1,2],images=16}", to: teacher)
    let map = TinyViT.width * TinyViT.width + TinyViT.width
    #expect(teacher.graph.parameterCount - shared.graph.parameterCount == 4 * map)
    #expect(shared.layers.map(\.kind) == ["attention", "shared", "shared", "attention"])
    #expect(shared.layers.map(\.parameters) == [4 * map, 2 * map, 2 * map, 4 * map])
    #expect(shared.layers.map(\.isReplaceable) == [false, false, false, true])
    // Both read the same queries.
    let cores = shared.graph.nodes.filter { $0.operation is VitSDPA }
    #expect(cores.count == 3 && Set(cores.compactMap { $0.operands[0] }).count == 1)
    func flops(_ graph: Graph) throws -> Int {
      try ModelCost(graph, inputShapes: [[1] + TinyViT.shape], pool: SerialPool()).total.flops
    }
    #expect(try flops(teacher.graph) - flops(shared.graph) == 2 * 2 * 17 * 2 * TinyViT.width * TinyViT.width)
    // Layers that are looked for again are the same.
    #expect(Hybrid(finding: shared.graph).layers.map(\.kind) == shared.layers.map(\.kind))
    #expect(Hybrid(finding: shared.graph).layers.map(\.obstacle) == shared.layers.map(\.obstacle))
    let raised = try apply("fold,raise,dce", to: shared)
    #expect(raised.graph.count("vit.sdpa") == 3)
  }

  @Test("a chain that is made in two steps uses the first layer's map, too")
  func chain() throws {
    let teacher = try TinyViT.model(layers: 3)
    let once = try apply("share{layers=[1,2],images=0}", to: teacher)
    let twice = try apply("share{layers=[1],images=0},share{layers=[2],images=0}", to: teacher)
    #expect(once.graph.operations == twice.graph.operations)
    #expect(try outputDifference(once.graph, twice.graph, [[2] + TinyViT.shape]) == 0)
  }

  @Test("a copy of a layer's queries and keys is shared without any difference")
  func copies() throws {
    let teacher = try TinyViT.twins()
    let shared = try apply("share{images=16}", to: teacher)
    #expect(shared.layers.map(\.kind) == ["attention", "shared"])
    let plain = try apply("share{layers=[1],images=0}", to: teacher)
    #expect(try outputDifference(teacher.graph, plain.graph, [[2] + TinyViT.shape]) < 1e-5)
  }

  @Test(
    "a solved output map is nearer to the teacher than the one that was there", arguments: [true, false],
    [true, false])
  func solved(_ classToken: Bool, _ scaled: Bool) throws {
    let teacher = try TinyViT.model(
      layers: 3, classToken: classToken, layerScale: scaled ? Self.factors : nil)
    let context = TinyViT.context(count: 96)
    for layers in ["[1]", "[2]", "[1,2]"] {
      let found = try [0, 96].map {
        try damage(apply("share{layers=\(layers),images=\($0)}", to: teacher, context), teacher, context)
      }
      #expect(found[1] > 0 && found[1] < found[0], "\(layers): \(found)")
    }
  }

  @Test("a mixer between two layers is passed over, and solve comes to the same output map")
  func hybrids() throws {
    let teacher = try TinyViT.model(layers: 4, layerScale: Self.factors)
    let context = TinyViT.context(count: 32)
    context.heldOut = context.data
    let mixed = try apply("swap{mixer=conv,layers=[1]},distil{steps=0,images=32}", to: teacher, context)
    let shared = try apply("share{layers=[2],images=32}", to: mixed, context)
    #expect(shared.layers.map(\.kind) == ["attention", "conv", "shared", "attention"])
    let cores = shared.graph.nodes.filter { $0.operation is VitSDPA }
    #expect(cores.count == 2 && Set(cores.compactMap { $0.operands[0] }).count == 1)
    for pipeline in [
      "solve{images=32}", "prune{mlp=0.5,tile=4},factorise{scores=0.5,values=0.5,tile=1},solve{images=32}",
      "distil{steps=2,batch=4,images=16},own-prefix,trim", "depth{layers=[2],map=linear}",
      "depth{layers=[1]},trim",
      "score{images=8},round", "swap{mixer=conv,layers=[3]},solve{images=32},trim",
    ] {
      let hybrid = try apply(pipeline, to: shared, context)
      #expect(try damage(hybrid, teacher, context).isFinite, "\(pipeline)")
      #expect(hybrid.layers.map(\.index) == [0, 1, 2, 3])
    }
    // `solve` keeps what is better only.
    let plain = try apply("share{layers=[2],images=0}", to: teacher, context)
    let again = try apply("solve{images=32,reach=changed}", to: plain, context)
    #expect(
      try again.weightBytes() == apply("share{layers=[2],images=32}", to: teacher, context).weightBytes())
    #expect {
      try apply("restore", to: shared, context)
    } throws: { ($0 as? VitError)?.diagnostic.code == "layer-changed" }
  }

  @Test("queries that positions turn, and what is added to scores, are those of the layer before")
  func turned() throws {
    var model = ModelBuilder("turned", seed: 5)
    let x = model.input([.symbol("batch"), 5, 8])
    var stream = x
    for layer in 0..<2 {
      let normal = try model.add("vit.layer_norm", [stream, model.weight([8]), model.weight([8])])
      func heads() throws -> ValueID {
        try model.transpose(try model.reshape(try model.linear(normal, 8, 8), [0, 0, 2, 4]), [0, 2, 1, 3])
      }
      let turn = model.weight([1, 1, 5, 4], name: "turn\(layer)", scale: 1)
      let (q, k, v) = (try heads(), try heads(), try heads())
      let table = model.weight([1, 2, 5, 5], name: "table\(layer)", scale: 1)
      let core = try model.add(
        "vit.sdpa", [try model.add("onnx.Mul", [q, turn]), try model.add("onnx.Mul", [k, turn]), v, table],
        [("scale", .float(0.3))])
      let joined = try model.reshape(try model.transpose(core, [0, 2, 1, 3]), [0, 0, 8])
      stream = try model.add("onnx.Add", [stream, try model.linear(joined, 8, 8)])
    }
    let teacher = try apply("fold,raise,dce", to: Hybrid(model.finish(stream)))
    #expect(teacher.layers.map(\.kind) == ["attention", "attention"])
    let shared = try apply("share{layers=[1],images=0}", to: teacher)
    let cores = shared.graph.nodes.filter { $0.operation is VitSDPA }
    #expect(cores.count == 2)
    for operand in [0, 1, 3] { #expect(cores[0].operands[operand] == cores[1].operands[operand]) }
    #expect(
      shared.graph.tensors.names.filter { $0.hasPrefix("turn") || $0.hasPrefix("table") } == [
        "turn0", "table0",
      ])
    let context = PassContext(
      pool: SerialPool(), registry: .standard, data: RandomSamples(count: 64, shape: [5, 8], seed: 3))
    let found = try [0, 64].map {
      try damage(apply("share{layers=[1],images=\($0)}", to: teacher, context), teacher, context)
    }
    #expect(found[1] > 0 && found[1] < found[0], "\(found)")
  }

  @Test("training lowers the damage that is left")
  func trained() throws {
    let teacher = try TinyViT.model(layers: 3, layerScale: Self.factors)
    let context = TinyViT.context(count: 16)
    context.heldOut = context.data
    let shared = try apply("share{layers=[1,2],images=16}", to: teacher, context)
    let tuned = try apply("fine-tune{steps=30,batch=8,rate=0.002}", to: shared, context)
    #expect(try damage(tuned, teacher, context) < damage(shared, teacher, context))
    let (old, new) = (try shared.weightBytes(), try tuned.weightBytes())
    let first = try #require(shared.graph.nodes.first { $0.operation is VitLinear }?.operands[1])
    let name = shared.graph[first].name
    #expect(old[name] != new[name])
    let blocks = try apply("fine-tune{steps=30,batch=8,rate=0.002,train=blocks}", to: shared, context)
    #expect(try damage(blocks, teacher, context) < damage(shared, teacher, context))
  }

  @Test("one thread and three give the same bytes")
  func threads() throws {
    let bytes = try [1, 3].map { threads in
      try apply(
        "share{correlation=-1.0,images=16},solve{images=16}", to: try TinyViT.model(layers: 3),
        TinyViT.context(threads: threads)
      ).weightBytes()
    }
    #expect(bytes[0] == bytes[1])
  }

  @Test("text and file hold it, and the last block computes only the rows that are read")
  func roundTrip() throws {
    let teacher = try TinyViT.model(layers: 3)
    let hybrid = try apply("share{layers=[2],images=16}", to: teacher)
    let text = try Hybrid(text: Array(hybrid.text().utf8), file: "t.vit", registry: .standard)
    let scratch = try Scratch()
    try VModWriter.write(VModFile(hybrid), to: scratch.file("m.vmod"), weights: .f32)
    let file = try VModReader.read(path: scratch.file("m.vmod"), registry: .standard).hybrid
    for again in [text, file] {
      #expect(try again.firstDifference(from: hybrid, comparingValues: false) == nil)
    }
    let trimmed = try apply("trim", to: hybrid)
    #expect(try outputDifference(hybrid.graph, trimmed.graph, [[3] + TinyViT.shape]) < 1e-5)
    #expect(trimmed.layers.map(\.kind) == hybrid.layers.map(\.kind))
    #expect(trimmed.layers[2].obstacle == "it computes only 1 of its tokens")
    let core = try #require(trimmed.graph.place(defining: trimmed.layers[2].core))
    #expect(trimmed.graph.nodes[core].operation is VitSDPA)
    #expect(trimmed.layers[2].parameters == hybrid.layers[2].parameters)
    func flops(_ graph: Graph) throws -> Int {
      try ModelCost(graph, inputShapes: [[1] + TinyViT.shape], pool: SerialPool()).total.flops
    }
    let part = Double(try flops(trimmed.graph)) / Double(try flops(hybrid.graph))
    #expect(part < 0.85, "\(part)")
  }

  @Test("layers that cannot share are refused by name")
  func refused() throws {
    let teacher = try TinyViT.model(layers: 3)
    func fails(_ passes: String, _ model: Hybrid, _ code: String, _ words: String) {
      #expect {
        try apply(passes, to: model)
      } throws: { error in
        let diagnostic = (error as? VitError)?.diagnostic
        return (error as? VitError)?.kind == .usage && diagnostic?.code == code
          && diagnostic?.message.contains(words) ?? false
      }
    }
    fails("share{layers=[3]}", teacher, "layer-unknown", "no layer 3")
    fails("share{layers=[0]}", teacher, "layer-not-shareable", "no attention layer is before it")
    fails(
      "swap{mixer=pointwise,layers=[0]},share{layers=[1]}", teacher, "layer-not-shareable",
      "no attention layer")
    fails(
      "swap{mixer=pointwise,layers=[1]},share{layers=[1]}", teacher, "layer-not-shareable", "but pointwise")
    fails("share{layers=[1],images=0},share{layers=[1]}", teacher, "layer-not-shareable", "already")
    fails(
      "share{layers=[2],images=0},share{layers=[1]}", teacher, "layer-not-shareable",
      "other layers use its map")
    fails("trim,share{layers=[2]}", teacher, "layer-not-shareable", "no single operation")
    // Other heads.
    var graph = try TinyViT.graph(layers: 2)
    let place = try #require(graph.nodes.lastIndex { $0.operation is VitAttention })
    let old = graph.nodes[place]
    graph.nodes[place] = Node(
      VitAttention(heads: 4), operands: old.operands, results: old.results, location: old.location)
    let uneven = Hybrid(finding: graph)
    fails("share{layers=[1]}", uneven, "layer-not-shareable", "heads or tokens differ")
    let context = TinyViT.context()
    var same = uneven
    let notes = try Pipeline("share{correlation=-1.0}").run(on: &same, context: context)[0].notes
    #expect(notes == ["layer 1: no maps like those of layer 0: 4 heads against 2"])
    #expect(try same.firstDifference(from: uneven) == nil)
  }

  @Test(
    "numbers that make no sense are refused",
    arguments: [
      "correlation=1.5", "correlation=nan", "images=0", "layers=[1],images=-1", "layers=[1],correlation=0.5",
      "layers=[]", "maps=1",
    ])
  func options(_ option: String) throws {
    let error = try #require(throws: VitError.self) {
      try apply("share{\(option)}", to: TinyViT.model())
    }
    #expect(error.kind == .usage)
  }

  @Test("the text of the pass gives it again, and what was found is written with its layers")
  func text() throws {
    #expect(try Pipeline("share").description == "share{correlation=0.8,images=512}")
    #expect(Pipeline([Share(layers: [1, 4])]).description == "share{layers=[1,4],images=512}")
    let context = TinyViT.context()
    var hybrid = try TinyViT.model(layers: 3)
    let result = try Pipeline("share{correlation=-1.0,images=16}").run(on: &hybrid, context: context)[0]
    #expect(Pipeline(try #require(result.found)).description == "share{layers=[1,2],images=16}")
    let again = try apply("share{layers=[1,2],images=16}", to: try TinyViT.model(layers: 3), context)
    #expect(try again.weightBytes() == hybrid.weightBytes())
  }
}
