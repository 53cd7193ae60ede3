import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

@Suite("Weights that are stored in fewer bits")
struct StoredWeightsTests {
  @Test(
    "they are computed with as the floats that they stand for, and the file says so",
    arguments: ["dce", "swap{mixer=glr,layers=[0,1]}"])
  func floats(_ pipeline: String) throws {
    let whole = try apply(pipeline, to: TinyViT.model())
    for (text, element) in [("int4", ElementType.w4), ("int8,activations=f32", .w8)] {
      let stored = try apply("quantise{weights=\(text)}", to: whole)
      let elements = Set(stored.graph.tensors.names.compactMap { stored.graph.tensors[$0]?.element })
      #expect(
        elements.contains(element) && !stored.graph.hasNarrowWeights && stored.graph.hasWeightsInFewerBits)
      #expect(stored.graph.parameterCount == whole.graph.parameterCount)
      var widened = stored.graph
      widened.widenWeights()
      #expect(!widened.hasWeightsInFewerBits)
      let input = Tensor.random([3] + TinyViT.shape, seed: 5)
      let (a, b) = (try Zoo.run(stored.graph, [input]), try Zoo.run(widened, [input]))
      #expect(try a[0].floats() == b[0].floats())
      // They stay through rounding and another such pass, and other passes get floats.
      #expect(try apply("round{weights=f16}", to: stored).graph.hasWeightsInFewerBits)
      #expect(try apply("quantise", to: stored).weightBytes() == stored.weightBytes())
      #expect(try !apply("fold", to: stored).graph.hasWeightsInFewerBits)
    }
  }

  @Test("on data columns make up for each other, in every map of a layer and its perceptron")
  func compensated() throws {
    let context = TinyViT.context(count: 100, heldOut: 16)
    let plain = try apply("quantise{weights=int4,solved=0}", to: TinyViT.model(), context)
    let made = try apply("quantise{weights=int4,solved=64}", to: TinyViT.model(), context)
    for node in made.graph.nodes where node.operation is VitAttention || node.operation is VitMLP {
      for (place, id) in node.operands.enumerated() where node.operation.role(of: place) == .weight {
        guard let id, let tensor = made.graph.tensor(id), tensor.element == .w4 else { continue }
        let own = try #require(plain.graph.value(named: made.graph[id].name).flatMap(plain.graph.tensor))
        #expect(try tensor.floats() != own.floats(), "\(node.name) \(place)")
      }
    }
    for threads in [1, 3] {
      let again = try apply(
        "quantise{weights=int4,solved=64}", to: TinyViT.model(),
        TinyViT.context(threads: threads, count: 100, heldOut: 16))
      #expect(try again.weightBytes() == made.weightBytes())
    }
  }

  @Test("a limit keeps blocks, and the text that it gives does the same") func kept() throws {
    let context = TinyViT.context(count: 100, heldOut: 32)
    func run(_ text: String) throws -> (hybrid: Hybrid, result: PassResult) {
      var hybrid = try TinyViT.model()
      let results = try Pipeline(text).run(on: &hybrid, context: context)
      return (hybrid, try #require(results.last))
    }
    let all = try #require(run("quantise{weights=int4,limit=1000}").result.damage).after
    let part = try run("quantise{weights=int4,limit=\(all / 2)}")
    #expect(try #require(part.result.damage).after <= all / 2)
    let text = Pipeline(try #require(part.result.found)).description
    #expect(text.hasPrefix("quantise{weights=int4,activations=f32,solved=128,keep=["))
    #expect(try run(text).hybrid.weightBytes() == part.hybrid.weightBytes())
  }

  @Test("maps that share a weight or a bias are rounded by themselves") func shared() throws {
    let context = TinyViT.context(count: 60)
    var graph = try TinyViT.graph()
    let place = try #require(graph.nodes.firstIndex { $0.operation is VitAttention })
    // The output map reads the queries' weight and bias.
    graph.nodes[place].operands[7] = graph.nodes[place].operands[1]
    graph.nodes[place].operands[8] = graph.nodes[place].operands[2]
    let plain = try apply("quantise{weights=int4,solved=0}", to: Hybrid(finding: graph), context).graph
    let made = try apply("quantise{weights=int4}", to: Hybrid(finding: graph), context).graph
    func isSame(_ node: Int, _ operand: Int) throws -> Bool {
      let id = try #require(made.nodes[node].operands[operand])
      let own = try #require(plain.nodes[node].operands[operand])
      return try made.tensor(id)?.floats() == plain.tensor(own)?.floats()
    }
    #expect(try isSame(place, 1) && isSame(place, 2))
    let perceptron = try #require(graph.nodes.firstIndex { $0.operation is VitMLP })
    #expect(try !isSame(perceptron, 1))
  }
}
