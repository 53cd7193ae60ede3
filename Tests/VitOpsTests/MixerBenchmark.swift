import Foundation
import Testing
import VitIR
import VitOps
import VitRuntime
import VitTestSupport
import VitTrain

/// Training speed of the mixers, beside tools/bench_mixers.py: forward, backward and AdamW.
///
/// Prints, asserts nothing of it: `VITC_BENCH=2 swift test -c release --disable-xctest --filter
/// MixerBenchmark`, with two threads.
@Suite(
  "benchmark of the mixers", .enabled(if: ProcessInfo.processInfo.environment["VITC_BENCH"] != nil),
  .serialized)
struct MixerBenchmark {
  @Test("samples per second", arguments: [(50, 96, 64), (65, 384, 32)], ["glr", "lstm"])
  func rate(_ size: (tokens: Int, dim: Int, batch: Int), _ kind: String) throws {
    let mixer = try Mixers.named(kind)
    let layout = try MixerLayout(
      dim: size.dim, outputDim: size.dim, width: MixerLayout.width(mixer.defaultWidth, of: size.dim),
      heads: kind == "glr" ? 6 : 2,
      order: ScanOrder(.bidirectional, grid: .init(rows: 1, columns: size.tokens - 1), prefix: 1))
    var random = SplitMix(seed: 1)
    var builder = GraphBuilder(Graph(name: kind), registry: .standard)
    let x = builder.graph.addInput(TensorType(.f32, fixed: [size.batch, size.tokens, size.dim]), name: "x")
    let parameters = zip(try mixer.initialise(layout, from: nil, random: &random), mixer.parameters(layout))
      .map {
        builder.graph.addConstant($0, name: $1.name)
      }
    builder.graph.outputs = [("y", try builder.add(mixer.init(layout), [x] + parameters)[0])]
    let weights = try WeightStore(builder.graph, trainable: Set(parameters.map { builder.graph[$0].name }))
    let pool = ThreadPool(threads: ProcessInfo.processInfo.environment["VITC_BENCH"].flatMap { Int($0) } ?? 2)
    let executor = try Executor(
      builder.graph, weights: weights, inputShapes: [[size.batch, size.tokens, size.dim]], training: true,
      pool: pool)
    let tape = try Tape(executor, parameters: parameters)
    for index in 0..<executor.inputs[0].count { executor.inputs[0].f32[index] = Float(random.normal()) }
    let target = View(
      base: .allocate(byteCount: executor.outputs[0].byteCount, alignment: 64), element: .f32,
      shape: executor.outputs[0].shape)
    defer { target.base.deallocate() }
    for index in 0..<target.count { target.f32[index] = Float(random.normal()) }
    let optimiser = try AdamW(
      parameters: parameters.compactMap { weights.view(builder.graph[$0].name) },
      gradients: tape.parameterGradients,
      decays: mixer.parameters(layout).map(\.decay), pool: pool)
    func train() {
      executor.run()
      tape.zeroGradients()
      _ = Loss.squaredError(
        executor.outputs[0], target, scale: 1 / Double(target.count), adding: tape.outputGradients[0],
        pool: pool)
      tape.backward()
      optimiser.step(rate: 1e-3, clip: 1)
    }
    for _ in 0..<5 { train() }
    var times: [Double] = []
    var work: [Double] = []
    let clock = ContinuousClock()
    let seconds = ProcessInfo.processInfo.environment["VITC_BENCH_SECONDS"].flatMap { Double($0) } ?? 4
    let end = clock.now + .seconds(seconds)
    while clock.now < end {
      let begin = Foundation.clock()
      let time = clock.measure(train)
      work.append(Double(Foundation.clock() - begin) / 1e3)
      times.append(Double(time.components.seconds) + Double(time.components.attoseconds) * 1e-18)
    }
    times.sort()
    work.sort()
    let samples = Int(Double(size.batch) / times[times.count / 2])
    let processor = Double(Int(work[work.count / 2] * 100)) / 100
    print(
      "\(kind) \(size.tokens) tokens x \(size.dim) x batch \(size.batch): \(samples) samples/s,",
      "\(processor) ms of processor a step")
  }
}
