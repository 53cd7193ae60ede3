internal import Glibc

/// The learning rate over a run: linear warm-up, then half a cosine down to a hundredth of the peak.
public struct Schedule: Sendable {
  /// The highest rate.
  public let peak: Double
  /// The number of steps.
  public let steps: Int
  /// The steps of warm-up.
  public let warmUp: Int

  /// A schedule whose warm-up is `warmUpShare` of the steps.
  public init(peak: Double, steps: Int, warmUpShare: Double = 0.05) {
    self.peak = peak
    self.steps = steps
    warmUp = Int((Double(steps) * warmUpShare).rounded(.up))
  }

  /// The rate of step `step`, counted from 0.
  public func rate(at step: Int) -> Double {
    if step < warmUp { return peak * Double(step + 1) / Double(warmUp) }
    let span = max(steps - warmUp, 1)
    let progress = min(Double(step - warmUp) / Double(span), 1)
    return peak * (0.01 + 0.99 * 0.5 * (1 + cos(Double.pi * progress)))
  }
}
