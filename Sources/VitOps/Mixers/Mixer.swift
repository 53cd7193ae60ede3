public import VitIR

/// One parameter of a mixer: an operand after the tokens.
public struct MixerParameter: Hashable, Sendable {
  /// What it is called: the constant of layer 3 is `mixer.3.<name>` or the like.
  public let name: String
  /// Its extents.
  public let shape: [Int]
  /// Whether weight decay applies to it: to matrices, to no bias.
  public let decay: Bool

  /// A parameter.
  public init(_ name: String, _ shape: [Int], decay: Bool) {
    self.name = name
    self.shape = shape
    self.decay = decay
  }
}

/// Which operands of a mixer are its last linear map, `y = s W + b`: what ridge regression can solve for
/// (Mixers.md §2).
///
/// Its input `s` is what the same operation gives with the identity for the weight and zeros for the bias.
/// Without a weight `s` has no channels, and the best bias is the mean of the target.
public struct MixerReadout: Hashable, Sendable {
  /// The operand of the weight, `[outputDim, inputs]`; `nil` where there is none.
  public let weight: Int?
  /// The operand of the bias, `[outputDim]`.
  public let bias: Int

  /// A readout.
  public init(weight: Int?, bias: Int) {
    self.weight = weight
    self.bias = bias
  }
}

/// A sequential module that can stand in for attention: an operation that maps `[batch, tokens, dim]` to
/// `[batch, tokens, outputDim]`, and how its parameters begin.
///
/// Passes know mixers through this protocol only. Operand 0 is the normalised tokens, the others are `parameters` in
/// order. The form of a mixer is in its attributes; its sizes are those of a layout.
public protocol Mixer: Operation {
  /// The kind of mixer that it is, as the user asks for it: `glr`.
  var kind: String { get }
  /// The parameters, in the order of the operands after the tokens.
  func parameters(_ layout: MixerLayout) -> [MixerParameter]
  /// First values of the parameters, in their order: from the attention that is replaced, where that is
  /// defined, else at random.
  ///
  /// Throws where the attention's tensors do not fit the layout, or cannot be read.
  func initialise(
    _ layout: MixerLayout, from attention: AttentionWeights?, random: inout SplitMix
  ) throws -> [Tensor]
  /// The last linear map; `nil` where there is nothing to solve for.
  var readout: MixerReadout? { get }
  /// The linear map that starts as the attention's values, where its channels come to the last map in the order of
  /// the attention's; default: none.
  var values: MixerReadout? { get }
  /// The operands that stay as they are while mixers are distilled layer by layer, since they are the attention's own;
  /// default: none.
  var frozen: [Int] { get }
  /// Whether the directions of a scan share its heads, and do not each have all; default: they do.
  var splitsHeads: Bool { get }
  /// What fits the parameters before the last map by least squares, for the parameters as they are now; default: nothing.
  func fit(_ layout: MixerLayout, _ parameters: [Tensor]) throws -> (any InteriorFit)?
  /// The same mixer on tokens of which so many stand for the patches, in the order of the grid; `nil` where it needs the grid
  /// itself, the default. Throws where it cannot work on merged tokens.
  func merged(patches: Int) throws(VitError) -> (any Mixer)?
  /// The operand, which may be absent, that takes the logarithms of the tokens' sizes, see `vit.log_size`; default: none.
  var sizes: Int? { get }
  /// The operand, which may be absent, that takes a table of the places of merged tokens, see `vit.match`; default: none.
  var table: Int? { get }
}

extension Mixer {
  /// None.
  public var values: MixerReadout? { nil }
  /// None.
  public var frozen: [Int] { [] }
  /// They do.
  public var splitsHeads: Bool { true }
  /// Nothing.
  public func fit(_ layout: MixerLayout, _ parameters: [Tensor]) throws -> (any InteriorFit)? { nil }
  /// It knows no sizes.
  public var sizes: Int? { nil }
  /// It lays nothing out.
  public var table: Int? { nil }
  /// It needs the grid.
  public func merged(patches: Int) throws(VitError) -> (any Mixer)? { nil }
}

extension Mixer {
  /// Images run side by side, tokens as `tokens` says, and so do the channels of the last linear map.
  func mixing(_ operands: Operands, tokens: AxisMap.Letter.Kind) -> AxisMap {
    let images = AxisMap([
      AxisMap.Letter(.parallel, [0], [0]), AxisMap.Letter(tokens, [1], [1]),
    ])
    guard let readout, operands.has(readout.bias) else { return images }
    return images.adding(
      AxisMap.Letter(
        .parallel,
        (0..<operands.count).map { $0 == readout.weight || $0 == readout.bias ? 0 : nil }, [2]))
  }
}
