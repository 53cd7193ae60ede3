internal import VitIR
internal import VitRuntime

/// The merge of `vit.lstm_full` by least squares: for each head the attended values of that head on the states of all its
/// directions, a ridge regression toward the merge as it is (Mixers.md §2.1).
///
/// Output tokens together count as much as all patches; where something else writes the rows of the prefix, they do not
/// count. Where the attended values are not as wide as the mixer, its heads are not theirs, and nothing is fitted.
struct LSTMMergeFit: InteriorFit {
  private let mixer: LSTMFull
  private let layout: MixerLayout
  private let parameters: [Tensor]
  private var sums: [RidgeSums]

  var readsMaps: Bool { false }

  /// A fit for these parameters. Throws where there are others than the mixer has.
  init(_ mixer: LSTMFull, _ layout: MixerLayout, _ parameters: [Tensor]) throws(VitError) {
    guard parameters.map(\.shape) == mixer.parameters(layout).map(\.shape) else {
      throw VitError(
        "the parameters \(parameters.map(\.shape)) are not those of the mixer", code: "mixer-fit")
    }
    (self.mixer, self.layout, self.parameters) = (mixer, layout, parameters)
    let (w, directions) = (layout.headWidth, layout.order.directionCount)
    sums = (0..<layout.heads).map { _ in RidgeSums(inputs: directions * w, outputs: w) }
  }

  /// What a row of each token counts.
  private var rowWeights: [Double] {
    let order = layout.order
    let balance = order.outputs > 0 ? max(1, Double(order.grid.count) / Double(order.outputs)) : 1
    return (0..<order.tokens).map { token in
      if token >= order.prefix { return 1 }
      return layout.ownsPrefix ? (token < order.outputs ? balance : 1) : 0
    }
  }

  mutating func add(_ batch: FitBatch) throws {
    let (heads, width, w) = (layout.heads, layout.width, layout.headWidth)
    let order = layout.order
    let (tokens, inner) = (order.tokens, width * order.directionCount)
    guard batch.x.rank == 3, batch.x.shape[1...] == [tokens, layout.dim], batch.x.element == .f32,
      batch.context.rank == 3, batch.context.shape[..<2] == batch.x.shape[..<2], batch.context.element == .f32
    else {
      throw VitError(
        "tokens \(batch.x.shape) and attended values \(batch.context.shape) do not fit a mixer over \(tokens) tokens"
          + " of \(layout.dim) channels", code: "mixer-fit")
    }
    let images = batch.x.shape[0]
    guard images > 0, batch.context.shape[2] == width else { return }
    let states = try MergeStates(mixer, layout, parameters, batch)
    let own = inner / heads
    let columns = own + 1 + w
    let (rows, weights) = (images * tokens, rowWeights.map { $0.squareRoot() })
    let arena = try Arena(
      byteCount: heads * (rows * columns + (own + 1) * columns) * 8, for: "fitting a mixer")
    defer { withExtendedLifetime(arena) {} }
    let table = arena.view(TensorType(.f64, fixed: [heads, rows, columns]), at: 0)
    let moments = View(
      base: table.base + table.byteCount, element: .f64, shape: [heads, own + 1, columns])
    let context = batch.context
    batch.pool.run(tasks: heads) { head, _ in
      let target = table.slice(head).f64
      for row in 0..<rows {
        let (image, token) = (row / tokens, row % tokens)
        let weight = weights[token]
        let place = (image * order.rows + order.row(ofToken: token)) * inner + head * own
        let to = target + row * columns
        for channel in 0..<own { to[channel] = weight * Double(states.h.f32[place + channel]) }
        to[own] = weight
        for channel in 0..<w {
          to[own + 1 + channel] = weight * Double(context.f32[row * width + head * w + channel])
        }
      }
    }
    try Blas.require(on: batch.pool)
    Kernel.batchedGemm(
      inner: heads, transA: true, m: own + 1, n: columns, k: rows, a: table, lda: columns,
      aStride: BatchStride(inner: rows * columns), b: table, ldb: columns,
      bStride: BatchStride(inner: rows * columns), c: moments,
      cStride: BatchStride(inner: (own + 1) * columns),
      pool: batch.pool)
    for head in 0..<heads { sums[head].add(moments.slice(head).f64, row: columns) }
    withExtendedLifetime(states) {}
  }

  func solve() -> [(operand: Int, tensor: Tensor)] {
    let (w, inputs) = (layout.headWidth, layout.headWidth * layout.order.directionCount)
    guard let first = try? parameters[5].doubles() else { return [] }
    var merge: [Double] = []
    var bias: [Double] = []
    for (head, sums) in sums.enumerated() {
      let own = Array(first[head * w * inputs..<(head + 1) * w * inputs])
      guard let found = sums.solve(toward: own) else { return [] }
      merge += found.weight
      bias += found.intercept
    }
    return [
      (operand: 6, tensor: Tensor(.f32, shape: parameters[5].shape, values: merge)),
      (operand: 7, tensor: Tensor(.f32, shape: [layout.width], values: bias)),
    ]
  }
}

/// The states of a mixer's scans on a batch, outside of any plan.
private struct MergeStates {
  private let arena: Arena
  /// `[images, rows, heads·directions·w]`.
  let h: View

  init(_ mixer: LSTMFull, _ layout: MixerLayout, _ parameters: [Tensor], _ batch: FitBatch) throws {
    let (images, width) = (batch.x.shape[0], layout.width)
    let (tokens, rows) = (layout.order.tokens, layout.order.rows)
    let inner = width * layout.order.directionCount
    var types = parameters.prefix(5).map { TensorType(.f32, fixed: $0.shape) }
    types.append(Kernel.packedType(recurrence: types[4]))
    types += [[tokens, width], [rows, width], [rows, 4 * inner], [rows, inner]].map {
      TensorType(.f32, fixed: [images] + $0)
    }
    var (places, size) = ([Int](), 0)
    for type in types {
      places.append(size)
      size += (type.count * 4 + 63) / 64 * 64
    }
    let arena = try Arena(byteCount: size, for: "fitting a mixer")
    let views = zip(types, places).map { arena.view($0, at: $1) }
    for (view, tensor) in zip(views, parameters.prefix(5)) {
      try tensor.storage.withBytes { view.convert(from: $0, tensor.element) }
    }
    let (p, extended) = (views[6], views[7])
    try Blas.require(on: batch.pool)
    Kernel.linear(batch.x, weight: views[0], bias: views[1], into: p, pool: batch.pool)
    if mixer.scan.hasCopies { mixer.scan.extend(p, into: extended) }
    Kernel.pack(recurrence: views[4], into: views[5], pool: batch.pool)
    mixer.states(
      of: mixer.scan.hasCopies ? extended : p, u: views[2], b: views[3], recurrence: views[5],
      gates: views[8], keeping: nil,
      into: views[9],
      pool: batch.pool)
    (self.arena, h) = (arena, views[9])
  }
}
