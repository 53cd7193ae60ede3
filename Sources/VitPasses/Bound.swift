public import VitIR
package import VitRuntime

/// The most that replacing attention layers can give, known before anything is trained.
public struct Bound: Sendable {
  /// What one layer takes of the whole model, as fractions of 1.
  public struct Share: Sendable {
    /// Of the floating-point operations.
    public let flops: Double
    /// Of the time measured on this machine.
    public let time: Double
    /// Of the parameters.
    public let parameters: Double
  }

  /// The shares of the model's layers, in order.
  public let layers: [Share]
  /// Which of them can be replaced.
  public let replaceable: [Bool]

  /// The shares of the layers of `graph`, from the cost model and from `runs` timed runs of `executor`, which is one of the
  /// graph without training.
  package init(_ graph: Graph, sites: [AttentionLayer], executor: Executor, pool: any WorkPool, runs: Int = 7)
    throws
  {
    let shapes = executor.inputs.map(\.shape)
    let cost = try ModelCost(graph, inputShapes: shapes, pool: pool)
    var times = [[Double]](repeating: [], count: graph.nodes.count)
    let clock = ContinuousClock()
    executor.run()
    for _ in 0..<runs {
      var start = clock.now
      executor.run { step, isDone in
        if isDone {
          times[step.node].append(start.duration(to: clock.now) / .milliseconds(1))
        } else {
          start = clock.now
        }
      }
    }
    let medians = times.map { $0.isEmpty ? 0 : Timing($0).median }
    let allTime = max(medians.reduce(0, +), .leastNonzeroMagnitude)
    layers = sites.map { site in
      let places = site.places(in: graph)
      return Share(
        flops: Double(places.reduce(0) { $0 + cost.nodes[$1].flops }) / Double(max(cost.total.flops, 1)),
        time: places.reduce(0) { $0 + medians[$1] } / allTime,
        parameters: Double(site.parameters) / Double(max(cost.total.parameters, 1)))
    }
    replaceable = sites.map(\.isReplaceable)
  }

  /// How many times faster the model gets at most where `count` layers cost nothing at all: the largest shares first.
  public func speedup(replacing count: Int, by share: KeyPath<Share, Double>) -> Double {
    let shares = zip(layers, replaceable).filter(\.1).map { $0.0[keyPath: share] }.sorted(by: >)
    return 1 / max(1 - shares.prefix(count).reduce(0, +), 1e-9)
  }
}

extension AttentionLayer {
  /// The places in `graph.nodes` of the operations that a mixer stands in for.
  public func places(in graph: Graph) -> [Int] {
    if let input, let output { graph.nodes(from: input, to: output) } else { [place] }
  }
}

/// How well one ranking predicts another.
public enum RankCorrelation {
  /// Spearman's coefficient: Pearson's of the ranks, ties given their mean rank; `nil` where one side does not vary or there
  /// are fewer than two pairs.
  public static func spearman(_ a: [Double], _ b: [Double]) -> Double? {
    guard a.count == b.count, a.count >= 2, (a + b).allSatisfy(\.isFinite) else { return nil }
    let (x, y) = (ranks(a), ranks(b))
    let mean = Double(a.count - 1) / 2
    var (product, left, right) = (0.0, 0.0, 0.0)
    for (p, q) in zip(x, y) {
      product += (p - mean) * (q - mean)
      left += (p - mean) * (p - mean)
      right += (q - mean) * (q - mean)
    }
    return left > 0 && right > 0 ? product / (left * right).squareRoot() : nil
  }

  private static func ranks(_ values: [Double]) -> [Double] {
    let order = values.indices.sorted { (values[$0], $0) < (values[$1], $1) }
    var result = [Double](repeating: 0, count: values.count)
    var first = 0
    while first < order.count {
      var last = first
      while last + 1 < order.count, values[order[last + 1]] == values[order[first]] { last += 1 }
      for place in first...last { result[order[place]] = Double(first + last) / 2 }
      first = last + 1
    }
    return result
  }
}
