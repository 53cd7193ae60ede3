internal import VitIR
internal import VitRuntime

/// A teacher that runs up to some of its values and shows them.
struct TeacherTap {
  let executor: Executor
  private let reader: BatchReader
  /// The samples for which a value is no number.
  let screen: SampleScreen
  /// The samples of one run.
  let batch: Int

  /// A tap of `values` of `graph` on batches of `batch`; its products are computed as `pool` says, by default in `f32`.
  init(
    _ graph: Graph, weights: WeightStore, values: [ValueID], batch: Int, data: any SampleSource,
    pool: (any WorkPool)? = nil, context: PassContext
  ) throws {
    var pruned = graph
    pruned.outputs = values.map { (graph[$0].name, $0) }
    pruned.removeDeadNodes()
    let shapes = try InputShapes.of(graph, batch: batch, data: data)
    executor = try Executor(
      pruned, weights: weights, inputShapes: shapes, packing: false, pool: pool ?? context.pool)
    reader = BatchReader(data: data, pool: context.pool)
    screen = SampleScreen(data, context: context)
    self.batch = batch
  }

  /// Runs on samples; the values are then in `executor.outputs`. Samples for which they are no numbers give way to
  /// others.
  func run(_ samples: [(index: Int, variant: UInt64?)]) throws {
    var samples = samples
    repeat {
      try reader.read(samples, into: executor.inputs)
      executor.run()
    } while try screen.replace(&samples, by: executor.outputs)
  }
}

extension TeacherTap {
  /// Runs a model once on so many samples, spread over the data, and hands `body` the values of each batch, for sums in
  /// double of their rows.
  static func each(
    _ graph: Graph, values: [ValueID], images: Int, for pass: String, context: PassContext,
    _ body: ([View]) throws -> Void
  ) throws {
    let data = try context.samples(for: pass)
    let samples = data.spread(images)
    guard !samples.isEmpty else { throw VitError("\(pass): there are no samples", code: "data-empty") }
    let bytes = MicroBatch.bytes(of: values, in: graph)
    let batch =
      BatchForm(graph, sample: data.shape).count
      ?? MicroBatch.size(min(32, samples.count), bytesPerSample: 4 * bytes)
    let tap = try TeacherTap(
      graph, weights: context.weights(of: graph), values: values, batch: batch, data: data, context: context)
    for run in 0..<max(1, samples.count / batch) {
      try context.checkCancelled()
      try tap.run((0..<batch).map { (index: samples[(run * batch + $0) % samples.count], variant: nil) })
      try body(tap.executor.outputs)
    }
    try tap.screen.finish()
  }
}

/// The shapes that a model's inputs have for a batch of samples.
enum InputShapes {
  /// Throws where the samples have other shapes than its inputs, or are for another number of them.
  static func of(_ graph: Graph, batch: Int, data: any SampleSource) throws -> [[Int]] {
    let samples = [data.shape] + data.furtherShapes
    guard graph.inputs.count == samples.count else {
      let names = graph.inputs.map { "'\(graph[$0].name)'" }.joined(separator: ", ")
      throw VitError(
        "the model has \(graph.inputs.count) inputs (\(names)), the data give \(samples.count)",
        code: "several-inputs")
    }
    let form = BatchForm(graph, sample: data.shape)
    return try zip(graph.inputs, samples).map { input, sample in
      let shape = form.shape(batch, sample)
      let type = graph.type(input)
      guard type.rank == shape.count,
        zip(type.shape, shape).allSatisfy({ dimension, extent in dimension.fixedValue ?? extent == extent })
      else {
        throw VitError(
          "the input '\(graph[input].name)' has the shape \(type.shape), the data give \(shape)",
          code: "input-shape",
          help: "set the preprocessing, or give samples of the model's shape")
      }
      return shape
    }
  }
}
