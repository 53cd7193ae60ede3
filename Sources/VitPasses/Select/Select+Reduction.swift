internal import VitIR

extension Select {
  /// With `by=auto`, behind the choice of layers: gives those that were not chosen their attention back, and takes from
  /// the model as far as the bounds allow.
  func reduce(
    _ hybrid: inout Hybrid, chosen: [Int], notes: [String], _ context: PassContext
  ) throws -> PassResult {
    let teacher = try hybrid.teacher(for: Select.name)
    var mixers = try MixerNode.all(in: hybrid, teacher: teacher).filter { $0.layer.choice == .selected }
    let data = try context.heldOut ?? context.samples(for: Select.name)
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: data, samples: data.spread(images), context: context)
    let owners = try owning(mixers, hybrid, teacher: teacher, meter: meter, context)
    mixers = owners ?? mixers
    let narrow = try NarrowMixers(mixers, of: teacher, images: reduction.images, context: context)
    let points = try ReductionSearch(
      reduction, teacher: teacher, mixers: narrow, meter: meter, context: context
    ).points()
    // The first stands whatever it does: the layers were asked for.
    let point = points.last { $0.damage <= reduction.limit } ?? points[0]
    if reduction.goal > 0, point.cost > reduction.goal {
      func percent(_ part: Double) -> String { "\((1000 * part).rounded() / 10) %" }
      let least = points.map(\.cost).min() ?? 1
      throw VitError(
        "the model cannot come to \(percent(reduction.goal)) of its \(reduction.cost.rawValue): "
          + "at a damage of \(reduction.limit) before training it comes to \(percent(point.cost)) of them",
        kind: .check, code: "target-unreachable",
        help: least < point.cost
          ? "a larger drop allows more, as does replacing more layers" : "replacing more layers allows more")
    }
    var passes = try passes(
      for: point.sizes, chosen: chosen.sorted(), mixers: mixers, owning: owners != nil, teacher: teacher,
      &hybrid)
    let sizes = point.sizes
    if sizes.channels != points[0].sizes.channels {
      passes.append(Prune(counts: sizes.channels, images: reduction.images, tile: reduction.tile))
    }
    if (sizes.scores + sizes.values).contains(where: { $0 > 0 }) {
      passes.append(
        Factorise(
          scoreCounts: sizes.scores, valueCounts: sizes.values, images: reduction.images,
          tile: reduction.headTile))
    }
    for pass in passes { _ = try pass.run(on: &hybrid, context: context) }
    var result = PassResult(changes: max(1, chosen.count), notes: notes)
    let (from, to) = (Float(points[0].damage), Float(point.damage))
    let part = (100 * point.cost).rounded()
    result.notes.append(
      "perceptrons keep \(sizes.channels) channels, heads \(sizes.scores) for scores and \(sizes.values) of values, "
        + "mixers \(sizes.mixers) (0 for all): "
        + "damage \(from) to \(to), \(part) % of the teacher's \(reduction.cost.rawValue)")
    (result.found, result.points) = (passes, points)
    return result
  }

  /// The passes that leave of mixers on trial those that were chosen, each with the channels that it keeps.
  private func passes(
    for sizes: Reduction.Sizes, chosen: [Int], mixers: [MixerNode], owning: Bool, teacher: Teacher,
    _ hybrid: inout Hybrid
  ) throws -> [any Pass] {
    func kept(_ mixer: MixerNode) -> Int {
      teacher.layers.firstIndex { $0.index == mixer.layer.index }.map { sizes.mixers[$0] } ?? 0
    }
    // Layers may be chosen before anything replaces them.
    guard !mixers.isEmpty else { return chosen.isEmpty ? [] : [Select(layers: chosen)] }
    let whole = mixers.filter { kept($0) == 0 }.map(\.layer.index).sorted()
    let candidates = hybrid.layers.filter { $0.isReplaceable || $0.isReplaced }
    choose(Set(whole), among: candidates, &hybrid)
    var passes: [any Pass] = whole.isEmpty ? [] : [Select(layers: whole)]
    if !hybrid.replaced.isEmpty { passes.append(Restore()) }
    if owning, !whole.isEmpty { passes.append(OwnPrefix(layers: whole)) }
    guard whole.count < chosen.count else { return passes }
    let narrow = mixers.filter { kept($0) > 0 }
    for count in Set(narrow.map(kept)).sorted(by: >) {
      for mixers in NarrowMixers.alike(narrow.filter { kept($0) == count }) {
        passes += try NarrowMixers.swaps(mixers, part: Double(count) / Double(mixers[0].width))
      }
    }
    return passes + [Distil(steps: 0, images: reduction.images), Select(layers: chosen)]
  }

  /// The mixers with an output map of their own for the first tokens' rows (see `OwnPrefix`), where what each does alone is then
  /// in sum less by a quarter; else `nil`.
  private func owning(
    _ mixers: [MixerNode], _ hybrid: Hybrid, teacher: Teacher, meter: FidelityMeter, _ context: PassContext
  ) throws -> [MixerNode]? {
    guard !mixers.isEmpty else { return nil }
    var owning = hybrid
    let chosen = mixers.map(\.layer.index)
    guard try OwnPrefix(layers: chosen).run(on: &owning, context: context).changes > 0 else { return nil }
    let others = try MixerNode.all(in: owning, teacher: teacher).filter { chosen.contains($0.layer.index) }
    let sums = try [mixers, others].map { mixers in
      try mixers.reduce(0.0) { sum, mixer in
        let alone = try MixerNode.transplant([mixer], into: teacher, registry: context.registry).graph
        return sum + (try meter.measure(alone).damage)
      }
    }
    return sums[1] < Select.gainOfOwnMap * sums[0] ? others : nil
  }

  /// What is left of the damage where a map of their own is worth its weights.
  private static let gainOfOwnMap = 0.75
}
