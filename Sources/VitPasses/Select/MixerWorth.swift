/// What a mixer does to the outputs, and what the model costs with it: what those that can stand in one place are compared by.
package struct MixerWorth: Hashable, Sendable {
  /// What is preferred where it is as good and as cheap.
  package enum Preference: Int, Sendable {
    /// Sequences: recurrences and state spaces.
    case sequence
    /// Taps on the grid.
    case taps
    /// What mixes no tokens of the sample, and serves to compare with.
    case control
  }

  /// What kind it is.
  package let preference: Preference
  /// What it does to the outputs when it alone stands in, and the standard error of that.
  package let damage, error: Double
  /// What the model costs then.
  package let cost: Double

  /// A mixer's worth.
  package init(_ preference: Preference, damage: Double, error: Double, cost: Double) {
    (self.preference, self.damage, self.error, self.cost) = (preference, damage, error, cost)
  }

  /// The part of the whole cost within which costs count as equal.
  private static let nearness = 0.002

  /// The places of those that are worth having, falling in cost: none that another is both as cheap and as good as. A preferred
  /// one stays, or stands for another, where it is as good within a standard error at about the same cost, costs being near
  /// that differ by less than two thousandths of `whole`.
  package static func kept(_ all: [MixerWorth], whole: Double) -> [Int] {
    let near = nearness * whole
    func beats(_ first: Int, _ second: Int) -> Bool {
      let (a, b) = (all[first], all[second])
      if a.preference.rawValue < b.preference.rawValue {
        return a.cost <= b.cost + near && a.damage <= b.damage + b.error
      }
      if a.preference == b.preference { return a.cost <= b.cost && a.damage <= b.damage }
      return a.cost < b.cost - near && a.damage <= b.damage
        || a.cost <= b.cost && a.damage < b.damage - b.error
    }
    var kept: [Int] = []
    for place in all.indices where !kept.contains(where: { beats($0, place) }) {
      kept.removeAll { beats(place, $0) }
      kept.append(place)
    }
    return kept.sorted { (all[$0].cost, $1) > (all[$1].cost, $0) }
  }
}
