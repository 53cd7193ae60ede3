public import VitIR
internal import VitRuntime

/// `vit.glr(x, wv, bv, a, ba, g, bg, wo, bo, sizes?)`: a gated linear recurrence (Mixers.md §2.3).
///
/// The values `v = x·wvᵀ + bv` of each head are averaged along the scan with a decay that depends on them,
/// gated, and mapped to the output. `wv` is `[width, dim]`, `a` and `g` `[heads, width/heads, width/heads]`,
/// `wo` `[outputDim, width]`. With `sizes`, `[batch, 1, 1, tokens]`, the logarithms of how many patches each token stands for,
/// a token counts as so many; they have no gradient.
public struct GLR: Mixer {
  /// The operation's name.
  public static let name = "vit.glr"
  /// What it computes.
  public static let summary =
    "A gated linear recurrence over the tokens: moving averages with learnt decays and gates"
  /// A use of it.
  public static let example =
    "(f32[1, 4, 2], f32[2, 2], f32[2], f32[2, 1, 1], f32[2], f32[2, 1, 1], f32[2], f32[2, 2], "
    + "f32[2]) {grid = [2, 2], heads = 2}"
  /// What the user asks for.
  public var kind: String { "glr" }

  private var scan: MixerScan
  private static let values = LinearMap(weight: 1, bias: 2)
  private static let output = LinearMap(weight: 7, bias: 8)

  /// The operation for a layout.
  public init(_ layout: MixerLayout) { scan = MixerScan(layout) }

  /// Takes heads and order.
  public init(attributes: inout AttributeReader) throws(VitError) { scan = try MixerScan(&attributes) }

  /// Heads and order.
  public var attributes: Attributes { scan.attributes }

  /// Values, decays, gates, output.
  public func parameters(_ layout: MixerLayout) -> [MixerParameter] {
    let (width, heads, headWidth) = (layout.width, layout.heads, layout.headWidth)
    return [
      MixerParameter("wv", [width, layout.dim], decay: true),
      MixerParameter("bv", [width], decay: false),
      MixerParameter("a", [heads, headWidth, headWidth], decay: true),
      MixerParameter("ba", [width], decay: false),
      MixerParameter("g", [heads, headWidth, headWidth], decay: true),
      MixerParameter("bg", [width], decay: false),
      MixerParameter("wo", [layout.outputDim, width], decay: true),
      MixerParameter("bo", [layout.outputDim], decay: false),
    ]
  }

  /// From attention: its values, averaged over each head's reach with constant decays and open gates, and its
  /// output map. Else at random, with decays of all timescales.
  public func initialise(
    _ layout: MixerLayout, from attention: AttentionWeights?, random: inout SplitMix
  ) throws -> [Tensor] {
    let inherited = try attention.map { try InheritedChannels(layout, $0) }
    let (width, headWidth) = (layout.width, layout.headWidth)
    let values = FirstValues.values(layout, inherited, &random)
    let scales = Timescales(layout)
    var ba = (0..<width).map { _ in Timescales.decayLogit(scales.random(&random)) }
    for index in 0..<width {
      guard let channel = inherited?.channels[index] else { continue }
      ba[index] = Timescales.decayLogit(channel.timescale)
    }
    let blocks = [layout.heads, headWidth, headWidth]
    // Decays and gates that depend on nothing: the attention's own output of moving averages.
    let deviation = inherited == nil ? (0.01 / Double(headWidth)).squareRoot() : 0
    return values + [
      FirstValues.normal(blocks, deviation: deviation, &random),
      Tensor(.f32, shape: [width], values: ba),
      FirstValues.normal(blocks, deviation: deviation, &random),
      FirstValues.constant([width], FirstValues.openGate),
      FirstValues.output(layout, inherited, &random),
      FirstValues.outputBias(layout, inherited),
    ]
  }

  /// The output map.
  public var readout: MixerReadout? { MixerReadout(weight: 7, bias: 8) }

  /// Behind the parameters.
  public var sizes: Int? { 9 }

  /// The values.
  public var values: MixerReadout? { MixerReadout(weight: 1, bias: 2) }

  /// The same scan over fewer tokens.
  public func merged(patches: Int) throws(VitError) -> (any Mixer)? {
    var mixer = self
    mixer.scan = try scan.merged(patches: patches)
    return mixer
  }

  /// `[batch, tokens, outputDim]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try scan.resultTypes(
      self, operands, width: operands.float(1, "wv", rank: 2...2).shape[0], bias: 8)
  }

  /// Images, and the channels of the result; tokens are scanned.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    var map = mixing(operands, tokens: .aligned)
    if operands.has(9) {
      let none = [Int?](repeating: nil, count: 8)
      map.letters[0] = AxisMap.Letter(.parallel, [0] + none + [0], [0])
      map.letters[1] = AxisMap.Letter(.aligned, [1] + none + [3], [1])
    }
    return map
  }

  /// Weights and biases.
  public func role(of index: Int) -> OperandRole {
    switch index {
    case 1, 3, 5, 7: .weight
    case 2, 4, 6, 8: .bias
    case 9: .mask
    default: .data
    }
  }

  /// The products, and nine operations for each token and channel.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let x = operands[0], let weight = operands[1] else { return Cost() }
    let (width, dim) = (weight.extents[0], weight.extents[1])
    let products = 2 * width * dim + 4 * width * (width / scan.heads) + 2 * width * results[0].width
    return Cost(flops: x.rows * (products + 9 * width), bytes: operands.bytes(results))
  }

  /// Values, decays, gates and averages of each row, what the output map reads, and with copied tokens the
  /// rows.
  public func savedTypes(_ operands: Operands) -> [TensorType] {
    guard let x = operands[0], let width = operands[1]?.extents[0] else { return [] }
    let row = scan.type(operands, width)
    return [row, row, row, row, scan.type(operands, rows: false, width)]
      + (scan.hasCopies ? [scan.type(operands, x.width)] : [])
  }

  /// In inference what training saves, but for the averages; in training the gradients of all that.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let x = operands[0], let width = operands[1]?.extents[0] else { return [] }
    let row = scan.type(operands, width)
    let token = scan.type(operands, rows: false, width)
    let copies = scan.hasCopies ? [row, scan.type(operands, x.width)] : []
    return [row, row, row, token] + copies
  }

  /// The packed weights of values and output.
  public func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing] {
    let packings = Self.values.packings(operands, stored) + Self.output.packings(operands, stored)
    return packings.count == 2 ? packings : []
  }

  /// The products of each head with its block of `weight`, `x·weightᵀ + bias`.
  private func blocks(_ context: KernelContext, weight: Int, bias: Int, _ x: View, into y: View) {
    let (width, headWidth) = (x.shape[2], x.shape[2] / scan.heads)
    let own = BatchStride(inner: headWidth)
    Kernel.batchedGemm(
      inner: scan.heads, transB: true, m: x.shape[0] * x.shape[1], n: headWidth, k: headWidth, a: x,
      lda: width,
      aStride: own, b: context.input(weight), bStride: BatchStride(inner: headWidth * headWidth), c: y,
      ldc: width,
      cStride: own, bias: context.input(bias), columnStride: own, pool: context.pool)
  }

  /// In the epilogue of the last product.
  public var takesEpilogue: Bool { true }

  /// Computes the result.
  public func forward(_ context: KernelContext) {
    let isTraining = !context.saved.isEmpty
    let memory = isTraining ? context.saved : context.scratch
    let (v, r, q) = (memory[0], memory[1], memory[2])
    let s = isTraining ? memory[4] : memory[3]
    var (x, rows) = (context.input(0), s)
    if scan.hasCopies {
      rows = context.scratch[4]
      x = memory[5]
      scan.extend(context.input(0), into: x)
    }
    Self.values.forward(context, x, into: v, prepared: context.prepared.first)
    blocks(context, weight: 3, bias: 4, v, into: r)
    blocks(context, weight: 5, bias: 6, v, into: q)
    power(context)?.apply(to: r, pool: context.pool)
    Kernel.gatedScan(
      scan.table, v: v, r: r, q: q, keeping: isTraining ? memory[3] : nil, into: rows, pool: context.pool)
    if scan.hasCopies { scan.select(rows, into: s) }
    Self.output.forward(
      context, s, epilogue: context.epilogue, into: context.output, prepared: context.prepared.last)
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds the gradients of the tokens and of all parameters.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (v, r, q, h, s) = (
      context.saved[0], context.saved[1], context.saved[2], context.saved[3], context.saved[4]
    )
    let (dv, dr, dq, ds) = (context.scratch[0], context.scratch[1], context.scratch[2], context.scratch[3])
    var (x, drows) = (context.input(0), ds)
    Self.output.gradients(context, x: s, dy: dy, writing: ds, operandGradients)
    if scan.hasCopies {
      x = context.saved[5]
      drows = context.scratch[4]
      scan.spread(ds, into: drows)
    }
    Kernel.gatedScanGradient(
      scan.table, v: v, r: r, q: q, h: h, ds: drows, into: dv, dr, dq, pool: context.pool)
    power(context)?.gradient(r, dr, pool: context.pool)
    blockGradients(context, weight: 3, bias: 4, v, dy: dr, adding: dv, operandGradients)
    blockGradients(context, weight: 5, bias: 6, v, dy: dq, adding: dv, operandGradients)
    if scan.hasCopies, let dx = operandGradients[0] {
      let dextended = context.scratch[5]
      Self.values.gradients(context, x: x, dy: dv, writing: dextended, operandGradients)
      scan.addExtended(dextended, to: dx, pool: context.pool)
    } else {
      Self.values.gradients(context, x: x, dy: dv, adding: operandGradients[0], operandGradients)
    }
  }

  /// What tokens of several patches do to decays; `nil` where there are none.
  private func power(_ context: KernelContext) -> DecayPower? {
    context.optionalInput(9).map { DecayPower(scan.order, sizes: $0) }
  }

  /// Adds the gradients of `blocks`.
  private func blockGradients(
    _ context: KernelContext, weight: Int, bias: Int, _ x: View, dy: View, adding dx: View,
    _ operandGradients: [View?]
  ) {
    let (width, headWidth, rows) = (x.shape[2], x.shape[2] / scan.heads, x.shape[0] * x.shape[1])
    let own = BatchStride(inner: headWidth)
    let block = BatchStride(inner: headWidth * headWidth)
    Kernel.batchedGemm(
      inner: scan.heads, m: rows, n: headWidth, k: headWidth, a: dy, lda: width, aStride: own,
      b: context.input(weight), bStride: block, beta: 1, c: dx, ldc: width, cStride: own, pool: context.pool)
    if let dweight = operandGradients[weight] {
      Kernel.batchedGemm(
        inner: scan.heads, transA: true, m: headWidth, n: headWidth, k: rows, a: dy, lda: width, aStride: own,
        b: x,
        ldb: width, bStride: own, beta: 1, c: dweight, cStride: block, pool: context.pool)
    }
    if let dbias = operandGradients[bias] { Kernel.addColumnSums(of: dy, to: dbias, pool: context.pool) }
  }

  /// The scan in rounds of doubling reach.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    let layout = try layout(builder, operands)
    let scan = ScanLowering(layout)
    let (heads, headWidth) = (layout.heads, layout.headWidth)
    guard let x = operands[0] else { throw VitError("input 0 ('x') is missing", code: "operand-missing") }
    let element = builder.graph.type(x).element
    let flat = try Self.values.lower(x, operands, into: &builder)
    let split = try builder.add("onnx.Reshape", [flat, builder.integers([0, 0, heads, headWidth])])
    // [batch, heads, tokens, channels]
    let v = try builder.add("onnx.Transpose", [split], [("perm", .ints([0, 2, 1, 3]))])
    func gate(_ weight: ValueID?, _ bias: ValueID?) throws(VitError) -> ValueID {
      let transposed = try builder.add("onnx.Transpose", [weight], [("perm", .ints([0, 2, 1]))])
      let shift = try builder.add("onnx.Reshape", [bias, builder.integers([heads, 1, headWidth])])
      return try builder.add("onnx.Add", [try builder.add("onnx.MatMul", [v, transposed]), shift])
    }
    var r = try gate(operands[3], operands[4])
    if operands.count > 9, let sizes = operands[9] {
      r = try DecayPower.lower(r, sizes: sizes, into: &builder)
    }
    let q = try gate(operands[5], operands[6])
    // 1 where a step has one before it: the first takes its value whole.
    let later = (0..<scan.steps).map { $0 == 0 ? 0.0 : 1 }
    let keeps = builder.constant(later, shape: [scan.steps, 1], element: element)
    let starts = builder.constant(later.map { 1 - $0 }, shape: [scan.steps, 1], element: element)
    var parts: [ValueID] = []
    for direction in 0..<layout.order.directionCount {
      func sequence(_ value: ValueID) throws(VitError) -> ValueID {
        let own = try scan.heads(value, direction: direction, axis: 1, into: &builder)
        return try scan.read(own, direction: direction, axis: 2, into: &builder)
      }
      let (r, v) = (try sequence(r), try sequence(v))
      let a = try builder.add("onnx.Mul", [try builder.add("onnx.Sigmoid", [r]), keeps])
      let rest = try builder.add("onnx.Sigmoid", [try builder.add("onnx.Neg", [r])])
      let share = try builder.add("onnx.Add", [try builder.add("onnx.Mul", [rest, keeps]), starts])
      let h = try scan.linearScan(a, try builder.add("onnx.Mul", [share, v]), into: &builder)
      parts.append(try scan.write(h, direction: direction, axis: 2, into: &builder))
    }
    let h = try ScanLowering.join(parts, axis: 1, into: &builder)
    let gated = try builder.add("onnx.Mul", [h, try Activation.silu.lower(q, into: &builder)])
    let ordered = try builder.add("onnx.Transpose", [gated], [("perm", .ints([0, 2, 1, 3]))])
    let s = try builder.add("onnx.Reshape", [ordered, builder.integers([0, 0, layout.width])])
    return [try Self.output.lower(s, operands, into: &builder)]
  }

  private func layout(_ builder: GraphBuilder, _ operands: [ValueID?]) throws(VitError) -> MixerLayout {
    let types = builder.operands(operands)
    let (x, weight, output) = (try types.type(0, "x"), try types.type(1, "wv"), try types.type(8, "bo"))
    return try scan.layout(x, width: weight.shape[0], outputDim: output.shape[0])
  }
}
