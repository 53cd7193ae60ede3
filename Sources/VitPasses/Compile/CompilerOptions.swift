public import VitIR
public import VitOps

/// How a teacher is compiled.
public struct CompilerOptions: Sendable {
  /// How many layers are replaced, or which.
  public enum Amount: Hashable, Sendable {
    /// A part of all attention layers, above 0 and at most 1.
    case fraction(Double)
    /// So many; of 0 all attention stays, and only channels go.
    case count(Int)
    /// As many as pay, with `auto`.
    case free
    /// These, by number.
    case layers([Int])
    /// All whose number, of what layers are chosen by, keeps this threshold.
    case threshold(Double)
  }

  /// What a compile is to come to, as far as `maximumDrop` allows.
  public enum Target: Hashable, Sendable {
    /// So many times faster than the teacher, above 1.
    case speedup(Double)
    /// At most so many weights.
    case parameters(Int)
    /// A file of at most so many bytes.
    case bytes(Int)

    /// The most bytes of the file.
    package var byteCount: Int { if case .bytes(let count) = self { count } else { .max } }
    /// Whether it is the weights that are to become fewer.
    var isSize: Bool { if case .speedup = self { false } else { true } }
  }

  /// How many layers are replaced, or which.
  public var replace = Amount.fraction(0.5)
  /// What layers are chosen by.
  public var select = Select.Criterion.auto
  /// From which end of that ranking.
  public var group = Select.Group.sparse
  /// How many points of accuracy the hybrid may lose, as it is estimated before it is trained: with `select` of `auto`, what the
  /// model can do without is left out up to that.
  public var maximumDrop = 1.0
  /// The share of images of which the hybrid is to say what the teacher says, in place of `maximumDrop`; `nil` for that.
  public var minimumAgreement: Double?
  /// Whether `auto` may merge patches that are alike.
  public var merges = true
  /// Where that ends before.
  public var target: Target?
  /// What `auto` counts as cost; by default the time of a table, and with a speedup as `target` the time that it measures, unless
  /// the result is to be the same everywhere.
  public var cost: Reduction.Cost?
  /// How many images run at once where time is measured.
  public var timedBatch = 1
  /// The kind of mixer that replaces them.
  public var mixer = "glr"
  /// What else may, with `select` of `auto`, where it does less harm or saves more.
  public var beside = Reduction.Beside.conv
  /// The mixer's inner width as a fraction of the model's; by default the mixer's own.
  public var width: Double?
  /// The mixer's heads; by default as many as fit.
  public var heads: Int?
  /// The scan order.
  public var order = ScanOrder.Pattern.bidirectional
  /// How the rows of the tokens before the patches are made.
  public var prefix = PrefixRows.automatic
  /// The seconds that a compile may take at the nominal rate, all of it counted (see `Budget`).
  public var timeBudget = 600.0
  /// The seconds of that which looking for what the model can do without may take; by default its share.
  public var searchTime: Double?
  /// Whether models of other points that were passed on the way are made, too: solved, and not trained.
  public var makesOthers = false
  /// Seconds of the clock after which training stops at the best so far; the result then depends on the machine.
  public var deadline: Double?
  /// Steps of distillation, in place of what the budget gives.
  public var distilSteps: Int?
  /// The rate of distillation.
  public var distilRate = Distil().rate
  /// Steps of fine-tuning, in place of what the budget gives.
  public var fineTuneSteps: Int?
  /// The rate of fine-tuning; by default the best of several.
  public var fineTuneRate: Double?
  /// Samples of a step; by default 64, or 32 where one sample takes more than a thousand million operations.
  public var batch: Int?
  /// Samples that nothing is trained on; by default a tenth, or as many as a tenth of the default budget pays for.
  public var heldOut: Int?
  /// Images that teacher and hybrid are measured on at the end; by default as many as a fifth of the budget pays for.
  public var evaluationImages: Int?
  /// Decides every random choice.
  public var seed: UInt64 = 0
  /// Threads that compute; by default as many as cores may be used. The result is the same for any number.
  public var threads: Int?
  /// The type in which weights are stored: `f32`, `f16` or `bf16`; or `w8` or `w4`, those of linear maps, which are computed with as the floats that they
  /// stand for.
  public var weights = ElementType.f16
  /// What products are computed in.
  public var precision = Precision.f32
  /// What the products of steps of training are computed in.
  public var trainPrecision = ProductPrecision.f32
  /// A whole pipeline, in place of what the options above say; the weights are rounded behind it unless it ends with that.
  public var pipeline: Pipeline?
  /// Whether there are data other than made-up ones.
  private var hasData = true
  /// Whether times are left out of the result, so that compiling again gives the same bytes.
  public var isReproducible = false
  /// Whether a `none` and a `pointwise` hybrid are trained as well, with the same layers and steps, to compare with.
  public var comparesControls = false
  /// The file that holds what is needed to go on after an interruption; without one, nothing is kept.
  public var checkpoint: String?
  /// Whether to go on from that file.
  public var resumes = false
  /// Files with layers that were distilled before (`Compiler.makePart`).
  public var parts: [String] = []

  /// Of more picture files than that a random choice is trained on.
  public static let maximumImages = 20000

  /// The defaults.
  public init() {}

  /// Throws a usage error where the options make no sense.
  public func validate() throws(VitError) {
    func bad(_ message: String) -> VitError { VitError(message, kind: .usage, code: "option-value") }
    if weights.isQuantised, precision != .f32 {
      throw VitError(
        "weights that are stored as whole numbers are computed with as floats, found precision \(precision.rawValue)",
        kind: .usage, code: "option-conflict")
    }
    switch replace {
    case .fraction(let part) where !(part > 0 && part <= 1):
      throw bad("the part of layers to replace, \(part), is not in (0, 1]")
    case .count(let count) where count < 0:
      throw bad("the number of layers to replace, \(count), is negative")
    case .free where pipeline == nil && select != .auto:
      throw VitError(
        "how many layers are replaced is chosen by auto alone, found \(select.rawValue)", kind: .usage,
        code: "option-conflict")
    case .count(0) where pipeline == nil && select != .auto:
      throw VitError(
        "without a layer to replace, auto alone has something to choose, found \(select.rawValue)",
        kind: .usage,
        code: "option-conflict")
    case .layers(let layers) where layers.isEmpty: throw bad("no layers to replace are listed")
    default: break
    }
    if pipeline?.passes.contains(where: { $0 is Head }) ?? false {
      throw VitError(
        "head makes another teacher, and a compile keeps to its own", kind: .usage, code: "head-order",
        help: "run 'head' with vitc opt, and compile what it gives")
    }
    guard maximumDrop >= 0, maximumDrop <= 100 else {
      throw bad("the points that may be lost, \(maximumDrop), are not from 0 to 100")
    }
    if let minimumAgreement, !(minimumAgreement > 0 && minimumAgreement <= 1) {
      throw bad("the agreement \(minimumAgreement) is not above 0 and at most 1")
    }
    guard (1...Reduction.largestBatch).contains(timedBatch) else {
      throw bad("\(timedBatch) images at once cannot be timed, only 1 to \(Reduction.largestBatch)")
    }
    switch target {
    case .speedup(let times) where !(times > 1 && times <= 1e6):
      throw bad("the speedup \(times) is not above 1")
    case .parameters(let count) where count < 1:
      throw bad("the number of parameters, \(count), is not positive")
    case .bytes(let count) where count <= CompilerOptions.fixedBytes:
      throw bad(
        "a file of \(count) bytes has no room for weights: what else it holds takes \(CompilerOptions.fixedBytes)"
      )
    default: break
    }
    if target?.isSize ?? false, let cost, cost != .parameters {
      throw VitError(
        "fewer weights are the target, so the cost cannot be \(cost.rawValue)", kind: .usage,
        code: "option-conflict")
    }
    if cost == .measured, isReproducible {
      throw VitError(
        "what is chosen by measured time differs from run to run: it does not go with reproducible results",
        kind: .usage, code: "option-conflict", help: "the cost 'time' is the same everywhere")
    }
    if target != nil || cost != nil, select != .auto, pipeline == nil {
      throw VitError(
        "a target or a cost is for layers that are chosen by auto, found \(select.rawValue)", kind: .usage,
        code: "option-conflict")
    }
    guard timeBudget > 0, timeBudget.isFinite else {
      throw bad("the time budget \(timeBudget) is not positive")
    }
    guard (searchTime ?? 1) > 0, searchTime?.isFinite ?? true else {
      throw bad("the time to search, \(searchTime ?? 0), is not positive")
    }
    if searchTime != nil || makesOthers, select != .auto, pipeline == nil {
      throw VitError(
        "auto alone searches, found \(select.rawValue)", kind: .usage, code: "option-conflict")
    }
    if makesOthers, let pipeline, pipeline.reduction == nil {
      throw VitError(
        "the pipeline searches for nothing, so there are no points on the way", kind: .usage,
        code: "option-conflict", help: "'select{by=auto}' searches")
    }
    if let deadline {
      guard deadline > 0, deadline.isFinite else { throw bad("the deadline \(deadline) is not positive") }
      guard !isReproducible, !comparesControls, parts.isEmpty else {
        let other = isReproducible ? "reproducible results" : comparesControls ? "controls" : "parts"
        throw VitError(
          "what a deadline stops differs from run to run: it does not go with \(other)",
          kind: .usage, code: "option-conflict",
          help: "a time budget decides steps in the same way everywhere")
      }
    }
    guard (heldOut ?? 1) > 0 else {
      throw bad("the number of samples held out, \(heldOut ?? 0), is not positive")
    }
    guard (evaluationImages ?? 1) > 0 else {
      throw bad("the number of images to measure on, \(evaluationImages ?? 0), is not positive")
    }
    let none = Budget.Work(teacher: 1, layers: 1, trials: 1, batch: 1, heldOut: 1, evaluation: 1)
    try pipeline(
      Budget(seconds: 1, work: none), heldOut: 1, batch: 1, size: .init(parameters: 1, flops: 1, bytes: 1)
    )
    .check()
  }

  /// The options where there are no data but made-up ones: what those can do without says nothing of real ones, so that layers are
  /// chosen, and all channels stay. Throws a usage error where a bound or a target asks for more.
  package func withoutData() throws(VitError) -> CompilerOptions {
    var options = self
    options.hasData = false
    guard pipeline == nil, select == .auto else { return options }
    guard target == nil, minimumAgreement == nil, replacesLayers, replace != .free, cost == nil,
      searchTime == nil, !makesOthers
    else {
      throw VitError(
        "what a model can do without is found out on data", kind: .usage, code: "data-missing",
        help: "give some with --data")
    }
    options.select = .damage
    return options
  }

  /// The pipeline of a compile that does what `budget` buys, on a teacher of that size.
  ///
  /// Where layers are chosen by measured damage, every one that can be is replaced and distilled on trial; else the choice
  /// comes first. The usual choice also takes channels from perceptrons.
  func pipeline(_ budget: Budget, heldOut: Int, batch: Int, size: Report.Size) -> Pipeline {
    var passes = pipeline?.passes ?? usual(budget, heldOut, batch, size)
    if var quantise = quantisation, !passes.contains(where: { $0 is Quantise }) {
      if pipeline == nil, hasData {
        (quantise.limit, quantise.images) = (narrowLimit, min(Quantise.usualImages, budget.searched))
      }
      // What made-up samples make up for is lost on real ones.
      if !hasData { quantise.solved = 0 }
      passes.append(quantise)
    }
    if weights != .f32, !(passes.last is Round) {
      passes.append(Round(weights: weights.isQuantised ? .f16 : weights))
    }
    return Pipeline(passes)
  }

  /// What brings weights into fewer bits, to compute so or to store them; `nil` where none does.
  private var quantisation: Quantise? {
    switch weights {
    case .w4: Quantise(weights: .int4)
    case .w8: Quantise(weights: .int8, activations: .f32)
    default: precision.weights.map { Quantise(weights: $0) }
    }
  }

  /// A model with its weights in as many bits as they will be stored in, each rounded by itself. Throws where one cannot be read.
  package func narrowed(_ graph: Graph) throws -> Graph {
    var graph = graph
    _ = try quantisation?.narrow(&graph)
    return graph
  }

  /// The damage that weights in fewer bits may do: a tenth of what all passes may.
  private var narrowLimit: Double {
    let points = minimumAgreement.map { (1 - $0) / CompilerOptions.disagreementOfPoint } ?? maximumDrop
    return (1e6 * 0.1 * points * CompilerOptions.damageOfPoint).rounded() / 1e6
  }

  /// Whether layers are replaced at all.
  package var replacesLayers: Bool { pipeline != nil || replace != .count(0) }

  /// Whether there is no mixer that needs steps layer by layer.
  var isSolved: Bool { !replacesLayers || (try? MixerRequest(mixer).kind.isSolved) ?? false }

  /// The damage that goes with a point of accuracy, where classes are as sure as in a trained teacher.
  private static let damageOfPoint = 0.025
  /// The part of images about which a model that loses a point says something else than its teacher.
  private static let disagreementOfPoint = 0.04

  /// How many times more a model may lose while it is reduced, and solved, than in the end: what comes back as it is trained
  /// for so many steps. On a teacher of 12 layers a fifth to a quarter of the damage did in 67 to 164 steps, and of the images on
  /// which it does not agree about half as much.
  private static func allowance(fineTuneSteps steps: Int) -> Double { 1 + 0.2 * min(1, Double(steps) / 60) }

  /// The points of accuracy that a pipeline aims to lose at most; `nil` where it goes by agreement, or looks for nothing.
  static func maximumDrop(_ pipeline: Pipeline) -> Double? {
    guard let reduction = pipeline.reduction, reduction.agreement == 0 else { return nil }
    let steps = pipeline.passes.compactMap { ($0 as? FineTune)?.steps }.max() ?? 0
    let points = reduction.limit / (damageOfPoint * allowance(fineTuneSteps: steps))
    return (1e4 * points).rounded() / 1e4
  }

  /// What the choice may take from a teacher with so many weights.
  private func reduction(_ teacher: Report.Size, _ budget: Budget) -> Reduction {
    let allowance = CompilerOptions.allowance(fineTuneSteps: budget.fineTuneSteps)
    let limit = maximumDrop * CompilerOptions.damageOfPoint * allowance
    var reduction = Reduction(limit: (1e6 * limit).rounded() / 1e6, images: budget.solved, merges: merges)
    if let minimumAgreement { reduction.agreement = max(1 - allowance * (1 - minimumAgreement), 0.01) }
    if let cost { reduction.cost = cost }
    reduction.precision = precision
    reduction.timedBatch = timedBatch
    reduction.beside = beside
    (reduction.narrowSteps, reduction.narrowRate) = (budget.narrowSteps, distilRate)
    switch target {
    case .speedup(let times):
      reduction.goal = 1 / times
      if cost == nil, !isReproducible { reduction.cost = .measured }
    case .parameters(let count):
      (reduction.cost, reduction.goal) = (
        .parameters, min(1, Double(count) / Double(max(1, teacher.parameters)))
      )
    case .bytes(let count):
      let room = CompilerOptions.roomForWeights * Double(count - CompilerOptions.fixedBytes)
      (reduction.cost, reduction.goal) = (.parameters, min(1, room / Double(max(1, teacher.bytes ?? 1))))
    case nil: break
    }
    return reduction
  }

  /// The bytes of a file beside its weights, at the most: graph, probes, report.
  private static let fixedBytes = 160 << 10
  /// The part of the other bytes that weights are aimed to take: they may shrink less than the teacher's.
  private static let roomForWeights = 0.98

  private func usual(_ budget: Budget, _ heldOut: Int, _ batch: Int, _ size: Report.Size) -> [any Pass] {
    let judged = budget.judged < heldOut ? budget.judged : nil
    var choice = Select(by: select, group: group)
    switch replace {
    case .fraction(let part): choice.fraction = part
    case .count(let count): choice.count = count
    case .free: choice.isFree = true
    case .layers(let layers): choice.layers = layers
    case .threshold(let number): choice.threshold = number
    }
    if select == .auto {
      choice.reduction = reduction(size, budget)
      (choice.reduction.judged, choice.reduction.narrowBatch) = (judged, batch)
    }
    let onTrial = select.isDamage && choice.layers == nil
    if onTrial || select == .auto { choice.images = budget.searched < heldOut ? budget.searched : nil }
    let score = Score(images: budget.scored)
    let swap = Swap(
      mixer: mixer, width: width, heads: heads, order: order, prefix: prefix,
      layers: onTrial ? .all : select == .auto ? choice.layers.map(Swap.LayerSet.listed) ?? .all : .selected)
    let distil = Distil(
      steps: budget.distilSteps, batch: batch, rate: distilRate, images: budget.solved,
      precision: trainPrecision)
    let solve = Solve(images: budget.refined, judged: judged)
    let fineTune = FineTune(
      steps: budget.fineTuneSteps, batch: batch, rate: fineTuneRate, images: judged, precision: trainPrecision
    )
    if select == .auto {
      let merge: [any Pass] = merges && choice.reduction.cost != .parameters ? [Merge.chosen] : []
      return (replacesLayers ? [score, swap, distil] : []) + [choice, solve] + merge + [fineTune, Trim()]
    }
    return onTrial
      ? [score, swap, distil, choice, Restore(), solve, fineTune, Trim()]
      : [score, choice, swap, distil, solve, fineTune, Trim()]
  }
}
