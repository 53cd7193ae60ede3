internal import VitIR
internal import VitOps
internal import VitRuntime

/// One walk down a graph that merges or drops tokens where it is told to, and lets what lies behind work on fewer.
///
/// A node keeps its results; their types change. What runs token by token stays as it is, what reads only tokens before the
/// patches too; attention and mixers are told of the sizes; and all else gets a token for each place again.
struct Merger {
  /// The layers, with the values that they have now.
  private(set) var layers: [Layer]
  private let original: Graph
  private let nodes: [Node]
  private let sites: [MergeSite]
  private let metric: Merge.Metric
  private let fold: GraphBuilder.Fold
  private var builder: GraphBuilder
  /// What stands for an old value.
  private var moved: [ValueID: ValueID] = [:]
  /// The merges so far, and of how many of them a value is the result: none where it has all tokens.
  private var stages: [Stage] = []
  private var stage: [ValueID: Int] = [:]
  /// The nodes that could not work on fewer tokens, by name.
  private var restoring: [String] = []
  /// Values with a token for each place again; those that were dropped are zero, or have what they had last.
  private var whole: [ValueID: ValueID] = [:]
  private var lasting: [ValueID: ValueID] = [:]
  /// Of each residual stream from which tokens were dropped the one with all that came there.
  private var streams: [ValueID: ValueID] = [:]
  /// What tokens have come to that halt, if they do.
  private var halting: HaltingNodes?

  /// What is known behind a merge.
  private struct Stage {
    /// The token that stands for each place.
    let table: ValueID
    let tokens, prefix: Int
    let layer: Int
    /// Whether some places have no token any more; else some tokens stand for several.
    let hasGaps: Bool
    /// The logarithms of the sizes, once somebody has asked for them.
    var sizes: ValueID?
  }

  init(
    _ graph: Graph, layers: [Layer], sites: [MergeSite], metric: Merge.Metric, registry: Registry,
    pool: any WorkPool, halting: Halting.Rule? = nil
  ) {
    self.halting = halting.map(HaltingNodes.init)
    original = graph
    nodes = graph.nodes
    self.layers = layers
    self.sites = sites
    self.metric = metric
    fold = ConstantFolder(pool: pool).fold
    var empty = graph
    empty.nodes = []
    builder = GraphBuilder(empty, registry: registry)
    builder.fold = fold
  }

  /// Walks down.
  mutating func run() throws(VitError) {
    for node in nodes {
      builder.location = node.location
      let read = node.operands.compactMap { $0 }.compactMap { stage[now($0)] }
      var isDone = false
      if let number = read.first, read.allSatisfy({ $0 == number }) { isDone = try follow(node, number) }
      if !isDone, !read.isEmpty { restoring.append(node.location.node ?? node.name) }
      if !isDone {
        try append(
          node,
          try node.operands.map { operand throws(VitError) in
            try operand.map { value throws(VitError) in try last(value) }
          })
      }
      for site in sites where node.results.contains(site.stream) { try merge(site) }
    }
  }

  /// What a user should know: a layer behind the first site that works on all tokens again.
  func warning(_ pass: String) -> Diagnostic? {
    guard let first = sites.first(where: { $0.count > 0 }),
      let layer = layers.first(where: { layer in
        layer.index > first.layer
          && layer.input.map { original.type($0).shape[1] == builder.graph.type(now($0)).shape[1] } ?? false
      }), let node = restoring.first
    else { return nil }
    return Diagnostic(
      .warning,
      "\(pass): layer \(layer.index) works on all tokens again: '\(node)' does not work token by token",
      code: "tokens-return", location: Location(node: layer.node))
  }

  /// The graph; its outputs have all tokens.
  mutating func finish() throws(VitError) -> Graph {
    builder.location = Location()
    for index in builder.graph.outputs.indices {
      builder.graph.outputs[index].value = try last(builder.graph.outputs[index].value)
    }
    for place in layers.indices {
      layers[place].input = layers[place].input.map(now)
      layers[place].output = layers[place].output.map(now)
    }
    return builder.graph
  }

  /// What stands for a value.
  private func now(_ id: ValueID) -> ValueID { moved[id] ?? id }

  /// What stands for a value, with all tokens.
  private mutating func all(_ id: ValueID) throws(VitError) -> ValueID {
    let value = now(id)
    guard let place = stage[value] else { return value }
    if let known = whole[value] { return known }
    let stage = stages[place]
    let result = try builder.add(
      TokenUnmerge(prefix: stage.prefix, hasGaps: stage.hasGaps), [value, stage.table],
      names: ["\(builder.graph[value].name).all"])
    whole[value] = result[0]
    return result[0]
  }

  /// What stands for operands, with all tokens.
  private mutating func all(_ operands: [ValueID?]) throws(VitError) -> [ValueID?] {
    var result: [ValueID?] = []
    for operand in operands {
      guard let operand else {
        result.append(nil)
        continue
      }
      result.append(try all(operand))
    }
    return result
  }

  /// Adds a node with its own results; `stage` says how many merges they are behind.
  private mutating func append(
    _ node: Node, _ operands: [ValueID?], as operation: (any Operation)? = nil, stage number: Int? = nil
  ) throws(VitError) {
    let next = Node(
      operation ?? node.operation, operands: operands, results: node.results, location: node.location)
    _ = try builder.visit(next, fold: fold)
    builder.graph.nodes.append(next)
    if let number { for result in node.results { stage[result] = number } }
  }

  /// Lets a node work on the merged tokens that it reads; gives false where it cannot.
  private mutating func follow(_ node: Node, _ number: Int) throws(VitError) -> Bool {
    let operands = node.operands.map { $0.map(now) }
    let stage = stages[number]
    if node.operation is VitAttention || node.operation is PrefixAttention {
      guard self.stage[operands[0] ?? node.results[0]] == number else { return false }
      let padding = [ValueID?](repeating: nil, count: max(0, 9 - operands.count))
      guard operands.count < 10 || operands[9] == nil else { return false }
      let isWhole = (node.operation as? PrefixAttention).map { _ in operands[1] == nil } ?? false
      // Where none stands for several there is nothing to add.
      let more = stage.hasGaps ? [] : padding + [try sizes(number)]
      try append(node, operands.prefix(9) + more, stage: isWhole ? nil : number)
      return true
    }
    if let mixer = node.operation as? any Mixer {
      if let merged = try mixer.merged(patches: stage.tokens - stage.prefix) {
        let more = merged.sizes == nil ? [] : [try sizes(number)]
        try append(node, operands + more, as: merged, stage: number)
        return true
      }
      if mixer.table == operands.count {
        try append(node, operands + [stage.table], stage: number)
        return true
      }
      try append(node, try all(node.operands))
      let result = node.results[0]
      let mean = try builder.add(
        TokenMerge(tokens: stage.tokens, prefix: stage.prefix, hasGaps: stage.hasGaps),
        [result, stage.table],
        names: ["\(builder.graph[result].name).merged"])
      moved[result] = mean[0]
      self.stage[mean[0]] = number
      return true
    }
    if runsTokenByToken(node, operands) {
      try append(node, operands, stage: number)
      return true
    }
    return try readsPrefix(node, operands, stage.prefix)
  }

  /// The logarithms of the sizes of merged tokens.
  private mutating func sizes(_ number: Int) throws(VitError) -> ValueID {
    let stage = stages[number]
    if let known = stage.sizes { return known }
    let result = try builder.add(
      LogSize(tokens: stage.tokens, prefix: stage.prefix), [stage.table], names: ["size.\(stage.layer)"])[0]
    stages[number].sizes = result
    return result
  }

  /// Whether a node does the same for each token, and reads no other value that has tokens.
  private func runsTokenByToken(_ node: Node, _ operands: [ValueID?]) -> Bool {
    let axes = original.axes(of: node)
    guard let letter = axes.letter(ofResult: 0, axis: 1), letter.kind == .parallel,
      node.results.indices.allSatisfy({ index in
        original.type(node.results[index]).rank == 3 && letter.axis(ofResult: index) == 1
      })
    else { return false }
    return operands.indices.allSatisfy { index in
      guard let now = operands[index], let old = node.operands[index] else { return true }
      let own = letter.axis(ofOperand: index)
      if stage[now] != nil { return own == 1 && original.type(old).rank == 3 }
      return own == nil || own.map { original.type(old).shape[$0] == 1 } ?? true
    }
  }

  /// Adds a node that takes tokens before the patches and gives what it gave before; false where it does something else.
  private mutating func readsPrefix(
    _ node: Node, _ operands: [ValueID?], _ prefix: Int
  ) throws(VitError) -> Bool {
    guard let pick = RowPick(node, original, original.axes(of: node)), pick.axis == 1,
      pick.entries.allSatisfy({ $0 < prefix })
    else { return false }
    let types = node.results.map(original.type)
    let found = try? node.operation.resultTypes(builder.operands(operands))
    guard found == types else { return false }
    try append(node, operands)
    return true
  }

  /// Merges tokens of the residual stream behind a layer.
  private mutating func merge(_ site: MergeSite) throws(VitError) {
    let (input, stream) = (now(site.input), now(site.stream))
    let before = stage[stream].map { stages[$0] }
    if site.halts, site.layer == sites.last?.layer {
      guard let last = try halting?.finish(stream, into: &builder) else { return }
      moved[site.stream] = last
      if let number = stage[stream] { stage[last] = number }
      return
    }
    if site.halts { _ = try halting?.add(stream, into: &builder) }
    guard site.count > 0 else { return }
    let tokens = site.prefix + site.patches - site.count
    let hasGaps = site.hasGaps
    let table = try table(site, input, before?.table)
    let result = try builder.add(
      TokenMerge(tokens: tokens, prefix: site.prefix, hasGaps: hasGaps), [stream, table, before?.table],
      names: ["\(hasGaps ? "kept" : "merge").\(site.layer)"])[0]
    stages.append(
      Stage(table: table, tokens: tokens, prefix: site.prefix, layer: site.layer, hasGaps: hasGaps))
    if let sums = halting?.sums, site.halts {
      halting?.sums = try builder.add(
        TokenMerge(tokens: tokens, prefix: site.prefix, hasGaps: true), [sums, table, before?.table],
        names: ["sums.\(site.layer)"])[0]
    }
    if hasGaps { streams[result] = stream }
    moved[site.stream] = result
    stage[result] = stages.count - 1
  }

  /// What stands for each place behind a layer.
  private mutating func table(
    _ site: MergeSite, _ input: ValueID, _ before: ValueID?
  ) throws(VitError) -> ValueID {
    if site.halts, let sums = halting?.sums {
      return try builder.add(
        TokenKeepLeast(count: site.patches - site.count, prefix: site.prefix), [sums, before],
        names: ["keep.\(site.layer)"])[0]
    }
    if let attention = site.attention {
      return try builder.add(
        TokenKeep(
          count: site.patches - site.count, prefix: site.prefix, heads: attention.heads,
          kvHeads: attention.kvHeads, scale: attention.scale, asksFirst: attention.asksFirst),
        [input, now(attention.queries), attention.bias.map(now), now(attention.keys), before],
        names: ["keep.\(site.layer)"])[0]
    }
    let map = metric == .value ? site.values : nil
    return try builder.add(
      TokenMatch(count: site.count, prefix: site.prefix, heads: map?.heads ?? 1),
      [input, map?.weight, map?.bias, before], names: ["match.\(site.layer)"])[0]
  }

  /// What stands for a value, with all tokens: for those that were dropped with the value that they had last.
  private mutating func last(_ id: ValueID) throws(VitError) -> ValueID { try last(of: now(id)) }

  /// The same for a value as it is now.
  private mutating func last(of value: ValueID) throws(VitError) -> ValueID {
    guard let place = stage[value] else { return value }
    guard stages[place].hasGaps else { return try all(value) }
    if let known = lasting[value] { return known }
    let result = try lastOf(value, stages[place])
    lasting[value] = result
    return result
  }

  private mutating func lastOf(_ value: ValueID, _ stage: Stage) throws(VitError) -> ValueID {
    // Where tokens are dropped the stream still has all that came there.
    if let before = streams[value] { return try last(of: before) }
    guard let node = maker(of: value) else { return try all(value) }
    let staged = node.operands.compactMap { $0 }.filter { self.stage[$0] != nil }
    if node.isAny(VitAdd.self, Onnx.add), let stream = staged.first(where: isStream) {
      // What a block adds, a token that is gone does not get.
      let base = try last(of: stream)
      return try builder.add(
        TokenUnmerge(prefix: stage.prefix, hasGaps: true), [value, stage.table, base],
        names: ["\(builder.graph[value].name).last"])[0]
    }
    // All else that works on fewer tokens does the same for each, but for what mixes them.
    let mixes =
      node.isAny(VitAttention.self, PrefixAttention.self) || node.operation is any Mixer
    guard staged.count == 1, !mixes else { return try all(value) }
    var operands: [ValueID?] = []
    for operand in node.operands {
      guard let operand, self.stage[operand] != nil else {
        operands.append(operand)
        continue
      }
      operands.append(try last(of: operand))
    }
    return try builder.add(node.operation, operands, names: ["\(builder.graph[value].name).last"])[0]
  }

  /// Whether a value is the residual stream behind a place where tokens were dropped.
  private func isStream(_ value: ValueID) -> Bool {
    if streams[value] != nil { return true }
    guard let node = maker(of: value), node.isAny(VitAdd.self, Onnx.add) else { return false }
    return node.operands.contains { $0.map { stage[$0] != nil && isStream($0) } ?? false }
  }

  /// The node that defines a value with its only result.
  private func maker(of value: ValueID) -> Node? {
    builder.graph.nodes.last { $0.results == [value] }
  }
}
