internal import VitIR

/// What `select{by=auto}` may take from a model beside attention layers, and how far it goes.
public struct Reduction: Hashable, Sendable {
  /// What is to become less.
  public enum Cost: String, CaseIterable, Sendable {
    /// The time of one sample on one thread, as `CostTable` has it.
    case time
    /// The time of a run, measured here: what is chosen depends on the machine.
    case measured
    /// Floating-point operations.
    case flops
    /// Weights.
    case parameters

    /// What it is called in a sentence.
    var words: String {
      switch self {
      case .time, .measured: "time"
      case .flops: "operations"
      case .parameters: "parameters"
      }
    }
  }

  /// What is to become less.
  public var cost: Cost
  /// The samples of a run whose time is measured.
  public var timedBatch = 1
  /// What the products will be computed in of what is chosen: its time is counted so, or measured. The teacher's is that of floats.
  public var precision = Precision.f32
  /// The part of the teacher's cost at which it stops; without one (0) the damage alone decides.
  public var goal: Double
  /// The damage at which it stops, measured on held-out samples once the result is solved, before it is trained.
  public var limit: Double
  /// The share of held-out samples of which teacher and model must say the same class, once the result is solved, before it is trained;
  /// above 0 it decides in place of `limit`.
  public var agreement: Double
  /// The samples on which the channels of perceptrons are looked at.
  public var images: Int
  /// The held-out samples on which a model is judged that was solved on trial; by default all.
  public var judged: Int?
  /// Channels of perceptrons go in multiples of this.
  public var tile: Int
  /// Channels of heads go in multiples of this.
  public var headTile: Int
  /// What may stand in place of attention beside the mixers on trial.
  public enum Beside: String, CaseIterable, Sendable {
    /// Nothing else.
    case none
    /// Taps on the grid.
    case conv
    /// Those, and what mixes no tokens: constant maps, a map of each token, nothing.
    case any

    /// The kinds.
    var kinds: [String] {
      switch self {
      case .none: []
      case .conv: ["conv"]
      case .any: ["conv"] + Controls.kinds
      }
    }
  }

  /// What may stand in place of attention beside the mixers on trial: solved in closed form, at several widths, where it does
  /// less harm or saves more.
  public var beside = Beside.none
  /// Steps of distillation that mixers on trial take which need them, made with fewer channels; without any (0) those are of
  /// one width.
  public var narrowSteps = 0
  /// Samples of such a step, and its rate.
  public var narrowBatch = 64, narrowRate = 2e-3
  /// How sure the teacher is of samples like those that the model will meet: those that models are judged on are weighted to be so.
  package var profile: MarginProfile?
  /// Whether a linear map may stand in the place of a whole block.
  public var removesBlocks = true
  /// Whether a layer may use the attention map of one before.
  public var shares = true
  /// How alike their mean maps must be for that.
  public var leastCorrelation = 0.8
  /// Whether patches may be merged.
  public var merges: Bool
  /// The fewest patches of which some are: of fewer, merging costs more time than it saves.
  public var fewestPatches = 100

  /// Takes what does least harm, until the damage is `limit` or the cost `goal` of the teacher's.
  public init(
    cost: Cost = .time, goal: Double = 0, limit: Double = 0.03, agreement: Double = 0, images: Int = 300,
    judged: Int? = nil, tile: Int = 32, headTile: Int = 8, merges: Bool = true
  ) {
    self.cost = cost
    self.goal = goal
    self.limit = limit
    self.agreement = agreement
    self.images = images
    self.judged = judged
    self.tile = tile
    self.headTile = headTile
    self.merges = merges
  }

  /// Takes `cost` (time; also measured, flops, parameters), `timed-batch` (1): the samples of a run whose time is measured,
  /// `precision` (f32; or bf16, int8): what the products of the result will be computed in, for its time, `goal` (0), `limit` (0.03), `agreement` (0), `solved` (300), `judged` (all
  /// that are held out), `margins` (none): the quantiles of what the teacher's first class is above the next one on images like those
  /// that the model will meet, by which those that it is judged on are weighted, `tile` (32), `head-tile` (8), `beside` (none; or conv, any): what may stand in place of attention beside the mixers on trial,
  /// `narrow-steps` (0), `narrow-batch` (64), `narrow-rate` (0.002): how mixers that need steps are distilled with fewer channels,
  /// `blocks` (true): whether a linear map may stand in the place of a whole block,
  /// `share` (true): whether a layer may use the attention map of one before, and `share-from` (0.8): how alike their mean maps must be,
  /// `merge` (true): whether patches may be merged, and `merge-from` (100): the fewest patches of which some are.
  init(options: inout OptionReader) throws(VitError) {
    self.init()
    cost = try options.choice("cost", default: cost)
    timedBatch = try options.value("timed-batch", default: timedBatch)
    precision = try options.choice("precision", default: precision)
    goal = try options.value("goal", default: goal)
    limit = try options.value("limit", default: limit)
    agreement = try options.value("agreement", default: agreement)
    images = try options.value("solved", default: images)
    judged = try options.optional("judged")
    profile = try options.numbers("margins").map(MarginProfile.init(cuts:))
    tile = try options.value("tile", default: tile)
    headTile = try options.value("head-tile", default: headTile)
    beside = try options.choice("beside", default: beside)
    narrowSteps = try options.value("narrow-steps", default: narrowSteps)
    narrowBatch = try options.value("narrow-batch", default: narrowBatch)
    narrowRate = try options.value("narrow-rate", default: narrowRate)
    removesBlocks = try options.value("blocks", default: removesBlocks)
    shares = try options.value("share", default: shares)
    leastCorrelation = try options.value("share-from", default: leastCorrelation)
    merges = try options.value("merge", default: merges)
    fewestPatches = try options.value("merge-from", default: fewestPatches)
  }

  /// The most samples of a run that is timed.
  public static let largestBatch = 4096

  /// Throws where a number makes no sense.
  func check() throws(VitError) {
    guard goal >= 0, goal <= 1, limit >= 0, limit.isFinite, agreement >= 0, agreement <= 1, images > 0,
      (judged ?? 1) > 0, fewestPatches > 0, (-1...1).contains(leastCorrelation),
      (1...Reduction.largestBatch).contains(timedBatch),
      (1...4096).contains(tile), (1...4096).contains(headTile)
    else {
      throw VitError(
        "select: expected a goal from 0 to 1, a limit of at least 0, an agreement from 0 to 1, solved, judged and merge-from > 0, share-from from -1 to 1, timed-batch from 1 to \(Reduction.largestBatch) and tiles from 1 to 4096",
        kind: .usage, code: "option-value")
    }
    if let cuts = profile?.cuts,
      zip(cuts, cuts.dropFirst()).contains(where: { !($0 <= $1) }) || cuts.contains(where: \.isNaN)
    {
      throw VitError("select: expected margins in ascending order", kind: .usage, code: "option-value")
    }
    if narrowSteps != 0 { try distil.check() }
  }

  /// What distils mixers with fewer channels.
  var distil: Distil { Distil(steps: narrowSteps, batch: narrowBatch, rate: narrowRate, images: images) }

  private var narrowOptions: [(name: String, value: String)] {
    narrowSteps == 0
      ? []
      : [
        ("narrow-steps", "\(narrowSteps)"), ("narrow-batch", "\(narrowBatch)"),
        ("narrow-rate", "\(narrowRate)"),
      ]
  }

  /// All options.
  var options: [(name: String, value: String)] {
    [("cost", cost.rawValue)] + (cost == .measured ? [("timed-batch", "\(timedBatch)")] : [])
      + (precision == .f32 ? [] : [("precision", precision.rawValue)]) + [
        ("goal", "\(goal)"), ("limit", "\(limit)"), ("agreement", "\(agreement)"),
        ("solved", "\(images)"),
      ] + (judged.map { [("judged", "\($0)")] } ?? [])
      + (profile.map { [("margins", "[\($0.cuts.map { "\($0)" }.joined(separator: ","))]")] } ?? [])
      + [
        ("tile", "\(tile)"), ("head-tile", "\(headTile)"), ("beside", beside.rawValue),
      ] + narrowOptions + [
        ("blocks", "\(removesBlocks)"),
        ("share", "\(shares)"),
      ]
      + (shares ? [("share-from", "\(leastCorrelation)")] : [])
      + [("merge", "\(merges)")]
      + (merges ? [("merge-from", "\(fewestPatches)")] : [])
  }
}

extension Reduction {
  /// A model on the way, as it was measured.
  public struct Point: Hashable, Sendable {
    /// The part of the teacher's cost.
    public let cost: Double
    /// The damage on the held-out samples, before anything is solved or trained.
    public let damage: Double
    /// The share of those samples of which it says what the teacher says; `nil` without classes.
    public let agreement: Double?
    /// What is left.
    public let sizes: Sizes
  }

  /// What is left of a model's parts.
  public struct Sizes: Hashable, Sendable {
    /// The numbers of the layers whose attention a mixer replaces.
    public internal(set) var replaced: [Int]
    /// How many hidden channels each perceptron keeps.
    public internal(set) var channels: [Int]
    /// How many channels the queries and keys of a head keep, in each layer; 0 for all.
    public internal(set) var scores: [Int]
    /// How many channels the values of a head keep, in each layer; 0 for all.
    public internal(set) var values: [Int]
    /// How many channels the mixer of a layer has; 0 where there is none, or it has none of its own.
    public internal(set) var mixers: [Int]
    /// What stands in each layer's place, as a candidate of the layer is named; empty for attention.
    public internal(set) var standing: [String]
    /// How many patches are merged behind each layer.
    public internal(set) var merges: [Int]
    /// The numbers of the layers whose blocks are linear maps.
    public internal(set) var removed: [Int]
    /// The numbers of the layers that use the attention map of one before.
    public internal(set) var shared: [Int]
  }
}

extension Reduction {
  /// What a model lost, as a part of what it may lose: of the share of samples of which it may say something else, or of the
  /// damage. At most 1 where it is as near to its teacher as it must be.
  ///
  /// Of what was found on so many `images`, where they are given, a share of samples counts as less by its standard error: the farthest
  /// of several models that seem to agree on as many as they must is one of which chance made that seem so.
  package func spent(damage: Double, agreement found: Double?, of images: Int? = nil) -> Double {
    guard agreement > 0, let found else { return damage / max(limit, .leastNormalMagnitude) }
    let error = images.map { (found * (1 - found) / Double(max($0, 1))).squareRoot() } ?? 0
    return (1 - found + error) / max(1 - agreement, .leastNormalMagnitude)
  }

  /// The same of a point on the way.
  func spent(_ point: Point) -> Double { spent(damage: point.damage, agreement: point.agreement) }

  /// What must hold of a model.
  var bound: String {
    agreement > 0 ? "an agreement of at least \(agreement)" : "a damage of at most \(limit)"
  }
}
