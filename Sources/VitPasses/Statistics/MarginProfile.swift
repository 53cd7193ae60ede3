/// How sure a teacher is of samples: the quantiles of its margin, by how much the score of the class that it names is above the
/// next one's.
///
/// A teacher is surer of what it was trained on than of anything else, and it is where it is not sure that a model that is near to
/// it says something else. Held-out samples of its training data, weighted so that it is as sure of them as of samples that it has
/// not seen, tell what happens on those (post-stratification: Holt, Smith 1979).
public struct MarginProfile: Sendable, Hashable {
  /// The margins that part the samples into equally many, in ascending order.
  package let cuts: [Double]

  /// The most that a sample counts for: of few samples much would hang on each.
  private static let mostWeight = 4.0
  /// Into how many parts samples are divided.
  private static let parts = 5

  /// A profile with these cuts.
  package init(cuts: [Double]) { self.cuts = cuts }

  /// The profile of so many margins; `nil` for too few to tell.
  package init?(of margins: [Double]) {
    let sorted = margins.filter(\.isFinite).sorted()
    guard sorted.count >= 2 * MarginProfile.parts else { return nil }
    cuts = (1..<MarginProfile.parts).map { place in
      let cut = sorted[place * sorted.count / MarginProfile.parts]
      return (1e4 * cut).rounded() / 1e4
    }
  }

  /// The margin of each of `count` samples with scores of so many classes.
  package static func margins(_ scores: [Float], classes: Int) -> [Double] {
    guard classes > 1 else { return [] }
    return (0..<scores.count / classes).map { sample in
      var (first, second) = (-Double.infinity, -Double.infinity)
      for score in scores[sample * classes..<(sample + 1) * classes].lazy.map(Double.init) {
        if score > first { (first, second) = (score, first) } else { second = max(second, score) }
      }
      return first - second
    }
  }

  /// What each sample counts for, so that the same weight lies between any two cuts; the mean is 1.
  ///
  /// A part in which there are none leaves its weight to the next less sure one, or to the surest that there is.
  package func weights(_ margins: [Double]) -> [Double] {
    let part = margins.map { margin in cuts.count { $0 <= margin } }
    var counts = Array(repeating: 0.0, count: cuts.count + 1)
    for place in part { counts[place] += 1 }
    guard let least = counts.firstIndex(where: { $0 > 0 }) else { return [] }
    var masses = Array(repeating: 0.0, count: counts.count)
    var last = least
    for place in counts.indices {
      if counts[place] > 0 { last = place }
      masses[last] += Double(margins.count) / Double(counts.count)
    }
    let weights = part.map { min(masses[$0] / counts[$0], MarginProfile.mostWeight) }
    let mean = weights.reduce(0, +) / Double(weights.count)
    return weights.map { $0 / mean }
  }
}
