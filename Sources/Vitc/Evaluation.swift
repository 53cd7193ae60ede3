internal import VitIR
public import VitPasses
internal import VitRuntime

/// Measures models.
public enum Evaluation {
  /// How well `model` does on labelled data, and how close it is to `reference` where there is one.
  ///
  /// Without a reference the model is its own: agreement and divergence say nothing then and are left out.
  public static func fidelity(
    of model: Model, against reference: Model? = nil, on data: Samples, threads: Int? = nil,
    progress: Progress = Progress()
  ) throws -> Fidelity {
    let context = PassContext(
      pool: ThreadPool.shared(threads: threads), registry: .vitc, seed: 0, progress: progress)
    context.data = data
    let meter = try FidelityMeter(
      teacher: (reference ?? model).graph, data: data, context: context, screening: false,
      progress: { progress.advance(reference == nil ? "evaluate" : "evaluate reference", $0, $1, "") })
    guard reference != nil else {
      return Fidelity(
        images: data.count, scores: meter.teacherScores, nonFinite: meter.referenceNonFinite)
    }
    return try meter.measure(model.graph) { progress.advance("evaluate", $0, $1, "") }
  }

  /// One model's speed and size.
  public struct Benchmark: Sendable {
    /// Milliseconds of one batch.
    public let timing: Timing
    /// The runs that a batch takes: several where it is larger than the one that the model is fixed to.
    public let runs: Int
    /// Weights.
    public let parameters: Int
    /// Bytes of its files.
    public let bytes: Int
    /// Floating-point operations of one batch.
    public let flops: Int
    /// Bytes of what is computed on the way, beside the weights.
    public let memory: Int
    /// The instruction set that the kernels use here.
    public let level: String
  }

  /// Times models in turn on a batch of random inputs. Where the batch of one is fixed at another number, as many runs as hold
  /// the batch are timed.
  public static func benchmark(
    _ models: [Model], batch: Int = 1, threads: Int? = nil, seconds: Double = 3,
    progress: Progress = Progress()
  ) throws -> [Benchmark] {
    let pool = ThreadPool.shared(threads: threads)
    let shapes = try models.map { try $0.inputShapes(batch: batch) }
    let runs = models.map { model in
      BatchForm(model.graph).count.map { ($0 - 1 + batch) / $0 } ?? 1
    }
    let executors = try zip(models, shapes).map { model, shapes in
      try GraphTiming.executor(model.graph, shapes: shapes, pool: pool)
    }
    let timings = try GraphTiming.times(
      executors, runs: runs, seconds: seconds, isCancelled: progress.isCancelled)
    return try models.indices.map { index in
      let cost = try ModelCost(models[index].graph, inputShapes: shapes[index], pool: pool)
      return Benchmark(
        timing: timings[index], runs: runs[index], parameters: cost.total.parameters,
        bytes: models[index].byteCount, flops: cost.total.flops * runs[index],
        memory: executors[index].plan.byteCount, level: Machine.level)
    }
  }

  /// Where the time of a run goes: the nodes of one operation together.
  public struct Share: Sendable {
    /// The operation's name.
    public let operation: String
    /// Its nodes.
    public let count: Int
    /// Milliseconds of a run in them: the sum of each node's median.
    public let milliseconds: Double
    /// Their floating-point operations.
    public let flops: Int
    /// Bytes that they read and write at the least.
    public let bytes: Int
  }

  /// Times each node of a model over many runs on a batch of random inputs; the slowest operations first.
  public static func profile(
    _ model: Model, batch: Int = 1, threads: Int? = nil, seconds: Double = 3, progress: Progress = Progress()
  ) throws -> [Share] {
    let pool = ThreadPool.shared(threads: threads)
    let shapes = try model.inputShapes(batch: batch)
    let executor = try GraphTiming.executor(model.graph, shapes: shapes, pool: pool)
    let times = executor.times(seconds: seconds, isCancelled: progress.isCancelled)
    let costs = try ModelCost(model.graph, inputShapes: shapes, pool: pool).nodes
    let nodes = model.graph.nodes.indices.filter { times[$0] != nil }
    let groups = Dictionary(grouping: nodes) { model.graph.nodes[$0].name }
    return groups.map { name, nodes in
      Share(
        operation: name, count: nodes.count, milliseconds: nodes.reduce(0) { $0 + (times[$1] ?? 0) },
        flops: nodes.reduce(0) { $0 + costs[$1].flops }, bytes: nodes.reduce(0) { $0 + costs[$1].bytes })
    }.sorted { ($1.milliseconds, $0.operation) < ($0.milliseconds, $1.operation) }
  }
}
