package import VitIR
internal import VitOps

/// Subsets of layers, all replaced by what was solved for each alone, and measured without training.
struct SubsetJob {
  let bench: StudyBench

  func run() throws -> [StudyRecord] {
    let context = bench.context()
    let mixers = try solved(context)
    let meter = try bench.meter(bench.teacher.graph, context)
    let subsets = bench.plan.drawnSubsets(of: mixers.map(\.layer.index))
    return try subsets.enumerated().map { done, subset in
      try context.checkCancelled()
      let graph = try MixerNode.transplant(
        mixers.filter { subset.contains($0.layer.index) }, into: bench.teacher, registry: context.registry
      ).graph
      context.progress("subsets", done + 1, subsets.count, "")
      return StudyRecord("subset", [("layers", .integers(subset))] + (try meter.measure(graph).fields))
    }
  }

  /// What stands in each layer.
  func solved(_ context: PassContext) throws -> [MixerNode] {
    let hybrid = try bench.replaced(bench.teacher, by: bench.plan.subsets.form, seed: 0, context)
    return try MixerNode.all(in: hybrid, teacher: bench.teacher)
  }
}

/// Pairs of subsets of the same mean depth, one of sparse and one of dense layers, trained for the same steps.
struct PairJob {
  let bench: StudyBench
  /// Which pair.
  let number: Int

  func run() throws -> [StudyRecord] {
    let context = bench.context()
    var scored = Hybrid(of: bench.teacher)
    try bench.run([Score(images: bench.plan.scored, drop: false)], on: &scored, context)
    let layers = scored.layers.filter(\.isReplaceable)
    let pairs = bench.plan.pairs(of: layers)
    guard pairs.indices.contains(number) else { return [] }
    let meter = try bench.meter(bench.teacher.graph, context)
    let pair = pairs[number]
    return try [("sparse", pair.sparse), ("dense", pair.dense)].map { group, subset in
      var hybrid = try bench.replaced(
        bench.teacher, by: bench.plan.subsets.form, seed: 0, layers: .listed(subset), context)
      try bench.run([bench.fineTune(bench.plan.subsets.fineTuneSteps)], on: &hybrid, context)
      return StudyRecord(
        "pair",
        [("pair", .whole(number)), ("group", .text(group)), ("layers", .integers(subset))]
          + (try meter.measure(hybrid.graph).fields))
    }
  }
}

extension StudyProtocol {
  /// Subsets of layers: all of a size where there are few enough, else some drawn with their complements, so that they are balanced in
  /// depth.
  package func drawnSubsets(of layers: [Int]) -> [[Int]] {
    let size = StudyProtocol.count(subsets.part, of: layers.count)
    guard subsets.most > 0, layers.count < 64 else { return [] }
    if let all = StudyProtocol.all(of: layers, size: size, most: subsets.most) { return all }
    var random = SplitMix(seed: UInt64(seed)).split("subsets")
    var drawn: [[Int]] = []
    var known: Set<[Int]> = []
    // There are more than are wanted, so that a draw is new before long.
    for _ in 0..<100 * subsets.most where drawn.count < subsets.most {
      let own = random.shuffled(layers).prefix(size).sorted()
      let rest = layers.filter { !own.contains($0) }
      for subset in rest.count == size ? [own, rest] : [own]
      where drawn.count < subsets.most && known.insert(subset).inserted { drawn.append(subset) }
    }
    return drawn
  }

  private static func all(of layers: [Int], size: Int, most: Int) -> [[Int]]? {
    var result: [[Int]] = [[]]
    for (place, layer) in layers.enumerated() {
      let left = layers.count - place - 1
      result = result.flatMap { subset -> [[Int]] in
        var next: [[Int]] = []
        if subset.count < size { next.append(subset + [layer]) }
        if subset.count + left >= size { next.append(subset) }
        return next
      }
      // Each that was begun comes to at least one.
      guard result.count <= most else { return nil }
    }
    return result.filter { $0.count == size }
  }

  /// Subsets whose mean depth is the middle's: the sparsest beside the densest, and so on.
  package func pairs(of layers: [Layer]) -> [(sparse: [Int], dense: [Int])] {
    let sparsity = Dictionary(
      layers.map { ($0.index, $0.score("entropy") ?? 0) }, uniquingKeysWith: { first, _ in first })
    let middle = Double(layers.reduce(0) { $0 + $1.index }) / Double(max(layers.count, 1))
    let balanced = drawnSubsets(of: layers.map(\.index)).filter { subset in
      abs(Double(subset.reduce(0, +)) / Double(subset.count) - middle) < 1e-9
    }
    func mean(_ subset: [Int]) -> Double { subset.reduce(0) { $0 + (sparsity[$1] ?? 0) } }
    let ordered = balanced.sorted {
      (mean($0), $0.description) > (mean($1), $1.description)
    }
    return (0..<min(subsets.pairs, ordered.count / 2)).map {
      (ordered[$0], ordered[ordered.count - 1 - $0])
    }
  }
}
