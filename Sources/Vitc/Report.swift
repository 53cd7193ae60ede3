internal import VitIR
public import VitPasses

/// What a compile found out, chose and reached.
public struct Report: Sendable {
  /// One attention layer of the teacher.
  public struct Layer: Sendable {
    /// Its number, from 0.
    public let index: Int
    /// The node that it came from.
    public let node: String
    /// Whether it was replaced.
    public internal(set) var isSelected: Bool
    /// What was found out about it by name: the indices of `score`, the `damage` of its swap, the `error` of its mixer.
    public internal(set) var scores: [String: Double]
  }

  /// A model's size and cost.
  public struct Size: Hashable, Sendable {
    /// Weights.
    public var parameters: Int
    /// Floating-point operations for one sample.
    public var flops: Int
    /// Bytes of its file; `nil` where it has not been written.
    public var bytes: Int?
  }

  /// A hybrid with the same layers replaced by a control, trained for the same steps.
  public struct Control: Sendable {
    /// The kind of mixer.
    public let mixer: String
    /// How close it comes to the teacher.
    public let fidelity: Fidelity
  }

  /// The pipeline that ran, every option written out.
  public var pipeline: String
  /// The seed.
  public var seed: UInt64
  /// The kind of mixer.
  public var mixer: String
  /// The layers in order.
  public var layers: [Layer]
  /// The teacher's size.
  public var teacher: Size
  /// The hybrid's size.
  public var hybrid: Size
  /// The shares of the layers, and so the most that replacing them can give.
  public var bound: Bound
  /// How close the hybrid comes to the teacher on the evaluation data.
  public var fidelity: Fidelity
  /// The data: how many samples trained, how many judged, on how many the fidelity was measured.
  public var samples: (training: Int, heldOut: Int, evaluation: Int)
  /// Milliseconds of one run, teacher and hybrid in turn; `nil` where they were not measured.
  public var timing: (teacher: Timing, hybrid: Timing)?
  /// The controls, where they were asked for.
  public var controls: [Control] = []

  /// The numbers of the layers that were replaced.
  public var selected: [Int] { layers.filter(\.isSelected).map(\.index) }

  /// The indices that layers can be chosen by, with where their values stand in `Layer.scores`, and whether larger means
  /// "replace first".
  public static let indices: [(name: String, key: String, largestFirst: Bool)] =
    Select.Criterion.allCases.compactMap { criterion in
      criterion.score.map { (criterion.rawValue, $0.name, $0.largestFirst) }
    }

  /// For each index, and for depth, how well its order predicts the damage of the swap: Spearman's coefficient, 1 where the
  /// index puts the harmless layers first.
  public var correlations: [(name: String, value: Double?)] {
    let known = layers.filter { $0.scores["damage"] != nil }
    let damage = known.compactMap { $0.scores["damage"] }
    var result = Report.indices.map { index -> (name: String, value: Double?) in
      let values = known.compactMap { $0.scores[index.key] }.map { index.largestFirst ? -$0 : $0 }
      return (index.name, values.count == damage.count ? RankCorrelation.spearman(values, damage) : nil)
    }
    result.append(("last", RankCorrelation.spearman(known.map { -Double($0.index) }, damage)))
    return result
  }

  /// Whether the mixer is better than every control; `nil` where none was trained.
  public var beatsControls: Bool? {
    controls.isEmpty ? nil : controls.allSatisfy { fidelity.damage < $0.fidelity.damage }
  }

  /// The layers of `hybrid` with what is known of them.
  static func layers(of hybrid: Hybrid) -> [Layer] {
    hybrid.layers.map { layer in
      var scores: [String: Double] = [:]
      for (name, value) in layer.scores.entries {
        if case .float(let number) = value { scores[name] = number }
      }
      if let mixer = layer.candidates.last {
        (scores["error"], scores["r2"], scores["damage"]) = (mixer.error, mixer.determination, mixer.damage)
      }
      return Layer(
        index: layer.index, node: layer.node, isSelected: layer.choice == .selected, scores: scores)
    }
  }

  /// The report as JSON in the form of `schemas/report.schema.json`; without times where they shall not enter.
  public func json(withTimes: Bool = true) -> JSON {
    func size(_ size: Size, _ timing: Timing?) -> JSON {
      var members: [(String, JSON)] = [("parameters", .int(size.parameters)), ("flops", .int(size.flops))]
      if let bytes = size.bytes, withTimes { members.append(("bytes", .int(bytes))) }
      if let timing, withTimes { members += timing.members }
      return .object(members)
    }
    let shares = zip(bound.layers, bound.replaceable).map { share, replaceable -> JSON in
      var members: [(String, JSON)] = [
        ("flops", .number(share.flops)), ("parameters", .number(share.parameters)),
        ("replaceable", .bool(replaceable)),
      ]
      if withTimes { members.append(("time", .number(share.time))) }
      return .object(members)
    }
    return .object([
      ("schema", "vitc.report/1"), ("version", .string(Version.current)), ("pipeline", .string(pipeline)),
      ("seed", .int(Int(clamping: seed))), ("mixer", .string(mixer)),
      ("selected", .array(selected.map(JSON.int))),
      ("bound", .array(shares)), ("teacher", size(teacher, timing?.teacher)),
      ("hybrid", size(hybrid, timing?.hybrid)),
      (
        "layers",
        .array(
          layers.map { layer in
            .object([
              ("index", .int(layer.index)), ("node", .string(layer.node)),
              ("selected", .bool(layer.isSelected)),
              ("scores", .object(layer.scores.map { ($0.key, .number($0.value)) })),
            ])
          })
      ),
      ("correlation", .object(correlations.map { ($0.name, .optional($0.value)) })),
      (
        "data",
        .object([
          ("training", .int(samples.training)), ("held_out", .int(samples.heldOut)),
          ("evaluation", .int(samples.evaluation)),
        ])
      ),
      ("fidelity", fidelity.json),
      (
        "controls",
        .array(controls.map { .object([("mixer", .string($0.mixer)), ("fidelity", $0.fidelity.json)]) })
      ),
      ("beats_controls", beatsControls.map(JSON.bool) ?? .null),
    ])
  }
}

extension Fidelity {
  /// The fidelity as JSON: fractions of 1, null where it has no meaning.
  public var json: JSON {
    .object([
      ("images", .int(images)), ("accuracy", .optional(accuracy)), ("agreement", .optional(agreement)),
      ("kl", .optional(divergence)), ("relative_error", .number(relativeError)),
      ("teacher", .object([("accuracy", .optional(teacherAccuracy))])),
    ])
  }
}

extension Timing {
  /// The members of a JSON object that hold it.
  var members: [(String, JSON)] {
    [("ms", .number(median)), ("ms_low", .number(low)), ("ms_high", .number(high))]
  }
}
