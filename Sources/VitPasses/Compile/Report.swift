internal import VitIR

/// What a compile found out, chose and reached.
public struct Report: Sendable {
  /// One attention layer of the teacher.
  public struct Layer: Sendable {
    /// Its number, from 0.
    public let index: Int
    /// The node that it came from.
    public let node: String
    /// Whether it was replaced.
    public let isSelected: Bool
    /// What was found out about it by name: the indices of `score`, the `damage` of its swap, the `error` of its mixer.
    public let scores: [String: Double]
    /// What stands there: see `VitIR.Layer.kind`.
    public let kind: String
    /// What that costs; `nil` before the end.
    public var cost: LayerCost?
    /// What the teacher's attention costs; `nil` before the end.
    public var attention: LayerCost?
    /// The error of mixers that look at no other token's contents, by kind, solved in closed form: what a mixer has to beat.
    public var floors: [String: Double] = [:]
  }

  /// A model's size and cost.
  public struct Size: Hashable, Sendable {
    /// Weights.
    public var parameters: Int
    /// Floating-point operations for one sample.
    public var flops: Int
    /// Bytes of its file; `nil` where it has not been written.
    public var bytes: Int?

    /// A size.
    package init(parameters: Int, flops: Int, bytes: Int? = nil) {
      self.parameters = parameters
      self.flops = flops
      self.bytes = bytes
    }
  }

  /// A hybrid with the same layers replaced by a control, trained for the same steps.
  public struct Control: Sendable {
    /// The kind of mixer.
    public let mixer: String
    /// How close it comes to the teacher.
    public let fidelity: Fidelity
    /// How much more damage it does than the hybrid, image by image.
    public let excess: PairedDifference?
  }

  /// A perceptron that lost channels.
  public struct Perceptron: Hashable, Sendable {
    /// Its number, in the order of the graph.
    public let index: Int
    /// How many hidden channels the teacher's has, and how many are left.
    public let channels, kept: Int
  }

  /// An attention layer that lost heads, or whose heads lost channels.
  public struct Heads: Hashable, Sendable {
    /// Its number.
    public let layer: Int
    /// How many heads it has in the teacher, and how many are left.
    public let count, countKept: Int
    /// How many channels queries and keys of a head have in the teacher, and how many are left.
    public let scores, scoresKept: Int
    /// How many channels values of a head have in the teacher, and how many are left.
    public let values, valuesKept: Int
  }

  /// A pass that measured what it bought.
  public struct Stage: Sendable {
    /// Its name.
    public let pass: String
    /// How far the hybrid was from its teacher before it and behind it, on held-out samples.
    public let damage: (before: Double, after: Double)
  }

  /// What is known of a compile of which the teacher drops tokens that the model it was made from has.
  public struct Retained: Sendable {
    /// How close the teacher that drops tokens comes to the one that has all.
    public let teacher: Fidelity
    /// How close the hybrid comes to the teacher that drops tokens.
    public let hybrid: Fidelity
  }

  /// The size of the model behind a pass.
  public struct Step: Hashable, Sendable {
    /// The pass's name.
    public let pass: String
    /// How large the model is then: while mixers are on trial, with all of them.
    public let size: Size
  }

  /// The pipeline that ran, every option written out.
  public var pipeline: String
  /// The pipeline that does the same without looking for it; `nil` where nothing was looked for.
  public var found: String?
  /// How many points of accuracy were to be lost at most; `nil` where nothing was looked for.
  public var aim: Double?
  /// The models that were measured while it was looked for.
  public var points: [Reduction.Point] = []
  /// The seed.
  public var seed: UInt64
  /// The kind of mixer; where there are several, all, by name.
  public var mixer: String
  /// The layers in order.
  public var layers: [Layer]
  /// The perceptrons that lost channels.
  public var perceptrons: [Perceptron] = []
  /// The attention layers whose heads lost channels.
  public var heads: [Heads] = []
  /// The teacher's size.
  public var teacher: Size
  /// The hybrid's size.
  public var hybrid: Size
  /// The shares of the layers, and so the most that replacing them can give.
  public var bound: Bound
  /// How close the hybrid comes to the teacher on the evaluation data.
  public var fidelity: Fidelity
  /// How close the file's own quantised model comes to the teacher, which is its float form; `nil` where nothing is quantised.
  public var quantised: Fidelity?
  /// Where `retain` made a teacher that drops tokens, what is lost by that and what by the rest; `fidelity` has both together.
  public var retained: Retained?
  /// The data: how many samples trained, how many judged, on how many the fidelity was measured.
  public var samples: (training: Int, heldOut: Int, evaluation: Int)
  /// How many samples were left out, for the teacher gives no numbers for them.
  public var nonFiniteSamples = 0
  /// Milliseconds of one run, teacher and hybrid in turn; `nil` where they were not measured.
  public var timing: (teacher: Timing, hybrid: Timing)?
  /// The samples of such a run.
  public var timedBatch = 1
  /// The controls, where they were asked for.
  public var controls: [Control] = []
  /// The model behind each pass.
  public var steps: [Step] = []
  /// The losses of trainings, in their order.
  public var curves: [LossCurve] = []
  /// What passes bought that measured it, in their order.
  public var stages: [Stage] = []
  /// Where training went astray.
  public var divergences: [PassResult.Divergence] = []
  /// Where training was stopped by a deadline.
  public var stops: [PassResult.Stop] = []

  /// The numbers of the layers that were replaced.
  public var selected: [Int] { layers.filter(\.isSelected).map(\.index) }

  /// The indices that layers can be chosen by, with where their values stand in `Layer.scores`, and whether larger means
  /// "replace first".
  public static let indices: [(name: String, key: String, largestFirst: Bool)] =
    Select.Criterion.allCases.compactMap { criterion in
      criterion.score.map { (criterion.rawValue, $0.name, $0.largestFirst) }
    }

  /// The fewest layers over which a correlation says anything.
  private static let fewest = 4

  /// For each index, and for depth, how well its order predicts the damage of the swap: Spearman's coefficient, 1 where the
  /// index puts the harmless layers first; `nil` where fewer than four layers have both.
  public var correlations: [(name: String, value: Double?)] {
    let known = layers.filter { $0.scores["damage"] != nil }
    let damage = known.compactMap { $0.scores["damage"] }
    func correlation(_ values: [Double]) -> Double? {
      guard values.count == damage.count, damage.count >= Report.fewest else { return nil }
      return RankCorrelation.spearman(values, damage)
    }
    var result = Report.indices.map { index -> (name: String, value: Double?) in
      let values = known.compactMap { $0.scores[index.key] }
      return (index.name, correlation(values.map { index.largestFirst ? -$0 : $0 }))
    }
    result.append(("last", correlation(known.map { -Double($0.index) })))
    return result
  }

  /// Whether the mixer is better than every control, by more than chance explains; `nil` where none was trained.
  public var beatsControls: Bool? {
    controls.isEmpty
      ? nil : controls.allSatisfy { control in control.excess.map { $0.interval.lowerBound > 0 } ?? false }
  }

  /// Whether the hybrid's file is larger than the teacher's would be at the same precision: mixers have weights of their own,
  /// which attention may have shared.
  public var isLarger: Bool { hybrid.parameters > teacher.parameters }

  /// The layers of `hybrid` with what is known of them. Those count as selected that were chosen or, with `replaced`, that a
  /// mixer stands in for, whatever was chosen on the way.
  static func layers(of hybrid: Hybrid, replaced: Bool = false) -> [Layer] {
    hybrid.layers.map { layer in
      var scores: [String: Double] = [:]
      for (name, value) in layer.scores.entries {
        if case .float(let number) = value { scores[name] = number }
      }
      if let mixer = layer.candidates.last {
        (scores["error"], scores["r2"], scores["damage"]) = (mixer.error, mixer.determination, mixer.damage)
        (scores["error_prefix"], scores["error_patches"]) = (mixer.prefixError, mixer.patchError)
      }
      return Layer(
        index: layer.index, node: layer.node,
        isSelected: replaced ? layer.isReplaced : layer.choice == .selected, scores: scores, kind: layer.kind)
    }
  }
}
