internal import VitIR

/// The models of points that a search passed on its way.
package struct OtherPoints {
  /// The hybrid as it was before the search.
  let before: Hybrid
  /// The passes before the search.
  let ahead: [any Pass]
  /// For each model the passes that make it of that one.
  let pipelines: [Pipeline]

  /// At most so many are made.
  package static let most = 8

  /// The points of the search that `pipeline` made, from the largest model to the smallest, evenly; without that which was
  /// chosen. What is trained end to end is not: each is solved on as many samples as models are that are looked at.
  init?(_ pipeline: Pipeline, _ results: [PassResult], before: Hybrid?) {
    guard let before, let place = pipeline.passes.firstIndex(where: { ($0 as? Select)?.criterion == .auto }),
      let reduction = pipeline.reduction
    else { return nil }
    self.before = before
    ahead = Array(pipeline.passes[..<place])
    let result = results[place]
    let chosen = Pipeline(result.found ?? []).description
    let behind = pipeline.passes[(place + 1)...].filter { !($0 is FineTune) }
    let others = zip(result.points, result.alternatives).filter { point, passes in
      point.cost < 1 && Pipeline(passes).description != chosen
    }
    let count = min(others.count, OtherPoints.most)
    pipelines = (0..<count).map { index in
      let (point, passes) = others[count > 1 ? index * (others.count - 1) / (count - 1) : 0]
      let rest = behind.compactMap { pass -> (any Pass)? in
        switch pass {
        case var solve as Solve:
          solve.images = min(solve.images, 2 * reduction.images)
          return solve
        case let merge as Merge where merge.isChosen:
          return point.sizes.merges.contains { $0 > 0 }
            ? Merge(counts: point.sizes.merges, metric: merge.metric) : nil
        default: return pass
        }
      }
      return Pipeline(passes + rest)
    }
  }
}

/// Keeps the hybrid as it is before a search.
final class SearchWatcher: PassObserver {
  /// That hybrid; `nil` where nothing was searched.
  private(set) var before: Hybrid?

  func before(_ pass: any Pass, _ hybrid: Hybrid) {
    if (pass as? Select)?.criterion == .auto { before = hybrid }
  }

  func after(_ pass: any Pass, _ hybrid: Hybrid, _ result: Result<PassResult, any Error>) {}
}
