import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

@Suite("Weights in 8 bits")
struct QuantiseTests {
  /// Every kind of layer that has linear maps.
  static let pipelines =
    ["dce"]
    + ["glr", "lstm", "lstm{form=full}", "ssd", "conv", "static", "pointwise"].map {
      "swap{mixer=\($0),layers=[0,1]}"
    }

  /// What a graph gives for random images.
  private func outputs(_ graph: Graph, packing: Bool = true, threads: Int = 1) throws -> [Float] {
    let pool: any WorkPool = threads == 1 ? SerialPool() : ThreadPool(threads: threads)
    let executor = try Executor(
      graph, weights: WeightStore(graph), inputShapes: [[5] + TinyViT.shape], packing: packing, pool: pool)
    try Tensor.random([5] + TinyViT.shape, seed: 5).copy(to: executor.inputs[0])
    executor.run()
    return try Tensor(copying: executor.outputs[0]).floats()
  }

  private func bits(_ numbers: [Float]) -> [UInt32] { numbers.map(\.bitPattern) }

  @Test(
    "what follows is near to what it was, the same for any number of threads, and not what floats give",
    arguments: pipelines)
  func near(_ pipeline: String) throws {
    let whole = try apply(pipeline, to: TinyViT.model())
    let narrow = try apply("quantise", to: whole)
    #expect(narrow.graph.hasNarrowWeights && !whole.graph.hasNarrowWeights)
    let (a, b) = (try outputs(whole.graph), try outputs(narrow.graph))
    let size = a.map(abs).reduce(0, max)
    let most = zip(a, b).map { abs($0 - $1) }.reduce(0, max)
    #expect(most < 0.05 * size, "\(pipeline): \(most) of \(size)")
    for threads in [2, 3] { #expect(try bits(outputs(narrow.graph, threads: threads)) == bits(b)) }
    // What measures in between packs nothing that it need not, and has the same products.
    #expect(try bits(outputs(narrow.graph, packing: false)) == bits(b))
    var floats = narrow.graph
    floats.widenWeights()
    #expect(try bits(outputs(floats)) != bits(b))
    #expect(!floats.hasNarrowWeights)
    #expect(narrow.graph.parameterCount == whole.graph.parameterCount)
  }

  @Test("in bfloat16 it is nearer, and computed in it where the processor is faster", arguments: pipelines)
  func bfloat16(_ pipeline: String) throws {
    let whole = try apply(pipeline, to: TinyViT.model())
    let narrow = try apply("quantise{weights=bf16}", to: whole)
    #expect(narrow.graph.hasNarrowWeights)
    let (a, b) = (try outputs(whole.graph), try outputs(narrow.graph))
    let size = a.map(abs).reduce(0, max)
    let most = zip(a, b).map { abs($0 - $1) }.reduce(0, max)
    #expect(most < 0.03 * size, "\(pipeline): \(most) of \(size)")
    for threads in [2, 3] { #expect(try bits(outputs(narrow.graph, threads: threads)) == bits(b)) }
    if Machine.isFasterInBrainFloats {
      #expect(try bits(outputs(narrow.graph, packing: false)) == bits(b))
    }
    var floats = narrow.graph
    floats.widenWeights()
    #expect(!floats.hasNarrowWeights)
    let isNarrow = try bits(outputs(floats)) != bits(b)
    #expect(isNarrow == Machine.isFasterInBrainFloats)
    // What has few bits stays as it is; what follows it is as it was rounded to.
    #expect(try apply("quantise", to: narrow).weightBytes() == narrow.weightBytes())
    #expect(try apply("round{weights=f16}", to: narrow).graph.hasNarrowWeights)
  }

  @Test(
    "layers stay that are asked to, and so many of the most sensitive that the rest does no more than it may")
  func kept() throws {
    let context = TinyViT.context(heldOut: 32)
    func run(_ text: String) throws -> (hybrid: Hybrid, result: PassResult) {
      var hybrid = try TinyViT.model(layers: 4)
      let results = try Pipeline(text).run(on: &hybrid, context: context)
      return (hybrid, try #require(results.last))
    }
    /// The layers whose attention has weights in 8 bits.
    func narrow(_ hybrid: Hybrid) throws -> [Int] {
      try hybrid.layers.filter { layer in
        let node = hybrid.graph.nodes[try #require(hybrid.graph.places(of: layer).first)]
        return node.operands[1].flatMap(hybrid.graph.tensor)?.element == .q8
      }.map(\.index)
    }
    #expect(try narrow(run("quantise{keep=[1,3]}").hybrid) == [0, 2])
    // Perceptrons belong to the layers before them.
    let left = try run("quantise{keep=[0,1,2]}").hybrid.graph
    #expect(
      left.nodes.filter { $0.operation is VitMLP }.map { $0.operands[1].flatMap(left.tensor)?.element == .q8 }
        == [false, false, false, true])
    let all = try run("quantise{limit=1000}")
    #expect(try narrow(all.hybrid) == [0, 1, 2, 3])
    let damages = try all.hybrid.layers.map { try #require($0.score("narrow_damage")) }
    #expect(damages.allSatisfy { $0 > 0 })
    let whole = try #require(all.result.damage).after
    #expect(
      all.result.found?.first.map { Pipeline([$0]).description }
        == "quantise{weights=int8,activations=dynamic}")
    let part = try run("quantise{limit=\(whole * 0.7)}")
    let kept = try #require((part.result.found?.first as? Quantise)?.keep)
    #expect(!kept.isEmpty && kept.count < 4)
    let worst = try #require(damages.indices.max { damages[$0] < damages[$1] })
    #expect(kept.contains(worst))
    #expect(try #require(part.result.damage).after <= whole * 0.7)
    let again = try run(Pipeline(try #require(part.result.found)).description)
    #expect(try again.hybrid.weightBytes() == part.hybrid.weightBytes())
    let none = try run("quantise{limit=0}")
    #expect(try narrow(none.hybrid).isEmpty && !none.hybrid.graph.hasNarrowWeights)
  }

  @Test(
    "a layer that there is not, a limit below nothing and types that do not go together are usage errors",
    arguments: [
      "keep=[9]", "limit=-1", "images=0", "weights=int4,solved=-1", "weights=int4,activations=dynamic",
      "weights=bf16,activations=f32",
    ])
  func refused(_ option: String) throws {
    let error = try #require(throws: VitError.self) { try apply("quantise{\(option)}", to: TinyViT.model()) }
    #expect(error.kind == .usage, "\(error)")
  }

  @Test("patch embedding, head, biases and what no linear map reads alone stay as they are")
  func left() throws {
    let narrow = try apply("quantise", to: TinyViT.model()).graph
    for node in narrow.nodes {
      for (place, id) in node.operands.enumerated() {
        guard let id, let tensor = narrow.tensor(id) else { continue }
        let isInner = node.operation is VitAttention || node.operation is VitMLP
        #expect(
          (tensor.element == .q8) == (isInner && node.operation.role(of: place) == .weight),
          "\(node.name) \(place)")
      }
    }
    // A weight that something else reads, too.
    var shared = try TinyViT.graph()
    let mlp = try #require(shared.nodes.first { $0.operation is VitMLP })
    let weight = try #require(mlp.operands[1])
    shared.outputs.append(("weight", weight))
    let found = try apply("quantise", to: Hybrid(finding: shared)).graph
    #expect(found.tensor(weight)?.element == .f32)
    #expect(found.tensor(try #require(mlp.operands[3]))?.element == .q8)
  }

  @Test("it is done once, weights that are no numbers stay, and other passes get floats")
  func again() throws {
    let once = try apply("quantise", to: TinyViT.model())
    #expect(try apply("quantise", to: once).weightBytes() == once.weightBytes())
    #expect(try apply("quantise,round{weights=f16}", to: TinyViT.model()).graph.hasNarrowWeights)
    #expect(try !apply("quantise,fold", to: TinyViT.model()).graph.hasNarrowWeights)
    var bad = try TinyViT.graph()
    let mlp = try #require(bad.nodes.first { $0.operation is VitMLP })
    let weight = try #require(mlp.operands[1])
    let shape = try #require(bad.tensor(weight)?.shape)
    let numbers = (0..<shape.reduce(1, *)).map { $0 == 3 ? Float.nan : 1 }
    bad.setTensor(Tensor(shape: shape, floats: numbers), of: weight)
    #expect(try apply("quantise", to: Hybrid(finding: bad)).graph.tensor(weight)?.element == .f32)
  }

  @Test("a graph without linear maps between others has nothing to bring into 8 bits, and says so")
  func nothing() throws {
    var model = ModelBuilder()
    let x = model.input([3, 4])
    var hybrid = Hybrid(model.finish(try model.add("vit.linear", [x, model.weight([2, 4])])))
    let results = try Pipeline("quantise").run(on: &hybrid, context: TinyViT.context())
    #expect(
      results[0].changes == 0 && results[0].notes.first?.contains("nothing to bring into 8 bits") == true)
  }

  @Test(
    "a batch is its images, to the bit, also where it is worked through some images at a time",
    arguments: [false, true])
  func batches(hasBias: Bool) throws {
    let (tokens, width) = (70, 192)
    var model = ModelBuilder()
    func map() -> [ValueID?] {
      [model.weight([width, width]), model.weight([width], name: "bias", scale: 0.1)]
    }
    let x = try model.add(
      "vit.linear", [model.input([.symbol("batch"), .fixed(tokens), .fixed(width)])] + map())
    let bias = hasBias ? model.weight([1, 3, tokens, tokens], name: "scores", scale: 1) : nil
    let maps = map() + map() + map() + map()
    let y = try model.add("vit.attention", [x] + maps + [bias], [("heads", .int(3))])
    let graph = try apply("quantise", to: Hybrid(model.finish(try model.add("vit.linear", [y] + map()))))
      .graph
    #expect(graph.hasNarrowWeights)
    let images = 9
    func run(_ x: Tensor, threads: Int) throws -> [Float] {
      let executor = try Executor(
        graph, weights: WeightStore(graph), inputShapes: [x.shape],
        pool: threads == 1 ? SerialPool() : ThreadPool(threads: threads))
      try x.copy(to: executor.inputs[0])
      executor.run()
      return try Tensor(copying: executor.outputs[0]).floats()
    }
    let all = Tensor.random([images, tokens, width], seed: 3)
    let numbers = try all.floats()
    let size = tokens * width
    var single: [Float] = []
    for image in 0..<images {
      let part = Tensor(shape: [1, tokens, width], floats: Array(numbers[image * size..<(image + 1) * size]))
      single += try run(part, threads: 1)
    }
    #expect(try bits(run(all, threads: 1)) == bits(single))
    #expect(try bits(run(all, threads: 2)) == bits(single))
  }
}
