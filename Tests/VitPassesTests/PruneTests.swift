import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime

@Suite("Channels that perceptrons can do without")
struct PruneTests {
  private func damage(_ passes: String, _ teacher: Hybrid, _ context: PassContext) throws -> Double {
    let pruned = try apply(passes, to: teacher, context)
    return try FidelityMeter(teacher: teacher.graph, data: context.samples(for: "test"), context: context)
      .measure(pruned.graph).damage
  }

  private func context(_ count: Int, _ shape: [Int]) -> PassContext {
    PassContext(
      pool: SerialPool(), registry: .standard,
      data: RandomSamples(count: count, shape: shape, seed: 3, classes: nil))
  }

  private func widths(_ hybrid: Hybrid) throws -> [Int] {
    try hybrid.graph.nodes.filter { $0.operation is VitMLP }.map { node in
      try #require(node.operands[1].flatMap(hybrid.graph.tensor)).shape[0]
    }
  }

  @Test("what least squares makes up for is nearer to the teacher than the mean, and that than nothing")
  func compensation() throws {
    let teacher = try TinyViT.model()
    let context = TinyViT.context(count: 64)
    let found = try ["ridge", "mean", "none"].map {
      try damage("prune{mlp=0.5,tile=4,compensate=\($0)}", teacher, context)
    }
    #expect(found[0] > 0 && found[0] < found[1] && found[1] < found[2], "\(found)")
    #expect(try damage("prune{mlp=0.75,tile=4}", teacher, context) < found[0])
  }

  @Test("as many channels stay as asked for, in whole tiles, and constants lose the same entries")
  func counts() throws {
    let teacher = try TinyViT.model()
    let full = try widths(teacher)
    #expect(full == [32, 32])
    #expect(try widths(apply("prune{mlp=0.5,tile=8,allocate=uniform}", to: teacher)) == [16, 16])
    #expect(try widths(apply("prune{mlp=0.01,tile=8,allocate=uniform}", to: teacher)) == [8, 8])
    #expect(try widths(apply("prune{counts=[0,12]}", to: teacher)) == [32, 12])
    let whole = try apply("prune{mlp=1.0}", to: teacher)
    #expect(try whole.graph.firstDifference(from: teacher.graph) == nil)
  }

  @Test("of two perceptrons the one that does nothing gives its channels first")
  func allocation() throws {
    var teacher = try TinyViT.model()
    let last = try #require(teacher.graph.nodes.last { $0.operation is VitMLP })
    for index in [3, 4] {
      let id = try #require(last.operands[index])
      let tensor = try #require(teacher.graph.tensor(id))
      teacher.graph.setTensor(
        Tensor(.f32, shape: tensor.shape, values: try tensor.doubles().map { $0 / 100 }), of: id)
    }
    let context = TinyViT.context(count: 64)
    let pruned = try apply("prune{mlp=0.6,tile=4,allocate=damage}", to: teacher, context)
    let counts = try widths(pruned)
    #expect(counts[1] == 4 && counts[0] > 28 && counts.allSatisfy { $0 % 4 == 0 }, "\(counts)")
    let uneven = try damage("prune{mlp=0.6,tile=4,allocate=damage}", teacher, context)
    #expect(uneven < (try damage("prune{mlp=0.6,tile=4,allocate=uniform}", teacher, context)))
  }

  @Test("channels that are copies of others cost nothing")
  func copies() throws {
    var teacher = try TinyViT.model(layers: 1)
    let node = try #require(teacher.graph.nodes.first { $0.operation is VitMLP })
    for index in [1, 2] {
      let id = try #require(node.operands[index])
      let tensor = try #require(teacher.graph.tensor(id))
      let numbers = try tensor.doubles()
      let half = numbers.count / 2
      teacher.graph.setTensor(
        Tensor(.f32, shape: tensor.shape, values: Array(numbers[..<half] + numbers[..<half])), of: id)
    }
    let context = TinyViT.context(count: 64)
    // The ridge draws the weights a little towards what they were.
    let left = try damage("prune{mlp=0.5,tile=4}", teacher, context)
    let plain = try damage("prune{mlp=0.5,tile=4,compensate=none}", teacher, context)
    #expect(left < plain / 20, "\(left), \(plain)")
  }

  @Test("the model with all its channels is the teacher of what follows, trained or not")
  func teaches() throws {
    let teacher = try TinyViT.model()
    let context = TinyViT.context(count: 16)
    context.heldOut = context.data
    let pruned = try apply("prune{mlp=0.25,tile=4}", to: teacher, context)
    #expect(try pruned.teacher?.graph.firstDifference(from: teacher.graph) == nil && pruned.teacher != nil)
    #expect(try apply("prune{mlp=1.0}", to: teacher, context).teacher == nil)
    let tuned = try apply("fine-tune{steps=30,batch=8,rate=0.002}", to: pruned, context)
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: context.samples(for: "test"), context: context)
    #expect(try meter.measure(tuned.graph).damage < meter.measure(pruned.graph).damage)
  }

  @Test("solving from the first to the last on the model's own stream brings it nearer to the teacher")
  func solving() throws {
    let teacher = try TinyViT.model(layerScale: (0..<TinyViT.width).map { 0.3 + 0.05 * Double($0) })
    let context = TinyViT.context(count: 64)
    context.heldOut = context.data
    let prune = "prune{mlp=0.5,tile=4,images=64,allocate=uniform}"
    let pruned = try apply(prune, to: teacher, context)
    let solved = try apply(prune + ",solve{images=64,reach=changed}", to: teacher, context)
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: context.samples(for: "test"), context: context)
    let (before, after) = (try meter.measure(pruned.graph).damage, try meter.measure(solved.graph).damage)
    #expect(after < before, "from \(before) to \(after)")
    let (old, new) = (try pruned.weightBytes(), try solved.weightBytes())
    let changed = Set(old.keys.filter { old[$0] != new[$0] })
    let maps = pruned.graph.nodes.filter { $0.operation is VitMLP }.flatMap { node in
      [3, 4].compactMap { node.operands[$0] }.map { pruned.graph[$0].name }
    }
    #expect(changed == Set(maps))
  }

  @Test("one thread and three give the same bytes")
  func threads() throws {
    let teacher = try TinyViT.model()
    let bytes = try [1, 3].map { threads in
      try apply(
        "prune{mlp=0.5,tile=4},solve{images=8}", to: teacher, TinyViT.context(threads: threads)
      ).weightBytes()
    }
    #expect(bytes[0] == bytes[1])
  }

  @Test("a gated perceptron loses the same channels in both of its maps")
  func gated() throws {
    var model = ModelBuilder()
    let x = model.input([.symbol("batch"), 5, 6])
    let up = try model.linear(x, 6, 16)
    let gate = try model.linear(x, 6, 16)
    let open = try model.add("onnx.Sigmoid", [gate])
    let y = try model.linear(try model.add("onnx.Mul", [up, open]), 16, 6)
    let graph = model.finish(y)
    let context = context(32, [5, 6])
    let teacher = try apply("raise", to: Hybrid(graph), context)
    let half = try apply("prune{mlp=0.5,tile=4}", to: teacher, context)
    #expect(half.graph.parameterCount < teacher.graph.parameterCount * 2 / 3)
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: context.samples(for: "test"), context: context)
    let found = try ["ridge", "none"].map {
      try meter.measure(apply("prune{mlp=0.5,tile=4,compensate=\($0)}", to: teacher, context).graph).damage
    }
    #expect(found[0] > 0 && found[0] < found[1], "\(found)")
  }

  @Test("a model without perceptrons is left as it is, with a warning")
  func nothing() throws {
    var model = ModelBuilder()
    let x = model.input([.symbol("batch"), 6])
    let graph = model.finish(try model.linear(x, 6, 4))
    let context = context(4, [6])
    var codes: [String] = []
    context.report = { codes.append($0.code) }
    let same = try apply("prune", to: Hybrid(graph), context)
    #expect(try same.graph.firstDifference(from: graph) == nil && codes == ["nothing-to-prune"])
  }

  @Test(
    "numbers that make no sense are refused",
    arguments: [
      "mlp=0", "mlp=1.5", "images=0", "tile=0", "counts=[3]", "counts=[3,33]", "counts=[-1,2]",
      "compensate=some", "allocate=some",
    ])
  func refuses(_ option: String) throws {
    let error = try #require(throws: VitError.self) { try apply("prune{\(option)}", to: TinyViT.model()) }
    #expect(error.kind == .usage)
  }
}
