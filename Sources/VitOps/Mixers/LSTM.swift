public import VitIR
internal import VitRuntime

/// `vit.lstm(x, wx, b, r, wo, bo)`: a long short-term memory of block-diagonal heads (Mixers.md §2.1).
///
/// Gates in the order input, forget, cell, output. `wx` is `[4·width, dim]` and `b` `[4·width]`, both by
/// gate, head and channel; `r` is `[heads, 4·width/heads, width/heads]`, `wo` `[outputDim, width]`.
public struct LSTM: Mixer {
  /// The operation's name.
  public static let name = "vit.lstm"
  /// What it computes.
  public static let summary = "A long short-term memory over the tokens, in heads that do not see one another"
  /// A use of it.
  public static let example =
    "(f32[1, 4, 2], f32[8, 2], f32[8], f32[2, 4, 1], f32[2, 2], f32[2]) {grid = [2, 2], heads = 2}"
  /// What the user asks for.
  public var kind: String { "lstm" }
  /// Half as wide as the teacher: at full width it costs more than attention.
  static let defaultWidth = 0.5

  private var scan: MixerScan
  private static let gates = LinearMap(weight: 1, bias: 2)
  private static let output = LinearMap(weight: 4, bias: 5)

  /// The operation for a layout.
  public init(_ layout: MixerLayout) { scan = MixerScan(layout) }

  /// Takes heads and order.
  public init(attributes: inout AttributeReader) throws(VitError) { scan = try MixerScan(&attributes) }

  /// Heads and order.
  public var attributes: Attributes { scan.attributes }

  /// Gates, recurrence, output.
  public func parameters(_ layout: MixerLayout) -> [MixerParameter] {
    let (width, headWidth) = (layout.width, layout.headWidth)
    return [
      MixerParameter("wx", [4 * width, layout.dim], decay: true),
      MixerParameter("b", [4 * width], decay: false),
      MixerParameter("r", [layout.heads, 4 * headWidth, headWidth], decay: true),
      MixerParameter("wo", [layout.outputDim, width], decay: true),
      MixerParameter("bo", [layout.outputDim], decay: false),
    ]
  }

  /// From attention: cells that average its values over each head's reach, small enough for tanh to be nearly
  /// linear, with next to constant gates and no recurrence of the gates; its output map, scaled back. Else at
  /// random, with open forget gates.
  public func initialise(
    _ layout: MixerLayout, from attention: AttentionWeights?, random: inout SplitMix
  ) throws -> [Tensor] {
    let (dim, width, headWidth) = (layout.dim, layout.width, layout.headWidth)
    let bound = 1 / Double(headWidth).squareRoot()
    let recurrence = [layout.heads, 4 * headWidth, headWidth]
    guard let attention else {
      let wx = FirstValues.uniform([4 * width, dim], bound: bound, &random)
      let b = (0..<4 * width).map { $0 / width == 1 ? 1.0 : 0 }
      return [
        wx, Tensor(.f32, shape: [4 * width], values: b),
        FirstValues.uniform(recurrence, bound: bound, &random),
        FirstValues.output(layout, nil, &random), FirstValues.outputBias(layout, nil),
      ]
    }
    let inherited = try InheritedChannels(layout, attention)
    let scales = Timescales(layout)
    // A little noise breaks the symmetry of gates that would otherwise see nothing of the input.
    var wx = (0..<4 * width * dim).map { _ in random.normal() * 0.02 }
    var b = [Double](repeating: 0, count: 4 * width)
    let outputGate = 2.0
    func small(_ channel: InheritedChannels.Channel) -> Double { 0.2 / channel.rms }
    for index in 0..<width {
      let channel = inherited.channels[index]
      let decay = Timescales.decayLogit(channel?.timescale ?? scales.random(&random))
      b[index] = -decay
      b[width + index] = decay
      b[3 * width + index] = outputGate
      let row = (2 * width + index) * dim
      if let channel {
        for (column, value) in channel.value.enumerated() { wx[row + column] = small(channel) * value }
        b[2 * width + index] = small(channel) * channel.valueBias
      } else {
        for column in 0..<dim { wx[row + column] = random.normal() / Double(dim).squareRoot() }
      }
    }
    let open = Timescales.logistic(outputGate)
    return [
      Tensor(.f32, shape: [4 * width, dim], values: wx), Tensor(.f32, shape: [4 * width], values: b),
      FirstValues.constant(recurrence),
      FirstValues.output(layout, inherited, &random) { 1 / (small($0) * open) },
      FirstValues.outputBias(layout, inherited),
    ]
  }

  /// The output map.
  public var readout: MixerReadout? { MixerReadout(weight: 4, bias: 5) }

  /// The same scan over fewer tokens, their sizes apart.
  public func merged(patches: Int) throws(VitError) -> (any Mixer)? {
    var mixer = self
    mixer.scan = try scan.merged(patches: patches)
    return mixer
  }

  /// `[batch, tokens, outputDim]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    let recurrence = try operands.float(3, "r", rank: 3...3)
    guard recurrence.shape[0] == .fixed(scan.heads) else {
      throw VitError("'r' is \(recurrence), expected \(scan.heads) heads", code: "operand-shape")
    }
    return try scan.resultTypes(
      self, operands, width: recurrence.shape[0] * recurrence.shape[2], bias: 5)
  }

  /// Images, and the channels of the result; tokens are scanned.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    mixing(operands, tokens: .aligned)
  }

  /// Weights and biases.
  public func role(of index: Int) -> OperandRole {
    switch index {
    case 1, 3, 4: .weight
    case 2, 5: .bias
    default: .data
    }
  }

  /// The products, and twelve operations for each token and channel.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let x = operands[0], let weight = operands[1] else { return Cost() }
    let (width, dim) = (weight.extents[0] / 4, weight.extents[1])
    let products = 8 * width * dim + 8 * width * (width / scan.heads) + 2 * width * results[0].width
    return Cost(flops: x.rows * (products + 12 * width), bytes: operands.bytes(results))
  }

  private static func width(_ operands: Operands) -> Int { (operands[1]?.extents[0] ?? 0) / 4 }

  /// The gates, cells and states of each row; with copied tokens also the tokens' states and the rows.
  public func savedTypes(_ operands: Operands) -> [TensorType] {
    guard let x = operands[0] else { return [] }
    let width = Self.width(operands)
    let row = scan.type(operands, width)
    return [scan.type(operands, 4 * width), row, row]
      + (scan.hasCopies ? [scan.type(operands, rows: false, width), scan.type(operands, x.width)] : [])
  }

  /// The packed recurrence; in inference what training saves; in training the gradients of gates and states.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let recurrence = operands[3] else { return [] }
    return [Kernel.packedType(recurrence: recurrence)] + savedTypes(operands)
  }

  /// The packed weights of gates, recurrence and output.
  public func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing] {
    guard stored[3] != nil, let recurrence = operands[3] else { return [] }
    let packings =
      Self.gates.packings(operands, stored) + [.recurrence(3, recurrence)]
      + Self.output.packings(operands, stored)
    return packings.count == 3 ? packings : []
  }

  /// In the epilogue of the last product.
  public var takesEpilogue: Bool { true }

  /// Computes the result.
  public func forward(_ context: KernelContext) {
    let isTraining = !context.saved.isEmpty
    let isPrepared = !context.prepared.isEmpty
    let memory = isTraining ? context.saved[...] : context.scratch.dropFirst()
    let first = memory.startIndex
    let (gates, cells, h) = (memory[first], memory[first + 1], memory[first + 2])
    let recurrence = isPrepared ? context.prepared[1] : context.scratch[0]
    if !isPrepared { Kernel.pack(recurrence: context.input(3), into: recurrence, pool: context.pool) }
    var (x, s) = (context.input(0), h)
    if scan.hasCopies {
      (s, x) = (memory[first + 3], memory[first + 4])
      scan.extend(context.input(0), into: x)
    }
    Self.gates.forward(context, x, into: gates, prepared: context.prepared.first)
    Kernel.lstmScan(
      scan.table, recurrence: recurrence, gates: gates, keeping: isTraining ? cells : nil, into: h,
      pool: context.pool)
    if scan.hasCopies { scan.select(h, into: s) }
    Self.output.forward(
      context, s, epilogue: context.epilogue, into: context.output, prepared: context.prepared.last)
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds the gradients of the tokens and of all parameters.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (gates, cells, h) = (context.saved[0], context.saved[1], context.saved[2])
    let (recurrence, dgates) = (context.scratch[0], context.scratch[1])
    let (drows, before) = (context.scratch[2], context.scratch[3])
    var (x, s, ds) = (context.input(0), h, drows)
    if scan.hasCopies { (s, x, ds) = (context.saved[3], context.saved[4], context.scratch[4]) }
    Self.output.gradients(context, x: s, dy: dy, writing: ds, operandGradients)
    if scan.hasCopies { scan.spread(ds, into: drows) }
    Kernel.pack(recurrence: context.input(3), transposed: true, into: recurrence, pool: context.pool)
    Kernel.lstmScanGradient(
      scan.table, recurrence: recurrence, gates: gates, cells: cells, h: h, dh: drows, into: dgates,
      before: before,
      pool: context.pool)
    if let drecurrence = operandGradients[3] {
      let (width, headWidth) = (h.shape[2], h.shape[2] / scan.heads)
      let square = headWidth * headWidth
      Kernel.batchedGemm(
        outer: 4, inner: scan.heads, transA: true, m: headWidth, n: headWidth, k: h.shape[0] * h.shape[1],
        a: dgates,
        lda: 4 * width, aStride: BatchStride(outer: width, inner: headWidth), b: before, ldb: width,
        bStride: BatchStride(inner: headWidth), beta: 1, c: drecurrence,
        cStride: BatchStride(outer: square, inner: 4 * square), pool: context.pool)
    }
    if scan.hasCopies, let dx = operandGradients[0] {
      let dextended = context.scratch[5]
      Self.gates.gradients(context, x: x, dy: dgates, writing: dextended, operandGradients)
      scan.addExtended(dextended, to: dx, pool: context.pool)
    } else {
      Self.gates.gradients(context, x: x, dy: dgates, adding: operandGradients[0], operandGradients)
    }
  }

  /// An `LSTM` for each head.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    let layout = try layout(builder, operands)
    let scan = ScanLowering(layout)
    let (heads, width, headWidth) = (layout.heads, layout.width, layout.headWidth)
    guard let x = operands[0], let weight = operands[1], let bias = operands[2], let recurrence = operands[3]
    else { throw VitError("expected 6 inputs", code: "operand-missing") }
    let zeros = ScanLowering.zeros(headWidth, like: x, in: &builder)
    var parts: [ValueID] = []
    for head in 0..<heads {
      let own = { (gate: Int) in gate * width + head * headWidth }
      func gates(_ value: ValueID) throws(VitError) -> ValueID {
        try ScanLowering.gates(value, axis: 0, width: headWidth, of: 4 * width, into: &builder, start: own)
      }
      let rows = try ScanLowering.slice(recurrence, head..<head + 1, of: heads, axis: 0, into: &builder)
      parts.append(
        try scan.memory(
          x, direction: layout.direction(ofHead: head), width: headWidth,
          gates: try builder.add("onnx.Unsqueeze", [try gates(weight), builder.integers([0])]),
          recurrence: try ScanLowering.gates(
            rows, axis: 1, width: headWidth, of: 4 * headWidth, into: &builder
          ) { $0 * headWidth },
          bias: try gates(bias), zeros: zeros, into: &builder))
    }
    let s = try ScanLowering.join(parts, axis: 2, into: &builder)
    return [try Self.output.lower(s, operands, into: &builder)]
  }

  private func layout(_ builder: GraphBuilder, _ operands: [ValueID?]) throws(VitError) -> MixerLayout {
    let types = builder.operands(operands)
    let (x, recurrence, output) = (try types.type(0, "x"), try types.type(3, "r"), try types.type(5, "bo"))
    return try scan.layout(x, width: recurrence.shape[0] * recurrence.shape[2], outputDim: output.shape[0])
  }
}
