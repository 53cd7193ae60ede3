public import VitIR
internal import VitRuntime

/// `vit.sdpa(q, k, v, bias?)`: attention's core, `softmax(scale·q·kᵀ + bias)·v` over the last two axes
/// (Mixers.md §2.6).
///
/// `q` is `[…, heads, queries, width]`, `k` `[…, keyHeads, keys, width]`, `v` `[…, keyHeads, keys,
/// valueWidth]`, of rank 3 or more; `heads` is a multiple of `keyHeads`, whose groups share keys and values.
/// `bias` broadcasts to `[…, heads, queries, keys]`. With `causal`, query `i` sees the keys up to `i`. A
/// query that sees no key gives zeros, or NaN, as the softmax alone would, where it is not `guarded`.
public struct VitSDPA: Operation {
  /// The operation's name.
  public static let name = "vit.sdpa"
  /// What it computes.
  public static let summary = "Scaled dot-product attention of queries to keys and values"
  /// A use of it.
  public static let example = "(f32[1, 2, 4, 3], f32[1, 2, 5, 3], f32[1, 2, 5, 3], f32[4, 5])"
  /// The factor of the scores; `nil` for one over the square root of the width.
  public let scale: Double?
  /// Whether keys that come after a query are hidden from it.
  public let isCausal: Bool
  /// Whether a query that sees no key gives zeros, else NaN.
  public let isGuarded: Bool

  /// An attention.
  public init(scale: Double? = nil, isCausal: Bool = false, isGuarded: Bool = true) {
    self.scale = scale
    self.isCausal = isCausal
    self.isGuarded = isGuarded
  }

  /// Takes `scale`, `causal` and `guarded`.
  public init(attributes: inout AttributeReader) throws(VitError) {
    scale = try attributes.optionalFloat("scale")
    isCausal = try attributes.bool("causal", default: false)
    isGuarded = try attributes.bool("guarded", default: true)
  }

  /// `scale` and `guarded` where they are not the default, and `causal`.
  public var attributes: Attributes {
    var result = Attributes([("causal", .bool(isCausal))])
    result["scale"] = scale.map(Attribute.float)
    if !isGuarded { result["guarded"] = .bool(false) }
    return result
  }

  /// `[…, heads, queries, valueWidth]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...4)
    try operands.expectOneResult()
    let q = try operands.float(0, "q", rank: 3...64)
    let k = try operands.float(1, "k", rank: 3...64)
    let v = try operands.float(2, "v", rank: 3...64)
    let rank = q.rank
    guard k.element == q.element, k.rank == rank, k.shape[..<(rank - 3)] == q.shape[..<(rank - 3)],
      k.shape[rank - 1] == q.shape[rank - 1]
    else { throw VitError("'k' is \(k), which does not go with queries of \(q)", code: "operand-shape") }
    guard v.element == k.element, v.rank == rank, v.shape.dropLast() == k.shape.dropLast() else {
      throw VitError("'v' is \(v), which does not go with keys of \(k)", code: "operand-shape")
    }
    let (heads, groups) = (q.shape[rank - 3], k.shape[rank - 3])
    if heads != groups {
      guard let heads = heads.fixedValue, let groups = groups.fixedValue, groups > 0, heads % groups == 0
      else {
        throw VitError(
          "\(heads) heads of queries cannot share \(groups) heads of keys", code: "operand-shape")
      }
    }
    if operands.has(3) {
      let scores = q.with(q.shape.dropLast() + [k.shape[rank - 2]])
      try SoftmaxAttention.check(bias: operands.float(3, "bias"), scores: scores)
    }
    return [q.with(q.shape.dropLast() + [v.shape[rank - 1]])]
  }

  /// All axes run side by side but the keys'; without regard to what is hidden from a query, so do queries.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    guard let q = operands[0]?.shape, let k = operands[1]?.shape else { return .mixed }
    let rank = q.count
    let scores = q.dropLast() + [k[rank - 2]]
    var letters = (0..<rank - 1).map { axis in
      let bias = AxisMap.broadcastAxes(operands, [3], axis, of: Array(scores)).dropFirst(3)
      if axis == rank - 2 {
        return AxisMap.Letter(isCausal ? .aligned : .parallel, [axis, nil, nil] + bias, [axis])
      }
      // Heads of queries that share keys go with them.
      return AxisMap.Letter(q[axis] == k[axis] ? .parallel : .aligned, [axis, axis, axis] + bias, [axis])
    }
    letters.append(AxisMap.Letter(.parallel, [nil, nil, rank - 1], [rank - 1]))
    return AxisMap(letters, broadcasts: true)
  }

  /// What is added to the scores may be a mask.
  public func role(of index: Int) -> OperandRole { index == 3 ? .mask : .data }

  private func core(_ q: [Int], _ k: [Int], _ v: [Int], bias: [Int]?) -> SoftmaxAttention {
    let rank = q.count
    let outer = Array(q[..<(rank - 3)])
    var sizes = AttentionShape(
      batch: outer.reduce(1, *), heads: q[rank - 3], keyHeads: k[rank - 3], queries: q[rank - 2],
      keys: k[rank - 2], width: q[rank - 1], valueWidth: v[rank - 1],
      scale: scale ?? 1 / Double(max(1, q[rank - 1])).squareRoot())
    sizes.isGuarded = isGuarded
    return SoftmaxAttention(outer: outer, sizes: sizes, isCausal: isCausal, bias: bias)
  }

  private func core(_ operands: Operands) -> SoftmaxAttention? {
    guard let q = operands[0], let k = operands[1], let v = operands[2] else { return nil }
    return core(q.extents, k.extents, v.extents, bias: operands[3]?.extents)
  }

  private func core(_ context: KernelContext) -> SoftmaxAttention {
    core(
      context.input(0).shape, context.input(1).shape, context.input(2).shape,
      bias: context.optionalInput(3)?.shape)
  }

  /// The logarithm of each row's sum of exponentials.
  public func savedTypes(_ operands: Operands) -> [TensorType] {
    operands[0].map { [TensorType($0.element, fixed: $0.extents.dropLast())] } ?? []
  }

  /// The bias where the kernel cannot read it as it is, its gradient, and the kernel's.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let core = core(operands), let element = operands[0]?.element else { return [] }
    return core.scratchTypes(element, mode)
  }

  /// The two products.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    Cost(flops: core(operands)?.flops ?? 0, bytes: operands.bytes(results))
  }

  /// Whether what is added to scores, `nil` where that is not known, may hide all keys from a query.
  package static func mayHideRows(_ bias: Tensor?) -> Bool { SoftmaxAttention.mayHideRows(bias) }

  private static func heads(_ view: View) -> AttentionOperand {
    let (rows, width) = (view.shape[view.rank - 2], view.shape[view.rank - 1])
    return AttentionOperand(
      view, batch: view.shape[view.rank - 3] * rows * width, head: rows * width, token: width)
  }

  /// Computes the result.
  public func forward(_ context: KernelContext) {
    core(context).forward(
      q: Self.heads(context.input(0)), k: Self.heads(context.input(1)), v: Self.heads(context.input(2)),
      bias: context.optionalInput(3), into: Self.heads(context.output), logSumExp: context.saved.first,
      scratch: context.scratch[...], pool: context.pool)
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds the gradients of queries, keys, values and bias.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    core(context).gradient(
      q: Self.heads(context.input(0)), k: Self.heads(context.input(1)), v: Self.heads(context.input(2)),
      bias: context.optionalInput(3), o: Self.heads(context.output), logSumExp: context.saved[0],
      dO: Self.heads(dy),
      adding: operandGradients[0].map(Self.heads), operandGradients[1].map(Self.heads),
      operandGradients[2].map(Self.heads), operandGradients.count > 3 ? operandGradients[3] : nil,
      scratch: context.scratch[...], pool: context.pool)
  }

  /// Two products with a softmax between them; keys and values of groups are repeated. Where a bias may hide all keys from a
  /// query, what is guarded has zeros in the place of NaN.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    guard let q = operands[0], var k = operands[1], var v = operands[2] else {
      throw VitError("expected queries, keys and values", code: "operand-missing")
    }
    let type = builder.graph.type(q)
    let rank = type.rank
    let axis = rank - 3
    if type.shape[axis] != builder.graph.type(k).shape[axis] {
      guard let heads = type.shape[axis].fixedValue, let groups = builder.graph.type(k).shape[axis].fixedValue
      else {
        throw VitError("the number of heads is not known", code: "dynamic-shape")
      }
      let sources = builder.integers((0..<heads).map { $0 * groups / heads })
      k = try builder.add("onnx.Gather", [k, sources], [("axis", .int(axis))])
      v = try builder.add("onnx.Gather", [v, sources], [("axis", .int(axis))])
    }
    guard let width = type.shape[rank - 1].fixedValue else {
      throw VitError("the width of \(type) is not known", code: "dynamic-shape")
    }
    let turned = Array(0..<(rank - 2)) + [rank - 1, rank - 2]
    let transposed = try builder.add("onnx.Transpose", [k], [("perm", .ints(turned))])
    let factor = builder.constant(
      [scale ?? 1 / Double(max(1, width)).squareRoot()], shape: [], element: type.element)
    var scores = try builder.add(
      "onnx.Mul", [try builder.add("onnx.MatMul", [q, transposed]), factor])
    if operands.count > 3, let bias = operands[3] { scores = try builder.add("onnx.Add", [scores, bias]) }
    if isCausal {
      let (start, end) = (builder.integers([rank - 2]), builder.integers([rank]))
      let shape = try builder.add("onnx.Shape", [scores])
      let square = try builder.add("onnx.Slice", [shape, start, end])
      let lowest = builder.constant([-Double.infinity], shape: [1], element: type.element)
      let everywhere = try builder.add("onnx.Expand", [lowest, square])
      let above = try builder.add(
        "onnx.Trilu", [everywhere, builder.integers([1], shape: [])], [("upper", .int(1))])
      scores = try builder.add("onnx.Add", [scores, above])
    }
    var weights = try builder.add("onnx.Softmax", [scores], [("axis", .int(-1))])
    if isGuarded, operands.count > 3, let bias = operands[3],
      SoftmaxAttention.mayHideRows(builder.graph.tensor(bias))
    {
      let zero = builder.constant([0], shape: [], element: type.element)
      weights = try builder.add("onnx.Where", [try builder.add("onnx.IsNaN", [weights]), zero, weights])
    }
    return [try builder.add("onnx.MatMul", [weights, v])]
  }
}
