import Testing
import VitIR
import VitOps
import VitPasses
import VitTestSupport

/// Queries that see no key: what raising makes of attention gives what the operators of the file give, NaN included.
@Suite("rows without keys")
struct MaskedRowTests {
  private static let lowest = -Double(Float.greatestFiniteMagnitude)

  /// Raises a graph and checks that its outputs stay, for one image and for three.
  private func raised(_ graph: Graph, sourceLocation: SourceLocation = #_sourceLocation) throws -> Graph {
    let result = try apply("fold,raise,fold,dce", to: graph)
    for batch in [1, 3] {
      let difference = try outputDifference(result, graph, [[batch, 5, 8]])
      #expect(difference < 1e-5, sourceLocation: sourceLocation)
    }
    return result
  }

  /// A mask that holds where a number of each token is above a bound, `[batch, 1, 1, 5]`.
  private static func computed(_ graph: inout AttentionGraph, above bound: Double) throws -> ValueID {
    let first = try graph.model.add(
      "onnx.Slice",
      [graph.x, graph.model.integers([0]), graph.model.integers([1]), graph.model.integers([2])])
    let row = try graph.model.reshape(first, [0, 1, 1, 5])
    return try graph.model.add("onnx.Greater", [row, graph.model.number(bound)])
  }

  private static func guarded(_ graph: inout AttentionGraph, _ probabilities: ValueID) throws -> ValueID {
    let broken = try graph.model.add("onnx.IsNaN", [probabilities])
    return try graph.model.add("onnx.Where", [broken, graph.model.number(0), probabilities])
  }

  private static let third = (0..<25).map { $0 / 5 == 2 ? 0.0 : 1 }

  @Test(
    "a constant mask in the scores' place", arguments: [-Double.infinity, -1e38, lowest], [false, true])
  func constants(hidden: Double, isGuarded: Bool) throws {
    let graph = try AttentionGraph.plain(
      scores: { graph, scores in
        let mask = graph.model.builder.constant(
          Self.third, shape: [1, 1, 5, 5], element: .bool, name: "mask")
        return try graph.model.add("onnx.Where", [mask, scores, graph.model.number(hidden)])
      }, probabilities: { isGuarded ? try Self.guarded(&$0, $1) : $1 })
    let result = try raised(graph)
    #expect(result.count("vit.attention") == 1)
    let attention = try #require(result.nodes.first { $0.name == "vit.attention" })
    #expect(
      (attention.operation.attributes["guarded"] == .bool(false)) == (!isGuarded && hidden == -.infinity))
  }

  @Test(
    "a constant that is added, once or twice", arguments: [-Double.infinity, -1e38, lowest], [1, 2])
  func sums(hidden: Double, times: Int) throws {
    let graph = try AttentionGraph.plain(
      scores: { graph, scores in
        let numbers = Self.third.map { $0 == 1 ? 0 : hidden }
        var sum = scores
        for _ in 0..<times {
          let mask = graph.model.builder.constant(numbers, shape: [5, 5], name: "mask")
          sum = try graph.model.add("onnx.Add", [sum, mask])
        }
        return sum
      })
    #expect(try raised(graph).count("vit.attention") == 1)
  }

  @Test(
    "a mask that is computed, whatever it hides", arguments: [-10.0, 0, 10], [-Double.infinity, lowest])
  func computedMasks(bound: Double, hidden: Double) throws {
    for isGuarded in [false, true] {
      for isAdded in [false, true] {
        let graph = try AttentionGraph.plain(
          scores: { graph, scores in
            let mask = try Self.computed(&graph, above: bound)
            let (number, zero) = (graph.model.number(hidden), graph.model.number(0))
            guard isAdded else { return try graph.model.add("onnx.Where", [mask, scores, number]) }
            return try graph.model.add(
              "onnx.Add", [scores, try graph.model.add("onnx.Where", [mask, zero, number])])
          }, probabilities: { isGuarded ? try Self.guarded(&$0, $1) : $1 })
        #expect(try raised(graph).count("vit.attention") == 1)
      }
    }
  }

  @Test("of two masks the inner one shows through where it is added, not where it is replaced")
  func twoMasks() throws {
    let graph = try AttentionGraph.plain(
      scores: { graph, scores in
        let inner = graph.model.builder.constant(
          (0..<25).map { $0 % 5 == 0 ? -.infinity : 0 }, shape: [5, 5], name: "inner")
        let mask = graph.model.builder.constant(Self.third, shape: [5, 5], element: .bool, name: "mask")
        return try graph.model.add(
          "onnx.Where",
          [mask, try graph.model.add("onnx.Add", [scores, inner]), graph.model.number(Self.lowest)])
      })
    #expect(try raised(graph).count("onnx.Softmax") == 1)
  }

  @Test("a softmax spelled as exponentials over their sum")
  func exponentials() throws {
    var graph = AttentionGraph()
    let (q, k, v) = try graph.separate()
    let mask = graph.model.builder.constant(
      Self.third.map { $0 == 1 ? 0 : -.infinity }, shape: [5, 5], name: "mask")
    let scores = try graph.model.add("onnx.Add", [try graph.scores(q, k), mask])
    let powers = try graph.model.add("onnx.Exp", [scores])
    let total = try graph.model.add(
      "onnx.ReduceSum", [powers, graph.model.integers([-1])], [("keepdims", .int(1))])
    let weights = try graph.model.add("onnx.Div", [powers, total])
    let model = graph.model.finish(try graph.project(try graph.model.add("onnx.MatMul", [weights, v])))
    #expect(try raised(model).count("vit.attention") == 1)
  }

  @Test(
    "ONNX's operator with a mask of truth or numbers, constant or computed",
    arguments: [-Double.infinity, -1e38, lowest], [false, true])
  func operators(hidden: Double, isCausal: Bool) throws {
    for (isTruth, bound) in [(true, nil), (false, nil), (true, 0.0), (false, 0.0), (false, 10)] {
      var graph = AttentionGraph()
      let (q, k, v) = try graph.separate()
      var mask: ValueID
      if let bound {
        mask = try Self.computed(&graph, above: bound)
        if !isTruth {
          let (zero, number) = (graph.model.number(0), graph.model.number(hidden))
          mask = try graph.model.add("onnx.Where", [mask, zero, number])
        }
      } else if isTruth {
        mask = graph.model.builder.constant(Self.third, shape: [5, 5], element: .bool, name: "mask")
      } else {
        let numbers = Self.third.map { $0 == 1 ? 0 : hidden }
        mask = graph.model.builder.constant(numbers, shape: [5, 5], name: "mask")
      }
      let core = try graph.model.add("onnx.Attention", [q, k, v, mask], [("is_causal", .bool(isCausal))])
      let model = graph.model.finish(try graph.project(core))
      #expect(try raised(model).count("vit.attention") == 1)
    }
  }

  @Test("ONNX Runtime's operators, whose later keys are seen where a bias hides all others")
  func runtimeOperators() throws {
    for hidden in [-Double.infinity, Self.lowest] {
      for isCausal in [false, true] {
        var graph = AttentionGraph()
        let weight = graph.model.weight([8, 24], scale: 0.4)
        let numbers = (0..<25).map { $0 / 5 == 2 || $0 % 5 == 0 ? hidden : 0 }
        let bias = graph.model.builder.constant(numbers, shape: [1, 1, 5, 5], name: "bias")
        let core = try graph.model.add(
          "com.microsoft.Attention", [graph.x, weight, nil, nil, nil, bias],
          [("num_heads", .int(2)), ("unidirectional", .int(isCausal ? 1 : 0))])
        let model = graph.model.finish(try graph.model.linear(core, 8, 8))
        #expect(try raised(model).count("vit.attention") == (isCausal ? 0 : 1))
      }
    }
  }

  @Test("attention lowers to operators that give the same", arguments: [false, true])
  func lowering(isGuarded: Bool) throws {
    var model = ModelBuilder("core", seed: 3)
    let parts = (0..<3).map { model.input([.symbol("batch"), 2, 5, 4], name: "x\($0)") }
    let numbers = Self.third.map { $0 == 1 ? 0 : -Double.infinity }
    let mask = model.builder.constant(numbers, shape: [5, 5], name: "mask")
    let core = try model.add("vit.sdpa", parts + [mask], [("guarded", .bool(isGuarded))])
    let graph = model.finish(core)
    var lowered = GraphBuilder(Graph(name: "lowered"), registry: .standard)
    let inputs = parts.map { lowered.graph.addInput(graph.type($0), name: "x\($0.index)") }
    let operands = inputs + [lowered.constant(numbers, shape: [5, 5])]
    let results = try graph.nodes[0].operation.lower(into: &lowered, operands: operands, resultCount: 1)
    lowered.graph.outputs = [("y", results[0])]
    let shapes = [[Int]](repeating: [3, 2, 5, 4], count: 3)
    #expect(try outputDifference(lowered.graph, graph, shapes) < 1e-5)
    #expect(try Zoo.run(graph, shapes.map { Tensor.random($0, seed: 1) })[0].doubles()[8].isNaN != isGuarded)
  }
}
