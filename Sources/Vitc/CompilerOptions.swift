public import VitIR
internal import VitPasses

/// How a teacher is compiled.
public struct CompilerOptions: Sendable {
  /// How many layers are replaced, or which.
  public enum Amount: Hashable, Sendable {
    /// A part of all attention layers, above 0 and at most 1.
    case fraction(Double)
    /// So many.
    case count(Int)
    /// These, by number.
    case layers([Int])
  }

  /// How many layers are replaced, or which.
  public var replace = Amount.fraction(0.5)
  /// What layers are chosen by: `auto`, or a criterion of the pass `select`.
  public var select = "auto"
  /// The kind of mixer that replaces them.
  public var mixer = "glr"
  /// The mixer's inner width as a fraction of the model's; by default the mixer's own.
  public var width: Double?
  /// The mixer's heads; by default as many as fit.
  public var heads: Int?
  /// The scan order; by default `bidirectional`.
  public var order: String?
  /// The seconds that training may take at the nominal rate (see `Budget`).
  public var timeBudget = 600.0
  /// Steps of distillation, in place of what the budget gives.
  public var distilSteps: Int?
  /// The rate of distillation.
  public var distilRate: Double?
  /// Steps of fine-tuning, in place of what the budget gives.
  public var fineTuneSteps: Int?
  /// The rate of fine-tuning.
  public var fineTuneRate: Double?
  /// Samples of a step; by default 64, or 32 where one sample takes more than a thousand million operations.
  public var batch: Int?
  /// Decides every random choice.
  public var seed: UInt64 = 0
  /// Threads that compute; by default as many as cores may be used. The result is the same for any number.
  public var threads: Int?
  /// The type in which weights are stored: `f32`, `f16` or `bf16`.
  public var weights = ElementType.f16
  /// A whole pipeline, in place of what the options above say.
  public var passes: String?
  /// Whether times are left out of the result, so that compiling again gives the same bytes.
  public var isReproducible = false
  /// Whether a `none` and a `pointwise` hybrid are trained as well, with the same layers and steps, to compare with.
  public var comparesControls = false
  /// The file that holds what is needed to go on after an interruption; without one, nothing is kept.
  public var checkpoint: String?
  /// Whether to go on from that file.
  public var resumes = false

  /// Of more picture files than that a random choice is trained on.
  public static let maximumImages = 20000

  /// The defaults.
  public init() {}

  /// Throws a usage error where the options make no sense.
  public func validate() throws(VitError) {
    func bad(_ message: String, help: String? = nil) -> VitError {
      VitError(message, kind: .usage, code: "option-value", help: help)
    }
    switch replace {
    case .fraction(let part) where !(part > 0 && part <= 1):
      throw bad("the part of layers to replace, \(part), is not in (0, 1]")
    case .count(let count) where count < 1:
      throw bad("the number of layers to replace, \(count), is not positive")
    case .layers(let layers) where layers.isEmpty: throw bad("no layers to replace are listed")
    default: break
    }
    guard timeBudget > 0, timeBudget.isFinite else {
      throw bad("the time budget \(timeBudget) is not positive")
    }
    _ = try pipeline(distilSteps: 1, fineTuneSteps: 1, batch: 1)
  }

  /// The default pipeline of a compile with these numbers of steps.
  ///
  /// Where layers are chosen by measured damage, every one that can be is replaced and distilled on trial; else the choice
  /// comes first.
  func pipeline(distilSteps: Int, fineTuneSteps: Int, batch: Int) throws(VitError) -> Pipeline {
    if let passes { return try Pipeline(passes) }
    func braces(_ options: [(String, String?)]) -> String {
      "{" + options.compactMap { name, value in value.map { "\(name)=\($0)" } }.joined(separator: ",") + "}"
    }
    let byDamage = ["auto", Select.Criterion.swap.rawValue].contains(select)
    var choice: [(String, String?)] = [("by", byDamage ? Select.Criterion.swap.rawValue : select)]
    var isListed = false
    switch replace {
    case .fraction(let part): choice.append(("fraction", "\(part)"))
    case .count(let count): choice.append(("count", "\(count)"))
    case .layers(let layers):
      choice = [("layers", "[\(layers.map(String.init).joined(separator: ","))]")]
      isListed = true
    }
    let onTrial = byDamage && !isListed
    let swap =
      "swap"
      + braces([
        ("mixer", mixer), ("width", width.map { "\($0)" }), ("heads", heads.map { "\($0)" }),
        ("order", order),
        ("layers", onTrial ? "all" : "selected"),
      ])
    let distil =
      "distil"
      + braces([
        ("steps", "\(distilSteps)"), ("batch", "\(batch)"), ("rate", distilRate.map { "\($0)" }),
      ])
    let fineTune =
      "fine-tune"
      + braces([
        ("steps", "\(fineTuneSteps)"), ("batch", "\(batch)"), ("rate", fineTuneRate.map { "\($0)" }),
      ])
    let select = "select" + braces(choice)
    let passes =
      onTrial
      ? ["score", swap, distil, select, "restore", fineTune] : ["score", select, swap, distil, fineTune]
    return try Pipeline(passes.joined(separator: ","))
  }
}
