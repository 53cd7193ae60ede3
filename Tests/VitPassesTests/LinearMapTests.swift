import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime

/// Layers whose linear maps are no product of tokens with one matrix.
struct LinearMapTests {
  /// A layer on tokens [batch, 5, 8] in 2 heads, raised: its outputs are as before, and it can be replaced.
  @discardableResult
  private func replaceable(
    _ graph: Graph, shapes: [[Int]] = [[3, 5, 8]], _ place: SourceLocation = #_sourceLocation
  ) throws -> Graph {
    let raised = try apply("fold,raise,dce", to: Hybrid(graph))
    #expect(try outputDifference(raised.graph, graph, shapes) < 1e-5, sourceLocation: place)
    #expect(raised.layers.map(\.obstacle) == [nil], sourceLocation: place)
    #expect(raised.layers.map(\.heads) == [2], sourceLocation: place)
    return raised.graph
  }

  /// Attention whose output goes through `output`, and what it attended through `gate` before that.
  private func attention(
    gate: (inout AttentionGraph, ValueID) throws -> ValueID = { $1 },
    map: ((inout AttentionGraph, ValueID) throws -> ValueID)? = nil,
    output: ((inout AttentionGraph, ValueID) throws -> ValueID)? = nil
  ) throws -> Graph {
    var graph = AttentionGraph()
    let x = graph.x
    func mapped(_ graph: inout AttentionGraph) throws -> ValueID {
      try graph.split(try map?(&graph, x) ?? graph.model.linear(x, 8, 8))
    }
    let (q, k, v) = (try mapped(&graph), try mapped(&graph), try mapped(&graph))
    let weights = try graph.softmax(try graph.scores(q, k))
    let core = try graph.model.add("onnx.MatMul", [weights, v])
    let merged = try graph.model.reshape(try graph.model.transpose(core, [0, 2, 1, 3]), [0, 0, -1])
    let gated = try gate(&graph, merged)
    let result = try output?(&graph, gated) ?? graph.model.linear(gated, 8, 8)
    return graph.model.finish(try graph.model.add("onnx.Add", [x, result]))
  }

  /// Where the factor of an adapter stands.
  enum Factor: CaseIterable, Sendable { case before, between, after, none, division }

  /// A map with adapters of rank 2 beside it.
  private func adapted(
    _ graph: inout AttentionGraph, _ x: ValueID, _ factor: Factor, count: Int = 1
  ) throws -> ValueID {
    var sum = try graph.model.linear(x, 8, 8)
    for _ in 0..<count {
      let two = graph.model.number(2)
      var low = factor == .before ? try graph.model.add("onnx.Mul", [two, x]) : x
      low = try graph.model.linear(try graph.model.add("onnx.Identity", [low]), 8, 2, bias: false)
      if factor == .between { low = try graph.model.add("onnx.Mul", [low, two]) }
      var high = try graph.model.linear(low, 2, 8, bias: false)
      if factor == .after { high = try graph.model.add("onnx.Mul", [high, two]) }
      if factor == .division { high = try graph.model.add("onnx.Div", [high, two]) }
      sum = try graph.model.add("onnx.Add", [sum, high])
    }
    return sum
  }

  @Test("adapters of low rank become part of the weight beside them", arguments: Factor.allCases)
  func adapters(factor: Factor) throws {
    for count in 1...2 {
      let graph = try attention(
        map: { try adapted(&$0, $1, factor, count: count) },
        output: { try adapted(&$0, $1, factor, count: count) })
      #expect(try replaceable(graph).operations.sorted() == ["vit.add", "vit.attention"])
    }
  }

  @Test("factors of each channel on a sum of maps are taken into it, and differences are sums")
  func channelFactors() throws {
    let graph = try attention(output: { graph, x in
      let base = try graph.model.linear(x, 8, 8)
      let scaled = try graph.model.add("onnx.Mul", [base, graph.model.weight([8], scale: 1)])
      let other = try graph.model.linear(try graph.model.linear(x, 8, 8), 8, 8)
      return try graph.model.add("onnx.Sub", [scaled, other])
    })
    #expect(try replaceable(graph).operations.sorted() == ["vit.add", "vit.attention"])
  }

  @Test("a residual around a linear map stays a sum, and so do two narrow maps beside each other")
  func noSums() throws {
    var model = ModelBuilder("sums")
    let x = model.input([.symbol("batch"), 5, 8])
    let residual = try model.add("onnx.Add", [x, try model.linear(x, 8, 8)])
    func narrow() throws -> ValueID { try model.linear(try model.linear(residual, 8, 1), 1, 8) }
    let graph = model.finish(try model.add("onnx.Add", [try narrow(), try narrow()]))
    let raised = try apply("fold,raise,dce", to: graph)
    #expect(raised.operations.filter { $0 == "vit.linear" }.count == 5)
  }

  @Test("maps of two factors, and an adapter with a function, leave the layer replaceable")
  func factors() throws {
    func factorised(_ graph: inout AttentionGraph, _ x: ValueID) throws -> ValueID {
      try graph.model.linear(try graph.model.linear(x, 8, 3), 3, 8)
    }
    try replaceable(try attention(map: factorised, output: factorised))
    try replaceable(
      try attention(output: { graph, x in
        let low = try graph.model.add("onnx.Relu", [try graph.model.linear(x, 8, 2)])
        return try graph.model.add(
          "onnx.Add", [try graph.model.linear(x, 8, 8), try graph.model.linear(low, 2, 8)])
      }))
  }

  /// What attended values are multiplied with.
  enum Gate: CaseIterable, Sendable { case channels, silu, own, constant, normalised }

  @Test("what gates attended values is part of the layer", arguments: Gate.allCases)
  func gates(gate: Gate) throws {
    let graph = try attention(gate: { graph, values in
      let x = gate == .own ? values : graph.x
      switch gate {
      case .constant: return try graph.model.add("onnx.Mul", [values, graph.model.weight([8], scale: 1)])
      case .normalised:
        let (gain, shift) = (graph.model.weight([8], scale: 1), graph.model.weight([8]))
        return try graph.model.add("onnx.LayerNormalization", [values, gain, shift])
      case .channels, .own, .silu:
        let map = try graph.model.linear(x, 8, 8)
        var open = try graph.model.add("onnx.Sigmoid", [map])
        if gate == .silu { open = try graph.model.add("onnx.Mul", [map, open]) }
        return try graph.model.add("onnx.Mul", [values, open])
      }
    })
    try replaceable(graph)
  }

  @Test("without an output map the reason names what follows the attended values")
  func noMap() throws {
    let raised = try apply("fold,raise,dce", to: Hybrid(try attention(output: { $1 })))
    #expect(raised.layers.map(\.obstacle) == ["no linear map follows it: 'vit.add' does"])
  }

  // MARK: Channels before tokens

  @Test("convolutions of one pixel around attention are linear maps of tokens", arguments: [1, 2])
  func convolutions(groups: Int) throws {
    let graph = try replaceable(try AttentionGraph.convolutions(groups: groups), shapes: [[3, 8, 2, 3]])
    #expect(graph.operations.contains("vit.attention"))
    #expect(!graph.operations.contains("onnx.Conv"))
  }

  @Test("normalisations by constant statistics behind convolutions are part of them")
  func normalised() throws {
    let graph = try replaceable(try AttentionGraph.convolutions(normalised: true), shapes: [[3, 8, 2, 3]])
    #expect(!graph.operations.contains("onnx.BatchNormalization"))
  }

  @Test("convolutions whose results are read as tokens, one head of keys for several of queries")
  func sharedKeys() throws {
    var model = ModelBuilder("shared", seed: 8)
    let x = model.input([.symbol("batch"), 8, 2, 3])
    func convolution(_ value: ValueID, _ width: Int) throws -> ValueID {
      try model.add("onnx.Conv", [value, model.weight([width, 8, 1, 1])], [("strides", .ints([1, 1]))])
    }
    func tokens(_ width: Int) throws -> ValueID {
      let flat = try model.reshape(try convolution(x, width), [0, width, -1])
      return try model.reshape(try model.transpose(flat, [0, 2, 1]), [0, 1, 6, width])
    }
    let q = try model.transpose(
      try model.reshape(try convolution(x, 8), [0, 2, 4, -1]), [0, 1, 3, 2])
    let (k, v) = (try tokens(4), try tokens(4))
    let scores = try model.add("onnx.MatMul", [q, try model.transpose(k, [0, 1, 3, 2])])
    let weights = try model.add("onnx.Softmax", [scores], [("axis", .int(-1))])
    let core = try model.add("onnx.MatMul", [weights, v])
    let map = try model.reshape(try model.transpose(core, [0, 1, 3, 2]), [0, 8, 2, 3])
    let graph = model.finish(try convolution(map, 8))
    #expect(try replaceable(graph, shapes: [[3, 8, 2, 3]]).operations.contains("vit.attention"))
  }

  @Test("convolutions of wider windows stay, and so does one of one pixel that no attention needs")
  func wideWindows() throws {
    let raised = try apply("fold,raise,dce", to: Hybrid(try AttentionGraph.convolutions(kernel: 3)))
    #expect(raised.layers.map(\.isReplaceable) == [false])
    var graph = try AttentionGraph.convolutions(kernel: 3)
    let misses = try Raise.apply(to: &graph, registry: .standard).misses
    #expect(misses.filter { $0.pattern == "channel-major" }.count == 3)
    #expect(raised.graph.operations.filter { $0 == "onnx.Conv" }.count == 4)
    var model = ModelBuilder("image")
    let x = model.input([.symbol("batch"), 8, 4, 4])
    let alone = model.finish(try model.add("onnx.Conv", [x, model.weight([8, 8, 1, 1])]))
    #expect(try apply("fold,raise,dce", to: alone).operations == ["onnx.Conv"])
  }

  @Test("weights on the left of channels before tokens are linear maps, their biases columns")
  func leftProducts() throws {
    var model = ModelBuilder("left", seed: 9)
    let x = model.input([.symbol("batch"), 8, 5])
    func map(_ value: ValueID) throws -> ValueID {
      let product = try model.add("onnx.MatMul", [model.weight([8, 8]), value])
      return try model.add("onnx.Add", [product, model.weight([8, 1], scale: 1)])
    }
    func heads(_ value: ValueID) throws -> ValueID { try model.reshape(try map(value), [0, 2, 4, -1]) }
    let (q, k, v) = (try heads(x), try heads(x), try heads(x))
    let scores = try model.add("onnx.MatMul", [try model.transpose(q, [0, 1, 3, 2]), k])
    let weights = try model.add("onnx.Softmax", [scores], [("axis", .int(-1))])
    let core = try model.add("onnx.MatMul", [v, try model.transpose(weights, [0, 1, 3, 2])])
    let graph = model.finish(try map(try model.reshape(core, [0, 8, 5])))
    let raised = try replaceable(graph, shapes: [[3, 8, 5]])
    #expect(raised.operations.contains("vit.attention"))
  }

  // MARK: Other orders of axes

  @Test("tokens before the batch: a layer with and without a gate can be replaced", arguments: [false, true])
  func tokensFirst(gated: Bool) throws {
    var model = ModelBuilder("first", seed: 4)
    let x = try model.transpose(model.input([.symbol("batch"), 5, 8]), [1, 0, 2])
    func heads() throws -> ValueID {
      try model.transpose(try model.reshape(try model.linear(x, 8, 8), [5, -1, 2, 4]), [1, 2, 0, 3])
    }
    let (q, k, v) = (try heads(), try heads(), try heads())
    let scores = try model.add("onnx.MatMul", [q, try model.transpose(k, [0, 1, 3, 2])])
    let weights = try model.add("onnx.Softmax", [scores], [("axis", .int(-1))])
    let core = try model.add("onnx.MatMul", [weights, v])
    var merged = try model.reshape(try model.transpose(core, [2, 0, 1, 3]), [5, -1, 8])
    if gated {
      merged = try model.add(
        "onnx.Mul", [merged, try model.add("onnx.Sigmoid", [try model.linear(x, 8, 8)])])
    }
    let sum = try model.add("onnx.Add", [x, try model.linear(merged, 8, 8)])
    try replaceable(model.finish(try model.transpose(sum, [1, 0, 2])))
  }

  @Test("tokens of one image without a batch axis")
  func withoutBatch() throws {
    var model = ModelBuilder("one", seed: 5)
    let x = try model.add("onnx.Squeeze", [model.input([1, 5, 8]), model.integers([0])])
    func heads() throws -> ValueID {
      try model.transpose(try model.reshape(try model.linear(x, 8, 8), [5, 2, 4]), [1, 0, 2])
    }
    let (q, k, v) = (try heads(), try heads(), try heads())
    let scores = try model.add("onnx.MatMul", [q, try model.transpose(k, [0, 2, 1])])
    let weights = try model.add("onnx.Softmax", [scores], [("axis", .int(-1))])
    let core = try model.add("onnx.MatMul", [weights, v])
    let merged = try model.reshape(try model.transpose(core, [1, 0, 2]), [5, 8])
    let sum = try model.add("onnx.Add", [x, try model.linear(merged, 8, 8)])
    let graph = model.finish(try model.add("onnx.Unsqueeze", [sum, model.integers([0])]))
    try replaceable(graph, shapes: [[1, 5, 8]])
  }

  @Test("a bias that is added behind moves is the bias of the map before them, where it goes with channels")
  func movedBias() throws {
    func graph(_ shape: [Int]) throws -> Graph {
      var model = ModelBuilder("bias", seed: 6)
      let x = model.input([.symbol("batch"), 5, 8])
      let heads = try model.transpose(
        try model.reshape(try model.linear(x, 8, 8, bias: false), [0, 5, 2, 4]), [0, 2, 1, 3])
      return model.finish(try model.add("onnx.Add", [heads, model.weight(shape, scale: 1)]))
    }
    let folded = try apply("fold,raise,dce", to: try graph([2, 1, 4]))
    #expect(!folded.operations.contains("onnx.Add"))
    #expect(try outputDifference(folded, try graph([2, 1, 4]), [[3, 5, 8]]) < 1e-5)
    for shape in [[1, 1, 4], [2, 5, 4]] {
      #expect(try apply("fold,raise,dce", to: try graph(shape)).operations.contains("onnx.Add"))
    }
  }
}
