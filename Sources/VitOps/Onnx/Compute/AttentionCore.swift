internal import VitIR
internal import VitRuntime

/// Where the vectors of one of attention's operands lie: `row` apart for neighbouring tokens, and so on.
struct HeadLayout {
  var view: View
  var offset = 0
  var batch: Int
  var head: Int
  var row: Int

  /// The matrix of one head's tokens, from token `first` on.
  func block(_ item: Int, _ head: Int, _ first: Int = 0) -> View {
    view.from(offset + item * batch + head * self.head + first * row)
  }

  /// The same places in other memory.
  func at(_ view: View) -> HeadLayout {
    HeadLayout(view: view, offset: offset, batch: batch, head: head, row: row)
  }

  /// A tensor `[batch, heads, tokens, depth]`.
  static func outer(_ view: View) -> HeadLayout {
    let steps = view.strides
    return HeadLayout(view: view, batch: steps[0], head: steps[1], row: steps[2])
  }

  /// A tensor `[batch, tokens, heads·depth]`.
  static func inner(_ view: View, depth: Int) -> HeadLayout {
    HeadLayout(view: view, batch: view.shape[1] * view.shape[2], head: depth, row: view.shape[2])
  }
}

/// Scaled dot-product attention of concrete extents: forward and gradient, a tile of scores at a time.
struct AttentionCore {
  var batch: Int
  /// Heads of the queries; `heads / keyHeads` of them share one head of keys and values.
  var heads: Int
  var keyHeads: Int
  var queries: Int
  var keys: Int
  var depth: Int
  var valueDepth: Int
  var scale: Double
  /// Scores become `softcap·tanh(score/softcap)`; zero: they stay.
  var softcap = 0.0
  var mask = AttentionMask()
  /// Whether a query that sees no key gets zeros, else NaN.
  var isGuarded = false

  /// The scores as a result: before or after the cap, after masks, or after the softmax.
  enum Stage: Int, Sendable { case product, capped, masked, probabilities }

  /// Rows of a tile of scores: few enough for the tile to stay in cache.
  private var rows: Int { min(queries, max(8, (1 << 17) / max(1, keys))) }

  /// The scratch that `forward` and, with `training`, `gradient` need.
  func scratchType(_ element: ElementType, mode: ExecutionMode) -> TensorType {
    let tiles = !mode.training ? 1 : softcap > 0 ? 3 : 2
    return TensorType(element, fixed: [mode.workers, tiles, rows, keys])
  }

  /// Floating-point operations.
  var flops: Int { batch * heads * queries * keys * (2 * depth + 2 * valueDepth + 6) }

  private func tile(_ scratch: View, _ worker: Int, _ index: Int, _ count: Int) -> View {
    let tiles = scratch.shape[1]
    let start = (worker * tiles + index) * rows * keys
    return View(
      base: scratch.base + start * scratch.element.size, element: scratch.element, shape: [count, keys])
  }

  /// `scale·q·kᵀ` of some rows.
  private func products(
    _ q: HeadLayout, _ k: HeadLayout, _ place: Place, into scores: View, _ pool: any WorkPool
  ) {
    Kernel.gemm(
      transB: true, m: place.count, n: keys, k: depth, alpha: scale,
      a: q.block(place.item, place.head, place.first),
      lda: q.row, b: k.block(place.item, place.head / (heads / keyHeads)), ldb: k.row, c: scores, pool: pool)
  }

  /// A tile: some rows of the scores of one head.
  private struct Place {
    var item: Int
    var head: Int
    var first: Int
    var count: Int
  }

  private func applyMask(_ scores: View, _ place: Place) {
    if scores.element == .f64 {
      mask.apply(
        scores.f64, item: place.item, head: place.head, first: place.first, count: place.count,
        queries: queries,
        keys: keys)
    } else {
      mask.apply(
        scores.f32, item: place.item, head: place.head, first: place.first, count: place.count,
        queries: queries,
        keys: keys)
    }
  }

  private func cap(_ scores: View, _ pool: any WorkPool) {
    guard softcap > 0 else { return }
    Kernel.unary(.affine(scale: 1 / softcap, offset: 0), scores, into: scores, pool: pool)
    Kernel.unary(.tanh, scores, into: scores, pool: pool)
    Kernel.unary(.affine(scale: softcap, offset: 0), scores, into: scores, pool: pool)
  }

  /// Computes `output`; `probe` takes the scores of all heads, `[batch, heads, queries, keys]`, at a stage.
  func forward(
    _ q: HeadLayout, _ k: HeadLayout, _ v: HeadLayout, into output: HeadLayout, scratch: View,
    probe: (view: View, stage: Stage)? = nil,
    pool: any WorkPool
  ) {
    let rows = rows
    guard rows > 0 else { return }
    let tiles = (queries + rows - 1) / rows
    pool.run(tasks: batch * heads * tiles) { task, worker in
      let first = task % tiles * rows
      let place = Place(
        item: task / tiles / heads, head: task / tiles % heads, first: first,
        count: min(rows, queries - first))
      let scores = tile(scratch, worker, 0, place.count)
      func show(_ stage: Stage) {
        guard let probe, probe.stage == stage else { return }
        let start = ((place.item * heads + place.head) * queries + first) * keys
        View(base: probe.view.from(start).base, element: scores.element, shape: scores.shape).copy(
          from: scores)
      }
      products(q, k, place, into: scores, pool)
      show(.product)
      cap(scores, pool)
      show(.capped)
      applyMask(scores, place)
      show(.masked)
      Kernel.softmax(scores, guarded: isGuarded, into: scores, pool: pool)
      show(.probabilities)
      Kernel.gemm(
        m: place.count, n: valueDepth, k: keys, a: scores,
        b: v.block(place.item, place.head / (heads / keyHeads)),
        ldb: v.row, c: output.block(place.item, place.head, first), ldc: output.row, pool: pool)
    }
  }

  /// Adds the gradients of `forward` to those of its operands and of masks that are added.
  ///
  /// The scores are computed again. `probeGradient` is that of the scores which `forward` gave out.
  func gradient(
    _ q: HeadLayout, _ k: HeadLayout, _ v: HeadLayout, dy: HeadLayout?, into dq: HeadLayout?,
    _ dk: HeadLayout?, _ dv: HeadLayout?,
    masks: [AttentionMask.Term] = [], scratch: View, probeGradient: (view: View, stage: Stage)? = nil,
    pool: any WorkPool
  ) {
    let rows = rows
    guard rows > 0, keys > 0 else { return }
    let group = heads / keyHeads
    // Masks may be shared by all heads: their sums go in order.
    let count = batch * keyHeads
    func run(_ body: (Int, Int) -> Void) {
      if masks.isEmpty { return pool.run(tasks: count, body) }
      for task in 0..<count { body(task, 0) }
    }
    run { task, worker in
      let (item, keyHead) = (task / keyHeads, task % keyHeads)
      for head in keyHead * group..<(keyHead + 1) * group {
        for first in stride(from: 0, to: queries, by: rows) {
          let place = Place(item: item, head: head, first: first, count: min(rows, queries - first))
          let scores = tile(scratch, worker, 0, place.count)
          let flow = tile(scratch, worker, 1, place.count)
          let slopes = softcap > 0 ? tile(scratch, worker, 2, place.count) : nil
          products(q, k, place, into: scores, pool)
          cap(scores, pool)
          slopes?.copy(from: scores)
          applyMask(scores, place)
          Kernel.softmax(scores, guarded: isGuarded, into: scores, pool: pool)
          if let dy {
            let source = dy.block(item, head, first)
            if let dv {
              Kernel.gemm(
                transA: true, m: keys, n: valueDepth, k: place.count, a: scores, lda: keys, b: source,
                ldb: dy.row,
                beta: 1, c: dv.block(item, keyHead), ldc: dv.row, pool: pool)
            }
            Kernel.gemm(
              transB: true, m: place.count, n: keys, k: valueDepth, a: source, lda: dy.row,
              b: v.block(item, keyHead), ldb: v.row, c: flow, pool: pool)
          } else {
            flow.zero()
          }
          let probe = probeGradient.map {
            ($0.view.from(((item * heads + head) * queries + first) * keys), $0.stage)
          }
          if scores.element == .f64 {
            backward(scores.f64, flow.f64, slopes?.f64, probe, masks, place)
          } else {
            backward(scores.f32, flow.f32, slopes?.f32, probe, masks, place)
          }
          if let dq {
            Kernel.gemm(
              m: place.count, n: depth, k: keys, alpha: scale, a: flow, b: k.block(item, keyHead), ldb: k.row,
              beta: 1, c: dq.block(item, head, first), ldc: dq.row, pool: pool)
          }
          if let dk {
            Kernel.gemm(
              transA: true, m: keys, n: depth, k: place.count, alpha: scale, a: flow, lda: keys,
              b: q.block(item, head, first), ldb: q.row, beta: 1, c: dk.block(item, keyHead), ldc: dk.row,
              pool: pool)
          }
        }
      }
    }
  }

  /// Turns the gradient of a tile's probabilities into that of its products.
  private func backward<T: Real>(
    _ probabilities: UnsafeMutablePointer<T>, _ flow: UnsafeMutablePointer<T>,
    _ capped: UnsafeMutablePointer<T>?,
    _ probe: (View, Stage)?, _ masks: [AttentionMask.Term], _ place: Place
  ) {
    let count = place.count * keys
    func add(_ stage: Stage) {
      guard let probe, probe.1 == stage else { return }
      let source = probe.0.pointer(as: T.self)
      for index in 0..<count { flow[index] += source[index] }
    }
    add(.probabilities)
    for row in 0..<place.count {
      let (p, d) = (probabilities + row * keys, flow + row * keys)
      var dot: T = 0
      for key in 0..<keys { dot += p[key] * d[key] }
      for key in 0..<keys { d[key] = p[key] * (d[key] - dot) }
    }
    add(.masked)
    for term in masks {
      AttentionMask.accumulate(
        flow, into: term, item: place.item, head: place.head, first: place.first, count: place.count,
        keys: keys)
    }
    add(.capped)
    if let capped {
      let limit = T(softcap)
      for index in 0..<count {
        let part = capped[index] / limit
        flow[index] *= 1 - part * part
      }
    }
    add(.product)
  }
}
