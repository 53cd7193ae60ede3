/// How many training steps a time buys, the same on every machine.
public struct Budget: Hashable, Sendable {
  /// The floating-point operations that a second is taken to buy.
  public static let rate = 150e9

  /// Steps of distillation.
  public private(set) var distilSteps: Int
  /// Steps of fine-tuning.
  public private(set) var fineTuneSteps: Int

  /// What a sample costs to train on.
  public struct Work: Sendable {
    /// Floating-point operations of the teacher for one sample.
    public var teacher: Double
    /// Those of the layers that are distilled.
    public var layers: Double
    /// Samples of a step.
    public var batch: Int
    /// Samples that go through a whole model apart from training: scored, or judged by.
    public var measured: Int

    /// What a sample costs.
    public init(teacher: Double, layers: Double, batch: Int, measured: Int) {
      self.teacher = teacher
      self.layers = layers
      self.batch = batch
      self.measured = measured
    }
  }

  /// The part of the time that goes to distillation.
  private static let distilShare = 0.5
  /// Steps that fine-tuning spends on finding its rate, as a part of the steps that count.
  private static let searchShare = 0.4
  /// The fewest and the most steps.
  private static let range = 10.0...20000.0

  /// The steps that `seconds` buy after scoring and judging. A reverse pass is taken to cost twice the forward pass.
  public init(seconds: Double, work: Work) {
    let total = max(0, seconds * Budget.rate - Double(work.measured) * work.teacher)
    let distil = Double(work.batch) * (work.teacher + 3 * work.layers)
    let fineTune = Double(work.batch) * 4 * work.teacher * (1 + Budget.searchShare)
    func steps(_ share: Double, _ cost: Double) -> Int {
      let wanted = (total * share / max(cost, 1)).rounded(.down)
      return Int(min(max(wanted, Budget.range.lowerBound), Budget.range.upperBound))
    }
    distilSteps = steps(Budget.distilShare, distil)
    fineTuneSteps = steps(1 - Budget.distilShare, fineTune)
  }
}
