/// How much work a time buys, the same on every machine: steps of training, and the images that layers are scored, solved and
/// judged on.
public struct Budget: Hashable, Sendable {
  /// The floating-point operations that a second is taken to buy.
  public static let rate = 150e9

  /// Steps of distillation.
  public private(set) var distilSteps: Int
  /// Steps of fine-tuning, those on trial not counted.
  public private(set) var fineTuneSteps: Int
  /// Images that layers are scored on.
  public private(set) var scored: Int
  /// Images that layers are solved on.
  public private(set) var solved: Int
  /// Held-out images that decide which layers and weights are kept.
  public private(set) var judged: Int
  /// Images that teacher and hybrid are measured on at the end.
  public private(set) var evaluated: Int
  /// The seconds that all of it takes at the nominal rate.
  public private(set) var seconds: Double

  /// What a compile has to work on.
  public struct Work: Sendable {
    /// Floating-point operations of the teacher for one sample.
    public var teacher: Double
    /// Those of the layers that are distilled.
    public var layers: Double
    /// How many layers are distilled.
    public var trials: Int
    /// Samples of a step.
    public var batch: Int
    /// Samples that are held out.
    public var heldOut: Int
    /// Samples that could be measured on at the end.
    public var evaluation: Int

    /// The work on a model.
    public init(teacher: Double, layers: Double, trials: Int, batch: Int, heldOut: Int, evaluation: Int) {
      self.teacher = teacher
      self.layers = layers
      self.trials = trials
      self.batch = batch
      self.heldOut = heldOut
      self.evaluation = evaluation
    }

    /// Scoring, with each layer dropped on trial.
    fileprivate func score(_ images: Int) -> Double {
      teacher * (Budget.mapsFactor * Double(images) + Double(trials * min(images, Score.droppedImages)))
    }

    /// Distillation apart from its steps: the targets' norms, two solves, and judging the weights five times.
    fileprivate func solve(_ images: Int) -> Double { 8 * (teacher + layers) * Double(images) }

    /// Measuring the teacher and each swap, then the hybrid as it is fine-tuned.
    fileprivate func judge(_ images: Int) -> Double {
      teacher * Double(images * (1 + trials + Budget.fineTuneMeasurements))
    }

    /// Measuring teacher and hybrid at the end.
    fileprivate func evaluate(_ images: Int) -> Double { 2 * teacher * Double(images) }

    /// A step of distillation; a reverse pass is taken to cost twice the forward pass.
    fileprivate var distilStep: Double { Double(batch) * (teacher + 3 * layers) * Budget.trainingFactor }

    /// A step of fine-tuning.
    fileprivate var fineTuneStep: Double { Double(batch) * 4 * teacher * Budget.trainingFactor }
  }

  /// How often fine-tuning measures: teacher and hybrid before it, four rates, a tenth of the steps, and two at the end.
  static let fineTuneMeasurements = 10
  /// How much more than its operations say scoring costs, for it sorts each row of a map.
  private static let mapsFactor = 3.0
  /// How much more than its operations say training costs.
  private static let trainingFactor = 1.0
  /// Seconds that a compile takes apart from all this: opening, timing, writing.
  static let overhead = 2.5
  /// The part of the time that images may take, and that evaluation may of it all.
  private static let shares = (images: 0.5, evaluation: 0.2)
  /// The part of what is left for steps that goes to distillation.
  private static let distilShare = 0.5
  /// The fewest and the most steps.
  private static let range = 10...20000

  /// What takes `nominal` seconds at the nominal rate, on a machine that does `speed` operations in a second.
  static func seconds(_ nominal: Double, at speed: Double) -> Double {
    overhead + max(0, nominal - overhead) * rate / max(speed, 1)
  }

  /// What `seconds` buy: as many images as half of them pay for, up to what passes take by themselves; for the rest steps.
  /// Numbers of steps and of images to measure on that are given stand, whatever they cost.
  public init(
    seconds: Double, work: Work, distilSteps: Int? = nil, fineTuneSteps: Int? = nil, evaluated: Int? = nil
  ) {
    let total = max(0, seconds - Budget.overhead) * Budget.rate
    let most = Budget.shares.evaluation * total / max(2 * work.teacher, 1)
    self.evaluated = min(work.evaluation, evaluated ?? max(Int(min(most, 1e9)), 64))
    (scored, solved, judged) = (0, 0, 0)
    var images = 0.0
    for halvings in 0..<6 {
      scored = max(Score().images >> halvings, 8)
      solved = max(Distil.usualImages >> halvings, 32)
      judged = min(max(work.heldOut >> halvings, 32), work.heldOut)
      images = work.score(scored) + work.solve(solved) + work.judge(judged) + work.evaluate(self.evaluated)
      if images <= Budget.shares.images * total { break }
    }
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
    func fineTune(_ steps: Int) -> Double {
      steps == 0
        ? 0 : work.fineTuneStep * Double(steps + FineTune.rates.count * FineTune.trialSteps(of: steps))
    }
    self.distilSteps = distilSteps ?? steps(Budget.distilShare) { work.distilStep * Double($0) }
    self.fineTuneSteps = fineTuneSteps ?? steps(1 - Budget.distilShare, fineTune)
    let training = work.distilStep * Double(self.distilSteps) + fineTune(self.fineTuneSteps)
    self.seconds = Budget.overhead + (images + training) / Budget.rate
  }
}
