internal import VitIR
internal import VitRuntime

/// Heads in memory as the attention kernel takes them.
typealias AttentionOperand = VitRuntime.Heads

/// Softmax attention of concrete sizes, with a bias of any broadcast shape (Mixers.md §2.6).
///
/// Scores are `[outer…, heads, queries, keys]`. The kernel takes one batch axis and dense rows of bias; what
/// goes beyond, several outer axes that the bias repeats in different ways, a bias of one column, a causal
/// mask, is unfolded here.
struct SoftmaxAttention {
  private let axes: [Int]?
  let sizes: AttentionShape
  let isCausal: Bool
  /// The extents of the bias, or `nil` where there is none.
  let bias: [Int]?

  /// The outer batch axes, one where none are told.
  var outer: [Int] { axes ?? [sizes.batch] }

  /// `sizes.batch` is the product of `outer`.
  init(outer: [Int]? = nil, sizes: AttentionShape, isCausal: Bool, bias: [Int]?) {
    axes = outer
    self.sizes = sizes
    self.isCausal = isCausal
    self.bias = bias
  }

  /// Throws unless `bias` broadcasts to `scores`.
  static func check(bias: TensorType, scores: TensorType) throws(VitError) {
    let aligned = zip(bias.shape.reversed(), scores.shape.reversed())
    guard bias.element == scores.element, bias.rank <= scores.rank,
      aligned.allSatisfy({ $0 == .fixed(1) || $0 == $1 })
    else {
      throw VitError("'bias' is \(bias), expected one that broadcasts to \(scores)", code: "operand-shape")
    }
  }

  /// Whether what is added to scores, where it is known, may put minus infinity all along a row of them.
  static func mayHideRows(_ bias: Tensor?) -> Bool {
    guard let bias, let numbers = try? bias.doubles() else { return true }
    let width = max(1, bias.shape.last ?? 1)
    return stride(from: 0, to: numbers.count, by: width).contains { start in
      numbers[start..<start + width].allSatisfy { !($0 > -.infinity) }
    }
  }

  /// The extents of the bias that the kernel reads where it is not the operand itself.
  private var unfolded: [Int]? {
    let (queries, keys) = (sizes.queries, sizes.keys)
    guard isCausal || bias.map({ ($0.last ?? 1) != keys }) ?? false else { return nil }
    return (bias ?? []).dropLast(2) + [queries, keys]
  }

  /// Work memory: the unfolded bias; the kernel's; in training the gradient of the scores, if there is a bias to take it.
  func scratchTypes(_ element: ElementType, _ mode: ExecutionMode) -> [TensorType] {
    let kernel = Kernel.attentionScratch(sizes, element, workers: mode.workers)
    return [
      unfolded.map { TensorType(element, fixed: $0) }, kernel,
      mode.training && bias != nil ? TensorType(element, fixed: scores) : nil,
    ].compactMap { $0 }
  }

  /// The kernel's work memory, where it has any: it is of bytes alone.
  private static func kernelScratch(_ scratch: ArraySlice<View>) -> View? {
    scratch.first { $0.element == .u8 }
  }

  private var scores: [Int] { outer + [sizes.heads, sizes.queries, sizes.keys] }

  /// Operations: products of queries with keys and of probabilities with values.
  var flops: Int {
    2 * sizes.batch * sizes.heads * sizes.queries * sizes.keys * (sizes.width + sizes.valueWidth)
  }

  /// `o ← softmax(scale·q·kᵀ + bias)·v`; `logSumExp` is kept for the gradient. Where it `isNarrow`, in bfloat16 where that is faster.
  func forward(
    q: AttentionOperand, k: AttentionOperand, v: AttentionOperand, bias: View?, into o: AttentionOperand,
    logSumExp: View?, isNarrow: Bool = false, scratch: ArraySlice<View>, pool: any WorkPool
  ) {
    let bias = unfold(bias, scratch)
    forCalls(bias) { sizes, start, bias in
      Kernel.attention(
        sizes, q: q.moved(start), k: k.moved(start), v: v.moved(start), bias: bias, into: o.moved(start),
        logSumExp: logSumExp?.part(
          start * sizes.heads * sizes.queries, of: sizes.batch * sizes.heads * sizes.queries),
        isNarrow: isNarrow, scratch: Self.kernelScratch(scratch), pool: pool)
    }
  }

  /// Adds the gradients of queries, keys, values and bias, each of which may be absent.
  func gradient(
    q: AttentionOperand, k: AttentionOperand, v: AttentionOperand, bias: View?, o: AttentionOperand,
    logSumExp: View, dO: AttentionOperand, adding dq: AttentionOperand?,
    _ dk: AttentionOperand?,
    _ dv: AttentionOperand?, _ dbias: View?, scratch: ArraySlice<View>, pool: any WorkPool
  ) {
    let dscores = dbias.flatMap { _ in scratch.last }
    forCalls(unfold(bias, scratch)) { sizes, start, bias in
      let rows = sizes.heads * sizes.queries
      Kernel.attentionGradient(
        sizes, q: q.moved(start), k: k.moved(start), v: v.moved(start), bias: bias, o: o.moved(start),
        logSumExp: logSumExp.part(start * rows, of: sizes.batch * rows), dO: dO.moved(start),
        adding: dq?.moved(start),
        dk?.moved(start), dv?.moved(start),
        biasGradient: dscores?.part(start * rows * sizes.keys, of: sizes.batch * rows * sizes.keys),
        scratch: Self.kernelScratch(scratch), pool: pool)
    }
    if let dscores, let dbias, let bias {
      Kernel.binaryGradient(.add, dscores, bias, dy: dscores, adding: nil, dbias, pool: pool)
    }
  }

  /// The bias as the kernel reads it: itself, or with its rows written out and the mask in them.
  private func unfold(_ bias: View?, _ scratch: ArraySlice<View>) -> View? {
    guard unfolded != nil, let dense = scratch.first else { return bias }
    if dense.element == .f64 {
      fill(dense.f64, count: dense.count, bias)
    } else {
      fill(dense.f32, count: dense.count, bias)
    }
    return dense
  }

  private func fill<Real: BinaryFloatingPoint>(_ dense: UnsafeMutablePointer<Real>, count: Int, _ bias: View?)
  {
    let (queries, keys) = (sizes.queries, sizes.keys)
    let from = bias?.pointer(as: Real.self)
    let columns = bias?.shape.last ?? 1
    let rows = (bias?.rank ?? 0) > 1 ? bias?.shape[(bias?.rank ?? 0) - 2] ?? 1 : 1
    for row in 0..<(keys > 0 ? count / keys : 0) {
      let query = row % queries
      let source = (row / queries * rows + (rows == 1 ? 0 : query)) * columns
      for key in 0..<keys {
        let value = from.map { $0[source + (columns == 1 ? 0 : key)] } ?? 0
        dense[row * keys + key] = isCausal && key > query ? -Real.infinity : value
      }
    }
  }

  /// Calls `body` for runs of batch items over which the bias has one stride, with their first item and their
  /// bias.
  private func forCalls(_ bias: View?, _ body: (AttentionShape, _ start: Int, AttentionOperand?) -> Void) {
    guard let bias else { return body(sizes, 0, nil) }
    let own = [Int](repeating: 1, count: max(0, outer.count + 3 - bias.rank)) + bias.shape
    let heads = own[outer.count] > 1 ? bias.count / max(1, own[...outer.count].reduce(1, *)) : 0
    let token = own[outer.count + 1] > 1 ? own[outer.count + 2] : 0
    let item = own[outer.count...].reduce(1, *)
    if own[..<outer.count].allSatisfy({ $0 == 1 }) {
      return body(sizes, 0, AttentionOperand(bias, batch: 0, head: heads, token: token))
    }
    var inner = sizes
    inner.batch = outer.last ?? 1
    let itemStride = (own[..<outer.count].last ?? 1) > 1 ? item : 0
    for run in 0..<(inner.batch > 0 ? sizes.batch / inner.batch : 0) {
      // The item of the bias at the run's place in the outer axes but the last.
      var (rest, offset, step) = (run, 0, own[outer.count - 1])
      for axis in stride(from: outer.count - 2, through: 0, by: -1) {
        if own[axis] > 1 { offset += rest % outer[axis] * step }
        rest /= outer[axis]
        step *= own[axis]
      }
      let part = bias.part(offset * item, of: bias.count - offset * item)
      body(inner, run * inner.batch, AttentionOperand(part, batch: itemStride, head: heads, token: token))
    }
  }
}

extension AttentionOperand {
  /// The same from batch item `start` on.
  func moved(_ start: Int) -> AttentionOperand {
    if start == 0 { return self }
    return AttentionOperand(
      view.part(start * batch, of: view.count - start * batch), batch: batch, head: head, token: token)
  }
}
