internal import VitIR
internal import VitOps

/// `vit.sdpa` whose queries, keys and values are linear maps of the same tokens, and whose result goes
/// through a linear map, becomes `vit.attention`.
///
/// Which rows of which weight a head reads is told by the layouts: any order of packing, any way of splitting
/// heads.
enum RaiseAttention: Pattern {
  static let name = "attention"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    let layouts = LayoutAnalysis(rewriter.graph)
    for node in rewriter.nodes where node.isAny(VitSDPA.self) {
      guard let q = node.operands[0], let k = node.operands[1], let v = node.operands[2],
        let core = node.results.first
      else { continue }
      guard Set(rewriter.users(of: q)).count(where: { rewriter.nodes[$0].isAny(VitSDPA.self) }) == 1 else {
        rewriter.miss(name, at: node, "expected queries of its own, found some that another attention reads")
        continue
      }
      do {
        let queries = try projection(q, "queries", layouts, rewriter)
        let keys = try projection(k, "keys", layouts, rewriter)
        let values = try projection(v, "values", layouts, rewriter)
        let tokens = try self.tokens(queries, keys, values, layouts)
        let output = try self.output(core, queries, layouts, rewriter)
        guard output.value.index < rewriter.graph.values.count else { continue }
        try emit(node, queries, keys, values, tokens, output, &rewriter)
      } catch {
        rewriter.miss(name, at: node, error.text)
      }
    }
  }

  private struct Reason: Error { let text: String }

  /// Queries, keys or values as rows of a linear map's weight.
  private struct Projection {
    let linear: Node
    /// The linear map's operand with its layout undone.
    let operand: ValueID
    /// Factors of the batch and of the tokens.
    let batch: [AxisFactor]
    let tokens: [AxisFactor]
    /// For each head its first row; for each column of a head the row relative to that.
    let headRows: [Int]
    let columnRows: [Int]
    let scale: Double

    var rows: [Int] { headRows.flatMap { head in columnRows.map { head + $0 } } }
  }

  private static func projection(
    _ id: ValueID, _ role: String, _ layouts: LayoutAnalysis, _ rewriter: Rewriter
  ) throws(Reason) -> Projection {
    let layout = layouts[id]
    guard let linear = rewriter.node(VitLinear.self, defining: layout.source),
      let operand = linear.operands[0]
    else {
      let found = rewriter.producer(of: layout.source)?.node.name ?? "an input"
      throw Reason(text: "expected \(role) that are a linear map of the tokens, found \(found)")
    }
    if case .string(let activation)? = linear.operation.attributes["activation"], activation != "none" {
      throw Reason(text: "expected \(role) without activation")
    }
    let rank = layout.axes.count
    guard rank >= 3, let feature = layouts[layout.source].axes.last?.first else {
      throw Reason(text: "expected \(role) of rank 3 or more, found \(rank)")
    }
    func isFeature(_ factor: AxisFactor) -> Bool {
      factor.origin == feature.origin && factor.axis == feature.axis
    }
    let leading = Array(layout.axes[..<(rank - 2)].joined())
    let batch = leading.filter { !isFeature($0) && $0.axis >= 0 && $0.size != 1 }
    let heads = leading.filter { isFeature($0) || $0.axis < 0 }
    let tokens = layout.axes[rank - 2]
    let columns = layout.axes[rank - 1]
    guard columns.allSatisfy(isFeature), !tokens.contains(where: isFeature) else {
      throw Reason(text: "expected \(role) as [batch, heads, tokens, width]")
    }
    // Heads must vary faster than the batch.
    if let lastBatch = leading.lastIndex(where: { !isFeature($0) && $0.axis >= 0 && $0.size != 1 }),
      let firstHead = leading.firstIndex(where: { (isFeature($0) || $0.axis < 0) && $0.size != 1 }),
      firstHead < lastBatch
    {
      throw Reason(text: "expected the heads of the \(role) inside the batch")
    }
    guard let headRows = indices(heads), let columnRows = indices(columns) else {
      throw Reason(text: "expected \(role) with a known number of heads, found \(heads) and \(columns)")
    }
    return Projection(
      linear: linear, operand: operand, batch: Layout.normalised(batch), tokens: Layout.normalised(tokens),
      headRows: headRows, columnRows: columnRows, scale: layout.scale)
  }

  /// The positions that factors run through, outermost first.
  private static func indices(_ factors: [AxisFactor]) -> [Int]? {
    var result = [0]
    for factor in factors {
      guard let size = factor.size.fixedValue, let stride = factor.stride.fixedValue,
        let offset = factor.offset.fixedValue, size >= 0, result.count * size <= 1 << 20
      else { return nil }
      result = result.flatMap { base in (0..<size).map { base + offset + $0 * stride } }
    }
    return result
  }

  /// The tokens that all three are taken from.
  private struct Tokens {
    let value: ValueID
    let order: Order

    /// How the axes of `value` lie.
    enum Order { case batchFirst, tokensFirst, withoutBatch }
  }

  private static func tokens(
    _ q: Projection, _ k: Projection, _ v: Projection, _ layouts: LayoutAnalysis
  ) throws(Reason) -> Tokens {
    let (a, b, c) = (layouts[q.operand], layouts[k.operand], layouts[v.operand])
    guard a.source == b.source, a.source == c.source, a.scale == 1, b.scale == 1, c.scale == 1 else {
      throw Reason(text: "expected queries, keys and values of the same tokens")
    }
    guard q.tokens == k.tokens, q.tokens == v.tokens, q.batch == k.batch, q.batch == v.batch else {
      throw Reason(text: "expected as many queries as keys, over the same tokens")
    }
    // The value that all of it comes from, or what the maps read: its channels may stand before its tokens.
    var found: [ValueID] = [a.source]
    if q.operand == k.operand, q.operand == v.operand, q.operand != a.source, !layouts[a.source].axes.isEmpty,
      layouts[a.source].joined(0..<1) == q.batch
    {
      found.append(q.operand)
    }
    for value in found {
      let layout = layouts[value]
      let axes = layout.axes.indices.map { layout.joined($0..<$0 + 1) }
      // The operand must hold all of the source: the same factors, in the source's or the operand's order.
      let whole = Layout.normalised(Array(a.axes.joined()))
      switch axes.count {
      case 2 where q.batch.isEmpty && axes[0] == q.tokens && whole == Layout.normalised(axes[0] + axes[1]):
        return Tokens(value: value, order: .withoutBatch)
      case 3 where axes[0] == q.batch && axes[1] == q.tokens && covers(whole, axes):
        return Tokens(value: value, order: .batchFirst)
      case 3 where axes[0] == q.tokens && axes[1] == q.batch && covers(whole, axes):
        return Tokens(value: value, order: .tokensFirst)
      default: continue
      }
    }
    let rank = layouts[a.source].axes.count
    guard rank == 3 else {
      throw Reason(text: "expected tokens as [batch, tokens, width], found rank \(rank)")
    }
    throw Reason(text: "expected attention among all tokens of an image, found windows or groups of them")
  }

  private static func covers(_ whole: [AxisFactor], _ axes: [[AxisFactor]]) -> Bool {
    let orders = [[0, 1, 2], [1, 0, 2]]
    return orders.contains { order in Layout.normalised(order.flatMap { axes[$0] }) == whole }
  }

  /// The linear map that the core's result goes through.
  private struct Output {
    let linear: Node
    let value: ValueID
    /// Whether its rows are ordered by tokens first and images then.
    let isTimeMajor: Bool
  }

  private static func output(
    _ core: ValueID, _ queries: Projection, _ layouts: LayoutAnalysis, _ rewriter: Rewriter
  ) throws(Reason) -> Output {
    let rank = layouts[core].axes.count
    var value = core
    var linear: Node?
    for _ in 0..<8 {
      guard let (_, reader) = rewriter.onlyUser(of: value), let result = reader.results.first else {
        throw Reason(
          text: "expected one reader of the attended values, found \(rewriter.users(of: value).count)")
      }
      if reader.isAny(VitLinear.self), reader.operands[0] == value {
        linear = reader
        break
      }
      guard layouts[result].source == core, layouts[result].scale == 1 else {
        throw Reason(text: "expected an output projection of the attended values, found '\(reader.name)'")
      }
      value = result
    }
    guard let linear, let result = linear.results.first else {
      throw Reason(text: "expected an output projection of the attended values")
    }
    let own = layouts[core].axes
    let heads = Array(own[..<(rank - 2)].joined()).filter { factor in
      factor.size != 1 && !queries.batch.contains { $0.origin == factor.origin && $0.axis == factor.axis }
    }
    let merged = Layout.normalised(heads + own[rank - 1])
    guard let last = layouts[value].axes.last, Layout.normalised(last) == merged else {
      throw Reason(text: "expected heads and their columns merged before the output projection")
    }
    let rows = Layout.normalised(Array(layouts[value].axes.dropLast().joined()))
    let isTimeMajor = rows != Layout.normalised(queries.batch + queries.tokens)
    guard !isTimeMajor || rows == Layout.normalised(queries.tokens + queries.batch) else {
      throw Reason(
        text: "expected the attended values of all tokens of an image before the output projection")
    }
    return Output(linear: linear, value: result, isTimeMajor: isTimeMajor)
  }

  private static func emit(
    _ node: Node, _ q: Projection, _ k: Projection, _ v: Projection, _ tokens: Tokens, _ output: Output,
    _ rewriter: inout Rewriter
  ) throws(Reason) {
    guard v.scale == 1 else { throw Reason(text: "expected values without a scale, found \(v.scale)") }
    let heads = q.headRows.count
    // Grouped keys: a head repeated for several queries reads the same rows.
    func groups(_ projection: Projection) throws(Reason) -> [Int] {
      let count = projection.headRows.count
      var distinct: [Int] = []
      for row in projection.headRows where distinct.last != row { distinct.append(row) }
      guard count == heads || heads % count == 0, heads % distinct.count == 0 else {
        throw Reason(text: "expected keys for \(heads) heads, found \(count)")
      }
      return distinct
    }
    let (keyGroups, valueGroups) = (try groups(k), try groups(v))
    guard keyGroups.count == valueGroups.count else {
      throw Reason(text: "expected as many groups of keys as of values")
    }
    var scale = 1.0
    if case .float(let value)? = node.operation.attributes["scale"] { scale = value }
    let isCausal = node.operation.attributes["causal"] ?? .bool(false)
    let bias = node.operands.count > 3 ? node.operands[3] : nil
    if let bias,
      rewriter.type(bias).rank > 4
        || (rewriter.type(bias).rank == 3 && rewriter.graph.type(node.results[0]).rank == 3)
    {
      throw Reason(text: "expected a bias that broadcasts to [batch, heads, tokens, tokens]")
    }
    let attributes: [(String, Attribute)] = [
      ("heads", .int(heads)), ("kv_heads", .int(keyGroups.count)),
      ("scale", .float(scale * q.scale * k.scale)),
      ("causal", isCausal), ("guarded", node.operation.attributes["guarded"] ?? .bool(true)),
    ]
    let resultShape = rewriter.type(output.value).shape
    rewriter.tryReplace(output.value, at: node) { builder throws(VitError) in
      func part(_ projection: Projection, _ heads: [Int]) throws(VitError) -> [ValueID?] {
        let rows = heads.flatMap { head in projection.columnRows.map { head + $0 } }
        let operands = projection.linear.operands
        guard let weight = operands[1] else { throw VitError("expected a weight") }
        let bias = operands.count > 2 ? operands[2] : nil
        return [
          try builder.rows(rows, of: weight),
          try bias.map { id throws(VitError) in try builder.rows(rows, of: id) },
        ]
      }
      var x = tokens.value
      switch tokens.order {
      case .batchFirst: break
      case .tokensFirst: x = try builder.add(Onnx.transpose, [x], [("perm", .ints([1, 0, 2]))])
      case .withoutBatch: x = try builder.add(Onnx.unsqueeze, [x, builder.integers([0])])
      }
      let out = output.linear.operands
      let operands: [ValueID?] =
        [x] + (try part(q, q.headRows)) + (try part(k, keyGroups)) + (try part(v, valueGroups))
        + [out[1], out.count > 2 ? out[2] : nil] + (bias.map { [$0] } ?? [])
      var y = try builder.add(VitAttention.self, operands, attributes)
      if output.isTimeMajor { y = try builder.add(Onnx.transpose, [y], [("perm", .ints([1, 0, 2]))]) }
      if builder.graph.type(y).shape != resultShape {
        y = try builder.flattened(y, to: resultShape)
      }
      return y
    }
  }
}

extension GraphBuilder {
  /// A value reshaped; at most one of the extents may hold a symbol.
  mutating func flattened(_ x: ValueID, to shape: Shape) throws(VitError) -> ValueID {
    let target = shape.map { $0.fixedValue ?? -1 }
    guard target.filter({ $0 == -1 }).count <= 1 else {
      throw VitError("expected a shape with one symbol, found \(shape)")
    }
    return try add(Onnx.reshape, [x, integers(target)])
  }
}
