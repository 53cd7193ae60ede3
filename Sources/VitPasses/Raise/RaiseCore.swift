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

  /// Something added to the scores: a value times a factor, or a great negative number where the value is a mask that hides.
  private struct Bias {
    var value: ValueID
    var factor = 1.0
    var hiding: Hiding?
  }

  /// Scores whose mask is `hidden` are replaced by `number`, which is so great that adding it is the same.
  private struct Hiding {
    var hidden: Bool
    var number: Double
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
    case (.success(let logits), .success(let (last, values, isGuarded))):
      guard let result = last.results.first else { return }
      let shape = rewriter.type(input).shape
      rewriter.tryReplace(result, at: node) { builder throws(VitError) in
        var (queries, keys) = (logits.queries, logits.keys)
        if logits.isTurned { queries = try builder.turned(queries, rank: rank) }
        for factor in logits.headScales { queries = try builder.add(Onnx.mul, [queries, factor]) }
        if !logits.keysAreTransposed { keys = try builder.turned(keys, rank: rank) }
        let bias = try RaiseCore.bias(logits, shape, &builder)
        return try builder.core(
          [queries, keys, values], bias: bias, scale: logits.scale, causal: false,
          guarded: isGuarded || !mayHideRows(logits.biases, bias, builder))
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
        if let place = biases.firstIndex(where: { ($0.hiding?.number ?? -.infinity) > -.infinity }),
          !biases[(place + 1)...].allSatisfy({ isSmall($0, rewriter.graph) })
        {
          // Where all keys of a query are hidden, a mask below shows through if it is added, not if it is replaced.
          return .failure(
            Reason(text: "expected one mask, found one that replaces scores which another has hidden"))
        }
        return .success(
          Logits(
            queries: isTurned ? b : a, keys: isTurned ? a : b, keysAreTransposed: isTurned, scale: factor,
            isTurned: isTurned, headScales: headScales, biases: biases))
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
        guard isAsRead, factor > 0, let (mask, hiding, kept) = hiding(node, rewriter) else { break }
        biases.append(Bias(value: mask, factor: factor, hiding: hiding))
        value = kept
        continue
      default: break
      }
      return .failure(
        Reason(text: "expected a product of queries and keys before the softmax, found '\(node.name)'"))
    }
    return .failure(Reason(text: "expected a product of queries and keys before the softmax"))
  }

  /// The mask of a `Where` that puts a great negative number in the place of scores, how it hides, and the scores.
  private static func hiding(
    _ node: Node, _ rewriter: Rewriter
  ) -> (mask: ValueID, hiding: Hiding, kept: ValueID)? {
    guard let mask = node.operands[0] else { return nil }
    for (number, kept, hidden) in [(2, 1, false), (1, 2, true)] {
      guard let other = rewriter.scalar(node.operands[number]), other < -1e30,
        let scores = node.operands[kept]
      else { continue }
      return (mask, Hiding(hidden: hidden, number: other), scores)
    }
    return nil
  }

  /// Whether what is added may leave a query no key. `sum` is all of it.
  private static func mayHideRows(_ biases: [Bias], _ sum: ValueID?, _ builder: GraphBuilder) -> Bool {
    guard let sum else { return false }
    if let tensor = builder.graph.tensor(sum) { return VitSDPA.mayHideRows(tensor) }
    return !biases.allSatisfy { isSmall($0, builder.graph) }
  }

  /// Whether something added is known and hides no key.
  private static func isSmall(_ bias: Bias, _ graph: Graph) -> Bool {
    guard bias.hiding == nil, let numbers = try? graph.tensor(bias.value)?.doubles() else { return false }
    return numbers.allSatisfy { $0 * bias.factor > -1e30 }
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

  /// Whether a value is made of a product of two computed ones.
  static func leadsToProduct(_ id: ValueID, _ rewriter: Rewriter, depth: Int = 0) -> Bool {
    guard depth < 8, let (_, node) = rewriter.producer(of: id), rewriter.constant(id) == nil else {
      return false
    }
    switch node.name {
    case Onnx.matMul.name:
      return rewriter.type(id).rank >= 3 && !node.operands.contains { rewriter.constant($0) != nil }
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

  /// Walks down from the probabilities to their product with the values; on the way zeros may take the place of NaN.
  private static func product(
    of probabilities: ValueID, _ rewriter: Rewriter
  ) -> Result<(last: Node, values: ValueID, isGuarded: Bool), Reason> {
    var value = probabilities
    var isGuarded = false
    for _ in 0..<6 {
      let readers = rewriter.users(of: value).map { rewriter.nodes[$0] }
      if let guardNode = readers.first(where: { $0.isAny(Onnx.where) }), readers.count == 2,
        let check = readers.first(where: { $0.isAny(Onnx.isNaN) }), let checked = check.results.first,
        guardNode.operands[0] == checked, guardNode.operands[2] == value,
        rewriter.scalar(guardNode.operands[1]) == 0, let result = guardNode.results.first
      {
        isGuarded = true
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
        return .success((reader, values, isGuarded))
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
      if let hiding = bias.hiding {
        let number = hiding.number * bias.factor
        if let mask = builder.graph.tensor(term) {
          let flags = try rethrowing { try mask.doubles() }
          term = builder.constant(
            flags.map { ($0 != 0) == hiding.hidden ? number : 0 }, shape: mask.shape,
            name: builder.graph[term].name)
        } else {
          let parts = [builder.constant([number], shape: []), builder.constant([0], shape: [])]
          term = try builder.add(Onnx.where, [term] + (hiding.hidden ? parts : parts.reversed()))
        }
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
    guard number(node, "left_window_size") == nil, number(node, "right_window_size") == nil else {
      return rewriter.miss(name, at: node, "expected attention without a window")
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
      let bias = try mask.map { id throws(VitError) in try builder.additive(id) }
      let core = try builder.core(operands, bias: bias, scale: scale, causal: isCausal, guarded: true)
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
      return try builder.mergeHeads(
        try builder.core(
          operands, bias: operand(5), scale: scale, causal: false, guarded: builder.leavesKeys(operand(5))))
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
    if isCausal, let bias = operand(5), !isSmall(Bias(value: bias), rewriter.graph) {
      // A query sees later keys after all where the bias hides all others.
      return rewriter.miss(name, at: node, "expected no computed bias of causal attention")
    }
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
        try builder.core(
          operands, bias: operand(5), scale: scale, causal: isCausal, guarded: builder.leavesKeys(operand(5)))
      )
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

  /// What ONNX's attention does with a mask as something to be added: a false one, and the lowest number, hide a key.
  mutating func additive(_ mask: ValueID) throws(VitError) -> ValueID {
    let lowest = -Double(Float.greatestFiniteMagnitude)
    let isFloat = graph.type(mask).element.isFloat
    if let tensor = graph.tensor(mask) {
      let numbers = try rethrowing { try tensor.doubles() }
      return constant(
        numbers.map { isFloat ? ($0 <= lowest ? -.infinity : $0) : $0 != 0 ? 0 : -.infinity },
        shape: tensor.shape, name: graph[mask].name)
    }
    let hidden = constant([-Double.infinity], shape: [])
    guard isFloat else { return try add(Onnx.where, [mask, constant([0], shape: []), hidden]) }
    let isHidden = try add(Onnx.lessOrEqual, [mask, constant([lowest], shape: [])])
    return try add(Onnx.where, [isHidden, hidden, mask])
  }

  /// Whether what is added to scores, if anything is, leaves each query a key.
  func leavesKeys(_ bias: ValueID?) -> Bool {
    bias.map { !VitSDPA.mayHideRows(graph.tensor($0)) } ?? true
  }

  /// `vit.sdpa` of queries, keys and values; the default scale is 1/√width.
  mutating func core(
    _ operands: [ValueID], bias: ValueID?, scale: Double?, causal: Bool, guarded: Bool
  ) throws(VitError) -> ValueID {
    var factor = scale
    if factor == nil {
      guard let width = graph.type(operands[0]).shape.last?.fixedValue, width > 0 else {
        throw VitError("expected queries of a known width")
      }
      factor = 1 / Double(width).squareRoot()
    }
    var attributes: [(String, Attribute)] = [("causal", .bool(causal)), ("guarded", .bool(guarded))]
    if let factor { attributes.append(("scale", .float(factor))) }
    return try add(VitSDPA.self, operands + [bias], attributes)
  }
}
