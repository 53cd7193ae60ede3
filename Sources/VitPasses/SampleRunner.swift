internal import VitIR
internal import VitRuntime

/// Runs models on samples, a batch at a time.
struct SampleRunner {
  private let data: any SampleSource
  private let samples: [Int]
  private let batch: Int
  private let context: PassContext
  private let form: BatchForm
  /// Where models may be run from.
  private var cut: StoredStream?

  /// The most bytes that are kept of a value for all samples.
  private static let mostKept = 512 << 20

  /// The most samples that run at once, and the bytes that the values around one node may then take.
  private static let most = (samples: 32, bytes: 8 << 20)

  /// A runner on `samples` of `data` (by default all), in batches that fit `model`.
  init(_ model: Graph, data: any SampleSource, samples: [Int]? = nil, context: PassContext) {
    let samples = samples ?? Array(0..<data.count)
    let widest = model.nodes.map { node in
      MicroBatch.bytes(of: node.operands.compactMap { $0 } + node.results, in: model)
    }.max()
    let fitting = SampleRunner.most.bytes / max(1, widest ?? 1)
    form = BatchForm(model, sample: data.shape)
    batch = form.samples(max(1, min(fitting, SampleRunner.most.samples, samples.count)))
    self.data = data
    self.samples = samples
    self.context = context
  }

  /// What runs a batch of `graph`.
  func executor(_ graph: Graph, _ weights: WeightStore) throws -> Executor {
    try Executor(
      graph, weights: weights, inputShapes: try InputShapes.of(graph, batch: batch, data: data),
      packing: false, pool: context.pool)
  }

  /// Runs `graph` as far as `value`, or back to the samples where it is `nil`: from there models can be run that differ from it
  /// behind that only. What is kept for all samples is floats, and no more than half a gigabyte; else there is no such place.
  mutating func cut(_ graph: Graph, _ weights: WeightStore, at value: ValueID?) throws {
    guard value != cut?.value else { return }
    guard let value else { return cut = nil }
    let bytes = MicroBatch.bytes(of: [value], in: graph)
    guard graph.type(value).element == .f32, bytes <= SampleRunner.mostKept / max(1, samples.count + batch)
    else { return cut = nil }
    var part = graph
    part.outputs = [(graph[value].name, value)]
    part.removeDeadNodes()
    var next: StoredStream?
    try run(part, weights, fromCut: true) { start, executor in
      let runs = (samples.count + batch - 1) / batch
      if start == 0 { next = try StoredStream(value, like: executor.outputs[0], runs: runs) }
      next?[start / batch].copy(from: executor.outputs[0])
    }
    cut = next
  }

  /// Runs `graph` on all samples, a batch at a time, from where it was cut where it is the same before.
  private func run(
    _ graph: Graph, _ weights: WeightStore, fromCut: Bool,
    _ body: (_ start: Int, _ executor: Executor) throws -> Void
  ) throws {
    if fromCut, let cut, let rest = graph.part(from: cut.value) {
      let executor = try Executor(
        rest, weights: weights, inputShapes: [cut.shape], packing: false, pool: context.pool)
      for start in stride(from: 0, to: samples.count, by: batch) {
        try context.checkCancelled()
        executor.inputs[0].copy(from: cut[start / batch])
        executor.run()
        try body(start, executor)
      }
      return
    }
    let executor = try executor(graph, weights)
    let reader = BatchReader(data: data, pool: context.pool)
    for start in stride(from: 0, to: samples.count, by: batch) {
      try context.checkCancelled()
      let count = min(batch, samples.count - start)
      // A last, shorter batch is filled up with its first sample; what that gives is left out.
      try reader.read(
        (0..<batch).map { (index: samples[start + ($0 < count ? $0 : 0)], variant: nil) },
        into: executor.inputs)
      executor.run()
      try body(start, executor)
    }
  }

  /// Hands the outputs of `graph` to `body`, with the place of the first sample and how many rows count; from where models
  /// are cut, where it is `fromCut`.
  func run(
    _ graph: Graph, _ weights: WeightStore, fromCut: Bool = false, progress: (Int, Int) -> Void,
    _ body: (_ first: Int, _ outputs: [View], _ count: Int) throws -> Void
  ) throws {
    guard !graph.outputs.isEmpty else {
      throw VitError("the model has no outputs", code: "no-outputs")
    }
    try run(graph, weights, fromCut: fromCut) { start, executor in
      let count = min(batch, samples.count - start)
      let outputs = executor.outputs.map(form.rows)
      for (output, view) in zip(graph.outputs, outputs)
      where view.element != .f32 || view.shape.first != batch {
        throw VitError(
          "the output '\(output.name)' has the type \(view.element.rawValue)\(view.shape), expected f32 of one row a sample",
          code: "output-type")
      }
      try body(start, outputs, count)
      progress(start + count, samples.count)
    }
  }
}
