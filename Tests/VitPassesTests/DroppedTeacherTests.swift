import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

/// A teacher that drops tokens: mixers learn from those that are left.
@Suite("teachers that drop tokens")
struct DroppedTeacherTests {
  private static let retain = "retain{keep=0.6,layers=[0,1],teacher=true}"

  private func images(_ count: Int, seed: UInt64 = 5) -> Tensor {
    Tensor.random([count] + TinyViT.shape, seed: seed)
  }

  /// What a graph has for `input` at some values.
  private func values(_ graph: Graph, _ input: Tensor, _ ids: [ValueID]) throws -> [Tensor] {
    var graph = graph
    graph.outputs = ids.map { (graph[$0].name, $0) }
    return try Zoo.run(graph, [input])
  }

  @Test(
    "what a layer is to learn is what it gives where keys of dropped tokens are hidden", arguments: [1, 2])
  func targets(index: Int) throws {
    let whole = try TinyViT.model(layers: 3)
    let dropped = try apply(Self.retain, to: whole)
    let teacher = try #require(dropped.teacher)
    let layer = try #require(teacher.layer(index))
    let input = images(1)
    let place = try #require(teacher.graph.value(named: "keep.\(index - 1)"))
    let found = try values(
      teacher.graph, input, [try #require(layer.input), try #require(layer.output), place])
    let table = try #require(try found[2].integers())
    let last = table.max() ?? 0
    let tokens = [0] + table.indices.filter { table[$0] < last }.map { $0 + 1 }
    #expect(found[1].shape == [1, tokens.count, TinyViT.width])
    // The same layers on all tokens: keys that were dropped before each are hidden from it.
    var dense = whole.graph
    var hidden: [Int] = []
    var number = 0
    for node in dense.nodes.indices where dense.nodes[node].operation is VitAttention {
      if number > 0 {
        let keep = try #require(teacher.graph.value(named: "keep.\(number - 1)"))
        let own = try #require(try values(teacher.graph, input, [keep])[0].integers())
        hidden = own.indices.filter { own[$0] == own.max() }.map { $0 + 1 }
        let bias = dense.addConstant(
          Tensor(
            .f32, shape: [1, 1, 1, 17], values: (0..<17).map { hidden.contains($0) ? -Double.infinity : 0 }),
          name: "hidden")
        dense.nodes[node].operands.append(bias)
      }
      number += 1
    }
    let reference = try values(dense, input, [try #require(whole.layers[index].output)])[0].doubles()
    let own = try found[1].doubles()
    for (row, token) in tokens.enumerated() {
      for channel in 0..<TinyViT.width {
        let (a, b) = (
          own[row * TinyViT.width + channel], reference[token * TinyViT.width + channel]
        )
        #expect(abs(a - b) < 1e-5)
      }
    }
  }

  private static let mixers = [
    "glr", "lstm", "lstm{form=full}", "ssd", "mamba", "pointwise", "none", "conv", "static",
  ]

  @Test("every mixer learns from what is left, in steps and in closed form", arguments: mixers)
  func learns(mixer: String) throws {
    var hybrid = try TinyViT.model(layers: 4)
    let results = try Pipeline(
      "\(Self.retain),swap{mixer=\(mixer),layers=[1,2]},distil{steps=30,batch=8,solve=false}"
    ).run(on: &hybrid, context: TinyViT.context())
    let teacher = try #require(hybrid.teacher)
    #expect(hybrid.graph.type(try #require(hybrid.layers[2].input)).shape[1] == 7)
    for curve in results[2].curves where mixer != "none" {
      let (first, last) = (try #require(curve.points.first), try #require(curve.points.last))
      #expect(last.loss < first.loss, "layer \(curve.layer ?? -1)")
    }
    let context = TinyViT.context()
    // On the samples that decide what is kept.
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: try #require(context.heldOut), context: context)
    let before = try meter.measure(hybrid.graph).damage
    let tuned = try apply("solve{images=16},fine-tune{steps=20,batch=8,rate=0.002}", to: hybrid, context)
    let after = try meter.measure(tuned.graph).damage
    #expect(after <= before * 1.001, "\(before) to \(after)")
    let trimmed = try apply("trim", to: tuned)
    #expect(try outputDifference(tuned.graph, trimmed.graph, [[3] + TinyViT.shape]) < 1e-5)
    // ONNX has it all.
    let lowered = try tuned.graph.lowered()
    #expect(try outputDifference(tuned.graph, lowered, [[3] + TinyViT.shape]) < 1e-5)
  }

  @Test("attention for the class token, narrow values and scaled branches go with it")
  func forms() throws {
    let factors = (0..<TinyViT.width).map { 0.5 + 0.05 * Double($0) }
    let model = try TinyViT.model(layers: 3, layerScale: factors)
    for swap in ["prefix=attend{rank=4},mixer=conv", "prefix=mixer,width=0.5,mixer=glr"] {
      let hybrid = try apply(
        "\(Self.retain),score{images=8},swap{\(swap),layers=[1,2]},distil{steps=4,batch=8,match=context},solve,fine-tune{steps=4,batch=8,rate=0.001}",
        to: model)
      #expect(try Zoo.run(hybrid.graph, [images(2)])[0].doubles().allSatisfy(\.isFinite))
    }
  }

  @Test("scores are of what is left, in its sequence") func scores() throws {
    let hybrid = try apply("\(Self.retain),score{images=8}", to: TinyViT.model(layers: 3))
    #expect(hybrid.layers.allSatisfy { $0.score("entropy") != nil && $0.score("drop") != nil })
    #expect(hybrid.layers.map { $0.score("distance") != nil } == [true, false, false])
    #expect(hybrid.layers.map { $0.score("conv") != nil } == [true, false, false])
  }

  @Test("what says which tokens go on stays the teacher's")
  func tables() throws {
    let model = try TinyViT.model(layers: 3)
    let hybrid = try apply(
      "\(Self.retain),swap{mixer=glr,layers=[0,1]},distil{steps=4,batch=8},solve,fine-tune{steps=10,batch=8,rate=0.01}",
      to: model)
    let attention = model.graph.nodes.filter { $0.operation is VitAttention }
    let keeps = hybrid.graph.nodes.filter { $0.operation is TokenKeep }
    #expect(keeps.count == 2)
    for (keep, node) in zip(keeps, attention) {
      for index in 1...3 {
        let (own, first) = (try #require(keep.operands[index]), try #require(node.operands[index]))
        let tensors = (try #require(hybrid.graph.tensor(own)), try #require(model.graph.tensor(first)))
        #expect(try tensors.0.doubles() == tensors.1.doubles())
      }
    }
  }

  private static let everything =
    "\(retain),score{images=8},swap{mixer=conv,layers=all},distil{steps=6,batch=8},select{count=2},restore,swap{mixer=glr,layers=[0]},distil{steps=4,batch=8},solve{images=16},fine-tune{steps=6,batch=8,rate=0.002},trim"

  @Test("the same bytes for any number of threads") func threads() throws {
    let model = try TinyViT.model(layers: 3)
    let one = try apply(Self.everything, to: model)
    #expect(one.replaced.count >= 2)
    for threads in 2...3 {
      let more = try apply(Self.everything, to: model, TinyViT.context(threads: threads))
      #expect(try more.weightBytes() == one.weightBytes(), "\(threads) threads")
    }
  }

  @Test("a model that drops tokens is a teacher like others") func twoSteps() throws {
    let dropped = try apply("retain{keep=0.6,layers=[0,1]}", to: TinyViT.model(layers: 3))
    var again = Hybrid(finding: dropped.graph)
    let swap =
      "swap{mixer=conv,layers=[1,2]},distil{steps=4,batch=8},solve,fine-tune{steps=4,batch=8,rate=0.001}"
    try Pipeline(swap).run(on: &again, context: TinyViT.context())
    let one = try apply("\(Self.retain),\(swap)", to: TinyViT.model(layers: 3))
    #expect(try outputDifference(again.graph, one.graph, [[4] + TinyViT.shape]) < 1e-3)
  }

  @Test("a search works on it, and merges nothing") func search() throws {
    let hybrid = try apply(
      "\(Self.retain),score{images=8,drop=false},swap{mixer=conv,layers=all},distil{steps=0},select{by=auto,count=1,limit=1,solved=16,judged=16},solve{images=16},merge{counts=chosen},fine-tune{steps=2,batch=8,rate=0.001},trim",
      to: TinyViT.model(layers: 3))
    #expect(!hybrid.graph.nodes.contains { $0.operation is TokenMatch })
    #expect(hybrid.replaced.count == 1)
  }

  @Test("training that is stopped goes on to the same bytes") func resumes() throws {
    let model = try TinyViT.model(layers: 3)
    let pipeline =
      "\(Self.retain),swap{mixer=conv,layers=[1]},distil{steps=7,batch=8},fine-tune{steps=8,batch=8,rate=0.002}"
    let whole = try apply(pipeline, to: model)
    let store = MemoryStore()
    var (parts, stops): (Hybrid?, Int) = (nil, 0)
    while parts == nil, stops < 40 {
      let context = TinyViT.context()
      context.checkpoint = store
      let flag = Flag()
      var steps = 0
      context.progress = { name, _, _, _ in
        steps += name == "distil" || name == "fine-tune" ? 1 : 0
        if steps == 9 { flag.set() }
      }
      context.isCancelled = { flag.isSet }
      do { parts = try apply(pipeline, to: model, context) } catch let error as VitError {
        guard error.kind == .interrupted else { throw error }
        stops += 1
      }
    }
    #expect(stops > 0)
    #expect(try parts?.weightBytes() == whole.weightBytes())
  }

  @Test(
    "what cannot be is said",
    arguments: [
      ("\(retain),swap{mixer=glr,order=cross,layers=[1]}", "some tokens were dropped"),
      ("retain{keep=0.5},swap{layers=[1]}", "merged or dropped"),
      ("swap{layers=[0]},\(retain)", "makes another teacher"),
      ("prune{mlp=0.5,tile=8},\(retain)", "no longer its own"),
      ("\(retain),retain", "merged or dropped"), ("\(retain),merge", "merged or dropped"),
      ("\(retain),share{layers=[1]}", "merged or dropped"),
    ])
  func refused(pipeline: String, message: String) throws {
    let model = try TinyViT.model(layers: 3)
    let error = #expect(throws: VitError.self) { try apply(pipeline, to: model) }
    #expect(error?.diagnostic.text.contains(message) == true, "\(error?.diagnostic.text ?? "")")
  }
}
