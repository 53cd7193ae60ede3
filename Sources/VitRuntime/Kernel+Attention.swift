internal import CVitKernels
public import VitIR

/// An operand `[batch, heads, tokens, width]` in memory of any layout whose last axis is dense.
public struct Heads: Sendable {
  /// The memory; its first element is the first of item 0, head 0, token 0.
  public var view: View
  /// The distance between batch items, heads and tokens, in elements.
  public var batch: Int, head: Int, token: Int

  /// An operand with the given strides.
  public init(_ view: View, batch: Int, head: Int, token: Int) {
    self.view = view
    self.batch = batch
    self.head = head
    self.token = token
  }

  /// `[batch, tokens, heads·width]` as projections make it. `part` of `parts` picks one of several projections that
  /// stand side by side in each token: the first, second or third of a fused query, key and value.
  public init(tokens view: View, heads: Int, part: Int = 0, of parts: Int = 1) {
    precondition(view.rank == 3 && view.shape[2] % (heads * parts) == 0)
    let (tokens, row) = (view.shape[1], view.shape[2])
    let offset = part * (row / parts)
    self.init(
      view.part(offset, of: max(0, view.count - offset)),
      batch: tokens * row, head: row / parts / heads, token: row)
  }

  /// A dense `[batch, heads, tokens, width]`.
  public init(dense view: View) {
    precondition(view.rank == 4)
    let strides = view.strides
    self.init(view, batch: strides[0], head: strides[1], token: strides[2])
  }

  /// `[batch, heads, queries, keys]` broadcast: axes of extent 1, or left out at the front, repeat.
  public init(broadcast view: View) {
    let lead = [Int](repeating: 0, count: 4 - view.rank)
    let strides = lead + zip(view.strides, view.shape).map { $1 == 1 ? 0 : $0 }
    self.init(view, batch: strides[0], head: strides[1], token: strides[2])
  }

  var raw: vk_heads { vk_heads(base: view.base, batch: batch, head: head, token: token) }
}

/// The sizes of an attention, and the factor of its scores.
public struct AttentionShape: Sendable, Hashable {
  /// Batch items.
  public var batch: Int
  /// Heads of queries.
  public var heads: Int
  /// Heads of keys and values, of which `heads` is a multiple: query head `h` reads key head `h·keyHeads/heads`.
  public var keyHeads: Int
  /// Queries and keys of each head.
  public var queries: Int, keys: Int
  /// Elements of a query and a key, and of a value.
  public var width: Int, valueWidth: Int
  /// The factor of the scores; usually `1/√width`.
  public var scale: Double
  /// Whether a row whose keys are all masked becomes zeros, else NaN.
  public var isGuarded = true

  /// A shape; by default as many key heads as heads, and values as wide as keys.
  public init(
    batch: Int, heads: Int, keyHeads: Int? = nil, queries: Int, keys: Int, width: Int, valueWidth: Int? = nil,
    scale: Double
  ) {
    self.batch = batch
    self.heads = heads
    self.keyHeads = keyHeads ?? heads
    self.queries = queries
    self.keys = keys
    self.width = width
    self.valueWidth = valueWidth ?? width
    self.scale = scale
    precondition(self.keyHeads == 0 || heads % self.keyHeads == 0)
  }
}

extension Kernel {
  /// `o ← softmax(scale·q·kᵀ + bias)·v` for each batch item and head.
  ///
  /// A row whose keys are all masked becomes zeros, or NaN where the shape says so. `logSumExp`, dense `[batch, heads, queries]`, takes what the gradient
  /// reads. `scratch` is memory of `attentionScratch`, where that is not `nil`. Where it `isNarrow` products are computed in
  /// bfloat16, on machines that are faster in it (`Machine.level`); nothing but `f32` is then, and nothing that is differentiated.
  public static func attention(
    _ shape: AttentionShape, q: Heads, k: Heads, v: Heads, bias: Heads? = nil, into o: Heads,
    logSumExp: View? = nil, isNarrow: Bool = false, scratch: View? = nil, pool: any WorkPool
  ) {
    guard shape.batch * shape.heads * shape.queries > 0 else { return }
    let rows = shape.batch * shape.heads * shape.queries
    precondition(logSumExp.map { $0.count == rows } ?? true)
    let element = q.view.element
    precondition(k.view.element == element && v.view.element == element && o.view.element == element)
    precondition((bias?.view.element ?? element) == element && (logSumExp?.element ?? element) == element)
    let type = real(q.view)
    Blas.demand(type, pool)
    var attention = raw(shape, q: q, k: k, v: v, o: o, bias: bias)
    attention.lse = logSumExp?.base
    let call = attention
    let scratch = TaskScratch(vk_attention_scratch(type, &attention), scratch, pool)
    let isNarrow = isNarrow && element == .f32 && logSumExp == nil && vk_bf16_is_fast() != 0
    // Each chunk rounds the keys and values of its head anew.
    let isWhole = isNarrow && shape.batch * shape.heads >= 8
    let chunks = isWhole ? 1 : max(1, shape.queries / 84)
    pool.run(tasks: shape.batch * shape.heads * chunks) { task, worker in
      let (head, chunk) = (task / chunks, task % chunks)
      var call = call
      let (low, high) = (shape.queries * chunk / chunks, shape.queries * (chunk + 1) / chunks)
      if isNarrow {
        return vk_bf16_attend(&call, head / shape.heads, head % shape.heads, low, high, scratch[worker])
      }
      vk_attend(type, &call, head / shape.heads, head % shape.heads, low, high, scratch[worker])
    }
  }

  /// Adds the gradients of `attention` to `dq`, `dk` and `dv`, each of which may be absent, from its results `o`
  /// and `logSumExp` and the gradient `dO`.
  ///
  /// `biasGradient`, dense `[batch, heads, queries, keys]`, is overwritten with the gradient of the scores; sum it
  /// to the shape of the bias. `scratch` is memory of `attentionScratch`, where that is not `nil`.
  public static func attentionGradient(
    _ shape: AttentionShape, q: Heads, k: Heads, v: Heads, bias: Heads? = nil, o: Heads, logSumExp: View,
    dO: Heads, adding dq: Heads?, _ dk: Heads?, _ dv: Heads?, biasGradient: View? = nil,
    scratch: View? = nil, pool: any WorkPool
  ) {
    guard shape.batch * shape.heads * shape.queries > 0, shape.keys > 0 else { return }
    let rows = shape.batch * shape.heads * shape.queries
    precondition(logSumExp.count == rows && biasGradient.map { $0.count == rows * shape.keys } ?? true)
    precondition(
      [k.view, v.view, o.view, dO.view, bias?.view, logSumExp, dq?.view, dk?.view, dv?.view, biasGradient]
        .allSatisfy { $0.map { $0.element == q.view.element } ?? true })
    let type = real(q.view)
    Blas.demand(type, pool)
    let none = vk_heads(base: nil, batch: 0, head: 0, token: 0)
    var attention = raw(shape, q: q, k: k, v: v, o: o, bias: bias)
    attention.lse = logSumExp.base
    attention.dq = dq?.raw ?? none
    attention.dk = dk?.raw ?? none
    attention.dv = dv?.raw ?? none
    attention.d_o = dO.raw
    attention.d_scores = biasGradient?.base
    let call = attention
    let scratch = TaskScratch(vk_attention_scratch(type, &attention), scratch, pool)
    pool.run(tasks: shape.batch * shape.keyHeads) { task, worker in
      var call = call
      vk_attend_gradient(type, &call, task / shape.keyHeads, task % shape.keyHeads, scratch[worker])
    }
  }

  /// The scratch that an attention or its gradient needs beside that of the pool's workers, `nil` for none: with many keys a
  /// worker's does not hold a head's scores.
  public static func attentionScratch(
    _ shape: AttentionShape, _ element: ElementType, workers: Int
  ) -> TensorType? {
    var attention = vk_attention()
    setSizes(shape, &attention)
    return TaskScratch.type(
      vk_attention_scratch(element == .f64 ? VK_F64 : VK_F32, &attention), workers: workers)
  }

  private static func raw(
    _ shape: AttentionShape, q: Heads, k: Heads, v: Heads, o: Heads, bias: Heads?
  ) -> vk_attention {
    var attention = vk_attention()
    setSizes(shape, &attention)
    attention.q = q.raw
    attention.k = k.raw
    attention.v = v.raw
    attention.o = o.raw
    attention.bias = bias?.raw ?? vk_heads(base: nil, batch: 0, head: 0, token: 0)
    return attention
  }

  private static func setSizes(_ shape: AttentionShape, _ attention: inout vk_attention) {
    attention.heads = shape.heads
    attention.key_heads = shape.keyHeads
    attention.queries = shape.queries
    attention.keys = shape.keys
    attention.width = shape.width
    attention.value_width = shape.valueWidth
    attention.scale = shape.scale
    attention.guarded = shape.isGuarded ? 1 : 0
  }
}
