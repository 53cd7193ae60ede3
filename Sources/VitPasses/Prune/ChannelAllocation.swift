internal import VitIR

/// How many channels each perceptron keeps under one budget: where a channel costs the outputs least, more go.
///
/// What a perceptron's error does to the outputs is measured once, with half of its channels gone: κ = damage / E(½). From then on
/// κ·E(m) stands for its damage with m channels left, E being the exact error of least squares, and tiles go one by one where
/// that rises least for what they cost.
struct ChannelAllocation {
  /// One perceptron.
  struct Curve {
    let channels: Int
    /// The error of the branch, by how many channels are left, falling.
    let errors: Surgery.Errors
    /// What an error of 1 does to the outputs.
    let weight: Double
    /// Parameters of a channel.
    let cost: Int

    /// The damage with `count` channels left, between those that are known along a line.
    func damage(_ count: Int) -> Double {
      guard let after = errors.first(where: { $0.left <= count }) else { return .infinity }
      guard let before = errors.last(where: { $0.left > count }) else { return weight * after.error }
      let part = Double(before.left - count) / Double(before.left - after.left)
      return weight * (before.error + part * (after.error - before.error))
    }
  }

  private let curves: [Curve]

  /// Measures each perceptron of a hybrid on the samples of `prune`, and what it does to the outputs on the held-out ones.
  init(_ prune: Prune, _ sites: [ChannelSite], _ hybrid: Hybrid, _ context: PassContext) throws {
    let data = try context.samples(for: Prune.name)
    let meter = try FidelityMeter(
      teacher: hybrid.graph, data: context.heldOut ?? data, context: context)
    var curves: [Curve] = []
    for group in Prune.groups(sites.indices.map { ($0, sites[$0].channels) }) {
      let moments = try prune.moments(group.map { sites[$0] }, hybrid.graph, context)
      for (place, moments) in zip(group, moments) {
        let site = sites[place]
        let (surgeries, errors) = try Surgery.all(
          site, in: hybrid.graph, moments: moments,
          keeping: [max(1, site.channels / 2), min(prune.tile, site.channels)], prune.compensate,
          pool: context.pool)
        var graph = hybrid.graph
        try surgeries.first?.apply(to: &graph)
        try graph.inferTypes(pool: context.pool)
        let damage = try meter.measure(graph).damage
        let half = errors.first { $0.left <= site.channels / 2 }?.error ?? 0
        let error = max(half, .leastNormalMagnitude)
        let cost = site.constants.reduce(hybrid.graph.type(site.weight).count / site.channels) {
          $0 + hybrid.graph.type($1.value).count / site.channels
        }
        curves.append(
          Curve(channels: site.channels, errors: errors, weight: max(damage, 0) / error, cost: cost))
        context.progress(Prune.name, curves.count, sites.count, "measuring perceptron \(place)")
      }
    }
    self.curves = curves
  }

  /// Counts in whole tiles, at least one of each, that leave at most `part` of all channels by their cost; of equal rises that of
  /// the later perceptron is taken.
  func counts(keeping part: Double, tile: Int) -> [Int] {
    var counts = curves.map(\.channels)
    let goal = part * Double(curves.reduce(0) { $0 + $1.cost * $1.channels })
    func cost() -> Double { Double(zip(curves, counts).reduce(0) { $0 + $1.0.cost * $1.1 }) }
    while cost() > goal {
      var best: (rate: Double, place: Int, next: Int)?
      for (place, curve) in curves.enumerated() where counts[place] > tile {
        let next = (counts[place] - 1) / tile * tile
        let rise = max(0, curve.damage(next) - curve.damage(counts[place]))
        let rate = rise / Double(curve.cost * (counts[place] - next))
        if rate <= best?.rate ?? .infinity { best = (rate, place, next) }
      }
      guard let best else { break }
      counts[best.place] = best.next
    }
    return counts
  }
}
