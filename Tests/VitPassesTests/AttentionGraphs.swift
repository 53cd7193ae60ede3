import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime

/// Attention as exporters write it, on tokens [batch, 5, 8] in 2 heads.
struct AttentionGraph {
  var model = ModelBuilder("attention", seed: 21)
  let x: ValueID
  let tokens = 5
  let width = 8
  let heads = 2
  var headWidth: Int { width / heads }

  init() { x = model.input([.symbol("batch"), 5, 8]) }

  /// What is done to scores on their way.
  enum Scale: String, CaseIterable, Sendable {
    case queries, keys, both, logits, division, none
  }

  /// [batch, tokens, width] as [batch, heads, tokens, width of a head].
  mutating func split(_ value: ValueID, heads: Int? = nil) throws -> ValueID {
    try model.transpose(try model.reshape(value, [0, 0, heads ?? self.heads, -1]), [0, 2, 1, 3])
  }

  /// [batch, heads, tokens, width of a head] through the output projection.
  mutating func project(_ value: ValueID) throws -> ValueID {
    let merged = try model.reshape(try model.transpose(value, [0, 2, 1, 3]), [0, 0, -1])
    return try model.linear(merged, width, width)
  }

  /// The scores of queries and keys, scaled by 1/√width.
  mutating func scores(_ q: ValueID, _ k: ValueID, scale: Scale = .logits) throws -> ValueID {
    let factor = 1 / Double(headWidth).squareRoot()
    var order = Array(0..<model.builder.graph.type(k).rank)
    order.swapAt(order.count - 1, order.count - 2)
    var (q, k) = (q, try model.transpose(k, order))
    switch scale {
    case .queries: q = try model.add("onnx.Mul", [q, model.number(factor)])
    case .keys: k = try model.add("onnx.Mul", [model.number(factor), k])
    case .both:
      q = try model.add("onnx.Mul", [q, model.number(factor.squareRoot())])
      k = try model.add("onnx.Mul", [k, model.number(factor.squareRoot())])
    case .logits, .division, .none: break
    }
    let product = try model.add("onnx.MatMul", [q, k])
    switch scale {
    case .logits: return try model.add("onnx.Mul", [product, model.number(factor)])
    case .division: return try model.add("onnx.Div", [product, model.number(1 / factor)])
    default: return product
    }
  }

  mutating func softmax(_ value: ValueID) throws -> ValueID {
    try model.add("onnx.Softmax", [value], [("axis", .int(-1))])
  }

  /// Queries, keys and values by three linear maps, each in heads.
  mutating func separate() throws -> (q: ValueID, k: ValueID, v: ValueID) {
    (
      try split(try model.linear(x, width, width)), try split(try model.linear(x, width, width)),
      try split(try model.linear(x, width, width))
    )
  }

  /// Everything from the tokens to the output projection, something being done to scores or probabilities.
  static func plain(
    scale: Scale = .logits,
    scores change: (inout AttentionGraph, ValueID) throws -> ValueID = { $1 },
    probabilities changeLater: (inout AttentionGraph, ValueID) throws -> ValueID = { $1 }
  ) throws -> Graph {
    var graph = AttentionGraph()
    let (q, k, v) = try graph.separate()
    let scores = try change(&graph, try graph.scores(q, k, scale: scale))
    let probabilities = try changeLater(&graph, try graph.softmax(scores))
    let y = try graph.project(try graph.model.add("onnx.MatMul", [probabilities, v]))
    return graph.model.finish(y)
  }

  /// One linear map for queries, keys and values, packed in this order.
  enum Packing: String, CaseIterable, Sendable {
    case roleHeadColumn, headRoleColumn, headColumnRole, rolesSplit
  }

  static func packed(_ packing: Packing) throws -> Graph {
    var graph = AttentionGraph()
    let all = try graph.model.linear(graph.x, 8, 24)
    var parts: [ValueID] = []
    func pick(_ value: ValueID, _ index: Int) throws -> ValueID {
      try graph.model.add(
        "onnx.Gather", [value, graph.model.builder.integers([index], shape: [])], [("axis", .int(0))])
    }
    switch packing {
    case .roleHeadColumn:
      let moved = try graph.model.transpose(try graph.model.reshape(all, [0, 0, 3, 2, 4]), [2, 0, 3, 1, 4])
      parts = try (0..<3).map { try pick(moved, $0) }
    case .headRoleColumn:
      let moved = try graph.model.transpose(try graph.model.reshape(all, [0, 0, 2, 3, 4]), [3, 0, 2, 1, 4])
      parts = try (0..<3).map { try pick(moved, $0) }
    case .headColumnRole:
      let moved = try graph.model.transpose(try graph.model.reshape(all, [0, 0, 2, 4, 3]), [4, 0, 2, 1, 3])
      parts = try (0..<3).map { try pick(moved, $0) }
    case .rolesSplit:
      parts = try graph.model.split(all, 3, axis: -1).map { try graph.split($0) }
    }
    let probabilities = try graph.softmax(try graph.scores(parts[0], parts[1]))
    return graph.model.finish(
      try graph.project(try graph.model.add("onnx.MatMul", [probabilities, parts[2]])))
  }

  /// PyTorch's nn.MultiheadAttention: [tokens, batch, width] inside; with `rank` 3 heads are in the batch.
  static func timeMajor(rank: Int) throws -> Graph {
    var graph = AttentionGraph()
    let moved = try graph.model.transpose(graph.x, [1, 0, 2])
    let all = try graph.model.reshape(try graph.model.linear(moved, 8, 24), [5, -1, 3, 8])
    let roles = try graph.model.transpose(all, [2, 0, 1, 3])
    var parts: [ValueID] = []
    for role in 0..<3 {
      let part = try graph.model.add(
        "onnx.Gather", [roles, graph.model.builder.integers([role], shape: [])], [("axis", .int(0))])
      let heads = try graph.model.transpose(try graph.model.reshape(part, [5, -1, 4]), [1, 0, 2])
      parts.append(rank == 3 ? heads : try graph.model.reshape(heads, [-1, 2, 5, 4]))
    }
    let probabilities = try graph.softmax(try graph.scores(parts[0], parts[1], scale: .queries))
    let core = try graph.model.add("onnx.MatMul", [probabilities, parts[2]])
    let flat = try graph.model.reshape(
      try graph.model.transpose(core, rank == 3 ? [1, 0, 2] : [2, 0, 1, 3]), [-1, 8])
    let projected = try graph.model.add(
      "onnx.Gemm", [flat, graph.model.weight([8, 8]), graph.model.weight([8], name: "bias")],
      [("transB", .int(1))])
    return graph.model.finish(
      try graph.model.transpose(try graph.model.reshape(projected, [5, -1, 8]), [1, 0, 2]))
  }

  /// Tokens flattened to rows, each linear map a Gemm.
  static func flattened() throws -> Graph {
    var graph = AttentionGraph()
    let rows = try graph.model.reshape(graph.x, [-1, 8])
    var parts: [ValueID] = []
    for _ in 0..<3 {
      let product = try graph.model.add(
        "onnx.Gemm", [rows, graph.model.weight([8, 8]), graph.model.weight([8], name: "bias")],
        [("transB", .int(0))])
      parts.append(try graph.model.transpose(try graph.model.reshape(product, [-1, 5, 2, 4]), [0, 2, 1, 3]))
    }
    let probabilities = try graph.softmax(try graph.scores(parts[0], parts[1], scale: .division))
    let core = try graph.model.add("onnx.MatMul", [probabilities, parts[2]])
    let merged = try graph.model.reshape(try graph.model.transpose(core, [0, 2, 1, 3]), [-1, 8])
    let projected = try graph.model.add(
      "onnx.Gemm", [merged, graph.model.weight([8, 8]), graph.model.weight([8], name: "bias")],
      [("transB", .int(1))])
    return graph.model.finish(try graph.model.reshape(projected, [-1, 5, 8]))
  }

  /// Four heads of queries, two of keys and values, each repeated for two.
  static func grouped() throws -> Graph {
    var graph = AttentionGraph()
    let q = try graph.split(try graph.model.linear(graph.x, 8, 8), heads: 4)
    var repeated: [ValueID] = []
    for _ in 0..<2 {
      let few = try graph.split(try graph.model.linear(graph.x, 8, 4, bias: false), heads: 2)
      let apart = try graph.model.add("onnx.Unsqueeze", [few, graph.model.integers([2])])
      let wide = try graph.model.add("onnx.Expand", [apart, graph.model.integers([1, 2, 2, 5, 2])])
      repeated.append(try graph.model.reshape(wide, [-1, 4, 5, 2]))
    }
    let probabilities = try graph.softmax(try graph.scores(q, repeated[0], scale: .both))
    return graph.model.finish(
      try graph.project(try graph.model.add("onnx.MatMul", [probabilities, repeated[1]])))
  }

  /// Attention within the two halves of four tokens each of [batch, 8, 8].
  static func windowed() throws -> Graph {
    var model = ModelBuilder("windows", seed: 5)
    let x = model.input([.symbol("batch"), 8, 8])
    let windows = try model.reshape(x, [-1, 4, 8])
    func heads(_ value: ValueID) throws -> ValueID {
      try model.transpose(try model.reshape(value, [0, 0, 2, 4]), [0, 2, 1, 3])
    }
    let q = try heads(try model.linear(windows, 8, 8))
    let k = try model.transpose(try heads(try model.linear(windows, 8, 8)), [0, 1, 3, 2])
    let v = try heads(try model.linear(windows, 8, 8))
    let scores = try model.add("onnx.Mul", [try model.add("onnx.MatMul", [q, k]), model.number(0.5)])
    let probabilities = try model.add("onnx.Softmax", [scores], [("axis", .int(-1))])
    let core = try model.transpose(try model.add("onnx.MatMul", [probabilities, v]), [0, 2, 1, 3])
    let y = try model.linear(try model.reshape(core, [0, 0, 8]), 8, 8)
    return model.finish(try model.reshape(y, [-1, 8, 8]))
  }

  /// Products written as einsums, the heads never moved: [batch, tokens, heads, width] and its like.
  static func einsums(_ scores: String, _ mix: String, moved: [Int]) throws -> Graph {
    var graph = AttentionGraph()
    var parts: [ValueID] = []
    for _ in 0..<3 {
      let cut = try graph.model.reshape(try graph.model.linear(graph.x, 8, 8), [0, 0, 2, 4])
      parts.append(try graph.model.transpose(cut, moved))
    }
    let product = try graph.model.add(
      "onnx.Einsum", [parts[0], parts[1]], [("equation", .string(scores))])
    let scaled = try graph.model.add("onnx.Mul", [product, graph.model.number(0.5)])
    let core = try graph.model.add(
      "onnx.Einsum", [try graph.softmax(scaled), parts[2]], [("equation", .string(mix))])
    let merged = try graph.model.reshape(core, [0, 0, 8])
    return graph.model.finish(try graph.model.linear(merged, 8, 8))
  }

  /// The projections as constants [heads, width, columns] of einsums, the last one together with the values.
  static func einsumWeights() throws -> Graph {
    var graph = AttentionGraph()
    func einsum(_ equation: String, _ operands: [ValueID]) throws -> ValueID {
      try graph.model.add("onnx.Einsum", operands, [("equation", .string(equation))])
    }
    let parts = try (0..<3).map { _ in try einsum("bnd,hde->bhne", [graph.x, graph.model.weight([2, 8, 4])]) }
    let scores = try graph.model.add(
      "onnx.Mul", [try einsum("bhqe,bhke->bhqk", [parts[0], parts[1]]), graph.model.number(0.5)])
    let out = graph.model.weight([2, 4, 8])
    return graph.model.finish(
      try einsum("bhqk,bhke,hed->bqd", [try graph.softmax(scores), parts[2], out]))
  }

  /// How a softmax is spelled.
  enum Exponentials: String, CaseIterable, Sendable { case plain, shifted, reciprocal }

  /// Exponentials over their sum, of scores that may be shifted by the greatest.
  static func exponentials(_ form: Exponentials) throws -> Graph {
    var graph = AttentionGraph()
    let (q, k, v) = try graph.separate()
    var scores = try graph.scores(q, k)
    let last = graph.model.integers([-1])
    if form != .plain {
      scores = try graph.model.add(
        "onnx.Sub", [scores, try graph.model.add("onnx.ReduceMax", [scores, last])])
    }
    let weights = try graph.model.add("onnx.Exp", [scores])
    var total = try graph.model.add("onnx.ReduceSum", [weights, last])
    if form == .reciprocal { total = try graph.model.add("onnx.Reciprocal", [total]) }
    let probabilities = try graph.model.add(
      form == .reciprocal ? "onnx.Mul" : "onnx.Div",
      [form == .reciprocal ? total : weights, form == .reciprocal ? weights : total])
    return graph.model.finish(try graph.project(try graph.model.add("onnx.MatMul", [probabilities, v])))
  }

  /// What stands the other way round: values as [batch, heads, width, tokens], or scores as keys by queries.
  enum Turn: String, CaseIterable, Sendable { case values, scores }

  static func turned(_ turn: Turn) throws -> Graph {
    var graph = AttentionGraph()
    let (q, k, v) = try graph.separate()
    func flip(_ value: ValueID) throws -> ValueID { try graph.model.transpose(value, [0, 1, 3, 2]) }
    switch turn {
    case .values:
      let probabilities = try graph.softmax(try graph.scores(q, k))
      let product = try graph.model.add("onnx.MatMul", [try flip(v), try flip(probabilities)])
      return graph.model.finish(try graph.project(try flip(product)))
    case .scores:
      let weights = try graph.model.add(
        "onnx.Softmax", [try graph.scores(k, q)], [("axis", .int(-2))])
      return graph.model.finish(
        try graph.project(try graph.model.add("onnx.MatMul", [try flip(weights), v])))
    }
  }

  /// Queries, keys and values by three products of whole numbers with one quantisation of the tokens.
  static func integerProducts() throws -> Graph {
    var graph = AttentionGraph()
    let small = try graph.model.add("onnx.Cast", [graph.x], [("to", .int(3))])
    func part() throws -> ValueID {
      let weight = graph.model.builder.constant(
        (0..<64).map { Double($0 % 7 - 3) }, shape: [8, 8], element: .i8, name: "weight")
      let sums = try graph.model.add("onnx.MatMulInteger", [small, weight])
      let numbers = try graph.model.add("onnx.Cast", [sums], [("to", .int(1))])
      return try graph.split(try graph.model.add("onnx.Mul", [numbers, graph.model.number(0.1)]))
    }
    let (q, k, v) = (try part(), try part(), try part())
    let probabilities = try graph.softmax(try graph.scores(q, k))
    return graph.model.finish(
      try graph.project(try graph.model.add("onnx.MatMul", [probabilities, v])))
  }

  /// Queries, keys and values by three convolutions of a map [batch, 8, 2, 3].
  static func convolutions(kernel: Int = 1, groups: Int = 1, normalised: Bool = false) throws -> Graph {
    var model = ModelBuilder("convolutions", seed: 6)
    let x = model.input([.symbol("batch"), 8, 2, 3])
    func convolution(_ value: ValueID) throws -> ValueID {
      let map = try model.add(
        "onnx.Conv",
        [
          value, model.weight([8, 8 / groups, kernel, kernel]), model.weight([8], name: "shift", scale: 0.3),
        ],
        [("group", .int(groups)), ("pads", .ints([Int](repeating: kernel / 2, count: 4)))])
      guard normalised else { return map }
      let (gain, bias, mean) = (model.weight([8], scale: 1), model.weight([8]), model.weight([8]))
      let variance = model.builder.constant((1...8).map { Double($0) / 4 }, shape: [8])
      return try model.add("onnx.BatchNormalization", [map, gain, bias, mean, variance])
    }
    func part() throws -> ValueID {
      let map = try convolution(x)
      return try model.transpose(try model.reshape(map, [0, 2, 4, -1]), [0, 1, 3, 2])
    }
    let (q, k, v) = (try part(), try part(), try part())
    let scores = try model.add("onnx.MatMul", [q, try model.transpose(k, [0, 1, 3, 2])])
    let probabilities = try model.add("onnx.Softmax", [scores], [("axis", .int(-1))])
    let core = try model.add("onnx.MatMul", [probabilities, v])
    let map = try model.reshape(try model.transpose(core, [0, 1, 3, 2]), [0, 8, 2, 3])
    return model.finish(try convolution(map))
  }

  /// What asks: a learned query, or the first token alone.
  enum Asking: Sendable { case learned, firstToken }

  /// Few queries over all tokens.
  static func pooled(_ asking: Asking) throws -> Graph {
    var graph = AttentionGraph()
    let asked: ValueID
    switch asking {
    case .learned: asked = graph.model.weight([1, 1, 8], name: "query", scale: 1)
    case .firstToken:
      asked = try graph.model.add(
        "onnx.Gather", [graph.x, graph.model.integers([0])], [("axis", .int(1))])
    }
    let q = try graph.split(try graph.model.linear(asked, 8, 8))
    let k = try graph.split(try graph.model.linear(graph.x, 8, 8))
    let v = try graph.split(try graph.model.linear(graph.x, 8, 8))
    let probabilities = try graph.softmax(try graph.scores(q, k))
    return graph.model.finish(
      try graph.project(try graph.model.add("onnx.MatMul", [probabilities, v])))
  }

  /// Keys and values from every second token only.
  static func coarseKeys() throws -> Graph {
    var graph = AttentionGraph()
    let coarse = try graph.model.add(
      "onnx.Slice",
      [
        graph.x, graph.model.integers([0]), graph.model.integers([5]), graph.model.integers([1]),
        graph.model.integers([2]),
      ])
    let q = try graph.split(try graph.model.linear(graph.x, 8, 8))
    let k = try graph.split(try graph.model.linear(coarse, 8, 8))
    let v = try graph.split(try graph.model.linear(coarse, 8, 8))
    let probabilities = try graph.softmax(try graph.scores(q, k))
    return graph.model.finish(
      try graph.project(try graph.model.add("onnx.MatMul", [probabilities, v])))
  }

  /// Each channel of a head asks all others of it, what it knows being its tokens; these may be normalised first.
  static func amongChannels(normalised: Bool) throws -> Graph {
    var graph = AttentionGraph()
    func channels(_ value: ValueID) throws -> ValueID {
      let turned = try graph.model.transpose(value, [0, 1, 3, 2])
      return normalised
        ? try graph.model.add("onnx.LpNormalization", [turned], [("axis", .int(-1)), ("p", .int(2))]) : turned
    }
    let (q, k, v) = try graph.separate()
    let scores = try graph.scores(try channels(q), try channels(k))
    let mixed = try graph.model.add(
      "onnx.MatMul", [try graph.softmax(scores), try graph.model.transpose(v, [0, 1, 3, 2])])
    return graph.model.finish(try graph.project(try graph.model.transpose(mixed, [0, 1, 3, 2])))
  }

  /// A linear map across heads before and after the softmax.
  static func talkingHeads() throws -> Graph {
    func across(_ graph: inout AttentionGraph, _ value: ValueID) throws -> ValueID {
      let last = try graph.model.transpose(value, [0, 2, 3, 1])
      return try graph.model.transpose(try graph.model.linear(last, 2, 2), [0, 3, 1, 2])
    }
    return try plain(scores: { try across(&$0, $1) }, probabilities: { try across(&$0, $1) })
  }
}
