extension Select {
  /// What layers are ranked by.
  public enum Criterion: String, CaseIterable, Sendable {
    /// As by `damage`; and perceptrons lose the channels that do least (see `Reduction`).
    case auto
    /// The damage of swapping that one layer for its mixer, measured on the held-out samples; least first.
    case damage
    /// Sparsity by entropy; sparsest first.
    case entropy
    /// Sparsity by the Gini index; sparsest first.
    case gini
    /// Sparsity by Hoyer's index; sparsest first.
    case hoyer
    /// Sparsity by the share of keys that holds nine tenths of the mass; sparsest first.
    case topMass = "top-mass"
    /// Mean attention distance; nearest first.
    case distance
    /// How much the attention maps differ from image to image; least first.
    case dependence
    /// How far the layer turns the residual stream; least first.
    case cosine
    /// What the best fixed taps on the values miss of what the maps make of them; least first.
    case conv
    /// The damage of dropping the layer; least first.
    case drop
    /// The first layers.
    case first
    /// The last layers.
    case last
    /// Layers drawn by the seed.
    case random
    /// Layers spread evenly over the depth: every other one where half of them are chosen.
    case alternate

    /// The score that it ranks by, and whether larger comes first.
    public var score: (name: String, largestFirst: Bool)? {
      switch self {
      case .entropy: ("entropy", true)
      case .gini: ("gini", true)
      case .hoyer: ("hoyer", true)
      case .topMass: ("top_mass", true)
      case .distance: ("distance", false)
      case .dependence: ("dependence", false)
      case .cosine: ("cosine", false)
      case .conv: ("conv", false)
      case .drop: ("drop", false)
      case .auto, .damage, .first, .last, .random, .alternate: nil
      }
    }

    /// Whether layers have a number by which they are ranked, not only a place.
    public var isMeasured: Bool { isDamage || score != nil }

    /// Whether layers are ranked by what their mixers do to the outputs.
    public var isDamage: Bool { self == .damage || self == .auto }
  }

  /// From which end of a ranking layers are taken: the paper's groups.
  public enum Group: String, CaseIterable, Sendable {
    /// From the front: the sparsest by an index of sparsity, the least harmful by the others.
    case sparse
    /// From the back.
    case dense
  }

  /// Which words name what layers are chosen by: the criteria; `sparse` and `dense`, which mean entropy's; and `swap`,
  /// another name of `damage`.
  public static let choices =
    Criterion.allCases.map(\.rawValue) + Group.allCases.map(\.rawValue) + ["swap"]

  /// What one of `choices` means; `nil` for another word.
  public static func choice(_ word: String) -> (by: Criterion, group: Group)? {
    if word == "swap" { return (.damage, .sparse) }
    if let group = Group(rawValue: word) { return (.entropy, group) }
    return Criterion(rawValue: word).map { ($0, .sparse) }
  }
}
