internal import VitIR
internal import VitOps

/// Finds attention by what flows where: a core (softmax between two products) whose queries and keys are the
/// same tokens.
struct LayerFinder {
  private let graph: Graph
  private let layouts: LayoutAnalysis
  private let producer: [Int?]
  private let consumers: [[Int]]
  /// The sizes of what is learned.
  private let weights: [ValueID: Int]
  private(set) var layers: [Layer] = []
  private(set) var others: [AttentionLike] = []

  init(_ graph: Graph) {
    self.graph = graph
    layouts = LayoutAnalysis(graph)
    producer = graph.producers()
    consumers = graph.consumers()
    weights = graph.weightCounts()
  }

  mutating func run() {
    for (place, node) in graph.nodes.enumerated() {
      if let mixer = node.operation as? any Mixer {
        addMixer(place, node, mixer)
        continue
      }
      if node.operation is PrefixAttention, node.operands[1] == nil {
        add(
          place, kind: Layer.attention, heads: node.operation.heads, input: node.operands[0],
          output: node.results.first, obstacle: "it computes only its first tokens")
      } else if node.operation is VitAttention {
        addAttention(place, node)
      } else if node.operation is VitSDPA {
        addCore(place, node)
      } else if node.operation.role(of: 0) == .scores {
        addSoftmax(place, node)
      } else if node.isAny(Onnx.attention, Microsoft.multiHeadAttention, Microsoft.attention) {
        addOperator(place, node)
      }
    }
  }

  // MARK: Kinds of unit

  private mutating func addMixer(_ place: Int, _ node: Node, _ mixer: any Mixer) {
    // The rows of the first tokens may be written behind it.
    let readers = node.results.first.map { consumers[$0.index] } ?? []
    let rows = readers.count == 1 ? graph.nodes[readers[0]] : nil
    let isWritten = rows?.operation is PrefixAttention && rows?.operands[1] == node.results.first
    add(
      place, kind: mixer.kind, heads: mixer.heads, input: node.operands[0],
      output: isWritten ? rows?.results.first : node.results.first,
      obstacle: "it is a mixer already")
  }

  private mutating func addAttention(_ place: Int, _ node: Node) {
    add(
      place, kind: Layer.attention, heads: node.operation.heads, input: node.operands[0],
      output: node.results.first,
      obstacle: obstacle(node, biasOperand: 9))
  }

  private func obstacle(_ node: Node, biasOperand: Int) -> String? {
    if node.operation.attributes["causal"] == .bool(true) { return "its tokens see only those before them" }
    guard node.operands.count > biasOperand, let bias = node.operands[biasOperand] else { return nil }
    if let tensor = graph.tensor(bias) {
      return tensor.hidesScores() ? "its mask hides tokens from one another" : nil
    }
    return dependsOnInput(bias) ? "its mask or bias is computed from the input" : nil
  }

  private mutating func addCore(_ place: Int, _ node: Node) {
    guard let q = node.operands[0], let k = node.operands[1], let v = node.operands[2],
      let result = node.results.first
    else { return }
    let heads = headCount(graph.type(q).shape, q)
    // Queries that several cores read are those of the first.
    let sharing = Set(consumers[q.index]).filter {
      graph.nodes[$0].operation is VitSDPA && graph.nodes[$0].operands[0] == q
    }
    if let first = sharing.min(), first != place {
      return classify(
        place, node, queries: v, keys: v, values: v, queryAxis: -2, keyAxis: -2, heads: heads, core: result,
        obstacle: "it uses the queries and keys of a layer before", kind: Layer.shared)
    }
    classify(
      place, node, queries: q, keys: k, values: v, queryAxis: -2, keyAxis: -2, heads: heads, core: result,
      obstacle: sharing.count > 1 ? "other layers use its queries and keys" : obstacle(node, biasOperand: 3))
  }

  /// A softmax that was not raised: masks regrouped by windows, heads that progress to each other, integer
  /// products.
  private mutating func addSoftmax(_ place: Int, _ node: Node) {
    guard let input = node.operands[0], let output = node.results.first, graph.type(input).rank >= 3 else {
      return
    }
    guard let above = contraction(above: input), let below = contraction(below: output) else { return }
    guard let (q, k) = factors(above), let v = factors(below.node)?.right,
      let result = below.node.results.first
    else { return }
    let shape = graph.type(q).shape
    let isTurned = (above.operation as? any MatrixProductOperation)?.transposesRight ?? false
    classify(
      place, node, queries: q, keys: k, values: v, queryAxis: -2, keyAxis: isTurned ? -2 : -1,
      heads: headCount(shape, q),
      core: result, obstacle: "something lies between its products that a mixer cannot stand in for")
  }

  /// An attention operator with queries, keys and values as operands, or with packed weights.
  private mutating func addOperator(_ place: Int, _ node: Node) {
    func int(_ name: String) -> Int? {
      if case .int(let value)? = node.operation.attributes[name] { value } else { nil }
    }
    guard let q = node.operands[0], let result = node.results.first else { return }
    let type = graph.type(q)
    let heads = int("q_num_heads") ?? int("num_heads") ?? 0
    let obstacle = "its form (\(node.name)) has a mask, cache or further outputs"
    if node.isAny(Microsoft.attention) {
      add(place, kind: "attention", heads: heads, input: q, output: result, obstacle: obstacle)
    } else if let k = node.operands[1], let v = node.operands[2] {
      classify(
        place, node, queries: q, keys: k, values: v, queryAxis: -2, keyAxis: -2,
        heads: type.rank == 4 ? type.shape[1].fixedValue ?? heads : heads, core: result, obstacle: obstacle)
    }
  }

  // MARK: Classification

  private mutating func classify(
    _ place: Int, _ node: Node, queries: ValueID, keys: ValueID, values: ValueID, queryAxis: Int,
    keyAxis: Int,
    heads: Int, core: ValueID, obstacle: String?, kind: String = Layer.attention
  ) {
    let (q, k) = (layouts[queries].axes, layouts[keys].axes)
    let queryTokens = Layout.normalised(q[q.count + queryAxis])
    let keyTokens = Layout.normalised(k[k.count + keyAxis])
    let name = node.location.node ?? graph[core].name
    guard dependsOnInput(queries) else {
      others.append(AttentionLike(node: name, reason: "its queries are learned: attention pooling"))
      return
    }
    guard !(queryTokens + keyTokens).contains(where: countsChannels) else {
      others.append(AttentionLike(node: name, reason: "it mixes channels, not tokens"))
      return
    }
    guard queryTokens == keyTokens, !queryTokens.isEmpty else {
      let (m, n) = (extent(queries, queryAxis), extent(keys, keyAxis))
      others.append(
        AttentionLike(node: name, reason: "it maps \(n) keys to \(m) queries of other tokens"))
      return
    }
    let region = Region(self, queries: queries, keys: keys, values: values, core: core)
    var reason = region.obstacle ?? obstacle
    if region.obstacle == nil, obstacle != nil, region.input != nil, region.output != nil,
      node.operation.role(of: 0) == .scores
    {
      reason = obstacle
    }
    add(place, kind: kind, heads: heads, input: region.input, output: region.output, obstacle: reason)
  }

  private func extent(_ id: ValueID, _ axis: Int) -> Dimension {
    let shape = graph.type(id).shape
    return shape[shape.count + axis]
  }

  /// Whether positions count along the channels that a linear map or a convolution gave.
  private func countsChannels(_ factor: AxisFactor) -> Bool {
    guard let place = producer[factor.origin] else { return false }
    let node = graph.nodes[place]
    if node.operation is any ConvolutionOperation { return factor.axis == 1 }
    let isMap =
      node.operation is VitLinear
      || factors(node).map { isConstant($0.left) || isConstant($0.right) } ?? false
    return isMap && factor.axis == graph.values[factor.origin].type.rank - 1
  }

  /// The heads of queries [batch, heads, tokens, width]: the steps along their features that are neither tokens nor
  /// width, wherever they stand; without such, the third axis from the end.
  private func headCount(_ shape: Shape, _ id: ValueID) -> Int {
    let axes = layouts[id].axes
    if let column = axes.last?.last, column.size != 1 {
      let heads = axes.dropLast(2).joined().filter { $0.origin == column.origin && $0.axis == column.axis }
      if !heads.isEmpty { return heads.reduce(1) { $0 * ($1.size.fixedValue ?? 1) } }
      if axes.count > 4 { return 1 }
    }
    return shape.count >= 4 ? shape[shape.count - 3].fixedValue ?? 1 : 1
  }

  private mutating func add(
    _ place: Int, kind: String, heads: Int, input: ValueID?, output: ValueID?, obstacle: String?
  ) {
    let node = graph.nodes[place]
    var reason = obstacle
    if reason == nil {
      if let input, let output {
        let (a, b) = (graph.type(input).shape, graph.type(output).shape)
        if a.count != 3 || b.count != 3 || a[0] != b[0] || a[1] != b[1] {
          reason = "it maps tokens of shape \(a) to \(b)"
        }
      } else {
        reason = "the tokens that go in or come out are no single value"
      }
    }
    layers.append(
      Layer(
        index: layers.count, kind: kind, heads: heads,
        node: node.location.node ?? graph[node.results[0]].name, core: node.results[0], input: input,
        output: output, parameters: parameters(place, input, output), obstacle: reason))
  }

  // MARK: Walking the graph

  func node(defining id: ValueID) -> Int? { producer[id.index] }
  func readers(of id: ValueID) -> [Int] { consumers[id.index] }
  func nodeAt(_ place: Int) -> Node { graph.nodes[place] }
  func shape(_ id: ValueID) -> Shape { graph.type(id).shape }
  func isConstant(_ id: ValueID) -> Bool { graph[id].isConstant }
  /// The value whose elements a value has, in other places.
  func source(of id: ValueID) -> ValueID { layouts[id].source }
  var batch: Dimension? {
    graph.inputs.first.flatMap { BatchForm(graph).isCounted ? graph.type($0).shape.first : 1 }
  }

  /// Whether any input of the graph can change a value's numbers: shapes of inputs do not count.
  func dependsOnInput(_ id: ValueID) -> Bool {
    var seen: Set<Int> = []
    var stack = [id]
    let inputs = Set(graph.inputs)
    while let next = stack.popLast() {
      if inputs.contains(next) { return true }
      guard seen.insert(next.index).inserted, let place = producer[next.index] else { continue }
      let node = graph.nodes[place]
      if seen.count > 4000 { return true }
      for (index, operand) in node.operands.enumerated() where !isShape(node, index) {
        if let operand { stack.append(operand) }
      }
    }
    return false
  }

  /// Whether a node reads its operand `index` for a shape only, or only the shape of it: numbers of the input do not go
  /// through there.
  func isShape(_ node: Node, _ index: Int) -> Bool {
    switch node.operation.role(of: index) {
    case .shape, .form: true
    case .setting: node.operation is any MovementOperation
    default: false
    }
  }

  /// Whether a value is made of shapes only: integers that say how to reshape.
  func isShape(_ id: ValueID) -> Bool {
    producer[id.index].map { graph.nodes[$0].operation.role(of: 0) == .form } ?? false
  }

  /// What a value is whose first two axes are those of another one in each other's place.
  func turned(_ id: ValueID) -> ValueID? {
    guard let place = producer[id.index], graph.nodes[place].isAny(Onnx.transpose),
      graph.nodes[place].operation.attributes["perm"] == .ints([1, 0, 2])
    else { return nil }
    return graph.nodes[place].operands[0]
  }

  /// What a product of any form multiplies.
  private func factors(_ node: Node) -> (left: ValueID, right: ValueID)? {
    guard let factors = (node.operation as? any MatrixProductOperation)?.factors,
      node.operands.count > max(factors.left, factors.right), let a = node.operands[factors.left],
      let b = node.operands[factors.right]
    else { return nil }
    return (a, b)
  }

  /// The nearest product above a value of queries, which may be learned, and computed keys.
  private func contraction(above id: ValueID) -> Node? {
    var stack = [(id, 0)]
    while let (value, depth) = stack.popLast() {
      guard depth < 14, let place = producer[value.index] else { continue }
      let node = graph.nodes[place]
      if let (a, b) = factors(node), !isConstant(a) || graph.type(a).rank > 2, !isConstant(b) {
        return node
      }
      let isCore = node.operation is VitSDPA || node.operation is VitAttention
      if isCore || node.operation.role(of: 0) == .scores { continue }
      for case let operand? in node.operands.reversed() where !isConstant(operand) {
        stack.append((operand, depth + 1))
      }
    }
    return nil
  }

  /// The first product below a value in which it is the left operand.
  private func contraction(below id: ValueID) -> (node: Node, depth: Int)? {
    var queue = [(id, 0)]
    var next = 0
    while next < queue.count, next < 64 {
      let (value, depth) = queue[next]
      next += 1
      for place in consumers[value.index] {
        let node = graph.nodes[place]
        if let (a, b) = factors(node), a == value, !isConstant(b) {
          return (node, depth)
        }
        guard depth < 6, let result = node.results.first else { continue }
        queue.append((result, depth + 1))
      }
    }
    return nil
  }

  /// The weights that lie between two values (or those of the node itself).
  private func parameters(_ place: Int, _ input: ValueID?, _ output: ValueID?) -> Int {
    var counted: Set<Int> = []
    var total = 0
    func count(_ node: Node) {
      for case let id? in node.operands {
        if let count = weights[id], counted.insert(id.index).inserted { total += count }
      }
    }
    guard let output, let input else {
      count(graph.nodes[place])
      return total
    }
    var seen: Set<Int> = []
    var stack = [output]
    while let id = stack.popLast() {
      guard id != input, let node = producer[id.index], seen.insert(node).inserted, seen.count < 2000 else {
        continue
      }
      count(graph.nodes[node])
      stack += graph.nodes[node].operands.compactMap { $0 }
    }
    return total
  }
}

extension Operation {
  /// The heads that its attributes name; one where they name none.
  var heads: Int { if case .int(let count)? = attributes["heads"] { count } else { 1 } }
}
