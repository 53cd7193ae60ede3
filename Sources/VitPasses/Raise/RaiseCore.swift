internal import VitIR
internal import VitOps

/// Attention's core, a softmax between two matrix products, becomes `vit.sdpa`: whatever scales, biases,
/// constant masks, casts and guards against empty rows lie between.
enum RaiseCore: Pattern {
  static let name = "attention-core"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    for node in rewriter.nodes {
      switch node.name {
      case Onnx.softmax.name: softmax(node, &rewriter)
      case Onnx.attention.name: onnxAttention(node, &rewriter)
      case Microsoft.multiHeadAttention.name: multiHead(node, &rewriter)
      case Microsoft.attention.name: packed(node, &rewriter)
      default: continue
      }
    }
  }

  // MARK: Softmax between two products

  /// What a softmax is taken of: a product of queries and keys, scaled, with something added.
  private struct Logits {
    var queries: ValueID
    var keys: ValueID
    var keysAreTransposed: Bool
    var scale = 1.0
    /// Whether the product is taken the other way round and transposed then.
    var isTurned = false
    /// Factors of their own for each head.
    var headScales: [ValueID] = []
    var biases: [Bias] = []
  }

  /// Something added to the scores: a value times a factor, or minus infinity where a mask is `hidden`.
  private struct Bias {
    var value: ValueID
    var factor = 1.0
    var hidden: Bool?
  }

  private static func softmax(_ node: Node, _ rewriter: inout Rewriter) {
    guard let input = node.operands[0], let probabilities = node.results.first else { return }
    let rank = rewriter.type(input).rank
    var axis = -1
    if case .int(let value)? = node.operation.attributes["axis"] { axis = value }
    guard rank >= 3, axis == -1 || axis == rank - 1 else { return }
    switch (logits(input, rewriter), product(of: probabilities, rewriter)) {
    case (.failure(let reason), .success): rewriter.miss(name, at: node, reason.text)
    case (.success, .failure(let reason)): rewriter.miss(name, at: node, reason.text)
    case (.failure, .failure): return
    case (.success(let logits), .success(let (last, values))):
      guard let result = last.results.first else { return }
      let shape = rewriter.type(input).shape
      rewriter.tryReplace(result, at: node) { builder throws(VitError) in
        var (queries, keys) = (logits.queries, logits.keys)
        if logits.isTurned { queries = try builder.turned(queries, rank: rank) }
        for factor in logits.headScales { queries = try builder.add(Onnx.mul, [queries, factor]) }
        if !logits.keysAreTransposed { keys = try builder.turned(keys, rank: rank) }
        let bias = try RaiseCore.bias(logits, shape, &builder)
        return try builder.add(
          VitSDPA.self, [queries, keys, values, bias], [("scale", .float(logits.scale))])
      }
    }
  }

  /// Why something is not what was looked for.
  private struct Reason: Error { let text: String }

  /// Walks up from a softmax's operand to the product of queries and keys.
  private static func logits(_ input: ValueID, _ rewriter: Rewriter) -> Result<Logits, Reason> {
    var value = input
    var factor = 1.0
    var isTurned = false
    var headScales: [ValueID] = []
    var biases: [Bias] = []
    // What is added before the scores are turned, or scaled by heads, is not as the softmax reads it.
    var isAsRead: Bool { !isTurned && headScales.isEmpty }
    for _ in 0..<12 {
      guard let (_, node) = rewriter.producer(of: value) else { break }
      guard value == input || rewriter.isUsedOnce(value) || node.isAny(Onnx.matMul) else {
        return .failure(
          Reason(text: "expected logits that nothing else reads, found several readers of '\(node.name)'"))
      }
      switch node.name {
      case Onnx.matMul.name:
        guard let a = node.operands[0], let b = node.operands[1] else { break }
        return .success(
          Logits(
            queries: isTurned ? b : a, keys: isTurned ? a : b, keysAreTransposed: isTurned, scale: factor,
            isTurned: isTurned, headScales: headScales, biases: biases))
      case Microsoft.fusedMatMul.name:
        guard isAsRead else { break }
        return fused(node, factor, biases)
      case Onnx.transpose.name:
        guard node.turnsLastAxes, headScales.isEmpty, let operand = node.operands[0] else { break }
        isTurned.toggle()
        value = operand
        continue
      case Onnx.identity.name, Onnx.dropout.name, Onnx.cast.name:
        guard let operand = node.operands[0], rewriter.type(operand).element == .f32 else { break }
        value = operand
        continue
      case Onnx.mul.name, Onnx.div.name:
        if node.isAny(Onnx.mul), !isTurned, let (operand, scales) = headScale(node, rewriter) {
          headScales.append(scales)
          value = operand
          continue
        }
        guard let (operand, number, isSecond) = rewriter.operandAndScalar(node),
          node.isAny(Onnx.mul) || isSecond
        else {
          break
        }
        factor *= node.isAny(Onnx.mul) ? number : 1 / number
        value = operand
        continue
      case Onnx.add.name, VitAdd.name:
        guard isAsRead, let a = node.operands[0], let b = node.operands[1] else { break }
        let firstLeads = leadsToProduct(a, rewriter)
        guard firstLeads || leadsToProduct(b, rewriter) else { break }
        biases.append(Bias(value: firstLeads ? b : a, factor: factor))
        value = firstLeads ? a : b
        continue
      case Onnx.where.name:
        guard isAsRead, let (mask, hidden, kept) = hiding(node, rewriter) else { break }
        guard let hidden else {
          return .failure(Reason(text: "expected a mask that leaves every query a key"))
        }
        biases.append(Bias(value: mask, hidden: hidden))
        value = kept
        continue
      default: break
      }
      return .failure(
        Reason(text: "expected a product of queries and keys before the softmax, found '\(node.name)'"))
    }
    return .failure(Reason(text: "expected a product of queries and keys before the softmax"))
  }

  /// The mask of a `Where` that puts a great negative number in the place of scores, whether they are hidden where the
  /// mask holds (`nil` where a row may hide all keys: finite logits make it uniform), and the scores.
  private static func hiding(
    _ node: Node, _ rewriter: Rewriter
  ) -> (mask: ValueID, hidden: Bool?, kept: ValueID)? {
    guard let mask = node.operands[0], let tensor = rewriter.constant(mask) else { return nil }
    for (number, kept, hidden) in [(2, 1, false), (1, 2, true)] {
      guard let other = rewriter.scalar(node.operands[number]), other < -1e30,
        let scores = node.operands[kept]
      else { continue }
      let isSafe = other == -.infinity || leavesKeys(tensor, hidden: hidden)
      return (mask, isSafe ? hidden : nil, scores)
    }
    return nil
  }

  /// Whether no row of a mask hides all keys.
  private static func leavesKeys(_ mask: Tensor, hidden: Bool) -> Bool {
    guard let width = mask.shape.last, width > 0, let numbers = try? mask.doubles() else { return false }
    return stride(from: 0, to: numbers.count, by: width).allSatisfy { start in
      numbers[start..<start + width].contains { ($0 != 0) != hidden }
    }
  }

  /// A constant factor of scores that is the same for all queries and keys of a head.
  private static func headScale(_ node: Node, _ rewriter: Rewriter) -> (operand: ValueID, scales: ValueID)? {
    guard let a = node.operands[0], let b = node.operands[1] else { return nil }
    for (operand, scales) in [(a, b), (b, a)] {
      let (type, own) = (rewriter.type(operand), rewriter.type(scales))
      guard rewriter.constant(scales) != nil, own.rank >= 2, own.rank <= type.rank, own.elements != 1,
        own.shape.suffix(2).allSatisfy({ $0 == 1 })
      else { continue }
      return (operand, scales)
    }
    return nil
  }

  private static func fused(
    _ node: Node, _ factor: Double, _ biases: [Bias]
  ) -> Result<Logits, Reason> {
    let attributes = node.operation.attributes
    func flag(_ name: String) -> Bool {
      switch attributes[name] {
      case .bool(let value)?: value
      case .int(let value)?: value != 0
      default: false
      }
    }
    guard !flag("transA"), !flag("transBatchA"), !flag("transBatchB"), let a = node.operands[0],
      let b = node.operands[1]
    else { return .failure(Reason(text: "expected a fused product of untransposed queries")) }
    var alpha = 1.0
    if case .float(let value)? = attributes["alpha"] { alpha = value }
    return .success(
      Logits(queries: a, keys: b, keysAreTransposed: flag("transB"), scale: factor * alpha, biases: biases))
  }

  /// Whether a value is made of a product of two computed ones.
  static func leadsToProduct(_ id: ValueID, _ rewriter: Rewriter, depth: Int = 0) -> Bool {
    guard depth < 8, let (_, node) = rewriter.producer(of: id), rewriter.constant(id) == nil else {
      return false
    }
    switch node.name {
    case Onnx.matMul.name:
      return rewriter.type(id).rank >= 3 && !node.operands.contains { rewriter.constant($0) != nil }
    case Microsoft.fusedMatMul.name: return true
    case Onnx.mul.name, Onnx.div.name, Onnx.add.name, VitAdd.name, Onnx.cast.name, Onnx.identity.name,
      Onnx.transpose.name:
      return node.operands.contains { $0.map { leadsToProduct($0, rewriter, depth: depth + 1) } ?? false }
    case Onnx.where.name:
      return node.operands[1...].contains {
        $0.map { leadsToProduct($0, rewriter, depth: depth + 1) } ?? false
      }
    default: return false
    }
  }

  /// Walks down from the probabilities to their product with the values.
  private static func product(
    of probabilities: ValueID, _ rewriter: Rewriter
  ) -> Result<(last: Node, values: ValueID), Reason> {
    var value = probabilities
    for _ in 0..<6 {
      let readers = rewriter.users(of: value).map { rewriter.nodes[$0] }
      if let guardNode = readers.first(where: { $0.isAny(Onnx.where) }), readers.count == 2,
        let check = readers.first(where: { $0.isAny(Onnx.isNaN) }), let checked = check.results.first,
        guardNode.operands[0] == checked, guardNode.operands[2] == value,
        rewriter.scalar(guardNode.operands[1]) == 0, let result = guardNode.results.first
      {
        // `vit.sdpa` gives zero for a row without keys, as this guard does.
        value = result
        continue
      }
      guard readers.count == 1, let reader = rewriter.onlyUser(of: value)?.node,
        let result = reader.results.first
      else {
        let found = readers.count == 1 ? "an output as well" : "\(readers.count)"
        return .failure(Reason(text: "expected one reader of the probabilities, found \(found)"))
      }
      switch reader.name {
      case Onnx.identity.name, Onnx.dropout.name, Onnx.cast.name:
        guard rewriter.type(result).element == .f32 else { break }
        value = result
        continue
      case Onnx.matMul.name:
        guard reader.operands[0] == value, let values = reader.operands[1], rewriter.constant(values) == nil
        else { break }
        return .success((reader, values))
      default: break
      }
      return .failure(Reason(text: "expected a product of probabilities and values, found '\(reader.name)'"))
    }
    return .failure(Reason(text: "expected a product of probabilities and values after the softmax"))
  }

  /// All that is added to the logits as one value.
  private static func bias(_ logits: Logits, _ shape: Shape, _ builder: inout GraphBuilder) throws(VitError)
    -> ValueID?
  {
    var sum: ValueID?
    for bias in logits.biases {
      var term = bias.value
      if let hidden = bias.hidden {
        guard let mask = builder.graph.tensor(term) else { throw VitError("expected a constant mask") }
        let numbers = try rethrowing { try mask.doubles() }
        term = builder.constant(
          numbers.map { ($0 != 0) == hidden ? -Double.infinity : 0 }, shape: mask.shape,
          name: builder.graph[term].name)
      } else if bias.factor != 1 {
        term = try builder.add(Onnx.mul, [term, builder.constant([bias.factor], shape: [])])
      }
      sum = try sum.map { id throws(VitError) in try builder.add(Onnx.add, [id, term]) } ?? term
    }
    return sum
  }

  // MARK: Operators that hold all of it

  private static func number(_ node: Node, _ name: String) -> Double? {
    switch node.operation.attributes[name] {
    case .float(let value)?: value
    case .int(let value)?: Double(value)
    case .bool(let value)?: value ? 1 : 0
    default: nil
    }
  }

  private static func isBare(_ node: Node, _ rewriter: Rewriter, operands: Int) -> Bool {
    node.operands.dropFirst(operands).allSatisfy { $0 == nil }
      && node.results.dropFirst().allSatisfy { rewriter.users(of: $0).isEmpty }
  }

  private static func onnxAttention(_ node: Node, _ rewriter: inout Rewriter) {
    guard isBare(node, rewriter, operands: 4), number(node, "softcap") ?? 0 == 0, let q = node.operands[0],
      let k = node.operands[1], let v = node.operands[2], let result = node.results.first
    else { return rewriter.miss(name, at: node, "expected no cache, soft cap or further outputs") }
    let mask = node.operands.count > 3 ? node.operands[3] : nil
    if let mask, rewriter.type(mask).element != .f32 {
      return rewriter.miss(name, at: node, "expected an additive mask, found a boolean one")
    }
    let isCausal = number(node, "is_causal") ?? 0 != 0
    let heads = Int(number(node, "q_num_heads") ?? 0)
    let groups = Int(number(node, "kv_num_heads") ?? 0)
    let scale = number(node, "scale")
    rewriter.tryReplace(result, at: node) { builder throws(VitError) in
      let split = builder.graph.type(q).rank == 3
      let operands = [
        try split ? builder.splitHeads(q, heads) : q, try split ? builder.splitHeads(k, groups) : k,
        try split ? builder.splitHeads(v, groups) : v,
      ]
      let core = try builder.core(operands, bias: mask, scale: scale, causal: isCausal)
      return try split ? builder.mergeHeads(core) : core
    }
  }

  private static func multiHead(_ node: Node, _ rewriter: inout Rewriter) {
    func operand(_ index: Int) -> ValueID? { index < node.operands.count ? node.operands[index] : nil }
    guard let q = operand(0), let k = operand(1), let v = operand(2), operand(4) == nil,
      isBare(node, rewriter, operands: 6),
      rewriter.type(q).rank == 3, rewriter.type(k).rank == 3, rewriter.type(v).rank == 3,
      let result = node.results.first,
      let heads = number(node, "num_heads").map(Int.init), number(node, "unidirectional") ?? 0 == 0
    else {
      return rewriter.miss(name, at: node, "expected separate queries, keys and values without mask or cache")
    }
    let widths = [q, k, v].compactMap { rewriter.type($0).shape[2].fixedValue }
    guard widths.count == 3 else { return }
    let scale = number(node, "scale").flatMap { $0 == 0 ? nil : $0 }
    rewriter.tryReplace(result, at: node) { builder throws(VitError) in
      var operands = [q, k, v]
      if let bias = operand(3) {
        var start = 0
        for index in 0..<3 {
          let part = try builder.rows(Array(start..<start + widths[index]), of: bias)
          operands[index] = try builder.add(Onnx.add, [operands[index], part])
          start += widths[index]
        }
      }
      for index in 0..<3 { operands[index] = try builder.splitHeads(operands[index], heads) }
      return try builder.mergeHeads(try builder.core(operands, bias: operand(5), scale: scale, causal: false))
    }
  }

  private static func packed(_ node: Node, _ rewriter: inout Rewriter) {
    func operand(_ index: Int) -> ValueID? { index < node.operands.count ? node.operands[index] : nil }
    guard let x = operand(0), let weight = operand(1), operand(3) == nil, operand(4) == nil,
      operand(6) == nil,
      isBare(node, rewriter, operands: 6), let total = rewriter.type(weight).shape.last?.fixedValue,
      rewriter.constant(weight) != nil, let heads = number(node, "num_heads").map(Int.init),
      let result = node.results.first
    else { return rewriter.miss(name, at: node, "expected constant weights and no mask or cache") }
    var widths = [total / 3, total / 3, total / 3]
    if case .ints(let sizes)? = node.operation.attributes["qkv_hidden_sizes"], sizes.count == 3 {
      widths = sizes
    }
    let scale = number(node, "scale").flatMap { $0 == 0 ? nil : $0 }
    let isCausal = number(node, "unidirectional") ?? 0 != 0
    rewriter.tryReplace(result, at: node) { builder throws(VitError) in
      let matrix = try builder.transposedWeight(weight)
      var start = 0
      var operands: [ValueID] = []
      for width in widths {
        let rows = Array(start..<start + width)
        let bias = try operand(2).map { id throws(VitError) in try builder.rows(rows, of: id) }
        let part = try builder.add(VitLinear.self, [x, try builder.rows(rows, of: matrix), bias])
        operands.append(try builder.splitHeads(part, heads))
        start += width
      }
      return try builder.mergeHeads(
        try builder.core(operands, bias: operand(5), scale: scale, causal: isCausal))
    }
  }
}

extension GraphBuilder {
  /// [batch, tokens, heads·width] as [batch, heads, tokens, width].
  mutating func splitHeads(_ x: ValueID, _ heads: Int) throws(VitError) -> ValueID {
    let cut = try add(Onnx.reshape, [x, integers([0, 0, heads, -1])])
    return try add(Onnx.transpose, [cut], [("perm", .ints([0, 2, 1, 3]))])
  }

  /// [batch, heads, tokens, width] as [batch, tokens, heads·width].
  mutating func mergeHeads(_ x: ValueID) throws(VitError) -> ValueID {
    let moved = try add(Onnx.transpose, [x], [("perm", .ints([0, 2, 1, 3]))])
    return try add(Onnx.reshape, [moved, integers([0, 0, -1])])
  }

  /// `vit.sdpa` of queries, keys and values; the default scale is 1/√width.
  mutating func core(
    _ operands: [ValueID], bias: ValueID?, scale: Double?, causal: Bool
  ) throws(VitError) -> ValueID {
    guard let width = graph.type(operands[0]).shape.last?.fixedValue, width > 0 else {
      throw VitError("expected queries of a known width")
    }
    return try add(
      VitSDPA.self, operands + [bias],
      [("scale", .float(scale ?? 1 / Double(width).squareRoot())), ("causal", .bool(causal))])
  }
}
