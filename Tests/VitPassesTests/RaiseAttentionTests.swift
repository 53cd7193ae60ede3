import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime

struct RaiseAttentionTests {
  /// Raises a graph and checks that its outputs stay, for one image and for three.
  private func raised(
    _ graph: Graph, _ shape: [Int] = [5, 8], sourceLocation: SourceLocation = #_sourceLocation
  ) throws -> Graph {
    let result = try apply("fold,raise,fold,dce", to: graph)
    for batch in [1, 3] {
      let difference = try outputDifference(result, graph, [[batch] + shape])
      #expect(difference < 1e-5, sourceLocation: sourceLocation)
    }
    return result
  }

  private func attention(_ graph: Graph, sourceLocation: SourceLocation = #_sourceLocation) throws -> Node {
    #expect(
      graph.operations.filter { $0 != "onnx.Transpose" } == ["vit.attention"], sourceLocation: sourceLocation)
    return try #require(graph.nodes.first { $0.name == "vit.attention" }, sourceLocation: sourceLocation)
  }

  @Test(
    "a scale on queries, keys, both, or scores ends in the operation",
    arguments: AttentionGraph.Scale.allCases)
  func scales(_ scale: AttentionGraph.Scale) throws {
    let node = try attention(try raised(try AttentionGraph.plain(scale: scale)))
    #expect(node.operation.attributes["heads"] == .int(2))
    #expect(node.operands.count == 9)
    guard case .float(let value)? = node.operation.attributes["scale"] else {
      Issue.record("no scale")
      return
    }
    #expect(abs(value - (scale == .none ? 1 : 0.5)) < 1e-7)
  }

  @Test(
    "queries, keys and values packed into one map, in any order", arguments: AttentionGraph.Packing.allCases)
  func packings(_ packing: AttentionGraph.Packing) throws {
    let graph = try raised(try AttentionGraph.packed(packing))
    let node = try attention(graph)
    #expect(node.operands.compactMap { $0 }.count == 9)
    let weight = try #require(node.operands[1])
    #expect(graph.type(weight).shape == [8, 8])
  }

  @Test("attention that works on [tokens, batch, width], heads in the batch or apart", arguments: [3, 4])
  func timeMajor(rank: Int) throws {
    _ = try attention(try raised(try AttentionGraph.timeMajor(rank: rank)))
  }

  @Test("tokens flattened to rows for each linear map")
  func flattened() throws {
    _ = try attention(try raised(try AttentionGraph.flattened()))
  }

  @Test(
    "products written as einsums, in any order of axes",
    arguments: [
      ("bqhd, bkhd -> bhqk", "bhqk, bkhd -> bqhd", [0, 1, 2, 3]),
      ("bhid,bhjd->bhij", "bhij,bhjd->bihd", [0, 2, 1, 3]),
      ("bdhq,bdhk->bhqk", "bhqk,bdhk->bqhd", [0, 3, 2, 1]),
    ])
  func einsums(_ scores: String, _ mix: String, _ moved: [Int]) throws {
    _ = try attention(try raised(try AttentionGraph.einsums(scores, mix, moved: moved)))
  }

  @Test("weights kept as [heads, width, columns] and products of three in einsums")
  func einsumWeights() throws {
    let node = try attention(try raised(try AttentionGraph.einsumWeights()))
    #expect(node.operation.attributes["heads"] == .int(2))
    #expect(node.operands.compactMap { $0 }.count == 5)
  }

  @Test("a softmax spelled as exponentials over their sum", arguments: AttentionGraph.Exponentials.allCases)
  func exponentials(_ form: AttentionGraph.Exponentials) throws {
    _ = try attention(try raised(try AttentionGraph.exponentials(form)))
  }

  @Test("channels before tokens, scores of keys by queries", arguments: AttentionGraph.Turn.allCases)
  func turned(_ turn: AttentionGraph.Turn) throws {
    _ = try attention(try raised(try AttentionGraph.turned(turn)))
  }

  @Test("a factor for each head goes to the queries, unless something was added before")
  func headScales() throws {
    func graph(addsFirst: Bool) throws -> Graph {
      try raised(
        try AttentionGraph.plain(
          scale: .none,
          scores: { graph, scores in
            let factors = graph.model.weight([2, 1, 1], name: "factors", scale: 1)
            let table = graph.model.weight([1, 2, 5, 5], name: "table", scale: 1)
            let sum = addsFirst ? try graph.model.add("onnx.Add", [scores, table]) : scores
            return try graph.model.add("onnx.Mul", [factors, sum])
          }))
    }
    #expect(try graph(addsFirst: false).count("vit.sdpa") == 1)
    #expect(try graph(addsFirst: true).count("onnx.Softmax") == 1)
  }

  @Test("heads of keys that are repeated for groups of queries are kept once")
  func grouped() throws {
    let graph = try raised(try AttentionGraph.grouped())
    let node = try attention(graph)
    #expect(node.operation.attributes["heads"] == .int(4))
    #expect(node.operation.attributes["kv_heads"] == .int(2))
    let keys = try #require(node.operands[3])
    #expect(graph.type(keys).shape == [4, 8])
  }

  @Test("a table that is added to the scores, before they are scaled or after, is the bias")
  func bias() throws {
    func table(_ graph: inout AttentionGraph) -> ValueID {
      graph.model.weight([1, 2, 5, 5], name: "table", scale: 1)
    }
    let after = try attention(
      try raised(try AttentionGraph.plain(scores: { try $0.model.add("onnx.Add", [$1, table(&$0)]) })))
    #expect(after.operands.count == 10)
    let before = try attention(
      try raised(
        try AttentionGraph.plain(
          scale: .none,
          scores: {
            let sum = try $0.model.add("onnx.Add", [table(&$0), $1])
            return try $0.model.add("onnx.Mul", [sum, $0.model.number(0.5)])
          })))
    #expect(before.operands.count == 10)
  }

  /// Scores kept where a mask says so, `hidden` elsewhere; or hidden where it says so.
  private func masked(
    _ mask: [Double], hidden: Double, guarded: Bool, hides: Bool = false
  ) throws -> Graph {
    try AttentionGraph.plain(
      scores: { graph, scores in
        let kept = graph.model.builder.constant(mask, shape: [1, 1, 5, 5], element: .bool, name: "mask")
        let number = graph.model.number(hidden)
        return try graph.model.add("onnx.Where", hides ? [kept, number, scores] : [kept, scores, number])
      },
      probabilities: { graph, probabilities in
        guard guarded else { return probabilities }
        let broken = try graph.model.add("onnx.IsNaN", [probabilities])
        return try graph.model.add("onnx.Where", [broken, graph.model.number(0), probabilities])
      })
  }

  private let lower = (0..<25).map { $0 % 5 <= $0 / 5 ? 1.0 : 0 }

  @Test("a mask that says what it hides is the bias", arguments: [-Double.infinity, -1e38])
  func hidingMask(hidden: Double) throws {
    let upper = lower.map { 1 - $0 }
    let node = try attention(try raised(try masked(upper, hidden: hidden, guarded: false, hides: true)))
    #expect(node.operands.count == 10)
  }

  @Test("a mask that hides nothing goes away, with its guard against rows without keys")
  func openMask() throws {
    let all = [Double](repeating: 1, count: 25)
    let node = try attention(try raised(try masked(all, hidden: -.infinity, guarded: true)))
    #expect(node.operands.count == 9)
  }

  @Test("a mask of constants becomes a bias", arguments: [-Double.infinity, -3.4028234663852886e38])
  func closedMask(hidden: Double) throws {
    let node = try attention(try raised(try masked(lower, hidden: hidden, guarded: false)))
    #expect(node.operands.count == 10)
  }

  @Test("a linear map before and after the core is not needed for the core itself")
  func coreAlone() throws {
    var model = ModelBuilder("core", seed: 3)
    let parts = (0..<3).map { model.input([.symbol("batch"), 2, 5, 4], name: "x\($0)") }
    let keys = try model.transpose(parts[1], [0, 1, 3, 2])
    let scores = try model.add(
      "onnx.Div", [try model.add("onnx.MatMul", [parts[0], keys]), model.number(2)])
    let probabilities = try model.add("onnx.Softmax", [scores], [("axis", .int(3))])
    let graph = model.finish(try model.add("onnx.MatMul", [probabilities, parts[2]]))
    let result = try apply("fold,raise", to: graph)
    #expect(result.operations == ["vit.sdpa"])
    #expect(try outputDifference(result, graph, [[2, 2, 5, 4], [2, 2, 5, 4], [2, 2, 5, 4]]) < 1e-5)
  }

  // MARK: Near misses

  /// The reasons that raising gives, once each.
  private func misses(_ graph: Graph) throws -> [String] {
    var graph = try apply("fold", to: graph)
    var reasons: [String] = []
    for miss in try Raise.apply(to: &graph, registry: .standard).misses where !reasons.contains(miss.reason) {
      reasons.append(miss.reason)
    }
    return reasons
  }

  @Test("scores that something else reads stop the core, which is said")
  func readScores() throws {
    var graph = AttentionGraph()
    let (q, k, v) = try graph.separate()
    let scaled = try graph.scores(q, k)
    let sum = try graph.model.add("onnx.Add", [scaled, graph.model.weight([5, 5])])
    let core = try graph.model.add("onnx.MatMul", [try graph.softmax(sum), v])
    let result = graph.model.finish(try graph.project(core), scaled)
    #expect(
      try misses(result) == ["expected logits that nothing else reads, found several readers of 'onnx.Mul'"])
    #expect(try raised(result).count("onnx.Softmax") == 1)
  }

  @Test("probabilities that are an output stop the core, which is said")
  func shownProbabilities() throws {
    var graph = AttentionGraph()
    let (q, k, v) = try graph.separate()
    let probabilities = try graph.softmax(try graph.scores(q, k))
    let y = try graph.project(try graph.model.add("onnx.MatMul", [probabilities, v]))
    let result = graph.model.finish(y, probabilities)
    #expect(try misses(result) == ["expected one reader of the probabilities, found an output as well"])
    #expect(try raised(result).count("onnx.Softmax") == 1)
  }

  @Test("heads that progress to each other are no core, which is said")
  func talkingHeads() throws {
    #expect(try raised(try AttentionGraph.talkingHeads()).count("onnx.Softmax") == 1)
    let graph = try AttentionGraph.plain(probabilities: { try $0.model.linear($1, 5, 5) })
    #expect(try raised(graph).count("onnx.Softmax") == 1)
    #expect(try misses(graph) == ["expected a product of probabilities and values, found 'vit.linear'"])
  }

  @Test("windows, other tokens and missing maps keep the core from becoming a layer, which is said")
  func coresThatAreNoLayers() throws {
    let windows = try AttentionGraph.windowed()
    #expect(try raised(windows, [8, 8]).count("vit.sdpa") == 1)
    #expect(
      try misses(windows) == [
        "expected attention among all tokens of an image, found windows or groups of them"
      ])
    let coarse = try AttentionGraph.coarseKeys()
    #expect(try raised(coarse).count("vit.sdpa") == 1)
    #expect(try misses(coarse) == ["expected queries, keys and values of the same tokens"])
    var bare = AttentionGraph()
    let q = try bare.split(bare.x)
    let core = try bare.model.add("onnx.MatMul", [try bare.softmax(try bare.scores(q, q)), q])
    let unmapped = bare.model.finish(try bare.project(core))
    #expect(try raised(unmapped).count("vit.sdpa") == 1)
    #expect(
      try misses(unmapped) == ["expected queries that are a linear map of the tokens, found an input"])
  }
}
