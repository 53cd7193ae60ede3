import Testing
import VitIR
import VitOps
import VitPasses

@Suite("Choosing among kinds of mixers, and whole blocks")
struct ReductionKindsTests {
  /// Layers, each of them on trial as a recurrence.
  private static let trial = "swap{mixer=glr,layers=all,images=32},distil{steps=0,images=32}"

  private func reduce(
    _ options: String, layers: Int = 2, threads: Int = 2
  ) throws -> (hybrid: Hybrid, result: PassResult) {
    var hybrid = try TinyViT.model(layers: layers)
    let pipeline = try Pipeline(
      Self.trial + ",select{by=auto,cost=flops,tile=4,head-tile=2,merge=false,solved=32,images=16,\(options)}"
    )
    let results = try pipeline.run(on: &hybrid, context: TinyViT.context(threads: threads, count: 48))
    try hybrid.checkInvariants()
    return (hybrid, try #require(results.last))
  }

  /// The kinds that stand in the layers of a point.
  private func kinds(_ point: Reduction.Point) -> Set<String> {
    Set(point.sizes.standing.filter { !$0.isEmpty }.map { String($0.prefix { $0.isLetter }) })
  }

  @Test(
    "where other kinds may stand, they do where they are better, and the layers that were asked for are all replaced"
  )
  func kinds() throws {
    let own = try reduce("count=2,limit=1e9,blocks=false")
    #expect(own.result.points.allSatisfy { kinds($0) == ["glr"] })
    let beside = try reduce("count=2,limit=1e9,blocks=false,beside=conv")
    #expect(beside.hybrid.replaced.count == 2)
    #expect(beside.result.points.contains { kinds($0).contains("conv") })
    #expect(beside.result.points.allSatisfy { kinds($0).isSubset(of: ["glr", "conv"]) })
    let any = try reduce("count=2,limit=1e9,blocks=false,beside=any")
    #expect(!kinds(try #require(any.result.points.last)).isDisjoint(with: ["none", "pointwise", "static"]))
    #expect(try #require(any.result.points.last).cost < (try #require(own.result.points.last)).cost)
    let last = try #require(any.result.points.last)
    for (layer, text) in zip(any.hybrid.layers, last.sizes.standing) where layer.isReplaced {
      #expect(layer.candidates.last?.mixer == text && layer.candidates.last?.damage != nil)
    }
  }

  @Test("mixers that need steps become narrower where there are steps for that, and only then")
  func trainedNarrow() throws {
    func texts(_ options: String) throws -> Set<String> {
      let result = try reduce("count=2,limit=1e9,blocks=false,\(options)").result
      return Set(result.points.flatMap(\.sizes.standing).filter { !$0.isEmpty })
    }
    let (without, with) = (try texts("narrow-steps=0"), try texts("narrow-steps=3,narrow-batch=8"))
    #expect(without.count == 1 && with.isSuperset(of: without) && with.count > 1)
    #expect(with.allSatisfy { $0.hasPrefix("glr") })
    #expect(throws: VitError.self) { try Pipeline("select{by=auto,narrow-steps=-1}").check() }
    #expect(throws: VitError.self) { try Pipeline("select{by=auto,narrow-steps=2,narrow-rate=0.0}").check() }
  }

  @Test(
    "the passes that were found give the same weights without looking",
    arguments: [
      "count=1,limit=0.2,beside=conv", "count=auto,limit=1e9,blocks=false,beside=any", "count=1,limit=1e9",
      "count=2,limit=1e9,blocks=false,narrow-steps=3,narrow-batch=8",
      "count=2,limit=0.4,blocks=false,narrow-steps=3,narrow-batch=8,beside=conv",
    ])
  func found(_ options: String) throws {
    let (hybrid, result) = try reduce(options)
    let text = Self.trial + "," + Pipeline(try #require(result.found)).description
    #expect(!text.contains("by=auto"))
    let again = try apply(text, to: TinyViT.model(layers: 2), TinyViT.context(count: 48))
    #expect(try again.weightBytes() == hybrid.weightBytes())
    #expect(again.graph.operations == hybrid.graph.operations)
  }

  @Test(
    "a linear map stands in the place of a block where that saves most for what it does, and of no layer that a mixer was asked for"
  )
  func blocks() throws {
    let (hybrid, result) = try reduce("count=1,limit=1e9", layers: 3)
    let last = try #require(result.points.last)
    #expect(last.sizes.removed.count == 2 && last.sizes.replaced.count == 1)
    #expect(Set(last.sizes.removed).isDisjoint(with: last.sizes.replaced))
    #expect(hybrid.layers.filter(\.isRemoved).map(\.index) == last.sizes.removed)
    for (before, after) in zip(result.points, result.points.dropFirst()) {
      #expect(after.cost < before.cost)
      #expect(Set(before.sizes.removed).isSubset(of: after.sizes.removed))
      // What lies in a block that is gone says nothing.
      for layer in after.sizes.removed {
        #expect(after.sizes.scores[layer] == 0 && after.sizes.standing[layer].isEmpty)
      }
    }
    let whole = try reduce("count=1,limit=1e9,blocks=false", layers: 3)
    #expect(whole.hybrid.layers.allSatisfy { !$0.isRemoved })
    #expect(last.cost < (try #require(whole.result.points.last)).cost)
    // It goes on as every hybrid does.
    let ready = try apply("solve{images=32},trim", to: hybrid, TinyViT.context(count: 48))
    try ready.checkInvariants()
    let free = try reduce("count=auto,limit=1e9").result.points
    #expect(try #require(free.last).sizes.removed == [0, 1])
    #expect(try #require(free.last).sizes.replaced.isEmpty)
  }

  @Test("one thread and three choose the same and give the same bytes")
  func threads() throws {
    let bytes = try [1, 3].map { threads in
      try reduce("count=1,limit=0.3,beside=any", threads: threads).hybrid.weightBytes()
    }
    #expect(bytes[0] == bytes[1])
  }

  @Test("of two that are as good and as cheap the preferred one stays; a better or a cheaper one goes before")
  func worth() {
    func kept(_ all: MixerWorth...) -> [Int] { MixerWorth.kept(all, whole: 100) }
    let sequence = MixerWorth(.sequence, damage: 0.012, error: 0.003, cost: 90)
    let taps = MixerWorth(.taps, damage: 0.010, error: 0.003, cost: 89.9)
    #expect(kept(sequence, taps) == [0] && kept(taps, sequence) == [1])
    // Beyond a standard error, or at another cost, both are worth having, or only the better.
    #expect(kept(sequence, MixerWorth(.taps, damage: 0.008, error: 0.003, cost: 89.9)) == [1])
    #expect(kept(sequence, MixerWorth(.taps, damage: 0.02, error: 0.003, cost: 80)) == [0, 1])
    #expect(kept(sequence, MixerWorth(.control, damage: 0.012, error: 0.003, cost: 80)) == [1])
    #expect(kept(sequence, MixerWorth(.sequence, damage: 0.012, error: 0.1, cost: 95)) == [0])
    // Three that beat one another in a ring leave one at least.
    let ring = [
      MixerWorth(.sequence, damage: 0.02, error: 0.01, cost: 90),
      MixerWorth(.taps, damage: 0.01, error: 0.01, cost: 90),
      MixerWorth(.control, damage: 0, error: 0.01, cost: 90),
    ]
    #expect(!MixerWorth.kept(ring, whole: 100).isEmpty && MixerWorth.kept([], whole: 1).isEmpty)
  }
}
