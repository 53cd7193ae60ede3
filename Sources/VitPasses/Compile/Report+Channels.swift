internal import VitIR

extension Report {
  /// Notes which perceptrons and heads have fewer channels than the teacher's.
  mutating func note(_ hybrid: Hybrid, beside teacher: Teacher) throws {
    perceptrons = hybrid.perceptrons(beside: teacher).compactMap { index, own, original in
      own.channels < original.channels
        ? Perceptron(index: index, channels: original.channels, kept: own.channels) : nil
    }
    let own = try HeadSite.all(in: hybrid.graph, layers: hybrid.layers)
    heads = try HeadSite.all(in: teacher.graph, layers: teacher.layers).compactMap { site in
      guard let kept = own.first(where: { $0.layer == site.layer }) else { return nil }
      let found = Heads(
        layer: site.layer, count: site.weights.heads, countKept: kept.weights.heads,
        scores: site.weights.headDim, scoresKept: kept.weights.headDim,
        values: site.weights.valueDim, valuesKept: kept.weights.valueDim)
      let isWhole =
        found.countKept == found.count && found.scoresKept == found.scores && found.valuesKept == found.values
      return isWhole ? nil : found
    }
  }
}
