import Testing
import VitFormats
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

/// How much of a branch each channel adds to the residual stream.
private let scales = (0..<TinyViT.width).map { 0.3 + 0.05 * Double($0) }

@Suite("Rows of the first tokens")
struct PrefixTests {
  private func candidate(_ hybrid: Hybrid, _ layer: Int) throws -> Layer.Candidate {
    try #require(hybrid.layers[layer].candidates.last)
  }

  @Test(
    "at full rank they are what the attention gives, behind any mixer",
    arguments: ["none", "pointwise", "glr", "lstm", "conv", "static", "lstm{form=full}"])
  func exact(_ mixer: String) throws {
    for teacher in [try TinyViT.model(), try TinyViT.model(layerScale: scales)] {
      let hybrid = try apply(
        "swap{mixer=\(mixer),layers=[0],prefix=attend{rank=8,own=true}},distil{steps=0}", to: teacher)
      let found = try candidate(hybrid, 0)
      #expect(try #require(found.prefixError) < 1e-9)
      #expect(try #require(found.patchError) > 1e-4)
    }
  }

  /// The scores of token pairs as a matrix of inputs, `[dim + 1, dim]` for each head: queries, their bias last, and keys.
  private func forms(_ wq: Tensor, _ bq: Tensor, _ wk: Tensor) throws -> [[Double]] {
    let (dim, heads) = (wq.shape[1], TinyViT.heads)
    let (q, b, k) = (try wq.doubles(), try bq.doubles(), try wk.doubles())
    let rank = b.count / heads
    return (0..<heads).map { head in
      var form: [Double] = []
      for row in 0...dim {
        for column in 0..<dim {
          var sum = 0.0
          for channel in head * rank..<(head + 1) * rank {
            let query = row < dim ? q[channel * dim + row] : b[channel]
            sum += query * k[channel * dim + column]
          }
          form.append(sum)
        }
      }
      return form
    }
  }

  @Test("the scores of fewer channels are the nearest: their error falls with every channel, to none")
  func rank() throws {
    let teacher = try TinyViT.model()
    let attention = try #require(teacher.graph.nodes.first { $0.operation is VitAttention })
    func weight(_ index: Int) throws -> Tensor {
      try #require(attention.operands[index].flatMap(teacher.graph.tensor))
    }
    let whole = try forms(weight(1), weight(2), weight(3))
    func error(_ rank: Int) throws -> Double {
      let context = TinyViT.context()
      // Without data tokens count as of unit variance: then the error is that of the matrix.
      context.data = nil
      let hybrid = try apply(
        "swap{mixer=none,layers=[0],prefix=attend{rank=\(rank)}}", to: teacher, context)
      func part(_ name: String) throws -> Tensor {
        try #require(hybrid.graph.tensors["mixer.0.prefix.\(name)"])
      }
      let reduced = try forms(part("wq"), part("bq"), part("wk"))
      let differences = zip(whole.flatMap { $0 }, reduced.flatMap { $0 }).map { $0 - $1 }
      return differences.reduce(0.0) { $0 + $1 * $1 }
    }
    let errors = try (1...8).map(error)
    #expect(zip(errors, errors.dropFirst()).allSatisfy { $0 > $1 })
    #expect(errors[7] < 1e-10 * errors[0])
  }

  @Test("by default they attend where a head reads one of the tokens, else the mixer makes them")
  func automatic() throws {
    let attending = try apply("swap{layers=all}", to: TinyViT.model())
    #expect(attending.graph.nodes.contains { $0.operation is PrefixAttention })
    let pooled = try apply("swap{layers=all}", to: TinyViT.model(classToken: false))
    #expect(!pooled.graph.nodes.contains { $0.operation is PrefixAttention })
    let own = try apply("swap{layers=all,prefix=mixer}", to: TinyViT.model())
    #expect(!own.graph.nodes.contains { $0.operation is PrefixAttention })
    let error = #expect(throws: VitError.self) {
      try apply("swap{layers=all,prefix=attend}", to: TinyViT.model(classToken: false))
    }
    #expect(error?.kind == .usage)
    #expect(error?.diagnostic.message.contains("no head reads a token before the patches") == true)
  }

  @Test(
    "what cannot be asked for is refused before any work, with what can be",
    arguments: ["class", "attend{rank=0}", "attend{rank=x}", "attend{heads=2}", "attend{own=2}"])
  func refused(_ text: String) {
    let error = #expect(throws: VitError.self) { try Pipeline("swap{prefix=\(text)}") }
    #expect(error?.kind == .usage)
    #expect(error?.diagnostic.help?.contains("attend{rank=8}") == true)
  }

  @Test("values and output map are the mixer's own where its channels are the attention's values")
  func shared() throws {
    func weights(_ mixer: String, own: Bool) throws -> [String] {
      let hybrid = try apply(
        "swap{mixer=\(mixer),layers=[0],prefix=attend{own=\(own)}}", to: TinyViT.model())
      return hybrid.graph.tensors.names.filter { $0.hasPrefix("mixer.0.prefix.") }.sorted()
    }
    let scores = ["bq", "wk", "wq"].map { "mixer.0.prefix.\($0)" }
    #expect(try weights("conv", own: false) == scores)
    #expect(try weights("conv", own: true) == (scores + ["mixer.0.prefix.bo", "mixer.0.prefix.wo"]).sorted())
    let all = ["bo", "bq", "bv", "wk", "wo", "wq", "wv"].map { "mixer.0.prefix.\($0)" }
    #expect(try weights("pointwise", own: false) == all)
  }

  @Test("a mixer with attending tokens is one layer, through text, files, restoring and a search for layers")
  func layer() throws {
    let teacher = try TinyViT.model()
    let hybrid = try apply("swap{mixer=conv,layers=all},distil{steps=0}", to: teacher)
    let again = try Hybrid(
      text: Array(try hybrid.text(TextOptions()).utf8), file: "t.vit", registry: .standard)
    #expect(again.layers.map(\.kind) == ["conv", "conv"])
    #expect(again.layers.map(\.candidates) == hybrid.layers.map(\.candidates))
    let found = Hybrid(finding: hybrid.graph)
    #expect(found.layers.map(\.kind) == ["conv", "conv"])
    #expect(found.layers.map(\.output) == hybrid.layers.map(\.output))
    var kept = try apply(
      "swap{mixer=conv,layers=all},distil{steps=0},select{layers=[0]},restore", to: teacher)
    #expect(kept.layers.map(\.kind) == ["conv", "attention"])
    let one = try apply("swap{mixer=conv,layers=[0]},distil{steps=0}", to: teacher)
    #expect(try outputDifference(kept.graph, one.graph, [[2, 3, 8, 8]]) == 0)
    kept = try apply("trim", to: kept)
    #expect(kept.layers.map(\.kind) == ["conv", "attention"])
  }

  @Test("of a last layer whose patches nobody reads only the attending rows are left")
  func trimmed() throws {
    let hybrid = try apply("swap{mixer=glr,layers=[1]}", to: TinyViT.model())
    let trimmed = try apply("trim", to: hybrid)
    #expect(!trimmed.graph.nodes.contains { $0.operation is any Mixer })
    #expect(try outputDifference(hybrid.graph, trimmed.graph, [[2, 3, 8, 8]]) < 1e-5)
    #expect(trimmed.layers[1].parameters < hybrid.layers[1].parameters)
  }
}

@Suite("Solving in closed form")
struct SolveTests {
  /// Samples that are solved on and judged by: noise says nothing of other noise.
  private func context(_ count: Int) -> PassContext {
    let context = TinyViT.context(count: count)
    context.heldOut = nil
    return context
  }

  private func damages(_ text: String, _ teacher: Hybrid) throws -> [(before: Double, after: Double)] {
    var hybrid = teacher
    return try Pipeline(text).run(on: &hybrid, context: TinyViT.context(count: 96, heldOut: 32)).compactMap(
      \.damage)
  }

  /// The residual stream behind the second layer, rows of patches only.
  private func stream(_ hybrid: Hybrid, behind layer: Int = 1) throws -> [Double] {
    var graph = hybrid.graph
    var value = try #require(hybrid.layers[layer].output)
    for _ in 0..<2 {
      let reader = try #require(graph.nodes.first { $0.operands.contains(value) })
      value = reader.results[0]
      if reader.operation is VitAdd { break }
    }
    graph.outputs = [("stream", value)]
    graph.removeDeadNodes()
    let samples = RandomSamples(count: 96, shape: TinyViT.shape, seed: 3)
    let size = TinyViT.shape.reduce(1, *)
    var images = [Float](repeating: 0, count: 96 * size)
    try images.withUnsafeMutableBufferPointer { all in
      for index in 0..<96 {
        try samples.read(
          index, variant: nil,
          into: UnsafeMutableBufferPointer(rebasing: all[index * size..<(index + 1) * size]))
      }
    }
    let result = try Zoo.run(graph, [Tensor(shape: [96] + TinyViT.shape, floats: images)])[0]
    let (tokens, width) = (result.shape[1], result.shape[2])
    return try result.doubles().enumerated().filter { $0.offset / width % tokens > 0 }.map(\.element)
  }

  @Test(
    "a layer that is fitted to the stream leaves less of what the layers before left than one fitted to its branch"
  )
  func target() throws {
    for teacher in [try TinyViT.model(), try TinyViT.model(layerScale: scales)] {
      let wanted = try stream(teacher)
      func error(_ target: String) throws -> Double {
        let text = "swap{mixer=pointwise,layers=all},solve{images=96,target=\(target)}"
        let found = try stream(apply(text, to: teacher, context(96)))
        return zip(found, wanted).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
      }
      #expect(try error("stream") < error("branch"))
    }
  }

  @Test(
    "it brings the hybrid nearer to the teacher than mixers as they begin",
    arguments: ["glr", "lstm", "lstm{form=full}", "mamba", "none", "pointwise", "retention", "ssd"])
  func better(_ mixer: String) throws {
    for teacher in [try TinyViT.model(layers: 3), try TinyViT.model(layers: 3, layerScale: scales)] {
      let damage = try #require(
        try damages("swap{mixer=\(mixer),layers=all},solve{images=96}", teacher).first)
      #expect(damage.after < damage.before, "\(mixer): \(damage)")
    }
  }

  @Test("alone it replaces what distillation solves on the teacher's stream")
  func alone() throws {
    let teacher = try TinyViT.model(layers: 3)
    let branch = "swap{mixer=conv,layers=[0]},solve{images=24,target=branch,reach=changed}"
    // Both cut the images into eight runs, the fourth and eighth of which judge the ridge.
    let distilled = "swap{mixer=conv,layers=[0]},distil{steps=0,batch=3,images=24}"
    // Before the first mixer both streams are one.
    #expect(
      try outputDifference(
        apply(branch, to: teacher, context(24)).graph, apply(distilled, to: teacher, context(24)).graph,
        [[2, 3, 8, 8]]) < 1e-4)
  }

  @Test("the last maps behind a change make up for it, where they are within reach; those before it stay")
  func reach() throws {
    let teacher = try TinyViT.model(layers: 3)
    let graph = teacher.graph
    let wanted = try stream(teacher, behind: 2)
    var errors: [Double] = []
    for reach in ["changed", "behind"] {
      let hybrid = try apply(
        "swap{mixer=pointwise,layers=[1]},solve{images=96,reach=\(reach)}", to: teacher, context(96))
      let found = try stream(hybrid, behind: 2)
      errors.append(zip(found, wanted).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) })
      let changed = try graph.parameters().map { graph[$0.id].name }.filter { name in
        try hybrid.graph.tensors[name].map { try $0.floats() != graph.tensors[name]?.floats() } ?? false
      }
      // Weight and bias of the perceptrons of blocks 1 and 2, and of the output map of attention 2.
      #expect(changed.count == (reach == "behind" ? 6 : 0), "\(changed)")
    }
    #expect(errors[1] < errors[0])
  }

  @Test("what is no better is not kept")
  func kept() throws {
    // One image says nothing of others.
    let teacher = try TinyViT.model(layers: 3)
    let damage = try damages("swap{mixer=pointwise,layers=all},distil{steps=0},solve{images=1}", teacher)
    #expect(try #require(damage.first).after <= damage[0].before)
  }

  @Test("any number of threads gives the same bits")
  func threads() throws {
    let teacher = try TinyViT.model(layers: 3)
    let text = "swap{mixer=conv,layers=all},distil{steps=0},solve{images=16}"
    let one = try apply(text, to: teacher, TinyViT.context(threads: 1)).weightBytes()
    let three = try apply(text, to: teacher, TinyViT.context(threads: 3)).weightBytes()
    #expect(one == three)
  }

  @Test(
    "what cannot be asked for is refused", arguments: ["images=0", "target=logits", "judged=0", "rank=3"])
  func refused(_ option: String) {
    let error = #expect(throws: VitError.self) { try Pipeline("solve{\(option)}") }
    #expect(error?.kind == .usage)
  }

  @Test("fine-tuning may be of the replaced blocks alone")
  func blocks() throws {
    let teacher = try TinyViT.model(layers: 3)
    let start = "swap{mixer=pointwise,layers=[1],prefix=mixer}"
    let before = try apply(start, to: teacher, context(24)).weightBytes()
    let after = try apply(
      start + ",fine-tune{steps=20,batch=8,rate=0.001,train=blocks}", to: teacher, context(24)
    ).weightBytes()
    let changed = after.keys.filter { before[$0] != after[$0] }
    #expect(changed.contains { $0.hasPrefix("mixer.1.") })
    // A block's norms and perceptron have six weights; nothing of the other blocks, the embedding and the head moves.
    #expect(changed.filter { !$0.hasPrefix("mixer.1.") }.count <= 8)
  }
}
