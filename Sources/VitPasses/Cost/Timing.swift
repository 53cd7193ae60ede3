package import VitRuntime

/// The time that one run takes, over many.
public struct Timing: Hashable, Sendable {
  /// The median, in milliseconds.
  public var median: Double
  /// The tenth percentile.
  public var low: Double
  /// The ninetieth percentile.
  public var high: Double

  /// The timing of these runs, of which there is at least one.
  public init(_ runs: [Double]) {
    let sorted = runs.sorted()
    func quantile(_ share: Double) -> Double { sorted[Int((Double(sorted.count - 1) * share).rounded())] }
    median = quantile(0.5)
    low = quantile(0.1)
    high = quantile(0.9)
  }

  /// Runs the executors in turn, so that what disturbs the machine disturbs all of them, until `seconds` have passed and
  /// each has run at least `rounds` times, or `most`; before that twice without measuring. Of several `runs` the sum is one time.
  package static func measure(
    _ executors: [Executor], runs counts: [Int]? = nil, rounds: Int = 15, seconds: Double = 1,
    most: Int = .max,
    isCancelled: () -> Bool = { false }
  ) -> [Timing] {
    let clock = ContinuousClock()
    for _ in 0..<2 { for executor in executors { executor.run() } }
    var runs = executors.map { _ in [Double]() }
    let start = clock.now
    while runs[0].count < rounds || start.duration(to: clock.now) < .seconds(seconds), runs[0].count < most,
      !isCancelled()
    {
      for (index, executor) in executors.enumerated() {
        let count = counts?[index] ?? 1
        runs[index].append(clock.measure { for _ in 0..<count { executor.run() } } / .milliseconds(1))
      }
    }
    return runs.map { Timing($0.isEmpty ? [.nan] : $0) }
  }
}

extension Executor {
  /// The median milliseconds of each node over runs until `seconds` have passed, at least `rounds`; `nil` where a node does
  /// not run.
  package func times(
    rounds least: Int = 15, seconds: Double = 0, isCancelled: () -> Bool = { false }
  ) -> [Double?] {
    let clock = ContinuousClock()
    for _ in 0..<2 { run() }
    var runs = [[Double]](repeating: [], count: graph.nodes.count)
    let start = clock.now
    var rounds = 0
    while rounds < least || start.duration(to: clock.now) < .seconds(seconds), !isCancelled() {
      var begin = clock.now
      run { step, done in
        if done {
          runs[step.node].append(begin.duration(to: clock.now) / .milliseconds(1))
        } else {
          begin = clock.now
        }
      }
      rounds += 1
    }
    return runs.map { $0.isEmpty ? nil : Timing($0).median }
  }
}
