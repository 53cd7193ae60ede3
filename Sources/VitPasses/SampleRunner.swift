internal import VitIR
internal import VitRuntime

/// Runs models on samples, a batch at a time.
struct SampleRunner {
  private let data: any SampleSource
  private let samples: [Int]
  private let batch: Int
  private let context: PassContext
  private let form: BatchForm

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

  /// Hands the outputs of `graph` to `body`, with the place of the first sample and how many rows count.
  func run(
    _ graph: Graph, _ weights: WeightStore, progress: (Int, Int) -> Void,
    _ body: (_ first: Int, _ outputs: [View], _ count: Int) throws -> Void
  ) throws {
    let executor = try executor(graph, weights)
    guard !graph.outputs.isEmpty else {
      throw VitError("the model has no outputs", code: "no-outputs")
    }
    let reader = BatchReader(data: data, pool: context.pool)
    for start in stride(from: 0, to: samples.count, by: batch) {
      try context.checkCancelled()
      let count = min(batch, samples.count - start)
      // A last, shorter batch is filled up with its first sample; what that gives is left out.
      try reader.read(
        (0..<batch).map { (index: samples[start + ($0 < count ? $0 : 0)], variant: nil) },
        into: executor.inputs)
      executor.run()
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
