public import VitIR
internal import VitRuntime

/// `vit.static(x, wv, bv, a, wo, bo)`: attention with one fixed map for each head (Mixers.md §2.8); the control that tells
/// mixing that depends on the image from an average over positions.
///
/// `c_h = a_h·v_h` for the channels of each head. `wv` is `[width, dim]`, `a` `[heads, tokens, tokens]`, `wo`
/// `[outputDim, width]`; the number of tokens is a constant.
public struct StaticMixer: Mixer {
  /// The operation's name.
  public static let name = "vit.static"
  /// What it computes.
  public static let summary = "Sums of each channel over all tokens, with a fixed map for each head"
  /// A use of it.
  public static let example =
    "(f32[1, 3, 2], f32[2, 2], f32[2], f32[2, 3, 3], f32[2, 2], f32[2]) {heads = 2}"
  /// What the user asks for.
  public var kind: String { "static" }

  /// How maps are found.
  enum Fit: String, CaseIterable {
    /// Least squares, drawn towards the mean of the attention's.
    case solve
    /// The mean of the attention's.
    case mean
  }

  /// What the user can ask for.
  struct Options: MixerOptions {
    let fit: Fit
    /// Nothing is scanned.
    let splitsHeads = false

    init(_ reader: inout AttributeReader) throws(VitError) {
      fit = try reader.choice("fit", default: .solve)
    }

    var attributes: Attributes { Attributes([("fit", .string(fit.rawValue))]) }
  }

  private let heads: Int
  private let fit: Fit
  private static let valueMap = LinearMap(weight: 1, bias: 2)
  private static let output = LinearMap(weight: 4, bias: 5)
  /// The most numbers in the maps of a mixer that is made.
  private static let maximumNumbers = 1 << 26

  /// The operation for a layout; throws a usage error where its maps would be too large.
  init(_ layout: MixerLayout, _ options: Options) throws(VitError) {
    let (square, overflow) = layout.tokens.multipliedReportingOverflow(by: layout.tokens)
    let (numbers, tooMany) = square.multipliedReportingOverflow(by: layout.heads)
    guard !overflow, !tooMany, numbers <= StaticMixer.maximumNumbers else {
      throw VitError(
        "mixer static: maps of \(layout.tokens) tokens for each of \(layout.heads) heads are too large",
        kind: .usage, code: "mixer-layout")
    }
    heads = layout.heads
    fit = options.fit
  }

  /// Takes heads and fit.
  public init(attributes: inout AttributeReader) throws(VitError) {
    heads = try attributes.int("heads")
    fit = try attributes.choice("fit", default: .solve)
    guard heads > 0, heads <= ScanOrder.maximumTokens else {
      throw VitError("attribute 'heads' is \(heads), expected a positive number")
    }
  }

  /// Heads, and how maps are fitted.
  public var attributes: Attributes {
    Attributes([("heads", .int(heads)), ("fit", .string(fit.rawValue))])
  }

  /// Values, maps, output.
  public func parameters(_ layout: MixerLayout) -> [MixerParameter] {
    [
      MixerParameter("wv", [layout.width, layout.dim], decay: true),
      MixerParameter("bv", [layout.width], decay: false),
      MixerParameter("a", [layout.heads, layout.tokens, layout.tokens], decay: false),
      MixerParameter("wo", [layout.outputDim, layout.width], decay: true),
      MixerParameter("bo", [layout.outputDim], decay: false),
    ]
  }

  /// From attention: its values, and its output of their mean over all tokens, the best guess before `fit`. Else at random.
  public func initialise(
    _ layout: MixerLayout, from attention: AttentionWeights?, random: inout SplitMix
  ) throws -> [Tensor] {
    let inherited = try attention.map { try InheritedChannels(layout, $0) }
    let maps = [layout.heads, layout.tokens, layout.tokens]
    let share = 1 / Double(max(1, layout.tokens))
    return FirstValues.values(layout, inherited, &random) + [
      inherited == nil
        ? FirstValues.uniform(maps, bound: share.squareRoot(), &random) : FirstValues.constant(maps, share),
      FirstValues.output(layout, inherited, &random), FirstValues.outputBias(layout, inherited),
    ]
  }

  /// The output map.
  public var readout: MixerReadout? {
    MixerReadout(weight: Self.output.weight, bias: Self.output.bias)
  }

  /// The values.
  public var values: MixerReadout? {
    MixerReadout(weight: Self.valueMap.weight, bias: Self.valueMap.bias)
  }

  /// The maps, as the attribute says.
  public func fit(_ layout: MixerLayout, _ parameters: [Tensor]) throws -> (any InteriorFit)? {
    MapFit(
      heads: heads, tokens: layout.tokens, isSolved: fit == .solve,
      values: try FittedValues(parameters),
      operand: 3)
  }

  /// `[batch, tokens, outputDim]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    let x = try operands.float(0, "x", rank: 3...3)
    guard let tokens = x.shape[1].fixedValue else {
      throw VitError(
        "'x' is \(x), but a static mixer has a map for one number of tokens", code: "operand-shape",
        help: "fix the size of the model's input, or take another mixer")
    }
    guard tokens <= ScanOrder.maximumTokens else {
      throw VitError("'x' is \(x), expected at most \(ScanOrder.maximumTokens) tokens", code: "operand-shape")
    }
    let order = try ScanOrder(.forward, grid: .init(rows: 1, columns: tokens))
    let width = try operands.float(1, "wv", rank: 2...2).shape[0]
    return try MixerScan(heads: heads, order: order).resultTypes(
      self, operands, width: width, bias: Self.output.bias)
  }

  /// Images, and the channels of the result.
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

  /// The products.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let x = operands[0], let weight = operands[1] else { return Cost() }
    let products = 2 * weight.extents[0] * (weight.extents[1] + results[0].width + x.extents[1])
    return Cost(flops: x.rows * products, bytes: operands.bytes(results))
  }

  /// Values and sums of each token.
  public func savedTypes(_ operands: Operands) -> [TensorType] {
    guard let x = operands[0], let width = operands[1]?.extents[0] else { return [] }
    let token = TensorType(x.element, fixed: [x.extents[0], x.extents[1], width])
    return [token, token]
  }

  /// In inference what training saves; in training the gradients of that.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    savedTypes(operands)
  }

  /// The packed weights of values and output.
  public func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing] {
    let packings = Self.valueMap.packings(operands, stored) + Self.output.packings(operands, stored)
    return packings.count == 2 ? packings : []
  }

  /// In the epilogue of the last product.
  public var takesEpilogue: Bool { true }

  /// Computes the result.
  public func forward(_ context: KernelContext) {
    let memory = context.saved.isEmpty ? context.scratch : context.saved
    Self.valueMap.forward(context, context.input(0), into: memory[0], prepared: context.prepared.first)
    HeadMaps.forward(context.input(3), memory[0], into: memory[1], pool: context.pool)
    Self.output.forward(
      context, memory[1], epilogue: context.epilogue, into: context.output, prepared: context.prepared.last)
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds the gradients of the tokens and of all parameters.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (v, c, dv, dc) = (context.saved[0], context.saved[1], context.scratch[0], context.scratch[1])
    Self.output.gradients(context, x: c, dy: dy, writing: dc, operandGradients)
    HeadMaps.gradients(
      context.input(3), v, dc: dc, into: dv, keeping: 0, adding: operandGradients[3], pool: context.pool)
    Self.valueMap.gradients(
      context, x: context.input(0), dy: dv, adding: operandGradients[0], operandGradients)
  }

  /// Products, of which one is with the maps.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    guard let x = operands[0] else { throw VitError("input 0 ('x') is missing", code: "operand-missing") }
    guard let width = try builder.operands(operands).type(1, "wv").shape[0].fixedValue else {
      throw VitError("the number of channels is not known", code: "dynamic-shape")
    }
    let v = try Self.valueMap.lower(x, operands, into: &builder)
    let c = try HeadMaps.lower(operands[3], v, heads: heads, width: width, into: &builder)
    return [try Self.output.lower(c, operands, into: &builder)]
  }
}
