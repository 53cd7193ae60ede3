public import VitIR
internal import VitOps

/// Leaves out the rows that nobody reads: where a head reads one token, the last block computes that token only, and its
/// attention that token's queries.
///
/// Exact but for the rounding of other product sizes. Comes late, when all training is done: a layer of which only some
/// rows are computed is no longer one that can be replaced or distilled.
public struct Trim: Pass {
  /// `trim`.
  public static let name = "trim"
  /// See `Pass`.
  public static let summary =
    "Leaves out rows that nobody reads: the last block computes only the tokens of the head"

  /// The pass; it has no options.
  public init() {}
  /// The pass; it takes no options.
  public init(options: inout OptionReader) throws(VitError) {}
  /// None.
  public var options: [(name: String, value: String)] { [] }

  /// Finds out what is read, and rebuilds what can do with less.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    var trimmer = Trimmer(hybrid.graph, registry: context.registry)
    try trimmer.run()
    guard !trimmer.reduced.isEmpty else { return PassResult() }
    (hybrid.graph, hybrid.layers) = try trimmer.finish(hybrid.layers)
    _ = try Fold().run(on: &hybrid.graph, context: context)
    return PassResult(
      changes: trimmer.reduced.count, notes: ["\(trimmer.reduced.count) operations compute fewer rows"])
  }
}

/// One trimming of a graph: values of which only some entries are read get a shorter one beside them.
private struct Trimmer {
  private var rewriter: Rewriter
  private let graph: Graph
  private let demand: RowDemand
  /// The shorter values, with their axis and entries.
  private var short: [ValueID: (value: ValueID, axis: Int, entries: [Int])] = [:]
  /// The results of nodes that compute fewer rows.
  private(set) var reduced: Set<ValueID> = []
  /// The cores of attention with fewer queries.
  private var cores: [ValueID: ValueID] = [:]

  init(_ graph: Graph, registry: Registry) {
    self.graph = graph
    demand = RowDemand(graph)
    rewriter = Rewriter(graph, registry: registry)
  }

  mutating func run() throws(VitError) {
    for (place, node) in graph.nodes.enumerated() {
      guard node.results.count == 1, let result = node.results.first else { continue }
      rewriter.builder.location = node.location
      switch (demand[result], demand.reductions[place]) {
      case (.entries(let axis, let entries), .parallel):
        try reduce(node, result, axis, entries)
      case (.entries(let axis, let entries), .queries):
        short[result] = (try queries(node, result, entries), axis, entries)
        reduced.insert(result)
      case (.all, _): try pick(node, result)
      default: break
      }
    }
  }

  /// The same operation on entries of its operands.
  private mutating func reduce(
    _ node: Node, _ result: ValueID, _ axis: Int, _ entries: [Int]
  ) throws(VitError) {
    let map = graph.axes(of: node)
    guard let letter = graph.letter(of: node, map, axis: axis) else { return }
    var operands = node.operands
    for (place, operand) in node.operands.enumerated() {
      guard let operand, let own = letter.axis(ofOperand: place) else { continue }
      operands[place] = try rows(operand, own, entries)
    }
    let value = try rewriter.builder.add(node.operation, operands)[0]
    short[result] = (value, axis, entries)
    reduced.insert(result)
  }

  /// Attention of the listed tokens to all: where they are the first ones, without keys and values of the others.
  private mutating func queries(
    _ node: Node, _ result: ValueID, _ entries: [Int]
  ) throws(VitError) -> ValueID {
    if let prefix = node.operation as? PrefixAttention {
      return try first(prefix, node.operands, result, entries)
    }
    guard let heads = (node.operation as? VitAttention)?.heads, let last = entries.last,
      last < Trimmer.fewTokens, hasSharedBias(node),
      (node.operation as? VitAttention)?.kvHeads == heads, let wq = node.operands[1].map(graph.type),
      let channels = wq.shape[0].fixedValue
    else { return try attention(node, result, entries) }
    let scale = (node.operation as? VitAttention)?.scale ?? 1 / Double(max(1, channels / heads)).squareRoot()
    func operand(_ index: Int) -> ValueID? { index < node.operands.count ? node.operands[index] : nil }
    // A bias of the keys adds the same to all scores of a query.
    let operands = [operand(0), nil, operand(1), operand(2), operand(3), operand(5), operand(6), operand(7)]
    let more = operand(9) == nil ? [operand(8)].filter { $0 != nil } : [operand(8), operand(9)]
    return try first(
      PrefixAttention(heads: heads, kvHeads: heads, prefix: last + 1, scale: scale), operands + more, result,
      entries)
  }

  /// Whether an attention adds nothing to its scores, or the same for all heads and queries of an image.
  private func hasSharedBias(_ node: Node) -> Bool {
    guard node.operands.count > 9, let bias = node.operands[9], let x = node.operands[0] else { return true }
    let (type, tokens) = (graph.type(bias), graph.type(x))
    return type.shape == [tokens.shape[0], 1, 1, tokens.shape[1]]
  }

  /// Up to so many of the first tokens attend without keys and values of the others.
  private static let fewTokens = 8

  /// The rows of the first tokens alone, and of these the listed ones.
  private mutating func first(
    _ attention: PrefixAttention, _ operands: [ValueID?], _ result: ValueID, _ entries: [Int]
  ) throws(VitError) -> ValueID {
    let count = (entries.last ?? 0) + 1
    let operation = PrefixAttention(
      heads: attention.heads, kvHeads: attention.kvHeads, prefix: count, scale: attention.scale)
    var operands = operands
    operands[1] = nil
    let rows = try rewriter.builder.add(operation, operands)[0]
    cores[result] = rows
    if entries == Array(0..<count) { return rows }
    return try rewriter.builder.add(
      Onnx.gather, [rows, rewriter.builder.integers(entries)], [("axis", .int(1))])
  }

  /// Attention of the listed tokens to all.
  private mutating func attention(
    _ node: Node, _ result: ValueID, _ entries: [Int]
  ) throws(VitError) -> ValueID {
    guard let x = node.operands[0] else {
      throw VitError("input 0 ('x') is missing", code: "operand-missing")
    }
    func int(_ name: String) -> Int? {
      if case .int(let value)? = node.operation.attributes[name] { value } else { nil }
    }
    let heads = int("heads") ?? 1
    let groups = int("kv_heads") ?? heads
    func operand(_ index: Int) -> ValueID? { index < node.operands.count ? node.operands[index] : nil }
    let queries = try rows(x, 1, entries)
    func map(_ x: ValueID, _ weight: Int) throws(VitError) -> ValueID {
      try rewriter.builder.add(VitLinear.self, [x, operand(weight), operand(weight + 1)])
    }
    let q = try rewriter.builder.splitHeads(try map(queries, 1), heads)
    let k = try rewriter.builder.splitHeads(try map(x, 3), groups)
    let v = try rewriter.builder.splitHeads(try map(x, 5), groups)
    var bias = operand(9)
    if let all = bias, graph.type(all).rank >= 2,
      graph.type(all).shape[graph.type(all).rank - 2] == graph.type(x).shape[1]
    {
      bias = try rows(all, graph.type(all).rank - 2, entries)
    }
    var scale: Double?
    if case .float(let value)? = node.operation.attributes["scale"] { scale = value }
    let core = try rewriter.builder.core(
      [q, k, v], bias: bias, scale: scale, causal: false,
      guarded: node.operation.attributes["guarded"] != .bool(false))
    cores[result] = core
    return try map(try rewriter.builder.mergeHeads(core), 7)
  }

  /// A node that picks entries out of a value that has become shorter picks them there.
  private mutating func pick(_ node: Node, _ result: ValueID) throws(VitError) {
    let map = graph.axes(of: node)
    guard let pick = RowPick(node, graph, map), let data = node.operands[0],
      let source = short[data], source.axis == pick.axis
    else { return }
    let places = pick.entries.compactMap(source.entries.firstIndex)
    guard places.count == pick.entries.count else { return }
    let type = graph.type(result)
    // One entry without its axis, or a list along it; indices of another shape stay as they are.
    let shape = type.rank < graph.type(data).rank ? [] : [places.count]
    var value = source.value
    if !(shape == [places.count] && places == Array(source.entries.indices)) {
      value = try rewriter.builder.add(
        Onnx.gather, [value, rewriter.builder.integers(places, shape: shape)],
        [("axis", .int(pick.axis))])
    }
    guard rewriter.type(value) == type else { return }
    try rewriter.replace(result, with: value, by: Trim.name)
  }

  /// The listed entries of a value.
  private mutating func rows(_ id: ValueID, _ axis: Int, _ entries: [Int]) throws(VitError) -> ValueID {
    var (value, places) = (id, entries)
    if let own = short[id], own.axis == axis {
      if own.entries == entries { return own.value }
      let found = entries.compactMap(own.entries.firstIndex)
      if found.count == entries.count { (value, places) = (own.value, found) }
    }
    let index = rewriter.builder.integers(places)
    let picked = try rewriter.builder.add(Onnx.gather, [value, index], [("axis", .int(axis))])
    if short[id] == nil { short[id] = (picked, axis, entries) }
    return picked
  }

  /// The graph, and the layers where they are now.
  func finish(_ layers: [Layer]) throws(VitError) -> (Graph, [Layer]) {
    let graph = try rewriter.finish()
    let moved = layers.map { layer -> Layer in
      var layer = layer
      guard let output = layer.output, reduced.contains(output), let shorter = short[output] else {
        return layer
      }
      layer.core = cores[output] ?? short[layer.core]?.value ?? shorter.value
      if layer.isAttention || layer.isShared || cores[output] != nil {
        layer.obstacle = "it computes only \(shorter.entries.count) of its tokens"
      } else {
        layer.input = layer.input.flatMap { short[$0]?.value } ?? layer.input
      }
      layer.output = shorter.value
      layer.parameters =
        layer.input.map { graph.parameterCount(from: $0, to: shorter.value) } ?? layer.parameters
      return layer
    }
    return (graph, moved)
  }
}
