internal import Glibc
internal import VitTrain

/// What a model does to each of some samples: how far it is from its teacher, and which of the two name the class rightly.
public struct SampleDamages: Sendable, Hashable {
  /// KL(teacher‖model), or the relative error where there are no classes.
  var damages: [Double] = []
  /// For labelled samples 1 where only the model is right, −1 where only the teacher is, else 0.
  var gains: [Double] = []

  /// The mean and its standard error; `nil` for fewer than two numbers.
  static func mean(_ values: [Double]) -> (mean: Double, error: Double)? {
    guard values.count > 1 else { return nil }
    let count = Double(values.count)
    let mean = values.reduce(0, +) / count
    let squares = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    return (mean, (squares / (count * (count - 1))).squareRoot())
  }

  /// How much more damage `other` does to the same samples, with the standard error of the pairs.
  func excess(of other: SampleDamages) -> PairedDifference? {
    guard damages.count == other.damages.count else { return nil }
    return SampleDamages.mean(zip(other.damages, damages).map { $0 - $1 }).map {
      PairedDifference(mean: $0.mean, error: $0.error)
    }
  }
}

/// The mean difference of two models on the same samples.
public struct PairedDifference: Sendable, Hashable {
  /// The mean.
  public let mean: Double
  /// The standard error of the mean.
  public let error: Double

  /// The interval that holds the true mean nineteen times in twenty.
  public var interval: ClosedRange<Double> { mean - 1.96 * error...mean + 1.96 * error }
}
