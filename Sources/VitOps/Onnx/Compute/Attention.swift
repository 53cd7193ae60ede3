internal import VitIR
internal import VitRuntime

/// `onnx.Attention`: scaled dot-product attention of projected queries, keys and values, `[batch, heads,
/// tokens, depth]` or `[batch, tokens, heads·depth]`.
///
/// Operands: Q, K, V, mask, past keys and values, lengths of keys; results: Y, present keys and values,
/// scores.
struct OnnxAttention: Operation {
  static let name = "onnx.Attention"
  static let summary = "Softmax of scaled products of queries and keys, times the values"
  static let example = "(f32[1, 2, 2, 3], f32[1, 2, 5, 3], f32[1, 2, 5, 3], f32[2, 5]) {is_causal = 1}"
  let queryHeads: Int?
  let keyHeads: Int?
  let scale: Double?
  let isCausal: Bool
  let softcap: Double
  let stage: AttentionCore.Stage
  let left: Int
  let right: Int

  init(attributes: inout AttributeReader) throws(VitError) {
    queryHeads = try attributes.optionalInt("q_num_heads")
    keyHeads = try attributes.optionalInt("kv_num_heads")
    scale = try attributes.optionalFloat("scale")
    isCausal = try attributes.bool("is_causal", default: false)
    softcap = try attributes.float("softcap", default: 0)
    left = try attributes.int("left_window_size", default: -1)
    right = try attributes.int("right_window_size", default: -1)
    let mode = try attributes.int("qk_matmul_output_mode", default: 0)
    guard let stage = AttentionCore.Stage(rawValue: mode) else {
      throw VitError("attribute 'qk_matmul_output_mode' is \(mode), expected 0 to 3")
    }
    self.stage = stage
    // The softmax is computed in the type of its operands, which is f32 at the least.
    _ = try attributes.optionalInt("softmax_precision")
    for (name, heads) in [("q_num_heads", queryHeads), ("kv_num_heads", keyHeads)] {
      if let heads, heads < 1 { throw VitError("attribute '\(name)' is \(heads), expected at least 1") }
    }
    guard softcap >= 0 else { throw VitError("attribute 'softcap' is \(softcap), expected none below 0") }
    guard left >= -1, right >= -1 else {
      throw VitError("the window sizes are \(left) and \(right), expected at least 0, or -1 for no limit")
    }
  }

  var attributes: Attributes {
    var result = Attributes([
      ("is_causal", .bool(isCausal)), ("softcap", .float(softcap)),
      ("qk_matmul_output_mode", .int(stage.rawValue)),
    ])
    result["q_num_heads"] = queryHeads.map(Attribute.int)
    result["kv_num_heads"] = keyHeads.map(Attribute.int)
    result["scale"] = scale.map(Attribute.float)
    if left >= 0 { result["left_window_size"] = .int(left) }
    if right >= 0 { result["right_window_size"] = .int(right) }
    return result
  }
  var isDifferentiable: Bool { true }

  /// Extents of one operand: `[batch, heads, tokens, depth]`.
  private func split(_ shape: Shape, _ role: String, heads: Int?) throws(VitError) -> Shape {
    if shape.count == 4 { return shape }
    guard shape.count == 3 else {
      throw VitError("'\(role)' has the shape \(shape), expected three or four axes")
    }
    guard let heads else {
      throw VitError(
        "'\(role)' has three axes, which needs the attribute '\(role == "Q" ? "q" : "kv")_num_heads'",
        code: "attribute-missing")
    }
    guard let depth = shape[2].exactlyDivided(by: .fixed(heads)) else {
      throw VitError("'\(role)' has the width \(shape[2]), which cannot be parted into \(heads) heads")
    }
    return [shape[0], .fixed(heads), shape[1], depth]
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...7)
    try operands.expectResults(4)
    let type = try operands.typed(0, "Q", ElementType.reals)
    var parts: [Shape] = []
    for (index, role) in ["Q", "K", "V"].enumerated() {
      let part = try operands.typed(index, role, ElementType.reals)
      try operands.expectSame(index, role, as: type.element)
      guard part.rank == type.rank else {
        throw VitError("'\(role)' has \(part.rank) axes, expected \(type.rank) as 'Q'")
      }
      parts.append(try split(part.shape, role, heads: index == 0 ? queryHeads : keyHeads))
    }
    let (q, k, v) = (parts[0], parts[1], parts[2])
    guard k[0] == q[0], v[0] == q[0], k[1] == v[1], k[2] == v[2], k[3] == q[3] else {
      throw VitError(
        "'Q', 'K' and 'V' are \(q), \(k) and \(v) as [batch, heads, tokens, depth], which do not match")
    }
    guard let heads = q[1].fixedValue, let keyHeads = k[1].fixedValue, keyHeads > 0, heads % keyHeads == 0
    else {
      throw VitError("\(k[1]) heads of keys cannot be shared by \(q[1]) heads of queries")
    }
    var total = k[2]
    guard operands.has(4) == operands.has(5) else {
      throw VitError("one of 'past_key' and 'past_value' is missing, expected both or none")
    }
    if operands.has(4) {
      guard !operands.has(6) else {
        throw VitError("'nonpad_kv_seqlen' and 'past_key' are both there, expected one of them at most")
      }
      let past = try operands.typed(4, "past_key", [type.element])
      _ = try operands.typed(5, "past_value", [type.element])
      guard past.rank == 4 else {
        throw VitError("'past_key' has the shape \(past.shape), expected four axes")
      }
      try operands.expectShape(4, "past_key", [q[0], k[1], past.shape[2], k[3]])
      try operands.expectShape(5, "past_value", [q[0], k[1], past.shape[2], v[3]])
      total = total + past.shape[2]
    }
    if operands.has(6) {
      _ = try operands.typed(6, "nonpad_kv_seqlen", [.i64, .i32])
      try operands.expectShape(6, "nonpad_kv_seqlen", [q[0]])
    }
    try checkMask(operands, [q[0], q[1], q[2], total], type.element)
    let width = type.rank == 4 ? [q[0], q[1], q[2], v[3]] : [q[0], q[2], q[1] * v[3]]
    let types = [
      TensorType(type.element, width), TensorType(type.element, [q[0], k[1], total, k[3]]),
      TensorType(type.element, [q[0], k[1], total, v[3]]),
      TensorType(type.element, [q[0], q[1], q[2], total]),
    ]
    return Array(types.prefix(operands.resultCount))
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let batch = operands[0]?.shape.first else { return .mixed }
    let axes = (0..<operands.count).map { index -> Int? in
      guard let shape = operands[index]?.shape else { return nil }
      // A mask with fewer axes is the same for all images.
      if index == 3 { return shape.count == 4 && shape[0] == batch ? 0 : nil }
      return 0
    }
    return AxisMap([AxisMap.Letter(.parallel, axes, results.map { _ in 0 })], broadcasts: true)
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 3: .mask
    case 6: .setting
    default: .data
    }
  }

  private func checkMask(_ operands: Operands, _ scores: Shape, _ element: ElementType) throws(VitError) {
    guard operands.has(3) else { return }
    let mask = try operands.typed(3, "attn_mask", [element, .bool])
    guard let covered = mask.shape.last, mask.rank <= 4 else {
      throw VitError("'attn_mask' has the shape \(mask.shape), expected one to four axes")
    }
    // The last axis may be shorter: keys beyond are not seen.
    var isCovered = covered == scores[3]
    if let covered = covered.fixedValue, let keys = scores[3].fixedValue { isCovered = covered <= keys }
    let rest = Array(mask.shape.dropLast())
    guard isCovered, try broadcast(rest, Array(scores[..<3])) == Array(scores[..<3]) else {
      throw VitError("'attn_mask' has the shape \(mask.shape), which does not broadcast to \(scores)")
    }
  }

  /// The computation for operands of these extents.
  private func core(_ shapes: [[Int]?], mask: AttentionMask) -> AttentionCore {
    func parts(_ index: Int, _ heads: Int?) -> [Int] {
      let shape = shapes[index] ?? []
      guard shape.count == 3, let heads else { return shape }
      return [shape[0], heads, shape[1], shape[2] / heads]
    }
    let (q, k, v) = (parts(0, queryHeads), parts(1, keyHeads), parts(2, keyHeads))
    let past = shapes.count > 4 ? shapes[4]?[2] ?? 0 : 0
    return AttentionCore(
      batch: q[0], heads: q[1], keyHeads: k[1], queries: q[2], keys: past + k[2], depth: q[3],
      valueDepth: v[3],
      scale: scale ?? 1 / Double(max(1, q[3])).squareRoot(), softcap: softcap, mask: mask, isGuarded: true)
  }

  private func mask(_ context: KernelContext) -> AttentionMask {
    var mask = AttentionMask()
    mask.hidesLowest = true
    if let view = context.optionalInput(3) { mask.terms = [AttentionMask.Term(view)] }
    mask.lengths = context.optionalInput(6)
    mask.endsWithItem = mask.lengths != nil
    mask.offset = context.optionalInput(4)?.shape[2] ?? 0
    if left >= 0 { mask.left = left }
    if right >= 0 { mask.right = right }
    if isCausal { mask.right = 0 }
    return mask
  }

  /// Scores; keys and values with those of the past, unless they are results; in training their gradients
  /// too.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let element = operands[0]?.element else { return [] }
    let core = core(operands.types.map { $0?.extents }, mask: AttentionMask())
    let types = [core.scratchType(element, mode: mode)]
    guard operands.has(4) else { return types }
    let present = [core.depth, core.valueDepth].map {
      TensorType(element, fixed: [core.batch, core.keyHeads, core.keys, $0])
    }
    return types + present + (mode.training ? present : [])
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    let core = core(operands.types.map { $0?.extents }, mask: AttentionMask())
    let size = results[0].element.size
    let read = operands.types.reduce(0) { $0 + ($1?.count ?? 0) }
    return Cost(flops: core.flops, bytes: (read + results.reduce(0) { $0 + $1.count }) * size)
  }

  private func heads(_ view: View, depth: Int) -> HeadLayout {
    view.rank == 4 ? .outer(view) : .inner(view, depth: depth)
  }

  private func attention(_ context: KernelContext) -> (CachedAttention, HeadLayout, [CachedAttention.Side]) {
    let core = core(context.inputs.map { $0?.shape }, mask: mask(context))
    let sides = [core.depth, core.valueDepth].enumerated().map { side, depth in
      // Where nobody wants them joined and there is no past, they are not.
      let result = context.outputs.count > side + 1 ? context.outputs[side + 1] : nil
      let old = context.optionalInput(4 + side)
      return CachedAttention.Side(
        new: heads(context.input(1 + side), depth: depth), past: old.map(HeadLayout.outer),
        present: (result ?? (old == nil ? nil : context.scratch[1 + side])).map(HeadLayout.outer),
        depth: depth)
    }
    let past = context.optionalInput(4)?.shape[2] ?? 0
    return (CachedAttention(core: core, past: past), heads(context.input(0), depth: core.depth), sides)
  }

  func forward(_ context: KernelContext) {
    let (attention, q, sides) = attention(context)
    attention.forward(
      q, sides[0], sides[1], into: heads(context.output, depth: attention.core.valueDepth),
      scratch: context.scratch[0], probe: context.outputs.count > 3 ? (context.outputs[3], stage) : nil,
      pool: context.pool)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    let (attention, q, sides) = attention(context)
    let core = attention.core
    func gradient(_ index: Int) -> View? { index < operandGradients.count ? operandGradients[index] : nil }
    func result(_ index: Int) -> View? { index < resultGradients.count ? resultGradients[index] : nil }
    let sinks = sides.enumerated().map { side, operand in
      CachedAttention.Sinks(
        new: gradient(1 + side).map { heads($0, depth: operand.depth) },
        past: gradient(4 + side).map(HeadLayout.outer),
        gathered: operand.past == nil ? nil : .outer(context.scratch[3 + side]),
        result: result(1 + side).map(HeadLayout.outer))
    }
    attention.gradient(
      q, sides[0], sides[1], dy: result(0).map { heads($0, depth: core.valueDepth) },
      into: gradient(0).map { heads($0, depth: core.depth) }, sinks[0], sinks[1],
      masks: gradient(3).map { [AttentionMask.Term($0)] } ?? [], scratch: context.scratch[0],
      probeGradient: result(3).map { ($0, stage) }, pool: context.pool)
  }
}
