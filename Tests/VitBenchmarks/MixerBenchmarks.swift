internal import Glibc
internal import VitIR
internal import VitOps
internal import VitRuntime
internal import VitTrain

/// Training speed of the mixers, beside tools/bench_mixers.py: forward, backward and AdamW. Prints, asserts nothing.
public enum MixerBenchmarks {
  /// Measures `conv`, `glr` and `lstm` at two sizes, and `lstm{form=full}` at those of DeiT-T and S, for `seconds` each, with so
  /// many threads; then the scan of `ssd` by itself.
  public static func run(threads: Int, seconds: Double) throws {
    for (tokens, dim, batch) in [(50, 96, 64), (65, 384, 32)] {
      for kind in ["conv", "glr", "lstm"] {
        try measure(kind, tokens: tokens, dim: dim, batch: batch, threads: threads, seconds: seconds)
      }
    }
    for (dim, heads) in [(192, 3), (384, 6)] {
      try measure(
        "lstm", ("form", "full"), tokens: 197, dim: dim, heads: heads, batch: 8, threads: threads,
        seconds: seconds)
    }
    SSDBenchmarks.run(pool: ThreadPool(threads: threads), seconds: seconds)
  }

  private static func measure(
    _ kind: String, _ option: (name: String, value: String)? = nil, tokens: Int, dim: Int, heads: Int? = nil,
    batch: Int, threads: Int, seconds: Double
  ) throws {
    let named = try Mixers.named(kind)
    let label = option.map { "\(kind)-\($0.value)" } ?? kind
    let options = Attributes(option.map { [($0.name, .string($0.value))] } ?? [])
    let side = Int(Double(tokens - 1).squareRoot())
    let layout = try MixerLayout(
      dim: dim, outputDim: dim, width: MixerLayout.width(named.defaultWidth(options), of: dim),
      heads: heads ?? (kind == "lstm" ? 2 : 6),
      order: ScanOrder(.bidirectional, grid: .init(rows: side, columns: side), prefix: 1),
      splitsHeads: named.splitsHeads(options))
    let mixer = try named.make(layout, options)
    var random = SplitMix(seed: 1)
    var builder = GraphBuilder(Graph(name: kind), registry: .standard)
    let x = builder.graph.addInput(TensorType(.f32, fixed: [batch, tokens, dim]), name: "x")
    let parameters = zip(try mixer.initialise(layout, from: nil, random: &random), mixer.parameters(layout))
      .map { builder.graph.addConstant($0, name: $1.name) }
    builder.graph.outputs = [("y", try builder.add(mixer, [x] + parameters)[0])]
    let weights = try WeightStore(builder.graph, trainable: Set(parameters.map { builder.graph[$0].name }))
    let pool = ThreadPool(threads: threads)
    let executor = try Executor(
      builder.graph, weights: weights, inputShapes: [[batch, tokens, dim]], training: true, pool: pool)
    let tape = try Tape(executor, parameters: parameters)
    for index in 0..<executor.inputs[0].count { executor.inputs[0].f32[index] = Float(random.normal()) }
    let target = View(
      base: .allocate(byteCount: executor.outputs[0].byteCount, alignment: 64), element: .f32,
      shape: executor.outputs[0].shape)
    defer { target.base.deallocate() }
    for index in 0..<target.count { target.f32[index] = Float(random.normal()) }
    let optimiser = try AdamW(
      parameters: parameters.compactMap { weights.view(builder.graph[$0].name) },
      gradients: tape.parameterGradients, decays: mixer.parameters(layout).map(\.decay), pool: pool)
    var watch = Stopwatch()
    let before = clock()
    watch.run(seconds: seconds) {
      executor.run()
      tape.zeroGradients()
      _ = Loss.squaredError(
        executor.outputs[0], target, scale: 1 / Double(target.count), adding: tape.outputGradients[0],
        pool: pool)
      tape.backward()
      optimiser.step(rate: 1e-3, clip: 1)
    }
    let processor = Double(clock() - before) / Double(CLOCKS_PER_SEC) * 1e3 / Double(watch.times.count + 1)
    print(
      "\(label) \(tokens) tokens x \(dim) x batch \(batch): \(Int(Double(batch) / watch.median)) samples/s,"
        + column(processor, digits: 2, width: 0) + " ms of processor a step")
    if option == nil { return }
    let inference = try Executor(
      builder.graph, weights: WeightStore(builder.graph), inputShapes: [[batch, tokens, dim]], pool: pool)
    inference.inputs[0].copy(from: executor.inputs[0])
    watch = Stopwatch()
    watch.run(seconds: seconds) { inference.run() }
    print(
      "\(label)-forward \(tokens) tokens x \(dim) x batch \(batch):"
        + " \(Int(Double(batch) / watch.median)) samples/s")
  }
}
