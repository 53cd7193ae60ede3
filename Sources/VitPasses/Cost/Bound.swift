package import VitIR
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
  package init(
    _ graph: Graph, layers: [Layer], executor: Executor, pool: any WorkPool, runs: Int = 7
  ) throws {
    let shapes = executor.inputs.map(\.shape)
    let cost = try ModelCost(graph, inputShapes: shapes, pool: pool)
    let medians = executor.times(rounds: runs).map { $0 ?? 0 }
    let allTime = max(medians.reduce(0, +), .leastNonzeroMagnitude)
    self.layers = layers.map { layer in
      let places = graph.places(of: layer)
      return Share(
        flops: Double(cost.layer(layer, of: graph).flops) / Double(max(cost.total.flops, 1)),
        time: places.reduce(0) { $0 + medians[$1] } / allTime,
        parameters: Double(layer.parameters) / Double(max(cost.total.parameters, 1)))
    }
    replaceable = layers.map(\.isReplaceable)
  }

  /// How many times faster the model gets at most where `count` layers cost nothing at all: the largest shares first.
  public func speedup(replacing count: Int, by share: KeyPath<Share, Double>) -> Double {
    let shares = zip(layers, replaceable).filter(\.1).map { $0.0[keyPath: share] }.sorted(by: >)
    return 1 / max(1 - shares.prefix(count).reduce(0, +), 1e-9)
  }
}
