import Testing
import VitFormats
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

@Suite("Blocks that are gone")
struct DepthTests {
  private static let factors = (0..<TinyViT.width).map { 0.3 + 0.05 * Double($0) }

  private func damage(_ hybrid: Hybrid, _ teacher: Hybrid, _ context: PassContext) throws -> Double {
    try FidelityMeter(teacher: teacher.graph, data: context.samples(for: "test"), context: context)
      .measure(hybrid.graph).damage
  }

  @Test("outputs and solved maps are those that NumPy finds in double")
  func reference() throws {
    for fixture in try DepthFixture.all() {
      let teacher = try fixture.model()
      let context = DepthFixture.context()
      #expect(DepthFixture.difference(try DepthFixture.logits(teacher.graph), fixture.teacher) < 1e-5)
      let removed = try apply("depth{layers=[1]}", to: teacher, context)
      #expect(DepthFixture.difference(try DepthFixture.logits(removed.graph), fixture.removed) < 1e-5)
      let linear = try apply("depth{layers=[1,2],map=linear,images=64}", to: teacher, context)
      for map in fixture.linearMaps {
        let weight = try #require(linear.graph.tensors["block.\(map.layer).weight"])
        let bias = try #require(linear.graph.tensors["block.\(map.layer).bias"])
        #expect(DepthFixture.difference(try weight.doubles(), map.weight) < 1e-4)
        #expect(DepthFixture.difference(try bias.doubles(), map.bias) < 1e-4)
      }
      #expect(DepthFixture.difference(try DepthFixture.logits(linear.graph), fixture.linear) < 1e-4)
    }
  }

  @Test("without a block its nodes and weights are gone, and its layer says so")
  func removed() throws {
    let teacher = try TinyViT.model(layers: 3)
    let hybrid = try apply("depth{layers=[1]}", to: teacher)
    #expect(hybrid.graph.count("vit.attention") == 2 && hybrid.graph.count("vit.mlp") == 2)
    #expect(hybrid.graph.nodes.count < teacher.graph.nodes.count)
    #expect(hybrid.layers.map(\.index) == [0, 1, 2])
    #expect(hybrid.layers.map(\.kind) == ["attention", "removed", "attention"])
    #expect(hybrid.layers[1].obstacle == "its block is gone" && hybrid.layers[1].parameters == 0)
    #expect(hybrid.replaced.isEmpty && hybrid.teacher != nil)
    let cost = try ModelCost(hybrid.graph, inputShapes: [[1] + TinyViT.shape], pool: SerialPool())
    #expect(cost.layer(hybrid.layers[1], of: hybrid.graph).flops == 0)
    let linear = try apply("depth{layers=[1],map=linear,images=16}", to: teacher)
    let width = TinyViT.width
    #expect(linear.layers[1].kind == "linear" && linear.layers[1].parameters == width * width + width)
    #expect(linear.graph.parameterCount == hybrid.graph.parameterCount + width * width + width)
  }

  @Test(
    "a solved linear map is nearer to the teacher than nothing", arguments: [true, false], [true, false])
  func solved(_ classToken: Bool, _ scaled: Bool) throws {
    let teacher = try TinyViT.model(
      layers: 3, classToken: classToken, layerScale: scaled ? Self.factors : nil)
    let context = TinyViT.context(count: 96)
    for layers in ["[0]", "[2]", "[0,1]"] {
      let found = try ["identity", "linear"].map {
        try damage(apply("depth{layers=\(layers),map=\($0)}", to: teacher, context), teacher, context)
      }
      #expect(found[1] > 0 && found[1] < found[0], "\(layers): \(found)")
    }
  }

  @Test("blocks that are looked for are those that do least, and what was found says the same")
  func search() throws {
    let teacher = try TinyViT.model(layers: 4)
    let context = TinyViT.context(count: 32, heldOut: 32)
    context.heldOut = context.data
    let alone = try (0..<4).map {
      try damage(apply("depth{layers=[\($0)]}", to: teacher, context), teacher, context)
    }
    let first = try #require(alone.indices.min { alone[$0] < alone[$1] })
    let pairs = try (0..<4).filter { $0 != first }.map { other in
      (other, try damage(apply("depth{layers=[\(first),\(other)]}", to: teacher, context), teacher, context))
    }
    let second = try #require(pairs.min { $0.1 < $1.1 }?.0)
    for map in ["identity", "linear"] {
      var hybrid = teacher
      let results = try Pipeline("depth{count=2,map=\(map),images=32}").run(on: &hybrid, context: context)
      let found = try #require(results[0].found)
      let same = try apply(Pipeline(found).description, to: teacher, context)
      #expect(try same.weightBytes() == hybrid.weightBytes())
      #expect(same.layers.map(\.kind) == hybrid.layers.map(\.kind))
      #expect(hybrid.layers.filter(\.isRemoved).count == 2)
      if map == "identity" {
        #expect(hybrid.layers.filter(\.isRemoved).map(\.index) == [first, second].sorted())
      }
    }
  }

  @Test("one thread and three give the same bytes")
  func threads() throws {
    let teacher = try TinyViT.model(layers: 3)
    let bytes = try [1, 3].map { threads in
      try apply(
        "depth{count=1,map=linear,images=16},solve{images=16}", to: teacher,
        TinyViT.context(threads: threads)
      ).weightBytes()
    }
    #expect(bytes[0] == bytes[1])
  }

  @Test(
    "training goes on past a block that is gone, and through a linear map", arguments: ["identity", "linear"])
  func trained(_ map: String) throws {
    let teacher = try TinyViT.model(layers: 3, layerScale: Self.factors)
    let context = TinyViT.context(count: 16)
    context.heldOut = context.data
    for layers in ["[1]", "[2]", "[0,1]"] {
      let short = try apply("depth{layers=\(layers),map=\(map)}", to: teacher, context)
      let tuned = try apply("fine-tune{steps=30,batch=8,rate=0.002}", to: short, context)
      let blocks = try apply("fine-tune{steps=30,batch=8,rate=0.002,train=blocks}", to: short, context)
      #expect(try damage(tuned, teacher, context) < damage(short, teacher, context))
      let (old, new) = (try short.weightBytes(), try tuned.weightBytes())
      #expect(old.keys.filter { $0.hasPrefix("block.") }.allSatisfy { old[$0] != new[$0] })
      // Where only what was changed is trained, that is the maps.
      let own = try blocks.weightBytes()
      #expect(old.keys.filter { old[$0] != own[$0] }.allSatisfy { $0.hasPrefix("block.") })
    }
  }

  @Test("other passes work before it and behind it")
  func beside() throws {
    let teacher = try TinyViT.model(layers: 4, layerScale: Self.factors)
    let context = TinyViT.context(count: 32)
    context.heldOut = context.data
    let pipelines = [
      "swap{mixer=conv,layers=[1,2]},distil{steps=0,images=32},depth{layers=[2],map=linear},solve{images=32}",
      "depth{layers=[0,1]},swap{mixer=conv,layers=[2]},distil{steps=2,batch=4,images=16},solve{images=32},trim",
      "prune{counts=[16,16,16,16],tile=4},depth{layers=[1]},solve{images=32}",
      "depth{layers=[1]},prune{counts=[16,16,16],tile=4},factorise{scores=0.5,values=0.5,tile=1},solve{images=32}",
      "depth{layers=[3],map=linear},score{images=8},own-prefix,trim",
      "depth{layers=[2,3]},trim",
      "depth{layers=[2],map=linear},merge{counts=[0,2,0,2]},trim",
      "depth{layers=[3]},merge{count=2},trim",
      "depth{layers=[0,1,2,3],map=linear},round,trim",
    ]
    for pipeline in pipelines {
      let hybrid = try apply(pipeline, to: teacher, context)
      #expect(try damage(hybrid, teacher, context).isFinite, "\(pipeline)")
      #expect(hybrid.layers.map(\.index) == [0, 1, 2, 3])
      #expect(hybrid.layers.contains { $0.isRemoved })
    }
    // Trimming changes nothing but the rows that are computed.
    let short = try apply("depth{layers=[3],map=linear}", to: teacher, context)
    let trimmed = try apply("trim", to: short, context)
    let shape = [3] + TinyViT.shape
    #expect(try outputDifference(short.graph, trimmed.graph, [shape]) < 1e-5)
    #expect(trimmed.layers[3].output.map(trimmed.graph.type)?.shape[1] == 1)
    #expect(trimmed.layers[3].parameters == short.layers[3].parameters)
    // A pruned perceptron keeps its teacher's, whose number it had.
    let pruned = try apply(
      "prune{counts=[16,12,8,16],tile=4,compensate=none},depth{layers=[1]}", to: teacher, context)
    let solved = try apply("solve{images=32}", to: pruned, context)
    #expect(try damage(solved, teacher, context) < damage(pruned, teacher, context))
  }

  @Test("solve finds the linear maps again, and mixers are not given back beside them")
  func again() throws {
    let teacher = try TinyViT.model(layers: 3)
    let context = TinyViT.context(count: 32)
    var short = try apply("depth{layers=[1],map=linear,images=32}", to: teacher, context)
    let solved = try short.weightBytes()
    let id = try #require(short.graph.value(named: "block.1.weight"))
    short.graph.setTensor(.random([TinyViT.width, TinyViT.width], seed: 1), of: id)
    #expect(try apply("solve{images=32,reach=changed}", to: short, context).weightBytes() == solved)
    #expect {
      try apply("swap{layers=[0]},depth{layers=[1]},restore", to: teacher, context)
    } throws: { ($0 as? VitError)?.diagnostic.code == "layer-changed" }
    #expect {
      try apply("depth{layers=[1]},swap{layers=[1]}", to: teacher, context)
    } throws: { ($0 as? VitError)?.diagnostic.code == "layer-not-replaceable" }
    #expect {
      try apply("merge{counts=[1,0,0]},depth{layers=[1]}", to: teacher, context)
    } throws: { ($0 as? VitError)?.diagnostic.code == "tokens-merged" }
    #expect {
      try apply("depth{layers=[1]},merge{counts=[1,1,0]}", to: teacher, context)
    } throws: { ($0 as? VitError)?.diagnostic.code == "merge-impossible" }
  }

  @Test("text and file hold what became of the blocks", arguments: ["identity", "linear"])
  func roundTrip(_ map: String) throws {
    let hybrid = try apply("depth{layers=[0,2],map=\(map)}", to: try TinyViT.model(layers: 3))
    let text = try Hybrid(text: Array(hybrid.text().utf8), file: "t.vit", registry: .standard)
    let scratch = try Scratch()
    try VModWriter.write(VModFile(hybrid), to: scratch.file("m.vmod"), weights: .f32)
    let file = try VModReader.read(path: scratch.file("m.vmod"), registry: .standard).hybrid
    for again in [text, file] {
      try again.checkInvariants()
      #expect(again.layers.map(\.kind) == hybrid.layers.map(\.kind))
      #expect(again.layers.map(\.obstacle) == hybrid.layers.map(\.obstacle))
      #expect(try again.firstDifference(from: hybrid, comparingValues: false) == nil)
    }
  }

  @Test("a dense output goes on past the blocks")
  func dense() throws {
    var graph = try TinyViT.graph(layers: 3)
    let last = try #require(graph.nodes.last { $0.name == "vit.layer_norm" }?.results.first)
    graph.outputs = [(name: "tokens", value: last)]
    let teacher = Hybrid(finding: graph)
    let context = TinyViT.context(count: 64)
    let found = try ["identity", "linear"].map {
      try damage(apply("depth{layers=[1,2],map=\($0)},trim", to: teacher, context), teacher, context)
    }
    #expect(found[1] > 0 && found[1] < found[0], "\(found)")
  }

  @Test("blocks that are none, or that something else reads, are refused by name")
  func refused() throws {
    let teacher = try TinyViT.model(layers: 2)
    func fails(_ passes: String, _ model: Hybrid, _ code: String, _ words: String) {
      #expect {
        try apply(passes, to: model)
      } throws: { error in
        let diagnostic = (error as? VitError)?.diagnostic
        return (error as? VitError)?.kind == .usage && diagnostic?.code == code
          && diagnostic?.message.contains(words) ?? false
      }
    }
    fails("depth{layers=[2]}", teacher, "layer-unknown", "no layer 2")
    fails("depth{layers=[-1]}", teacher, "layer-unknown", "no layer -1")
    fails("depth{layers=[1]},depth{layers=[1]}", teacher, "layer-not-removable", "gone already")
    fails("depth{count=3}", teacher, "count-too-large", "only 2")
    fails("share{layers=[1],images=0},depth{layers=[0]}", teacher, "layer-not-removable", "beside its block")
    // Attention that is added to nothing.
    var model = ModelBuilder()
    let x = model.input([.symbol("batch"), 6, 8])
    let maps = (0..<4).flatMap { _ -> [ValueID?] in [model.weight([8, 8]), nil] }
    let y = try model.add("vit.attention", [x] + maps, [("heads", .int(2))])
    let alone = model.finish(try model.linear(y, 8, 8))
    fails("depth{layers=[0]}", Hybrid(finding: alone), "layer-not-removable", "residual stream")
    let sum = try model.add("vit.add", [x, y])
    var added = model.finish(sum)
    added.removeDeadNodes()
    fails("depth{layers=[0]}", Hybrid(finding: added), "layer-not-removable", "no perceptron")
  }

  @Test(
    "numbers that make no sense are refused",
    arguments: ["count=0", "images=0", "map=some", "layers=[0],count=1", "layers=[]", "blocks=[1]"])
  func options(_ option: String) throws {
    let error = try #require(throws: VitError.self) {
      try apply("depth{\(option)}", to: TinyViT.model())
    }
    #expect(error.kind == .usage)
  }

  @Test("the text of the pass gives it again")
  func text() throws {
    #expect(try Pipeline("depth").description == "depth{count=1,map=identity,images=512}")
    for text in ["depth{layers=[2,1],map=linear,images=7}", "depth{count=3,map=identity,images=512}"] {
      #expect(try Pipeline(text).description == text)
    }
    #expect(Pipeline([Depth(layers: [3])]).description == "depth{layers=[3],map=identity,images=512}")
  }
}
