import Testing
import VitIR
import VitPasses
import VitRuntime

@Suite("How sure a teacher is")
struct MarginProfileTests {
  @Test("a margin is by how much the first class is above the next one") func margins() {
    #expect(MarginProfile.margins([1, 3, 2.5, 4, -1, 4], classes: 3) == [0.5, 0])
    #expect(MarginProfile.margins([2, 1], classes: 1).isEmpty)
    #expect(MarginProfile(of: [1, 2, 3]) == nil)
    #expect(MarginProfile(of: (0..<20).map { Double(19 - $0) } + [.nan])?.cuts == [4, 8, 12, 16])
  }

  @Test("as much weight lies between any two cuts, and the mean is one") func weights() {
    let profile = MarginProfile(cuts: [1, 2])
    let weights = profile.weights([0.5, 1, 1.5, 2, 3, 9])
    #expect(zip(weights, [2, 1, 1, 2 / 3.0, 2 / 3.0, 2 / 3.0]).allSatisfy { abs($0 - $1) < 1e-12 })
    // What nobody is in goes to the next part that is less sure, or to the surest there is.
    let between = profile.weights([0.5, 0.5, 3, 3])
    #expect(zip(between, [4 / 3.0, 4 / 3.0, 2 / 3.0, 2 / 3.0]).allSatisfy { abs($0 - $1) < 1e-12 })
    #expect(profile.weights([7, 8]) == [1, 1])
    #expect(profile.weights([]).isEmpty)
    // One among many counts for four others at most, before all are brought to a mean of one.
    let rare = profile.weights([0] + Array(repeating: 1.5, count: 50) + Array(repeating: 3, count: 49))
    #expect(abs(rare[0] / rare[1] - 6) < 1e-9)
    #expect(abs(rare.reduce(0, +) - 100) < 1e-9)
  }

  @Test("agreement and divergence are means by these weights") func measured() throws {
    let context = TinyViT.context(count: 60)
    let hybrid = try apply("swap{mixer=none,layers=all,images=16}", to: TinyViT.model(), context)
    let teacher = try #require(hybrid.teacher)
    let data = try #require(context.heldOut)
    let count = min(data.count, 24)
    func meter(_ samples: Range<Int>, _ profile: MarginProfile? = nil) throws -> FidelityMeter {
      try FidelityMeter(
        teacher: teacher.graph, data: data, samples: Array(samples), context: context, profile: profile)
    }
    let whole = try #require(try meter(0..<count).profile)
    // A profile of its own leaves nearly all as it is; one that is less sure gives the less sure more.
    let cuts = whole.cuts.map { $0 + 0.3 }
    let found = try meter(0..<count, MarginProfile(cuts: cuts)).measure(hybrid.graph)
    let executor = try Executor(
      teacher.graph, weights: WeightStore(teacher.graph), inputShapes: [[1] + TinyViT.shape],
      pool: SerialPool())
    let margins = try (0..<count).map { place in
      try data.read(
        place, variant: nil,
        into: UnsafeMutableBufferPointer(start: executor.inputs[0].f32, count: executor.inputs[0].count))
      executor.run()
      return MarginProfile.margins(
        try Tensor(copying: executor.outputs[0]).floats(), classes: TinyViT.classes)[0]
    }
    let weights = MarginProfile(cuts: cuts).weights(margins)
    #expect(weights.contains { $0 != 1 })
    let each = try (0..<count).map { try meter($0..<$0 + 1).measure(hybrid.graph) }
    func mean(_ values: [Double?]) -> Double {
      zip(values, weights).reduce(0.0) { sum, pair in sum + pair.1 * (pair.0 ?? 0) } / Double(count)
    }
    let (agreement, divergence) = (mean(each.map(\.agreement)), mean(each.map(\.divergence)))
    #expect(abs((found.agreement ?? 0) - agreement) < 1e-9)
    #expect(abs((found.divergence ?? 0) - divergence) < 1e-6 * divergence)
    let plain = try meter(0..<count).measure(hybrid.graph)
    #expect(plain.divergence != found.divergence && plain.accuracy == found.accuracy)
  }

  @Test("the quantiles are an option of the choice, and written out") func option() throws {
    let pipeline = try Pipeline("select{by=auto,margins=[0.5,1.25,3,7]}")
    #expect(pipeline.description.contains("margins=[0.5,1.25,3.0,7.0]"))
    #expect(try Pipeline(pipeline.description).description == pipeline.description)
    #expect(try !Pipeline("select{by=auto}").description.contains("margins"))
    for wrong in ["[3,1]", "[nan,1]", "[1,x]", "[]"] {
      #expect(throws: VitError.self) { try Pipeline("select{by=auto,margins=\(wrong)}").check() }
    }
    #expect(throws: VitError.self) { try Pipeline("select{by=damage,margins=[1,2]}") }
  }
}
