/// How much work a time buys, the same on every machine: steps of training, and the images that layers are scored, solved and
/// judged on.
public struct Budget: Hashable, Sendable {
  /// The floating-point operations that a second is taken to buy.
  public static let rate = 150e9

  /// Steps of distillation.
  public private(set) var distilSteps: Int
  /// Steps of distillation of each narrower form of what is on trial; 0 where time is too short to make any.
  public private(set) var narrowSteps = 0
  /// Steps of fine-tuning, those on trial not counted.
  public private(set) var fineTuneSteps: Int
  /// Images that layers are scored on.
  public private(set) var scored: Int
  /// Images that layers are solved on.
  public private(set) var solved: Int
  /// Images that the hybrid is solved on at the end, layer by layer.
  public private(set) var refined: Int
  /// Held-out images that parts of a model are measured on one by one, while layers are chosen and it is found out what the
  /// model can do without.
  public private(set) var searched: Int
  /// Held-out images that decide which models and weights are kept.
  public private(set) var judged: Int
  /// Images that teacher and hybrid are measured on at the end.
  public private(set) var evaluated: Int
  /// The seconds that all of it takes at the nominal rate.
  public private(set) var seconds: Double
  /// Those of them that products take.
  private var products: Double

  /// What a compile has to work on.
  public struct Work: Sendable {
    /// Floating-point operations of the teacher for one sample.
    public var teacher: Double
    /// Those of the layers that are distilled.
    public var layers: Double
    /// How many layers are distilled.
    public var trials: Int
    /// How often a model is measured while it is found out what it can do without.
    public var searches: Int
    /// How often all layers are solved with another mixer in their place, or with fewer channels, before it is chosen among those.
    public var choices: Int
    /// How many narrower forms of mixers that need steps can be made of each.
    public var narrower: Int
    /// Samples of a step.
    public var batch: Int
    /// Samples that are held out.
    public var heldOut: Int
    /// Samples that could be measured on at the end.
    public var evaluation: Int
    /// Seconds that it takes to read a sample and prepare it.
    public var reading: Double

    /// The work on a model.
    public init(
      teacher: Double, layers: Double, trials: Int, batch: Int, heldOut: Int, evaluation: Int,
      searches: Int = 0, choices: Int = 0, narrower: Int = 0, reading: Double = Budget.reading
    ) {
      self.teacher = teacher
      self.layers = layers
      self.trials = trials
      self.searches = searches
      self.choices = choices
      self.narrower = narrower
      self.batch = batch
      self.heldOut = heldOut
      self.evaluation = evaluation
      self.reading = reading
    }

    /// What a sample costs to read, in operations.
    private var sample: Double { reading * Budget.rate }

    /// Scoring, with each layer dropped on trial.
    fileprivate func score(_ images: Int) -> Double {
      let dropped = Double(trials * min(images, Score.droppedImages))
      return (Budget.mapsFactor * teacher + sample) * Double(images) + (teacher + sample) * dropped
    }

    /// Distillation apart from its steps: the targets' norms, two solves, and judging the weights four times; the same for all choices,
    /// without the second solve; solving for three floors on one run; and looking at tokens once; where it is looked for what can be left
    /// out, five runs more for what blocks do, and for the channels' sums before it and behind it.
    fileprivate func solve(_ images: Int) -> Double {
      let runs = searches > 0 ? 7.0 : 2
      let models = 1.0 + Double(choices)
      let floors = 3 * (teacher + 3 * layers + sample)
      return (5 * models * (teacher + layers + sample) + floors + runs * (teacher + sample)) * Double(images)
    }

    /// Solving from layer to layer, which runs teacher and hybrid twice, and sums of all last maps in double.
    fileprivate func refine(_ images: Int) -> Double { 6 * (teacher + sample) * Double(images) }

    /// Measuring each swap, with output maps of its own also, and each part that can be left out.
    fileprivate func search(_ images: Int) -> Double {
      (teacher + sample) * Double(images * (searches > 0 ? (2 + choices) * trials + searches : trials))
    }

    /// Measuring the teacher, models that are solved on trial, the hybrid before and behind the solve, then as it is
    /// fine-tuned.
    fileprivate func judge(_ images: Int) -> Double {
      let runs = 4 + (searches > 0 ? Budget.solvedTrials : 0) + Budget.fineTuneMeasurements
      return (teacher + sample) * Double(images * runs)
    }

    /// All that images are for before the end.
    fileprivate func images(_ scored: Int, _ solved: Int, _ refined: Int, _ searched: Int, _ judged: Int)
      -> Double
    {
      score(scored) + solve(solved) + refine(refined) + search(searched) + judge(judged)
    }

    /// Measuring teacher and hybrid at the end.
    fileprivate func evaluate(_ images: Int) -> Double { 2 * (teacher + sample) * Double(images) }

    /// A step of distillation; a reverse pass is taken to cost twice the forward pass.
    fileprivate var distilStep: Double { Double(batch) * (teacher + 3 * layers + sample) }

    /// Fine-tuning of so many steps, and those of the trials of rates.
    fileprivate func fineTune(_ steps: Int) -> Double {
      guard steps > 0 else { return 0 }
      let all = steps + FineTune.usualTrials * FineTune.trialSteps(of: steps)
      return Double(all * batch) * (4 * teacher + sample)
    }
  }

  /// How often fine-tuning measures: teacher and hybrid before it, four rates, a tenth of the steps, and two at the end.
  static let fineTuneMeasurements = 10
  /// How many models are taken to be solved on trial.
  private static let solvedTrials = 8
  /// How much more than its operations say scoring costs, for it sorts each row of a map.
  private static let mapsFactor = 3.0
  /// Seconds that reading a sample is taken to cost, and what a pass does beside its products: where samples lie in an array
  /// or are made, and where each is a picture in a file of its own.
  public static let reading = 1.2e-4, readingFile = 1.5e-3
  /// Seconds that a compile takes apart from all this: opening, timing, writing.
  static let overhead = 2.5
  /// The part of the time that images may take, and that evaluation may of it all.
  private static let shares = (images: 0.5, evaluation: 0.2)
  /// The part of what is left for steps that goes to distillation.
  private static let distilShare = 0.5
  /// The part of the steps of distillation that a narrower form takes, and the fewest of the whole with which any are made.
  private static let (narrowPart, stepsForNarrower) = (0.25, 3000)
  /// The fewest and the most steps.
  private static let range = 10...20000

  /// How often numbers of images are halved where time is short, from step to step: first of those that lose least by it. Layers are
  /// scored to be looked at; what parts do is measured on the same images, so that few tell which does least; what is
  /// solved gains by each image; and by what whole models are judged on it is decided how far a search goes: of 32 images
  /// an agreement of 0.93 has a standard error of 0.045, of 128 one of 0.023.
  private static let ladder: [(scored: Int, solved: Int, searched: Int, judged: Int)] = [
    (0, 0, 0, 0), (1, 0, 1, 0), (2, 0, 1, 1), (3, 0, 2, 1), (3, 1, 2, 1), (4, 1, 3, 2), (4, 2, 3, 2),
    (4, 2, 4, 3), (4, 3, 4, 3), (5, 3, 5, 3), (5, 3, 5, 5),
  ]

  /// The fewest images that whole models are judged on where a search decides by them, unless there is time for nothing.
  private static let fewestJudged = 128

  /// What `seconds` buy: as many images as half of them pay for, up to what passes take by themselves; for the rest steps.
  /// A mixer that is solved for takes no steps of distillation. What is searched for is measured on fewer images where it would
  /// take more than `searching` seconds. Numbers of steps and of images to measure on that are given stand, whatever they cost.
  public init(
    seconds: Double, work: Work, isSolved: Bool = false, distilSteps: Int? = nil, fineTuneSteps: Int? = nil,
    evaluated: Int? = nil, searching: Double? = nil
  ) {
    let total = max(0, seconds - Budget.overhead) * Budget.rate
    let most = Budget.shares.evaluation * total / max(work.evaluate(1), 1)
    self.evaluated = min(work.evaluation, evaluated ?? max(Int(min(most, 1e9)), 64))
    (scored, solved, refined, searched, judged) = (0, 0, 0, 0, 0)
    let isTrained = fineTuneSteps != 0 || !isSolved && distilSteps != 0
    let share = isTrained ? Budget.shares.images : 1
    var images = 0.0
    for (place, halvings) in Budget.ladder.enumerated() {
      scored = max(Score().images >> halvings.scored, 8)
      solved = max(Distil.usualImages >> halvings.solved, 32)
      searched = min(max(work.heldOut >> halvings.searched, 32), work.heldOut)
      let fewest = place + 1 < Budget.ladder.count ? Budget.fewestJudged : 32
      judged = work.searches > 0 ? min(max(work.heldOut >> halvings.judged, fewest), work.heldOut) : searched
      let others = work.images(scored, solved, 0, searched, judged) + work.evaluate(self.evaluated)
      // Solving once more takes as many as are left over: it gains by each.
      refined = 8 * solved
      let least = place + 1 < Budget.ladder.count ? 4 : 2
      while refined > least * solved, others + work.refine(refined) > share * total { refined /= 2 }
      images = others + work.refine(refined)
      if images <= share * total { break }
    }
    let (fewest, fewestJudged) = (min(32, work.heldOut), min(Budget.fewestJudged, judged))
    while let searching, work.search(searched) + work.judge(judged) > searching * Budget.rate,
      searched > fewest || judged > fewestJudged
    {
      (searched, judged) = (max(searched / 2, min(fewest, searched)), max(judged / 2, fewestJudged))
    }
    images = work.images(scored, solved, refined, searched, judged) + work.evaluate(self.evaluated)
    let left = max(0, total - images)
    func steps(_ share: Double, _ cost: (Int) -> Double) -> Int {
      // The most steps that the share pays for; their cost grows with their number.
      var (low, high) = (Budget.range.lowerBound, Budget.range.upperBound)
      while low < high {
        let middle = (low + high + 1) / 2
        if cost(middle) <= left * share { low = middle } else { high = middle - 1 }
      }
      return low
    }
    let distilled = isSolved ? 0 : Budget.distilShare
    self.distilSteps =
      distilSteps ?? (isSolved ? 0 : steps(distilled) { work.distilStep * Double($0) })
    self.fineTuneSteps = fineTuneSteps ?? steps(1 - distilled, work.fineTune)
    // Narrower forms begin as near to the attention as the whole and are to be compared, not kept: a quarter of the steps tells.
    let whole = Int(Double(self.distilSteps) / (1 + Double(work.narrower) * Budget.narrowPart))
    if work.narrower > 0, !isSolved, distilSteps == nil, whole >= Budget.stepsForNarrower {
      (self.distilSteps, narrowSteps) = (whole, Int(Budget.narrowPart * Double(whole)))
    }
    self.seconds = 0
    products = 0
    self.seconds = Budget.overhead + cost(work) / Budget.rate
    var withoutReading = work
    withoutReading.reading = 0
    products = cost(withoutReading) / Budget.rate
  }

  /// The operations that all of it takes.
  private func cost(_ work: Work) -> Double {
    let images = work.images(scored, solved, refined, searched, judged) + work.evaluate(evaluated)
    let distilled = distilSteps + work.narrower * narrowSteps
    return images + work.distilStep * Double(distilled) + work.fineTune(fineTuneSteps)
  }

  /// The seconds that it takes on a machine that does `speed` operations in a second.
  public func seconds(at speed: Double) -> Double { seconds + products * (Budget.rate / max(speed, 1) - 1) }
}
