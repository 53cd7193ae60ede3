internal import VitIR
internal import VitOps
internal import VitRuntime

/// A value of a model for each of some samples, from which the rest of the model can be run: the residual stream on its way
/// down. Before the first such value it is the samples themselves.
final class SampleStream {
  private let data: any SampleSource
  /// The samples, in whole runs; those for which the model gives no numbers give way to others when it first runs.
  private(set) var samples: [Int]
  private let context: PassContext
  private let batch: Int
  private let form: BatchForm
  private let reader: BatchReader
  private let screen: SampleScreen
  /// The value, and what it is for all samples.
  private var cut: StoredStream?

  /// The samples, `batch` of them at once.
  init(_ graph: Graph, data: any SampleSource, samples: [Int], batch: Int, context: PassContext) {
    self.data = data
    self.context = context
    form = BatchForm(graph, sample: data.shape)
    self.batch = form.count ?? batch
    // Whole runs only: the last samples make way.
    self.samples =
      samples.count < self.batch
      ? (0..<self.batch).map { samples[$0 % samples.count] }
      : Array(samples.prefix(samples.count / self.batch * self.batch))
    reader = BatchReader(data: data, pool: context.pool)
    screen = SampleScreen(data, context: context)
  }

  /// How many runs there are over all samples.
  var runs: Int { samples.count / batch }

  /// Runs two streams of the same samples side by side.
  func pairs(
    with other: SampleStream, _ graph: Graph, _ weights: WeightStore, _ values: [ValueID],
    _ otherGraph: Graph,
    _ otherWeights: WeightStore, _ otherValues: [ValueID], _ body: ([View], [View]) throws -> Void
  ) throws {
    let mine = try StreamRun(self, graph, weights, values)
    let theirs = try StreamRun(other, otherGraph, otherWeights, otherValues)
    for run in 0..<runs { try body(mine.values(run), theirs.values(run)) }
  }

  /// Moves the stream down to `value` of `graph`.
  func advance(_ graph: Graph, weights: WeightStore, to value: ValueID) throws {
    if cut?.value == value { return }
    var next: StoredStream?
    let way = try StreamRun(self, graph, weights, [value])
    for run in 0..<runs {
      let views = try way.values(run)
      if next == nil { next = try StoredStream(value, like: views[0], runs: runs) }
      next?[run].copy(from: views[0])
    }
    cut = next
  }

  /// What runs `graph` from the stream to `values`, and whether it starts from the stream or from the samples.
  func executor(
    _ graph: Graph, _ weights: WeightStore, _ values: [ValueID]
  ) throws -> (executor: Executor, isCut: Bool) {
    let (part, start) = part(of: graph, values)
    let shapes = try start.map { [$0.shape] } ?? InputShapes.of(graph, batch: batch, data: data)
    return (
      try Executor(part, weights: weights, inputShapes: shapes, packing: false, pool: context.pool),
      start != nil
    )
  }

  /// Runs a model on the samples of one run, or on the stream that they have become.
  func perform(_ run: Int, _ executor: Executor, isCut: Bool) throws {
    try context.checkCancelled()
    if isCut, let cut {
      executor.inputs[0].copy(from: cut[run])
      executor.run()
      return
    }
    var chosen: [(index: Int, variant: UInt64?)] = (0..<batch).map { (samples[run * batch + $0], nil) }
    repeat {
      try reader.read(chosen, into: executor.inputs)
      executor.run()
    } while try screen.replace(&chosen, by: executor.outputs)
    for (place, sample) in chosen.enumerated() { samples[run * batch + place] = sample.index }
    if run == runs - 1 { try screen.finish() }
  }

  /// The part of `graph` up to `values`; from the stream on where nothing else is read.
  private func part(
    of graph: Graph, _ values: [ValueID]
  ) -> (graph: Graph, start: StoredStream?) {
    var part = graph
    part.outputs = values.map { (graph[$0].name, $0) }
    if let cut, let rest = part.part(from: cut.value) { return (rest, cut) }
    part.removeDeadNodes()
    return (part, nil)
  }
}

/// A stretch of the way down: a part of a graph from where a stream is to some values.
struct StreamRun {
  private let executor: Executor
  private let stream: SampleStream
  private let isCut: Bool

  /// The part of `graph` from the stream to `values`.
  init(_ stream: SampleStream, _ graph: Graph, _ weights: WeightStore, _ values: [ValueID]) throws {
    self.stream = stream
    (executor, isCut) = try stream.executor(graph, weights, values)
  }

  /// The values for the samples of one run, valid until the next.
  func values(_ run: Int) throws -> [View] {
    try stream.perform(run, executor, isCut: isCut)
    return executor.outputs
  }
}
