public import VitIR
internal import VitRuntime

/// `vit.lstm_full(x, wp, bp, u, b, r, m, bm, wo, bo)`: a long short-term memory whose directions all have every head at
/// its full width (Mixers.md §2.1).
///
/// The tokens are mapped to `p = x·wpᵀ + bp`; each head of it is scanned in every direction by a memory of its own, as wide
/// as the head; what the directions of a head give is merged into that head by a matrix, and the heads are mapped to the
/// output. With H heads of w channels and G directions, `wp` is `[width, dim]`, `u` and `r` are `[H·G, 4·w, w]` and `b`
/// `[H·G·4·w]`, by head, direction and gate (input, forget, cell, output), `m` is `[H, w, G·w]` and `wo`
/// `[outputDim, width]`.
///
/// The order `cross` has four full directions, and `m` reads all four. To halve them would be another module: a channel
/// that only runs along the rows has no state that saw the column above it, while here nothing but the width of `m`
/// depends on how many directions there are. It costs what it costs, 36 w in place of 18 w parameters for each channel.
public struct LSTMFull: Mixer {
  /// The operation's name.
  public static let name = "vit.lstm_full"
  /// What it computes.
  public static let summary =
    "A long short-term memory over the tokens, each head in every direction, merged head by head"
  /// A use of it.
  public static let example =
    "(f32[1, 4, 2], f32[2, 2], f32[2], f32[4, 4, 1], f32[16], f32[4, 4, 1], f32[2, 1, 2], f32[2], f32[2, 2], f32[2]) "
    + "{grid = [2, 2], heads = 2, order = \"bidirectional\"}"
  /// What the user asks for.
  public var kind: String { "lstm" }
  /// As wide as the teacher.
  static let defaultWidth = 1.0

  var scan: MixerScan
  static let projection = LinearMap(weight: 1, bias: 2)
  static let output = LinearMap(weight: 8, bias: 9)

  /// The operation for a layout.
  public init(_ layout: MixerLayout) { scan = MixerScan(layout) }

  /// Takes heads and order.
  public init(attributes: inout AttributeReader) throws(VitError) {
    scan = try MixerScan(&attributes, splitsHeads: false)
  }

  /// Heads and order.
  public var attributes: Attributes { scan.attributes }

  /// Projection, gates, recurrence, merge, output.
  public func parameters(_ layout: MixerLayout) -> [MixerParameter] {
    let (width, w) = (layout.width, layout.headWidth)
    let directions = layout.order.directionCount
    let blocks = [layout.heads * directions, 4 * w, w]
    return [
      MixerParameter("wp", [width, layout.dim], decay: true),
      MixerParameter("bp", [width], decay: false),
      MixerParameter("u", blocks, decay: true),
      MixerParameter("b", [4 * directions * width], decay: false),
      MixerParameter("r", blocks, decay: true),
      MixerParameter("m", [layout.heads, w, directions * w], decay: true),
      MixerParameter("bm", [width], decay: false),
      MixerParameter("wo", [layout.outputDim, width], decay: true),
      MixerParameter("bo", [layout.outputDim], decay: false),
    ]
  }

  /// The output map.
  public var readout: MixerReadout? { MixerReadout(weight: 8, bias: 9) }

  /// The projection.
  public var values: MixerReadout? { MixerReadout(weight: 1, bias: 2) }

  /// The output map: it is the attention's.
  public var frozen: [Int] { [8, 9] }

  /// Each direction has all heads.
  public var splitsHeads: Bool { false }

  /// The same scan over fewer tokens, their sizes apart.
  public func merged(patches: Int) throws(VitError) -> (any Mixer)? {
    var mixer = self
    mixer.scan = try scan.merged(patches: patches)
    return mixer
  }

  /// `[batch, tokens, outputDim]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try scan.resultTypes(
      self, operands, width: operands.float(1, "wp", rank: 2...2).shape[0], bias: 9)
  }

  /// Images, and the channels of the result; tokens are scanned.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    mixing(operands, tokens: .aligned)
  }

  /// Weights and biases.
  public func role(of index: Int) -> OperandRole {
    switch index {
    case 1, 3, 5, 6, 8: .weight
    case 2, 4, 7, 9: .bias
    default: .data
    }
  }

  /// The products, and twelve operations for each token, channel and direction.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let x = operands[0], let weight = operands[1] else { return Cost() }
    let (width, dim) = (weight.extents[0], weight.extents[1])
    let (inner, w) = (width * scan.order.directionCount, width / scan.heads)
    let products = 2 * width * dim + (8 + 8 + 2) * inner * w + 2 * width * results[0].width
    return Cost(flops: x.rows * (products + 12 * inner), bytes: operands.bytes(results))
  }

  private static func width(_ operands: Operands) -> Int { operands[1]?.extents[0] ?? 0 }

  /// The projected rows; the gates, cells and states of each; the merged tokens.
  public func savedTypes(_ operands: Operands) -> [TensorType] {
    let width = Self.width(operands)
    let inner = width * scan.order.directionCount
    let states = scan.type(operands, inner)
    return [
      scan.type(operands, width), scan.type(operands, 4 * inner), states, states,
      scan.type(operands, rows: false, width),
    ]
  }

  /// The packed recurrence; in inference what training saves, but for the cells; in training the gradients of merged
  /// tokens, gates and states, and the states of the step before; with copied tokens the merged rows.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let recurrence = operands[5] else { return [] }
    let saved = savedTypes(operands)
    let own =
      mode.training ? [saved[4], saved[1], saved[2], saved[3]] : [saved[0], saved[1], saved[3], saved[4]]
    return [Kernel.packedType(recurrence: recurrence)] + own + (scan.hasCopies ? [saved[0]] : [])
  }

  /// The packed weights of projection, recurrence and output.
  public func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing] {
    guard stored[5] != nil, let recurrence = operands[5] else { return [] }
    let packings =
      Self.projection.packings(operands, stored) + [.recurrence(5, recurrence)]
      + Self.output.packings(operands, stored)
    return packings.count == 3 ? packings : []
  }

  /// In the epilogue of the last product.
  public var takesEpilogue: Bool { true }

  /// Computes the result.
  public func forward(_ context: KernelContext) {
    let isTraining = !context.saved.isEmpty
    let isPrepared = !context.prepared.isEmpty
    let memory = isTraining ? context.saved : Array(context.scratch[1...4])
    let (p, gates, h, e) = (memory[0], memory[1], memory[isTraining ? 3 : 2], memory[isTraining ? 4 : 3])
    let recurrence = isPrepared ? context.prepared[1] : context.scratch[0]
    if !isPrepared { Kernel.pack(recurrence: context.input(5), into: recurrence, pool: context.pool) }
    // The tokens' place is free until they are merged.
    let projected = scan.hasCopies ? e : p
    Self.projection.forward(context, context.input(0), into: projected, prepared: context.prepared.first)
    if scan.hasCopies { scan.extend(projected, into: p) }
    states(
      of: p, u: context.input(3), b: context.input(4), recurrence: recurrence, gates: gates,
      keeping: isTraining ? context.saved[2] : nil, into: h, pool: context.pool)
    let merged = scan.hasCopies ? context.scratch[5] : e
    let (w, inner, width) = blocks(p)
    Kernel.batchedGemm(
      inner: scan.heads, transB: true, m: p.shape[0] * p.shape[1], n: w, k: inner / scan.heads, a: h,
      lda: inner,
      aStride: BatchStride(inner: inner / scan.heads), b: context.input(6),
      bStride: BatchStride(inner: inner / scan.heads * w), c: merged, ldc: width,
      cStride: BatchStride(inner: w), bias: context.input(7), columnStride: BatchStride(inner: w),
      pool: context.pool)
    if scan.hasCopies { scan.select(merged, into: e) }
    Self.output.forward(
      context, e, epilogue: context.epilogue, into: context.output, prepared: context.prepared.last)
  }

  /// The channels of a head; those of all heads in all directions, and in one.
  private func blocks(_ p: View) -> (w: Int, inner: Int, width: Int) {
    let width = p.shape[2]
    return (width / scan.heads, width * scan.order.directionCount, width)
  }

  /// The states `[images, rows, heads·directions·w]` of the scans of projected rows, by head, direction and channel.
  /// `gates` has four times as many; where `cells` are given, both are kept for the gradient.
  func states(
    of p: View, u: View, b: View, recurrence: View, gates: View, keeping cells: View?, into h: View,
    pool: any WorkPool
  ) {
    let (w, inner, width) = blocks(p)
    // A head's gates in all directions are one product.
    let columns = 4 * inner / scan.heads
    Kernel.batchedGemm(
      inner: scan.heads, transB: true, m: p.shape[0] * p.shape[1], n: columns, k: w, a: p, lda: width,
      aStride: BatchStride(inner: w), b: u, bStride: BatchStride(inner: columns * w), c: gates,
      ldc: 4 * inner,
      cStride: BatchStride(inner: columns), bias: b, columnStride: BatchStride(inner: columns), pool: pool)
    Kernel.lstmScan(
      scan.table, heads: .interleaved, recurrence: recurrence, gates: gates, keeping: cells, into: h,
      pool: pool)
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds the gradients of the tokens and of all parameters.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (p, gates, cells, h, e) = (
      context.saved[0], context.saved[1], context.saved[2], context.saved[3], context.saved[4]
    )
    let (recurrence, dtokens, dgates) = (context.scratch[0], context.scratch[1], context.scratch[2])
    let (dh, before) = (context.scratch[3], context.scratch[4])
    let drows = scan.hasCopies ? context.scratch[5] : dtokens
    let (w, inner, width) = blocks(p)
    let (rows, heads, own) = (p.shape[0] * p.shape[1], scan.heads, inner / scan.heads)
    let head = BatchStride(inner: w)

    Self.output.gradients(context, x: e, dy: dy, writing: dtokens, operandGradients)
    if scan.hasCopies { scan.spread(dtokens, into: drows) }
    if let dm = operandGradients[6] {
      Kernel.batchedGemm(
        inner: heads, transA: true, m: w, n: own, k: rows, a: drows, lda: width, aStride: head, b: h,
        ldb: inner,
        bStride: BatchStride(inner: own), beta: 1, c: dm, cStride: BatchStride(inner: w * own),
        pool: context.pool)
    }
    if let dbm = operandGradients[7] { Kernel.addColumnSums(of: drows, to: dbm, pool: context.pool) }
    Kernel.batchedGemm(
      inner: heads, m: rows, n: own, k: w, a: drows, lda: width, aStride: head, b: context.input(6),
      bStride: BatchStride(inner: w * own), c: dh, ldc: inner, cStride: BatchStride(inner: own),
      pool: context.pool)

    Kernel.pack(recurrence: context.input(5), transposed: true, into: recurrence, pool: context.pool)
    Kernel.lstmScanGradient(
      scan.table, heads: .interleaved, recurrence: recurrence, gates: gates, cells: cells, h: h, dh: dh,
      into: dgates, before: before, pool: context.pool)
    if let dr = operandGradients[5] {
      Kernel.batchedGemm(
        inner: inner / w, transA: true, m: 4 * w, n: w, k: rows, a: dgates, lda: 4 * inner,
        aStride: BatchStride(inner: 4 * w), b: before, ldb: inner, bStride: head, beta: 1, c: dr,
        cStride: BatchStride(inner: 4 * w * w), pool: context.pool)
    }
    if let du = operandGradients[3] {
      Kernel.batchedGemm(
        inner: heads, transA: true, m: 4 * own, n: w, k: rows, a: dgates, lda: 4 * inner,
        aStride: BatchStride(inner: 4 * own), b: p, ldb: width, bStride: head, beta: 1, c: du,
        cStride: BatchStride(inner: 4 * own * w), pool: context.pool)
    }
    if let db = operandGradients[4] { Kernel.addColumnSums(of: dgates, to: db, pool: context.pool) }
    // What the merge was asked for is no longer needed.
    Kernel.batchedGemm(
      inner: heads, m: rows, n: w, k: 4 * own, a: dgates, lda: 4 * inner,
      aStride: BatchStride(inner: 4 * own),
      b: context.input(3), bStride: BatchStride(inner: 4 * own * w), c: drows, ldc: width, cStride: head,
      pool: context.pool)
    if scan.hasCopies {
      dtokens.zero()
      scan.addExtended(drows, to: dtokens, pool: context.pool)
    }
    Self.projection.gradients(
      context, x: context.input(0), dy: dtokens, adding: operandGradients[0], operandGradients)
  }
}
