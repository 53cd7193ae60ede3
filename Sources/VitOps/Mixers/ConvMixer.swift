public import VitIR
internal import VitRuntime

/// `vit.conv(x, wv, bv, k, m?, pi?, r?, wo, bo, table?)`: depthwise taps on the attention's values (Mixers.md §2.7).
///
/// Each channel of a patch becomes a weighted sum of that channel of the patches around it, with `mean` of the mean of all
/// patches, and of the `prefix` tokens before them. Their own rows are sums over all tokens with the fixed weights `r`
/// where `rows`, else zero. `wv` is `[width, dim]`, `k` `[width, *kernel]`, `m` `[width]`, `pi` `[width, prefix]` where there
/// is a prefix, `r` `[heads, prefix, tokens]`, `wo` `[outputDim, width]`. With a `table` (see `vit.match`) `x` and the result have
/// merged tokens: their values are laid out on the grid, and each token takes the mean of the sums over its places.
public struct ConvMixer: Mixer {
  /// The operation's name.
  public static let name = "vit.conv"
  /// What it computes.
  public static let summary = "Sums of each channel over the patches around, with weights that are fixed"
  /// A use of it.
  public static let example =
    "(f32[1, 4, 2], f32[2, 2], f32[2], f32[2, 3, 3], f32[2], f32[2, 2], f32[2])"
    + " {grid = [2, 2], heads = 2, kernel = [3, 3]}"
  /// What the user asks for.
  public var kind: String { "conv" }

  /// Which channels have the same taps.
  enum Share: String, CaseIterable {
    /// None.
    case channel
    /// Those of a head.
    case head
  }

  /// What the user can ask for.
  struct Options: MixerOptions {
    /// One or two extents; by default as fits the grid.
    let kernel: [Int]?
    let border: TapBorder
    let share: Share
    let hasMean: Bool
    /// Nothing is scanned.
    let splitsHeads = false

    init(_ reader: inout AttributeReader) throws(VitError) {
      kernel = try reader.extents("kernel", or: "auto")
      if let kernel, !(1...2).contains(kernel.count) || !kernel.allSatisfy(ConvMixer.isExtent) {
        throw VitError("option 'kernel' cannot be \(kernel), expected one odd number to 15 or two")
      }
      border = try reader.choice("border", default: .zero)
      share = try reader.choice("share", default: .channel)
      hasMean = try reader.bool("mean", default: true)
    }

    var attributes: Attributes {
      let extents: Attribute =
        switch kernel {
        case nil: .string("auto")
        case let kernel? where kernel.count == 1: .int(kernel[0])
        case let kernel?: .ints(kernel)
        }
      return Attributes([
        ("kernel", extents), ("border", .string(border.rawValue)), ("share", .string(share.rawValue)),
        ("mean", .bool(hasMean)),
      ])
    }
  }

  private let heads: Int
  private let share: Share
  private let hasMean: Bool
  /// Whether the prefix has rows of its own.
  private let hasRows: Bool
  private let grid: TapGrid
  private static let valueMap = LinearMap(weight: 1, bias: 2)

  /// The longest side of a kernel.
  private static let maximumExtent = 15
  private static func isExtent(_ value: Int) -> Bool {
    value % 2 == 1 && (1...maximumExtent).contains(value)
  }

  /// The rows and columns of taps where `asked` are asked for, or nothing is: along an axis of one patch there is nothing to
  /// see.
  static func kernel(on patches: ScanOrder.Grid, _ asked: [Int]? = nil) -> [Int] {
    if let asked, asked.count == 2 { return asked }
    let side = asked?[0] ?? (patches.rows == 1 ? 5 : 3)
    return [patches.rows == 1 ? 1 : side, patches.columns == 1 ? 1 : side]
  }

  /// The operation for a layout; throws a usage error where the layout has no patches.
  init(_ layout: MixerLayout, _ options: Options) throws(VitError) {
    let (patches, prefix) = (layout.order.grid, layout.order.prefix)
    guard patches.count > 0 else {
      throw VitError("mixer conv: there are no patches to sum over", kind: .usage, code: "mixer-layout")
    }
    let kernel = ConvMixer.kernel(on: patches, options.kernel)
    heads = layout.heads
    share = options.share
    hasMean = options.hasMean
    hasRows = layout.ownsPrefix && prefix > 0
    grid = TapGrid(
      rows: patches.rows, columns: patches.columns, prefix: prefix, kernelRows: kernel[0],
      kernelColumns: kernel[1], border: options.border)
  }

  /// Takes grid, prefix, heads, kernel, border, share, mean and rows.
  public init(attributes: inout AttributeReader) throws(VitError) {
    let sides = try attributes.ints("grid")
    let prefix = try attributes.int("prefix", default: 0)
    heads = try attributes.int("heads")
    let kernel = try attributes.ints("kernel")
    let border = try attributes.choice("border", default: TapBorder.zero)
    share = try attributes.choice("share", default: .channel)
    hasMean = try attributes.bool("mean", default: true)
    hasRows = try attributes.bool("rows", default: false)
    guard sides.count == 2, sides.allSatisfy({ $0 > 0 && $0 <= ScanOrder.maximumTokens }) else {
      throw VitError("attribute 'grid' is \(sides), expected the rows and columns of patches")
    }
    guard prefix >= 0, prefix <= ScanOrder.maximumTokens - 1,
      sides[0] * sides[1] <= ScanOrder.maximumTokens - prefix
    else {
      throw VitError(
        "a grid of \(sides[0]) by \(sides[1]) patches with \(prefix) tokens before them is impossible,"
          + " expected at most \(ScanOrder.maximumTokens) tokens")
    }
    guard heads > 0, heads <= ScanOrder.maximumTokens else {
      throw VitError("attribute 'heads' is \(heads), expected a positive number")
    }
    guard kernel.count == 2, kernel.allSatisfy(ConvMixer.isExtent) else {
      throw VitError("attribute 'kernel' is \(kernel), expected two odd numbers to 15")
    }
    guard !hasRows || prefix > 0 else {
      throw VitError("attribute 'rows' is true, but there are no tokens before the patches")
    }
    grid = TapGrid(
      rows: sides[0], columns: sides[1], prefix: prefix, kernelRows: kernel[0], kernelColumns: kernel[1],
      border: border)
  }

  /// All of them.
  public var attributes: Attributes {
    Attributes([
      ("grid", .ints([grid.rows, grid.columns])), ("prefix", .int(grid.prefix)), ("heads", .int(heads)),
      ("kernel", .ints([grid.kernelRows, grid.kernelColumns])), ("border", .string(grid.border.rawValue)),
      ("share", .string(share.rawValue)), ("mean", .bool(hasMean)), ("rows", .bool(hasRows)),
    ])
  }

  // The operands behind the taps, as far as there are any.
  private var mean: Int? { hasMean ? 4 : nil }
  private var before: Int? { grid.prefix > 0 ? 4 + (hasMean ? 1 : 0) : nil }
  private var rows: Int? { hasRows ? before.map { $0 + 1 } : nil }
  private var output: LinearMap {
    let first = 4 + (hasMean ? 1 : 0) + (grid.prefix > 0 ? 1 : 0) + (hasRows ? 1 : 0)
    return LinearMap(weight: first, bias: first + 1)
  }

  /// Behind the output.
  public var table: Int? { output.bias + 1 }

  /// Values, taps, and the output.
  public func parameters(_ layout: MixerLayout) -> [MixerParameter] {
    let width = layout.width
    var result = [
      MixerParameter("wv", [width, layout.dim], decay: true), MixerParameter("bv", [width], decay: false),
      MixerParameter("k", [width, grid.kernelRows, grid.kernelColumns], decay: false),
    ]
    if hasMean { result.append(MixerParameter("m", [width], decay: false)) }
    if before != nil { result.append(MixerParameter("pi", [width, grid.prefix], decay: false)) }
    if hasRows { result.append(MixerParameter("r", [heads, grid.prefix, grid.tokens], decay: false)) }
    return result + [
      MixerParameter("wo", [layout.outputDim, width], decay: true),
      MixerParameter("bo", [layout.outputDim], decay: false),
    ]
  }

  /// From attention: its values and its output map of their mean over the taps, the best guess before `fit`. Else at
  /// random.
  public func initialise(
    _ layout: MixerLayout, from attention: AttentionWeights?, random: inout SplitMix
  ) throws -> [Tensor] {
    let inherited = try attention.map { try InheritedChannels(layout, $0) }
    let (width, taps) = (layout.width, [layout.width, grid.kernelRows, grid.kernelColumns])
    var result = FirstValues.values(layout, inherited, &random)
    if inherited == nil {
      let bound = 1 / Double(grid.taps).squareRoot()
      result.append(FirstValues.uniform(taps, bound: bound, &random))
      if hasMean { result.append(FirstValues.uniform([width], bound: bound, &random)) }
      if before != nil { result.append(FirstValues.uniform([width, grid.prefix], bound: bound, &random)) }
    } else {
      result.append(FirstValues.constant(taps, 1 / Double(grid.taps)))
      if hasMean { result.append(FirstValues.constant([width])) }
      if before != nil { result.append(FirstValues.constant([width, grid.prefix])) }
    }
    if hasRows {
      result.append(FirstValues.constant([heads, grid.prefix, grid.tokens], 1 / Double(grid.tokens)))
    }
    return result + [
      FirstValues.output(layout, inherited, &random), FirstValues.outputBias(layout, inherited),
    ]
  }

  /// The output map.
  public var readout: MixerReadout? { MixerReadout(weight: output.weight, bias: output.bias) }

  /// The values.
  public var values: MixerReadout? {
    MixerReadout(weight: Self.valueMap.weight, bias: Self.valueMap.bias)
  }

  /// Least squares of the attended values on the terms of each channel, or head; `nil` where there are too many terms.
  public func fit(_ layout: MixerLayout, _ parameters: [Tensor]) throws -> (any InteriorFit)? {
    guard grid.terms(hasMean: hasMean) <= TapGrid.maximumTerms else { return nil }
    return try TapFit(
      grid, heads: heads, perHead: share == .head, values: FittedValues(parameters),
      operands: TapFit.Places(taps: 3, mean: mean, before: before, rows: rows))
  }

  /// `[batch, tokens, outputDim]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    let order = try ScanOrder(
      .forward, grid: .init(rows: grid.rows, columns: grid.columns), prefix: grid.prefix)
    let width = try operands.float(1, "wv", rank: 2...2).shape[0]
    let scan = MixerScan(heads: heads, order: order)
    operands.note(output.bias + 1, "table")
    guard let x = operands[0], x.rank == 3, operands.has(output.bias + 1) else {
      return try scan.resultTypes(self, operands, width: width, bias: output.bias)
    }
    let places = try operands.places(output.bias + 1, "table", images: x.shape[0]).shape[1]
    guard places == .fixed(grid.patches), let tokens = x.shape[1].fixedValue, tokens >= grid.prefix else {
      throw VitError(
        "'table' has \(places) places for \(x), expected \(grid.patches)", code: "operand-shape")
    }
    var whole = operands
    whole.types.removeLast()
    whole.types[0] = x.with([x.shape[0], .fixed(grid.tokens), x.shape[2]])
    let result = try scan.resultTypes(self, whole, width: width, bias: output.bias)[0]
    return [x.with([x.shape[0], x.shape[1], result.shape[2]])]
  }

  /// Images, and the channels of the result.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    var map = mixing(operands, tokens: .aligned)
    if operands.has(output.bias + 1) {
      let none = [Int?](repeating: nil, count: output.bias)
      map.letters[0] = AxisMap.Letter(.parallel, [0] + none + [0], [0])
    }
    return map
  }

  /// Weights and biases.
  public func role(of index: Int) -> OperandRole {
    switch index {
    case 0: .data
    case 2, output.bias: .bias
    case output.bias + 1: .index
    default: .weight
    }
  }

  /// The products, the taps, and what each patch has of the mean and the prefix.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let x = operands[0], let weight = operands[1] else { return Cost() }
    let (width, dim) = (weight.extents[0], weight.extents[1])
    let products = 2 * x.extents[1] * width * (dim + results[0].width)
    let shared = hasMean || grid.prefix > 0 ? 1 : 0
    let taps = grid.patches * width * (2 * grid.taps + (hasMean ? 1 : 0) + shared)
    let before = 2 * grid.prefix * width * (1 + (hasRows ? grid.tokens : 0))
    return Cost(flops: x.extents[0] * (products + taps + before), bytes: operands.bytes(results))
  }

  /// Values of each place and sums of each token.
  public func savedTypes(_ operands: Operands) -> [TensorType] {
    guard let x = operands[0], let width = operands[1]?.extents[0] else { return [] }
    return [grid.tokens, x.extents[1]].map { TensorType(x.element, fixed: [x.extents[0], $0, width]) }
  }

  /// Taps as rows of channels; in inference what training saves; in training the gradients of that, and those of the taps; with a
  /// table values of each token and sums of each place, and the memory of means.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let x = operands[0], let width = operands[1]?.extents[0] else { return [] }
    let terms = grid.terms(hasMean: hasMean)
    func type(_ shape: [Int]) -> TensorType { TensorType(x.element, fixed: shape) }
    let (batch, tokens) = (x.extents[0], x.extents[1])
    var types = [type([grid.taps, width]), type([grid.prefix, width])] + savedTypes(operands)
    if mode.training {
      types += [type([batch, terms, width]), type([terms, width]), type([width, terms])]
    }
    guard operands.has(output.bias + 1) else { return types }
    types += [type([batch, tokens, width]), type([batch, grid.tokens, width])]
    return types + [PlaceMeans.memoryType(images: batch, tokens: tokens, places: grid.patches)]
  }

  /// What lays merged tokens out and takes their means, with the memory for values of tokens and sums of places.
  private struct Layout {
    let table: PlaceTable
    let means: PlaceMeans
    let values, sums: View
  }

  private func layout(_ context: KernelContext) -> Layout? {
    context.optionalInput(output.bias + 1).map { view in
      let (memory, tokens) = (context.scratch.suffix(3), context.input(0).shape[1])
      let table = PlaceTable(view, places: grid.patches, prefix: grid.prefix, tokens: tokens)
      let whole = PlaceTable(nil, places: grid.patches, prefix: grid.prefix, tokens: grid.tokens)
      return Layout(
        table: table, means: PlaceMeans(table, of: whole, memory: memory[memory.endIndex - 1]),
        values: memory[memory.startIndex], sums: memory[memory.startIndex + 1])
    }
  }

  /// The packed weights of values and output.
  public func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing] {
    let packings = Self.valueMap.packings(operands, stored) + output.packings(operands, stored)
    return packings.count == 2 ? packings : []
  }

  /// In the epilogue of the last product.
  public var takesEpilogue: Bool { true }

  /// Taps and prefix taps as rows of channels.
  private func turn(_ context: KernelContext) -> (taps: View, before: View) {
    let (taps, rows) = (context.scratch[0], context.scratch[1])
    Kernel.transpose(
      context.input(3).reshaped([taps.shape[1], grid.taps]), permutation: [1, 0], into: taps,
      pool: context.pool)
    if let before {
      Kernel.transpose(context.input(before), permutation: [1, 0], into: rows, pool: context.pool)
    }
    return (taps, rows)
  }

  /// Computes the result.
  public func forward(_ context: KernelContext) {
    let memory = context.saved.isEmpty ? Array(context.scratch[2...]) : context.saved
    let (v, c) = (memory[0], memory[1])
    let (taps, rows) = turn(context)
    let layout = layout(context)
    Self.valueMap.forward(
      context, context.input(0), into: layout?.values ?? v, prepared: context.prepared.first)
    if let layout { layout.table.spread(layout.values, into: v, pool: context.pool) }
    let sums = layout?.sums ?? c
    Kernel.taps(
      grid, v: v, taps: taps, mean: mean.map(context.input), before: rows, into: sums, pool: context.pool)
    if let maps = self.rows { HeadMaps.forward(context.input(maps), v, into: sums, pool: context.pool) }
    layout?.means.mean(sums, into: c, pool: context.pool)
    output.forward(
      context, c, epilogue: context.epilogue, into: context.output, prepared: context.prepared.last)
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds the gradients of the tokens and of all parameters.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (v, c) = (context.saved[0], context.saved[1])
    let (dv, dc, sums) = (context.scratch[2], context.scratch[3], context.scratch[4])
    let (taps, rows) = turn(context)
    output.gradients(context, x: c, dy: dy, writing: dc, operandGradients)
    let layout = layout(context)
    if let layout {
      layout.sums.zero()
      layout.means.addGradient(dc, to: layout.sums, pool: context.pool)
    }
    let dsums = layout?.sums ?? dc
    Kernel.tapsGradient(
      grid, v: v, taps: taps, mean: mean.map(context.input), before: rows, dc: dsums, into: dv, sums: sums,
      pool: context.pool)
    if let maps = self.rows {
      HeadMaps.gradients(
        context.input(maps), v, dc: dsums, into: dv, keeping: 1, adding: operandGradients[maps],
        pool: context.pool)
    }
    addTapGradients(context, sums, operandGradients)
    if let layout {
      layout.values.zero()
      layout.table.addSpread(dv, to: layout.values, pool: context.pool)
    }
    Self.valueMap.gradients(
      context, x: context.input(0), dy: layout?.values ?? dv, adding: operandGradients[0], operandGradients)
  }

  /// Adds the gradients of taps, mean and prefix taps from those of each image, `[batch, terms, width]`.
  private func addTapGradients(_ context: KernelContext, _ sums: View, _ operandGradients: [View?]) {
    let (total, turned, width) = (context.scratch[5], context.scratch[6], sums.shape[2])
    total.zero()
    Kernel.addColumnSums(of: sums, to: total, pool: context.pool)
    var first = 0
    func add(_ terms: Int, to operand: Int?) {
      defer { first += terms }
      guard let operand, let gradient = operandGradients[operand] else { return }
      let columns = turned.part(0, of: width * terms).reshaped([width, terms])
      Kernel.transpose(
        total.part(first * width, of: terms * width).reshaped([terms, width]), permutation: [1, 0],
        into: columns, pool: context.pool)
      Kernel.accumulate(columns, into: gradient.reshaped([width, terms]), pool: context.pool)
    }
    add(grid.taps, to: 3)
    if hasMean { add(1, to: mean) }
    add(grid.prefix, to: before)
  }

  /// A depthwise convolution on the grid, sums over patches and prefix, products for the prefix's own rows.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    guard let x = operands[0] else { throw VitError("input 0 ('x') is missing", code: "operand-missing") }
    guard let width = try builder.operands(operands).type(1, "wv").shape[0].fixedValue else {
      throw VitError("the number of channels is not known", code: "dynamic-shape")
    }
    var v = try Self.valueMap.lower(x, operands, into: &builder)
    let table = operands.count > output.bias + 1 ? operands[output.bias + 1] : nil
    if let table {
      v = try TokenUnmerge(prefix: grid.prefix, hasGaps: true).lower(
        into: &builder, operands: [v, table], resultCount: 1)[0]
    }
    let lowering = TapLowering(grid, width: width)
    let patches = try ScanLowering.slice(
      v, grid.prefix..<grid.tokens, of: grid.tokens, axis: 1, into: &builder)
    var c = try lowering.taps(patches, operands[3], into: &builder)
    if let mean {
      let average = try builder.add("onnx.ReduceMean", [patches, builder.integers([1])])
      c = try builder.add("onnx.Add", [c, try builder.add("onnx.Mul", [average, operands[mean]])])
    }
    if let before {
      let prefix = try ScanLowering.slice(v, 0..<grid.prefix, of: grid.tokens, axis: 1, into: &builder)
      let taps = try builder.add("onnx.Transpose", [operands[before]], [("perm", .ints([1, 0]))])
      let terms = try builder.add("onnx.Mul", [prefix, taps])
      c = try builder.add(
        "onnx.Add", [c, try builder.add("onnx.ReduceSum", [terms, builder.integers([1])])])
      if let rows {
        let own = try HeadMaps.lower(operands[rows], v, heads: heads, width: width, into: &builder)
        c = try ScanLowering.join([own, c], axis: 1, into: &builder)
      } else {
        let zero = builder.constant([0], shape: [], element: builder.graph.type(x).element)
        c = try builder.add(
          "onnx.Pad", [c, builder.integers([grid.prefix, 0]), zero, builder.integers([1])])
      }
    }
    if let table, let tokens = builder.graph.type(x).shape[1].fixedValue {
      c = try TokenMerge(tokens: tokens, prefix: grid.prefix, hasGaps: true).lower(
        into: &builder, operands: [c, table], resultCount: 1)[0]
    }
    return [try output.lower(c, operands, into: &builder)]
  }
}
