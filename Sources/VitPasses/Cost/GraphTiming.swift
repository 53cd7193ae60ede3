package import VitIR
package import VitRuntime

/// Times graphs on random inputs.
package enum GraphTiming {
  /// The time that one run of each takes, or as many as `runs` says, measured in turn for `seconds` or `most` times; throws
  /// where somebody wants to stop.
  package static func times(
    _ graphs: [Graph], shapes: [[[Int]]], runs: [Int]? = nil, pool: any WorkPool, seconds: Double,
    most: Int = .max, isCancelled: @Sendable () -> Bool
  ) throws -> [Timing] {
    try times(
      zip(graphs, shapes).map { try executor($0, shapes: $1, pool: pool) }, runs: runs, seconds: seconds,
      most: most, isCancelled: isCancelled)
  }

  /// The same of executors.
  package static func times(
    _ executors: [Executor], runs: [Int]? = nil, seconds: Double, most: Int = .max,
    isCancelled: @Sendable () -> Bool
  ) throws -> [Timing] {
    let timings = Timing.measure(
      executors, runs: runs, seconds: seconds, most: most, isCancelled: isCancelled)
    if isCancelled() { throw VitError("interrupted", kind: .interrupted, code: "interrupted") }
    return timings
  }

  /// An executor on random inputs.
  package static func executor(_ graph: Graph, shapes: [[Int]], pool: any WorkPool) throws -> Executor {
    let executor = try Executor(graph, weights: WeightStore(graph), inputShapes: shapes, pool: pool)
    for (view, tensor) in zip(executor.inputs, GraphProbe.inputs(graph, shapes: shapes)) {
      try tensor.copy(to: view)
    }
    return executor
  }
}
