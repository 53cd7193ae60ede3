import Synchronization
import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime

/// Keeps checkpoints in memory.
final class MemoryStore: CheckpointStore {
  var states: [String: [UInt8]] = [:]
  func load<Result>(_ key: String, _ body: (inout StateReader) throws -> Result) throws -> Result? {
    guard let state = states[key] else { return nil }
    var reader = StateReader(state)
    let result = try body(&reader)
    try reader.finish()
    return result
  }
  func save(
    _ byteCount: Int, _ key: String, _ body: (_ write: (UnsafeRawBufferPointer) throws -> Void) throws -> Void
  ) throws {
    var bytes: [UInt8] = []
    try body { bytes.append(contentsOf: $0) }
    #expect(bytes.count == byteCount)
    states[key] = bytes
  }
  /// Whether the pass of this name has left something, wherever it stands in its pipeline.
  func has(_ pass: String) -> Bool { states.keys.contains { $0.hasSuffix(".\(pass)") } }
}

/// What asks work to stop.
final class Flag: Sendable {
  private let value = Mutex(false)
  var isSet: Bool { value.withLock { $0 } }
  func set() { value.withLock { $0 = true } }
}

struct TrainingTests {
  // MARK: Swap and restore

  @Test(
    "where nothing is selected, restoring gives the teacher back exactly", arguments: ["glr", "lstm", "none"])
  func restoresTheTeacher(mixer: String) throws {
    let teacher = try TinyViT.model()
    let context = TinyViT.context()
    let hybrid = try apply("swap{mixer=\(mixer),layers=all}", to: teacher, context)
    #expect(hybrid.layers.allSatisfy { $0.kind == mixer })
    let restored = try apply("restore", to: hybrid, context)
    #expect(try teacher.graph.firstDifference(from: restored.graph) == nil)
    #expect(restored.layers.map(\.forgotten) == teacher.layers)
    #expect(restored.layers.allSatisfy { $0.choice == .kept && $0.candidates.count == 1 })
  }

  @Test("restoring keeps the mixers that were selected, with their weights")
  func restoresTheRest() throws {
    let teacher = try TinyViT.model(layers: 3)
    let context = TinyViT.context()
    let hybrid = try apply("swap{layers=all},select{layers=[1]}", to: teacher, context)
    let restored = try apply("restore", to: hybrid, context)
    #expect(restored.layers.map(\.kind) == ["attention", "glr", "attention"])
    let (before, after) = (try hybrid.weightBytes(), try restored.weightBytes())
    let names = after.keys.filter { $0.hasPrefix("mixer.") }
    #expect(!names.isEmpty && names.allSatisfy { $0.hasPrefix("mixer.1.") })
    for name in names { #expect(before[name] == after[name], "\(name)") }
    // The mixers left out leave nothing behind.
    let alone = try apply("swap{layers=[1]}", to: teacher, TinyViT.context())
    #expect(try outputDifference(alone.graph, restored.graph, [[2, 3, 8, 8]]) == 0)
  }

  @Test("the seed decides the first weights of a mixer, the layers that are swapped with it do not")
  func seeds() throws {
    let teacher = try TinyViT.model()
    let one = try apply("swap{mixer=lstm,layers=all}", to: teacher, TinyViT.context(seed: 1)).weightBytes()
    let same = try apply("swap{mixer=lstm,layers=[1]}", to: teacher, TinyViT.context(seed: 1)).weightBytes()
    let other = try apply("swap{mixer=lstm,layers=[1]}", to: teacher, TinyViT.context(seed: 2)).weightBytes()
    let names = same.keys.filter { $0.hasPrefix("mixer.1.") }
    #expect(!names.isEmpty && names.allSatisfy { one[$0] == same[$0] })
    #expect(names.contains { other[$0] != same[$0] })
  }

  // MARK: Distillation

  private func errors(_ hybrid: Hybrid) -> [Double] {
    hybrid.layers.compactMap { $0.candidates.last?.error }
  }

  @Test(
    "one sweep over all layers gives each the bits that distilling it alone gives",
    arguments: ["glr", "lstm", "pointwise"])
  func sweptIsAlone(mixer: String) throws {
    let teacher = try TinyViT.model(layers: 3)
    let distil = "distil{steps=6,batch=8}"
    let swept = try apply("swap{mixer=\(mixer),layers=all},\(distil)", to: teacher)
    let all = try swept.weightBytes()
    for layer in 0..<3 {
      let alone = try apply("swap{mixer=\(mixer),layers=[\(layer)]},\(distil)", to: teacher)
      let weights = try alone.weightBytes().filter { $0.key.hasPrefix("mixer.\(layer).") }
      #expect(!weights.isEmpty)
      for (name, bytes) in weights { #expect(all[name] == bytes, "\(name)") }
      #expect(errors(alone) == [errors(swept)[layer]])
    }
  }

  @Test("channels that the residual does not see teach nothing, and all count as it sees them")
  func layerScale() throws {
    let none = [Double](repeating: 0, count: TinyViT.width - 1)
    let teacher = try TinyViT.model(layers: 1, layerScale: [0.5] + none)
    let start = try apply("swap{mixer=pointwise,layers=all}", to: teacher)
    let trained = try apply(
      "swap{mixer=pointwise,layers=all},distil{steps=9,batch=8,solve=false}", to: teacher)
    let bias = "mixer.0.b"
    let (before, after) = (
      try #require(start.graph.tensors[bias]).floats(), try #require(trained.graph.tensors[bias]).floats()
    )
    #expect(before[0] != after[0] && before.dropFirst() == after.dropFirst())
    // Factors that are all the same change nothing.
    let distil = "swap{layers=all},distil{steps=4,batch=8}"
    let plain = try apply(distil, to: TinyViT.model(layers: 1))
    let halved = try apply(
      distil, to: TinyViT.model(layers: 1, layerScale: Array(repeating: 0.5, count: TinyViT.width)))
    #expect(abs(errors(plain)[0] - errors(halved)[0]) < 1e-5)
    let determination = try #require(plain.layers.first?.candidates.last?.determination)
    #expect(determination < 1 - errors(plain)[0])
  }

  @Test("distillation changes nothing but the mixers' weights")
  func touchesMixersOnly() throws {
    let context = TinyViT.context()
    let before = try apply("swap{layers=all}", to: try TinyViT.model(), context)
    let after = try apply("distil{steps=3,batch=8}", to: before, context)
    let (old, new) = (try before.weightBytes(), try after.weightBytes())
    #expect(old.keys.sorted() == new.keys.sorted())
    for (name, bytes) in old where !name.hasPrefix("mixer.") { #expect(new[name] == bytes, "\(name)") }
    #expect(old.contains { $0.key.hasPrefix("mixer.") && new[$0.key] != $0.value })
    #expect(after.graph.operations == before.graph.operations)
  }

  @Test("fifty steps on eight images take at least half of the loss away", arguments: ["glr", "lstm"])
  func descends(mixer: String) throws {
    let context = TinyViT.context(count: 8)
    context.heldOut = context.data
    var hybrid = try apply("swap{mixer=\(mixer),layers=all}", to: try TinyViT.model(), context)
    let before = try apply("distil{steps=0,batch=8,solve=false}", to: hybrid, context)
    #expect(errors(before).isEmpty)
    var first: [Double] = []
    var last: [Double] = []
    context.progress = { phase, done, _, figure in
      guard phase == "distil", let value = figure.split(separator: " ").last.flatMap({ Double($0) }) else {
        return
      }
      if done == 1 { first.append(value) } else { last.append(value) }
    }
    hybrid = try apply("distil{steps=50,batch=8,rate=0.02,solve=false}", to: hybrid, context)
    let start = try #require(first.first)
    let end = try #require(last.last)
    #expect(start > 0.01)
    #expect(end < start / 2, "from \(start) to \(end)")
    #expect(errors(hybrid).count == 2)
  }

  @Test("weights that get worse on the held-out samples are not kept")
  func guards() throws {
    let teacher = try TinyViT.model()
    let context = TinyViT.context()
    let swapped = try apply("swap{layers=all}", to: teacher, context)
    let solved = try apply("distil{steps=0,batch=8}", to: swapped, context)
    let wild = try apply("distil{steps=8,batch=8,rate=50}", to: swapped, context)
    #expect(errors(solved).count == 2)
    for (a, b) in zip(errors(wild), errors(solved)) { #expect(a <= b) }
    #expect(errors(solved).allSatisfy { $0 < 1 })
  }

  @Test("solving for the last map, and training after it, each make the error smaller")
  func solving() throws {
    let teacher = try TinyViT.model()
    let context = TinyViT.context(count: 64, heldOut: 32)
    let swapped = try apply("swap{layers=all}", to: teacher, context)
    let solved = errors(try apply("distil{steps=0,batch=16}", to: swapped, context))
    let trained = errors(try apply("distil{steps=60,batch=16,rate=0.01}", to: swapped, context))
    #expect(solved.count == 2)
    for (a, b) in zip(trained, solved) { #expect(a < b) }
  }

  @Test("without a mixer there is nothing to distil or to fine-tune")
  func nothing() throws {
    let teacher = try TinyViT.model()
    let same = try apply("distil,fine-tune", to: teacher)
    #expect(try teacher.firstDifference(from: same) == nil)
  }

  @Test("data of another shape than the model's input are refused")
  func wrongData() throws {
    let context = PassContext(
      pool: SerialPool(), registry: .standard, data: RandomSamples(count: 4, shape: [3, 8, 9]))
    let error = #expect(throws: VitError.self) {
      try apply("swap{layers=all},distil{batch=4}", to: try TinyViT.model(), context)
    }
    #expect(error?.diagnostic.code == "input-shape")
  }

  // MARK: Selection by damage

  @Test("selecting by swap measures each mixer alone in the teacher and takes the least damage")
  func swapDamage() throws {
    let teacher = try TinyViT.model(layers: 3)
    let context = TinyViT.context()
    let distilled = try apply("swap{layers=all},distil{steps=4,batch=8}", to: teacher, context)
    let ranked = try apply("select{by=damage,count=1}", to: distilled, context)
    let damages = ranked.layers.compactMap { $0.candidates.last?.damage }
    #expect(damages.count == 3 && damages.allSatisfy { $0 > 0 })
    let heldOut = try #require(context.heldOut)
    for (layer, damage) in damages.enumerated() {
      let alone = try apply("select{layers=[\(layer)]},restore", to: distilled, context)
      let meter = try FidelityMeter(teacher: teacher.graph, data: heldOut, context: context)
      #expect(try meter.measure(alone.graph).damage == damage)
    }
    let best = damages.indices.min { damages[$0] < damages[$1] }
    #expect(ranked.layers.filter { $0.choice == .selected }.map(\.index) == [best])
  }

  // MARK: Fine-tuning

  private func hybrid(_ context: PassContext, mixer: String = "glr") throws -> Hybrid {
    try apply(
      "swap{mixer=\(mixer),prefix=mixer,layers=[1]},distil{steps=4,batch=8}", to: try TinyViT.model(), context
    )
  }

  private func damage(_ hybrid: Hybrid, _ context: PassContext) throws -> Double {
    let meter = try FidelityMeter(
      teacher: try #require(hybrid.teacher).graph, data: try #require(context.heldOut), context: context)
    return try meter.measure(hybrid.graph).damage
  }

  @Test("fine-tuning brings the outputs nearer to the teacher's")
  func fineTunes() throws {
    let context = TinyViT.context(count: 64, heldOut: 32)
    let start = try hybrid(context, mixer: "none")
    let tuned = try apply("fine-tune{steps=60,batch=16,rate=0.003}", to: start, context)
    let (before, after) = (try damage(start, context), try damage(tuned, context))
    #expect(after < 0.8 * before, "from \(before) to \(after)")
    let (old, new) = (try start.weightBytes(), try tuned.weightBytes())
    #expect(old.filter { new[$0.key] == $0.value }.count < old.count / 2)
  }

  @Test("fine-tuning at an absurd rate keeps the weights that were there")
  func absurdRate() throws {
    let context = TinyViT.context()
    let start = try hybrid(context)
    let tuned = try apply("fine-tune{steps=10,batch=8,rate=1000}", to: start, context)
    #expect(try start.weightBytes() == tuned.weightBytes())
  }

  @Test(
    "fine-tuning never leaves more damage on the held-out samples", arguments: ["auto", "0.05", "0.0001"])
  func neverWorse(rate: String) throws {
    let context = TinyViT.context(labelled: true)
    let start = try hybrid(context)
    let tuned = try apply("fine-tune{steps=10,batch=8,rate=\(rate)}", to: start, context)
    #expect(try damage(tuned, context) <= damage(start, context))
  }

  /// A copy that has no gradient.
  private struct Opaque: Operation {
    static let name = "test.opaque"
    static let summary = "Copies, and has no gradient"
    init() {}
    init(attributes: inout AttributeReader) {}
    var attributes: Attributes { Attributes() }
    func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] { [try operands.type(0, "x")] }
    func forward(_ context: KernelContext) { context.output.copy(from: context.input(0)) }
  }

  @Test("an operation without a gradient leaves the hybrid as it was distilled, with a warning")
  func missingGradient() throws {
    var builder = GraphBuilder(try TinyViT.graph(), registry: .standard)
    let copy = try builder.add(
      Opaque(), [builder.graph.outputs[0].value], location: Location(node: "/head/Opaque"))
    builder.graph.outputs = [("logits", copy[0])]
    var hybrid = Hybrid(finding: builder.graph)
    let context = TinyViT.context()
    var reports: [Diagnostic] = []
    context.report = { reports.append($0) }
    try Pipeline("swap{layers=[1]},distil{steps=2,batch=8}").run(on: &hybrid, context: context)
    var tuned = hybrid
    let results = try Pipeline("fine-tune{steps=2,batch=8}").run(on: &tuned, context: context)
    #expect(results.map(\.notes) == [["not trained"]])
    #expect(try hybrid.weightBytes() == tuned.weightBytes())
    #expect(
      reports.map(\.text) == [
        "warning: node '/head/Opaque': operation 'test.opaque' has no gradient, so nothing before it can be "
          + "trained\nhelp: the hybrid is left as it was distilled"
      ])
  }

  // MARK: Determinism

  private static let everything =
    "swap{layers=all},distil{steps=6,batch=8},select{by=damage,count=1},restore,"
    + "fine-tune{steps=10,batch=8,rate=0.002}"

  @Test("the same seed gives the same bytes on one thread, two and three; another seed gives others")
  func threads() throws {
    let teacher = try TinyViT.model()
    let one = try apply(Self.everything, to: teacher, TinyViT.context()).weightBytes()
    for threads in 2...3 {
      let more = try apply(Self.everything, to: teacher, TinyViT.context(threads: threads)).weightBytes()
      #expect(more == one, "\(threads) threads")
    }
    let other = try apply(Self.everything, to: teacher, TinyViT.context(seed: 8)).weightBytes()
    #expect(other != one)
  }

  // MARK: Checkpoints

  /// Runs a pipeline that is stopped again and again, after so many steps of a phase, each time from the last
  /// checkpoint; how often it was stopped is added to `stops`.
  private func interrupted(
    _ pipeline: String, _ hybrid: Hybrid, phase: String, every: Int, stops: inout Int
  ) throws -> Hybrid {
    let store = MemoryStore()
    for _ in 0..<60 {
      let context = TinyViT.context()
      context.checkpoint = store
      let flag = Flag()
      var steps = 0
      context.progress = { name, _, _, _ in
        guard name == phase else { return }
        steps += 1
        if steps == every { flag.set() }
      }
      context.isCancelled = { flag.isSet }
      do { return try apply(pipeline, to: hybrid, context) } catch let error as VitError {
        guard error.kind == .interrupted else { throw error }
        stops += 1
        #expect(store.has(phase))
      }
    }
    throw VitError("the work does not come to its end")
  }

  @Test(
    "distillation that is stopped goes on from its checkpoint to the same bytes", arguments: ["glr", "lstm"])
  func resumesDistillation(mixer: String) throws {
    let teacher = try TinyViT.model()
    let pipeline = "swap{mixer=\(mixer),layers=all},distil{steps=9,batch=8}"
    let whole = try apply(pipeline, to: teacher)
    var stops = 0
    let parts = try interrupted(pipeline, teacher, phase: "distil", every: 2, stops: &stops)
    #expect(stops >= 3)
    #expect(try parts.weightBytes() == whole.weightBytes())
  }

  @Test(
    "fine-tuning that is stopped goes on from its checkpoint to the same bytes, its rate backed off or not",
    arguments: [("0.002", 3), ("auto", 30), ("3", 1), ("3", 2)])
  func resumesFineTuning(rate: String, every: Int) throws {
    let start = try hybrid(TinyViT.context())
    let pipeline = "fine-tune{steps=20,batch=8,rate=\(rate)}"
    let whole = try apply(pipeline, to: start)
    var stops = 0
    let parts = try interrupted(pipeline, start, phase: "fine-tune", every: every, stops: &stops)
    #expect(try parts.weightBytes() == whole.weightBytes())
    #expect(stops >= (rate == "auto" ? 0 : 5))
  }

  @Test("a checkpoint that is cut short or of other layers is refused")
  func badCheckpoints() throws {
    let teacher = try TinyViT.model()
    let store = MemoryStore()
    let context = TinyViT.context()
    context.checkpoint = store
    let hybrid = try apply("swap{layers=all},distil{steps=4,batch=4}", to: teacher, context)
    let state = try #require(store.states["1.distil"])
    for bad in [Array(state.prefix(4)), Array(state.prefix(state.count / 2)), Array(state.dropLast(1))] {
      store.states["1.distil"] = bad
      let error = #expect(throws: VitError.self) {
        try apply("swap{layers=all},distil{steps=4,batch=4}", to: teacher, context)
      }
      #expect(error?.diagnostic.code == "checkpoint")
    }
    store.states["0.fine-tune"] = [1, 2, 3]
    let error = #expect(throws: VitError.self) { try apply("fine-tune{batch=4}", to: hybrid, context) }
    #expect(error?.diagnostic.code == "checkpoint")
  }
}
