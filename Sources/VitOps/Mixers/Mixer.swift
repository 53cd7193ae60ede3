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
/// `[batch, tokens, outputDim]`, and how to make one.
///
/// A mixer is one file and one line in `Mixers.all`; passes know mixers through this protocol only. Operand 0
/// is the normalised tokens, the others are `parameters` in order.
public protocol Mixer: Operation {
  /// The name by which the user asks for it: `glr`.
  static var kind: String { get }
  /// The inner width as a fraction of the teacher's, where the user asks for none.
  static var defaultWidth: Double { get }
  /// The operation for a layout.
  init(_ layout: MixerLayout)
  /// The parameters, in the order of the operands after the tokens.
  static func parameters(_ layout: MixerLayout) -> [MixerParameter]
  /// First values of the parameters, in their order: from the attention that is replaced, where that is
  /// defined, else at random.
  ///
  /// Throws where the attention's tensors do not fit the layout, or cannot be read.
  static func initialise(
    _ layout: MixerLayout, from attention: AttentionWeights?, random: inout SplitMix
  ) throws -> [Tensor]
  /// The last linear map; `nil` where there is nothing to solve for.
  var readout: MixerReadout? { get }
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

/// The mixers there are.
public enum Mixers {
  /// All of them, sorted by kind.
  public static let all: [any Mixer.Type] = [GLR.self, LSTM.self, NoMixer.self, Pointwise.self]

  /// The mixer of that kind; throws a usage error that lists them.
  public static func named(_ kind: String) throws(VitError) -> any Mixer.Type {
    if let mixer = all.first(where: { $0.kind == kind }) { return mixer }
    let kinds = all.map { "'\($0.kind)'" }.joined(separator: ", ")
    throw VitError("unknown mixer '\(kind)', expected one of \(kinds)", kind: .usage, code: "unknown-mixer")
  }
}
