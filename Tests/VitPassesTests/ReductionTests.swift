import Testing
import VitIR
import VitOps
import VitPasses

@Suite("Choosing mixers and channels together")
struct ReductionTests {
  /// Four layers, each of them on trial as a mixer, in closed form.
  private static let trial = "swap{mixer=conv,layers=all,images=32},distil{steps=0,images=32}"

  private func reduce(
    _ options: String, _ context: PassContext
  ) throws -> (hybrid: Hybrid, result: PassResult) {
    var hybrid = try TinyViT.model(layers: 4)
    let cost = options.contains("cost=") ? "" : "cost=flops,"
    let pipeline = try Pipeline(
      Self.trial
        + ",select{by=auto,\(cost)tile=4,head-tile=2,merge-from=2,blocks=false,solved=32,\(options)}")
    let results = try pipeline.run(on: &hybrid, context: context)
    try hybrid.checkInvariants()
    return (hybrid, try #require(results.last))
  }

  @Test("what was chosen does as little damage as asked for, and costs less with every step")
  func limit() throws {
    let context = TinyViT.context(count: 48)
    let (hybrid, result) = try reduce("count=2,limit=0.2", context)
    #expect(hybrid.replaced.count == 2)
    let points = result.points
    #expect(points.count > 3)
    for (before, after) in zip(points, points.dropFirst()) {
      #expect(after.cost < before.cost)
      #expect(zip(before.sizes.channels, after.sizes.channels).allSatisfy { $0 >= $1 && $1 % 4 == 0 })
    }
    // Looked for beyond the limit, since solving brings some of it back.
    #expect(points.dropLast().allSatisfy { $0.damage <= 3 * 0.2 })
    let counts = try #require(result.found?.compactMap { ($0 as? Prune)?.counts }.first)
    let chosen = try #require(points.first { $0.sizes.channels == counts })
    let solved = try apply("solve{images=64}", to: hybrid, context)
    let meter = try FidelityMeter(
      teacher: #require(hybrid.teacher).graph, data: #require(context.heldOut), context: context)
    #expect(try meter.measure(solved.graph).damage <= 0.2)
    let widths = try hybrid.graph.nodes.filter { $0.operation is VitMLP }.map { node in
      try #require(node.operands[1].flatMap(hybrid.graph.tensor)).shape[0]
    }
    #expect(points.last?.sizes.scores.contains { $0 > 0 && $0 % 2 == 0 } ?? false)
    #expect(points.last?.sizes.mixers.contains { $0 > 0 } ?? false)
    // What a mixer replaced has no heads to reduce.
    for layer in hybrid.replaced { #expect(points.last?.sizes.scores[layer.index] == 0) }
    #expect(widths == chosen.sizes.channels && widths.contains { $0 < 32 })
  }

  @Test("a looser limit takes more, and the first point is that of the mixers alone")
  func looser() throws {
    let context = TinyViT.context(count: 48)
    let (strict, strictResult) = try reduce("count=1,limit=0.02", context)
    let (loose, looseResult) = try reduce("count=1,limit=0.2", context)
    #expect(loose.graph.parameterCount < strict.graph.parameterCount)
    #expect(strictResult.points.first == looseResult.points.first)
    #expect(looseResult.points.first?.sizes.channels == [32, 32, 32, 32])
    // No limit stops the layers that were asked for.
    let (none, noneResult) = try reduce("count=3,limit=0.0", context)
    #expect(none.replaced.count == 3 && noneResult.points.count == 1)
  }

  @Test("layers that alone take what may be lost are said to")
  func alone() throws {
    let context = TinyViT.context(count: 48)
    let (mixers, _) = try reduce("count=2,limit=0.0", context)
    let solved = try apply("solve{images=64}", to: mixers, context)
    let meter = try FidelityMeter(
      teacher: #require(mixers.teacher).graph, data: #require(context.heldOut), context: context)
    func isSaid(_ limit: Double) throws -> Bool {
      let (_, result) = try reduce("count=2,limit=\(limit)", context)
      return result.notes.contains { $0.contains("the 2 replaced layers alone take") }
    }
    let damage = try meter.measure(solved.graph).damage
    #expect(try isSaid(damage / 2))
    #expect(try !isSaid(damage * 20))
  }

  @Test("a goal ends the search once the model costs no more", arguments: ["flops", "parameters"])
  func goal(_ cost: String) throws {
    let (hybrid, result) = try reduce(
      "count=2,limit=1e9,goal=0.75,cost=\(cost)", TinyViT.context(count: 48))
    let costs = result.points.map(\.cost)
    #expect((costs.last ?? 1) <= 0.75 && costs.dropLast().allSatisfy { $0 > 0.75 })
    let teacher = try TinyViT.model(layers: 4)
    if cost == "parameters" {
      let part = Double(hybrid.graph.parameterCount) / Double(teacher.graph.parameterCount)
      #expect(part <= 0.75)
    }
  }

  @Test("mixers that are narrow already become narrower, as the passes that were found say")
  func narrower() throws {
    var hybrid = try TinyViT.model(layers: 4)
    let results = try Pipeline(
      "swap{mixer=conv,width=0.5,layers=all,images=32},distil{steps=0,images=32},"
        + "select{by=auto,count=2,limit=1e9,tile=4,head-tile=2,solved=32}"
    ).run(on: &hybrid, context: TinyViT.context(count: 48))
    let sizes = try #require(results.last?.points.last?.sizes.mixers).filter { $0 > 0 }
    let found = try hybrid.graph.nodes.filter { $0.operation is any Mixer }.map {
      try #require($0.operands[1].flatMap(hybrid.graph.tensor)).shape[0]
    }
    #expect(!sizes.isEmpty && sizes == found)
  }

  @Test("a goal that the limit does not allow is an error that says how far it goes")
  func unreachable() throws {
    #expect {
      try reduce("count=2,limit=0.1,goal=0.01", TinyViT.context(count: 48))
    } throws: { error in
      let diagnostic = (error as? VitError)?.diagnostic
      return diagnostic?.code == "target-unreachable" && diagnostic?.message.contains("% of") ?? false
    }
  }

  @Test("an agreement decides in place of the damage")
  func agreement() throws {
    let (_, result) = try reduce("count=2,limit=0.0,agreement=0.5", TinyViT.context(count: 48))
    let points = result.points
    #expect(points.count > 3)
    #expect(try points.allSatisfy { try #require($0.agreement) > 0 })
    // What is kept agrees on as many by a standard error more; without an agreement the damage decides.
    var reduction = Reduction(limit: 0.1, agreement: 0.9)
    #expect(abs(reduction.spent(damage: 9, agreement: 0.95) - 0.5) < 1e-9)
    #expect(abs(reduction.spent(damage: 9, agreement: 0.95, of: 100) - 0.5 - 0.0217945 / 0.1) < 1e-5)
    #expect(reduction.spent(damage: 9, agreement: 0.9, of: 1000) > 1)
    #expect(reduction.spent(damage: 9, agreement: 1, of: 10) == 0)
    reduction.agreement = 0
    #expect(abs(reduction.spent(damage: 0.05, agreement: 0.5, of: 10) - 0.5) < 1e-9)
  }

  @Test(
    "the passes that were found give the same weights without looking",
    arguments: ["count=2,limit=0.2", "count=auto,limit=0.2", "count=auto,limit=0.02"])
  func found(_ options: String) throws {
    let context = TinyViT.context(count: 48)
    let (hybrid, result) = try reduce(options, context)
    let passes = try #require(result.found)
    let text = Self.trial + "," + Pipeline(passes).description
    #expect(!text.contains("by=auto"))
    let again = try apply(text, to: TinyViT.model(layers: 4), TinyViT.context(count: 48))
    #expect(try again.weightBytes() == hybrid.weightBytes())
    #expect(again.graph.operations == hybrid.graph.operations)
  }

  @Test("layers that are named stay, and without any mixer only perceptrons are looked at")
  func named() throws {
    let context = TinyViT.context(count: 48)
    let (hybrid, _) = try reduce("layers=[0,3],limit=0.2", context)
    #expect(hybrid.replaced.map(\.index) == [0, 3])
    let teacher = try TinyViT.model(layers: 2)
    let reduced = try apply("select{by=auto,cost=flops,tile=4,limit=0.01}", to: teacher, context)
    #expect(reduced.replaced.isEmpty && reduced.graph.parameterCount < teacher.graph.parameterCount)
    #expect(try reduced.teacher?.graph.firstDifference(from: teacher.graph) == nil && reduced.teacher != nil)
  }

  @Test("where no layer is to be replaced, attention comes back in all, and channels go as without mixers")
  func none() throws {
    let (hybrid, result) = try reduce("count=0,limit=0.01", TinyViT.context(count: 48))
    #expect(hybrid.replaced.isEmpty && hybrid.layers.allSatisfy(\.isAttention))
    let alone = try apply(
      "select{by=auto,cost=flops,count=0,tile=4,head-tile=2,merge-from=2,blocks=false,solved=32,limit=0.01}",
      to: TinyViT.model(layers: 4),
      TinyViT.context(count: 48))
    #expect(try alone.weightBytes() == hybrid.weightBytes())
    #expect(alone.graph.parameterCount < (try TinyViT.model(layers: 4)).graph.parameterCount)
    #expect(try #require(result.found).map { type(of: $0).name }.first == "restore")
    #expect(throws: VitError.self) { try Pipeline("select{by=damage,count=0}").check() }
  }

  @Test(
    "where as many layers are replaced as pay, the teacher is the first model, and attention goes with its heads"
  )
  func free() throws {
    let context = TinyViT.context(count: 48)
    let (hybrid, result) = try reduce("count=auto,limit=0.2", context)
    let points = result.points
    #expect(points[0].sizes.replaced.isEmpty && points[0].cost == 1 && points[0].damage == 0)
    for (before, after) in zip(points, points.dropFirst()) {
      #expect(after.cost < before.cost)
      #expect(Set(before.sizes.replaced).isSubset(of: after.sizes.replaced))
      for layer in after.sizes.replaced {
        #expect(after.sizes.scores[layer] == 0 && after.sizes.values[layer] == 0)
      }
      for layer in 0..<4 where !after.sizes.replaced.contains(layer) {
        #expect(after.sizes.mixers[layer] == 0)
      }
    }
    #expect(points.contains { !$0.sizes.replaced.isEmpty })
    #expect(points.contains { $0.sizes.replaced == hybrid.replaced.map(\.index) })
    let last = try #require(points.last)
    let cheap = try reduce("count=auto,limit=1e9", context).result.points
    #expect(try #require(cheap.last).cost <= last.cost)
    #expect(try #require(cheap.last).sizes.replaced == [0, 1, 2, 3])
    for options in [
      "by=damage,count=auto", "by=auto,count=auto,layers=[0]", "by=auto,count=auto,threshold=1.0",
    ] {
      #expect(throws: VitError.self) { try Pipeline("select{\(options)}").check() }
    }
    #expect(try Pipeline("select{by=auto,count=auto}").description.contains("count=auto"))
  }

  @Test("patches are merged where that may be, and 'merge{counts=chosen}' does what was chosen")
  func merging() throws {
    let context = TinyViT.context(count: 48)
    let (hybrid, result) = try reduce("count=1,limit=1e9", context)
    let last = try #require(result.points.last)
    #expect(last.sizes.merges.dropLast().contains { $0 > 0 } && last.sizes.merges[3] == 0)
    #expect(hybrid.layers.map(\.merges) == last.sizes.merges && hybrid.graph.count("vit.merge") == 0)
    // What costs least without them costs more.
    let (kept, keptResult) = try reduce("count=1,limit=1e9,merge=false", context)
    #expect(kept.layers.allSatisfy { $0.merges == 0 })
    #expect(last.cost < (try #require(keptResult.points.last)).cost)
    // Weights do not become fewer by it.
    let parameters = try reduce("count=1,limit=1e9,cost=parameters", context)
    #expect(parameters.hybrid.layers.allSatisfy { $0.merges == 0 })

    var merged = hybrid
    let pipeline = try Pipeline("solve{images=32},merge{counts=chosen}")
    let found = try #require(try pipeline.run(on: &merged, context: context).last?.found)
    try merged.checkInvariants()
    let counts = last.sizes.merges.map(String.init).joined(separator: ",")
    #expect(Pipeline(found).description == "merge{counts=[\(counts)],metric=value}")
    #expect(merged.layers.map(\.merges) == last.sizes.merges)
    let left = 17 - last.sizes.merges.reduce(0, +)
    let input = try #require(merged.layers[3].input)
    #expect(merged.graph.type(input).shape[1] == .fixed(left))
    #expect(throws: VitError.self) { try Pipeline("merge{counts=chosen}").run(on: &merged, context: context) }
  }

  @Test("where nothing was chosen, nothing is merged, and the pipeline that was found says nothing of it")
  func nothingToMerge() throws {
    var hybrid = try TinyViT.model(layers: 2)
    let result = try Pipeline("merge{counts=chosen}").run(on: &hybrid, context: TinyViT.context(count: 8))
    #expect(result.last?.changes == 0 && result.last?.found?.isEmpty == true)
  }

  @Test("the cost of a table is the same everywhere; a measured one is some part of the teacher's time")
  func time() throws {
    let context = TinyViT.context(count: 48)
    let table = try reduce("count=1,limit=1e9,cost=time", context).result.points
    #expect(table == (try reduce("count=1,limit=1e9,cost=time", TinyViT.context(count: 48)).result.points))
    let measured = try reduce("count=1,limit=1e9,cost=measured", context).result.points
    for points in [table, measured] {
      #expect(points.allSatisfy { $0.cost > 0 })
      for (before, after) in zip(points, points.dropFirst()) { #expect(after.cost < before.cost) }
    }
  }

  @Test("times may be those of several samples at once")
  func measuredBatch() throws {
    let (_, result) = try reduce("count=1,limit=1e9,cost=measured,timed-batch=3", TinyViT.context(count: 48))
    #expect(result.points.allSatisfy { $0.cost > 0 && $0.cost.isFinite })
    let text = try Pipeline("select{by=auto,cost=measured,timed-batch=3}").description
    #expect(text.contains("timed-batch=3"))
    #expect(try !Pipeline("select{by=auto}").description.contains("timed-batch"))
  }

  @Test("times that were measured are told again from a checkpoint, so that the same is chosen")
  func measuredAgain() throws {
    let store = MemoryStore()
    let points = try (0..<2).map { _ in
      let context = TinyViT.context(count: 48)
      context.checkpoint = store
      return try reduce("count=1,limit=1e9,cost=measured", context).result.points
    }
    #expect(points[0] == points[1])
  }

  @Test(
    "it begins with the whole model",
    arguments: [
      "prune{mlp=0.5,images=16,tile=4}", "prune{heads=0.5,images=16}",
      "factorise{scores=0.5,images=16,tile=2}",
      "depth{layers=[1],images=8}", "share{layers=[1],images=8}",
    ])
  func reducedBefore(_ pass: String) throws {
    let context = TinyViT.context(count: 48)
    let error = try #require(throws: VitError.self) {
      try apply("\(pass),select{by=auto,tile=4,limit=0.01}", to: TinyViT.model(layers: 2), context)
    }
    #expect(error.diagnostic.code == "already-reduced")
  }

  @Test("a layer whose map is that of the one before uses it, and the passes that were found say so")
  func sharing() throws {
    let teacher = try TinyViT.twins(layers: 3, doing: 0.001)
    // Nothing else can become smaller.
    func reduce(_ more: String) throws -> (hybrid: Hybrid, result: PassResult) {
      var hybrid = teacher
      let pipeline = try Pipeline(
        Self.trial
          + ",select{by=auto,count=0,limit=1e9,cost=flops,tile=4096,head-tile=4096,merge=false,blocks=false,solved=32\(more)}"
      )
      let results = try pipeline.run(on: &hybrid, context: TinyViT.context(count: 48))
      return (hybrid, try #require(results.last))
    }
    let (hybrid, result) = try reduce("")
    #expect(result.points.map(\.sizes.shared) == [[], [1]] && result.points[1].cost < 1)
    #expect(hybrid.layers.map(\.kind) == ["attention", "shared", "attention"])
    let again = try apply(
      Self.trial + "," + Pipeline(try #require(result.found)).description, to: teacher,
      TinyViT.context(count: 48))
    #expect(try again.weightBytes() == hybrid.weightBytes())
    #expect(again.graph.operations == hybrid.graph.operations)
    #expect(try reduce(",share=false").result.points.count == 1)
  }

  @Test("models with shared maps among other changes are what their sizes say")
  func sharingBesides() throws {
    var hybrid = try TinyViT.model(layers: 4)
    let context = TinyViT.context(count: 48)
    _ = try Pipeline(Self.trial).run(on: &hybrid, context: context)
    var reduction = Reduction(cost: .flops, images: 32, tile: 8, headTile: 4)
    (reduction.fewestPatches, reduction.leastCorrelation) = (2, -1)
    let study = try SearchStudy(hybrid, reduction, images: 16, context: context)
    let sizes = try study.combinations(40).map(\.point.sizes)
    #expect(sizes.contains { !$0.shared.isEmpty })
    for size in sizes {
      for layer in size.shared {
        // What shares has no heads of its own to narrow, is neither replaced nor gone, and nothing is merged before it.
        #expect(size.scores[layer] == 0 && size.values[layer] == 0)
        #expect(!size.replaced.contains(layer) && !size.removed.contains(layer))
        #expect(size.merges[...layer].allSatisfy { $0 == 0 })
      }
    }
  }

  @Test("where no maps are alike, none is shared")
  func notSharing() throws {
    let (_, result) = try reduce("count=0,limit=1e9,share-from=1.0", TinyViT.context(count: 48))
    #expect(result.points.allSatisfy { $0.sizes.shared.isEmpty })
  }

  @Test("one thread and three choose the same and give the same bytes")
  func threads() throws {
    for options in ["count=2,limit=0.2", "count=auto,limit=0.1"] {
      let bytes = try [1, 3].map { threads in
        try reduce(options, TinyViT.context(threads: threads, count: 48)).hybrid.weightBytes()
      }
      #expect(bytes[0] == bytes[1])
    }
  }

  @Test(
    "bounds that make no sense are usage errors",
    arguments: [
      "goal=1.1", "goal=-0.1", "limit=-1.0", "limit=nan", "agreement=1.5", "solved=0", "tile=0",
      "head-tile=0",
      "share-from=1.5", "timed-batch=0", "timed-batch=100000", "share-from=nan", "cost=time-of-day",
      "beside=glr", "beside=2", "blocks=some",
    ])
  func refused(_ option: String) {
    #expect(throws: VitError.self) { try Pipeline("select{by=auto,\(option)}").check() }
    // Another way of choosing has no such options.
    #expect(throws: VitError.self) { try Pipeline("select{by=damage,limit=0.1}") }
  }
}
