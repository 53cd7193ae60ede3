/// A place where tokens of an image are mixed, and what a compile knows of it: a self-attention layer, or the mixer
/// that stands in for one.
///
/// A layer is known by its number: the same in a model and in the hybrids made of it.
public struct Layer: Hashable, Sendable {
  /// What was decided about a layer.
  public enum Choice: String, CaseIterable, Sendable {
    /// Nothing yet.
    case undecided
    /// It keeps its attention.
    case kept
    /// A mixer replaces it.
    case selected
    /// A mixer stands in for it until there is a choice.
    case onTrial = "on-trial"
  }

  /// A mixer that was tried in a layer's place, and how it did.
  public struct Candidate: Hashable, Sendable {
    /// The mixer with what decides its shape: `glr{width=24,heads=6,order=bidirectional}`.
    public var mixer: String
    /// Σ‖ŷ − y‖² / Σ‖y‖² on the held-out samples: how far it is from the layer, 1 being as bad as zero.
    public var error: Double?
    /// The same for the rows of the tokens before the patches, and for those of the patches.
    public var prefixError, patchError: Double?
    /// R² on the same samples.
    public var determination: Double?
    /// What it does to the model's outputs when it alone stands in.
    public var damage: Double?
    /// Where its training stopped making sense, or `nil`.
    public var divergence: Divergence?

    /// A candidate that was not tried yet.
    public init(mixer: String) { self.mixer = mixer }
  }

  /// Where training went astray: a loss that is no number, or far above the first.
  public struct Divergence: Hashable, Sendable {
    /// The step.
    public var step: Int
    /// The learning rate at that step.
    public var rate: Double

    /// A divergence at a step.
    public init(step: Int, rate: Double) {
      self.step = step
      self.rate = rate
    }
  }

  /// Its number among the model's layers, from 0 in order.
  public var index: Int
  /// `attention`, `shared` where its map is that of a layer before, the kind of the mixer that stands here, or what became of
  /// its block: `removed` or `linear`.
  public var kind: String
  /// Heads of the queries, or of the mixer.
  public var heads: Int
  /// The name of the node that it came from.
  public var node: String
  /// The result of the operation at its heart: the attention, its core, its softmax, or the mixer.
  public var core: ValueID
  /// The normalised tokens that go in, [batch, tokens, width], where there is one such value.
  public var input: ValueID?
  /// What is added to the residual, [batch, tokens, width], where there is one such value.
  public var output: ValueID?
  /// The weights between the two.
  public var parameters: Int
  /// Why no mixer can stand in for it, or `nil`.
  public var obstacle: String?
  /// What was decided.
  public var choice = Choice.undecided
  /// How many patches are merged behind it; before `merge` has run, how many are to be.
  public var merges = 0
  /// What `score` measured, by name: numbers, and lists of a number a head.
  public var scores = Attributes()
  /// The mixers that were tried in its place; the last is the one that stands there, where one does.
  public var candidates: [Candidate] = []

  /// The kind of a layer that no mixer has replaced.
  public static let attention = "attention"
  /// The kind of a layer that applies the attention map of a layer before to its own values.
  public static let shared = "shared"
  /// The kind of a layer whose block is gone: core, input and output are the residual stream there.
  public static let removed = "removed"
  /// The kind of a layer whose block became one linear map of the residual stream.
  public static let linear = "linear"

  /// A layer of which nothing but its place is known.
  public init(
    index: Int, kind: String, heads: Int, node: String, core: ValueID, input: ValueID?, output: ValueID?,
    parameters: Int, obstacle: String?
  ) {
    self.index = index
    self.kind = kind
    self.heads = heads
    self.node = node
    self.core = core
    self.input = input
    self.output = output
    self.parameters = parameters
    self.obstacle = obstacle
  }

  /// Whether it is attention, and no mixer.
  public var isAttention: Bool { kind == Layer.attention }

  /// Whether a mixer can stand in for it.
  public var isReplaceable: Bool { obstacle == nil }

  /// Whether its block is gone, with its perceptron.
  public var isRemoved: Bool { kind == Layer.removed || kind == Layer.linear }

  /// Whether it uses the attention map of a layer before.
  public var isShared: Bool { kind == Layer.shared }

  /// Whether a mixer was put in its place and stands there; a model's own mixers are layers like others.
  public var isReplaced: Bool { !isAttention && !isShared && !isRemoved && !candidates.isEmpty }

  /// A number that `score` measured.
  public func score(_ name: String) -> Double? {
    if case .float(let value)? = scores[name] { value } else { nil }
  }

  /// The layer with what was found out and decided about `other`.
  public func remembering(_ other: Layer) -> Layer {
    var layer = self
    (layer.choice, layer.merges) = (other.choice, other.merges)
    (layer.scores, layer.candidates) = (other.scores, other.candidates)
    return layer
  }

  /// The layer as if nothing had been found out or decided about it.
  public var forgotten: Layer {
    Layer(
      index: index, kind: kind, heads: heads, node: node, core: core, input: input, output: output,
      parameters: parameters, obstacle: obstacle)
  }
}

/// A unit that looks like attention, but is none among the tokens of one set: pooling by a learned query, keys on a
/// coarser grid.
public struct AttentionLike: Hashable, Sendable {
  /// The name of the node that it came from.
  public var node: String
  /// What was found.
  public var reason: String

  /// A unit and what was found.
  public init(node: String, reason: String) {
    self.node = node
    self.reason = reason
  }
}
