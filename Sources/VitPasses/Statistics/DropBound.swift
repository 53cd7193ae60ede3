internal import Glibc

/// How far the accuracy of a model may fall at most below its teacher's, as pairs on the same samples say.
///
/// Of `count` samples the model loses some that the teacher has right, and gains others. The bound is one-sided, at 95 %: that
/// of the normal distribution of the paired difference where 25 or more samples differ, else the exact one of the binomial
/// distribution of those that are lost among them (Clopper and Pearson, 1934).
package enum DropBound {
  /// The quantile of the normal distribution.
  private static let quantile = 1.6448536269514722
  /// The least number of samples that differ for which the normal distribution will do.
  private static let enough = 25

  /// The bound as a part of the samples; `nil` without any.
  package static func bound(lost: Int, gained: Int, of count: Int) -> Double? {
    guard count > 0 else { return nil }
    let (differing, all) = (lost + gained, Double(count))
    guard differing < enough else {
      let drop = Double(lost - gained) / all
      let variance = (Double(differing) - Double(lost - gained) * drop) / (all * all)
      return drop + quantile * max(0, variance).squareRoot()
    }
    // Nothing differs: as if the next sample did.
    guard differing > 0 else { return (1 - pow(0.05, 1 / all)) }
    return (2 * upper(lost, of: differing) - 1) * Double(differing) / all
  }

  /// The probability at which as few as `hits` of `count` trials are found one time in twenty.
  package static func upper(_ hits: Int, of count: Int) -> Double {
    guard hits < count else { return 1 }
    var (low, high) = (0.0, 1.0)
    for _ in 0..<60 {
      let middle = (low + high) / 2
      if atMost(hits, of: count, middle) > 0.05 { low = middle } else { high = middle }
    }
    return high
  }

  /// The probability of at most `hits`.
  private static func atMost(_ hits: Int, of count: Int, _ probability: Double) -> Double {
    guard probability > 0 else { return 1 }
    guard probability < 1 else { return hits < count ? 0 : 1 }
    var logarithm = Double(count) * log1p(-probability)
    var sum = exp(logarithm)
    for index in 0..<hits {
      logarithm += log(Double(count - index) / Double(index + 1)) + log(probability) - log1p(-probability)
      sum += exp(logarithm)
    }
    return sum
  }
}
