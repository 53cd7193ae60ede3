internal import VitIR

extension Select {
  /// With `by=auto`, behind the choice of layers: gives those that were not chosen their attention back, and takes from
  /// the model as far as the bounds allow.
  func reduce(
    _ hybrid: inout Hybrid, chosen: [Int], owning: Bool, choices: MixerChoices, notes: [String],
    _ context: PassContext
  ) throws -> PassResult {
    let teacher = try hybrid.teacher(for: Select.name)
    let data = try context.heldOut ?? context.samples(for: Select.name)
    let meter = try meter(teacher, context)
    let search = try ReductionSearch(
      reduction, teacher: teacher, mixers: choices.of(chosen), isFree: isFree, meter: meter, context: context)
    var walk = try search.walk()
    let judge = try FidelityMeter(
      teacher: teacher.graph, data: data, samples: data.spread(reduction.judged), context: context,
      profile: reduction.profile)
    let trials = try solved(
      search, &walk, chosen: chosen.sorted(), choices: choices, owning: owning, hybrid, judge, context)
    let (points, point, passes) = (walk.points, trials.point, trials.passes)
    if reduction.goal > 0, point.cost > reduction.goal {
      func percent(_ part: Double) -> String { "\((1000 * part).rounded() / 10) %" }
      let least = points.map(\.cost).min() ?? 1
      throw VitError(
        "the model cannot come to \(percent(reduction.goal)) of its \(reduction.cost.words): "
          + "with \(reduction.bound) before training it comes to \(percent(point.cost)) of them",
        kind: .check, code: "target-unreachable",
        help: isFree
          ? "a larger drop, or less agreement, allows more"
          : least < point.cost
            ? "a larger drop, or less agreement, allows more, as does replacing more layers"
            : "replacing more layers allows more")
    }
    let before = hybrid
    hybrid = trials.model
    for (place, count) in point.sizes.merges.enumerated() { hybrid.layers[place].merges = count }
    note(choices, in: &hybrid)
    var result = PassResult(changes: max(1, point.sizes.replaced.count), notes: notes)
    if isFree { result.notes.append("layers \(point.sizes.replaced) by auto, as many as pay") }
    if !isFree, !chosen.isEmpty, trials.isFirst, points.count > 1 {
      let part = (100 * trials.spent).rounded()
      result.notes.append(
        "the \(chosen.count) replaced layers alone take \(part) % of what may be lost, and nothing is left for other savings: "
          + "--replace with a smaller share, or auto, saves more within the same bound")
    }
    let (sizes, from, to) = (point.sizes, Float(points[0].damage), Float(point.damage))
    let part = (100 * point.cost).rounded()
    result.notes.append(
      "perceptrons keep \(sizes.channels) channels, heads \(sizes.scores) for scores and \(sizes.values) of values (0 for all), "
        + "mixers \(sizes.mixers), merged patches \(sizes.merges), blocks \(sizes.removed) are linear, layers \(sizes.shared) share a map: "
        + "damage \(from) to \(to), solved \(Float(trials.damage)), "
        + "\(part) % of the teacher's \(reduction.cost.words)")
    (result.found, result.points) = (passes, points)
    result.alternatives = try points.map {
      var copy = before
      return try self.passes(
        for: $0, chosen: chosen.sorted(), choices: choices, owning: owning, teacher, &copy)
    }
    try search.keepCosts()
    return result
  }

  /// Throws a usage error where something was taken from the model already: what it can do without is found out on the teacher.
  func checkWhole(_ hybrid: Hybrid) throws {
    let teacher = try hybrid.teacher(for: Select.name)
    let perceptrons = hybrid.perceptrons(beside: teacher)
    let own = try HeadSite.all(in: hybrid.graph, layers: hybrid.layers)
    let heads = try HeadSite.all(in: teacher.graph, layers: teacher.layers)
    func isWhole(_ site: HeadSite) -> Bool {
      heads.contains {
        $0.layer == site.layer && $0.weights.heads == site.weights.heads
          && $0.weights.headDim == site.weights.headDim && $0.weights.valueDim == site.weights.valueDim
      }
    }
    guard !hybrid.layers.contains(where: { $0.isRemoved || $0.isShared }),
      perceptrons.count == ChannelSite.all(in: teacher.graph).count,
      perceptrons.allSatisfy({ $0.own.channels == $0.original.channels }), own.allSatisfy(isWhole)
    else {
      throw VitError(
        "select: something was taken from the model before 'select{by=auto}', which begins with the whole one",
        kind: .usage, code: "already-reduced",
        help: "run prune, factorise, depth and share behind it, or choose layers by damage")
    }
  }

  /// A point on the way with the passes that lead there, what they make, and its damage once that is solved.
  private struct Trial {
    let point: Reduction.Point
    let passes: [any Pass]
    let model: Hybrid
    let damage: Double
    /// The part of what may be lost that it loses.
    let spent: Double
    /// Whether it is the first point: the layers that were asked for, and nothing else.
    let isFirst: Bool
  }

  /// The farthest of `points` at which a model is as near to its teacher as it must be once it is solved. The first stands
  /// whatever it does: the layers were asked for.
  ///
  /// Starts where about half would come back, and goes on where as much of the loss would as did there, between the farthest
  /// point that was allowed and the nearest that was not; then, once, around a block that went between these two; and, a few times,
  /// halfway between.
  private func solved(
    _ search: ReductionSearch, _ walk: inout ReductionSearch.Walk, chosen: [Int], choices: MixerChoices,
    owning: Bool, _ hybrid: Hybrid, _ meter: FidelityMeter, _ context: PassContext
  ) throws -> Trial {
    let teacher = try hybrid.teacher(for: Select.name)
    var place = walk.points.lastIndex { reduction.spent($0) <= 2 } ?? 0
    var (allowed, refused) = (-1, walk.points.count)
    var (refinements, isAround) = (Select.refinements, false)
    var best: Trial?
    while true {
      let point = walk.points[place]
      var copy = hybrid
      let passes = try passes(
        for: point, chosen: chosen, choices: choices, owning: owning, teacher, &copy)
      for pass in passes {
        // What was distilled to choose among is not distilled again.
        if let distil = pass as? Distil, distil.steps > 0 {
          try take(choices, for: point.sizes, teacher, &copy)
        } else {
          _ = try pass.run(on: &copy, context: context)
        }
      }
      let model = copy
      if !passes.isEmpty {
        _ = try Solve(images: 2 * reduction.images, judged: reduction.judged).run(on: &copy, context: context)
      }
      _ = try Merge(counts: point.sizes.merges).run(on: &copy, context: context)
      let found = try meter.measure(copy.graph)
      context.progress(Select.name, place + 1, walk.points.count, "solved on trial")
      let spent = reduction.spent(damage: found.damage, agreement: found.agreement, of: found.images)
      let isAllowed = spent <= 1
      if isAllowed || place == 0 {
        best = Trial(
          point: point, passes: passes, model: model, damage: found.damage, spent: spent, isFirst: place == 0)
      }
      if isAllowed { allowed = place } else { refused = place }
      if let best, place == 0, !isAllowed { return best }
      if refused - allowed <= 1, !isAround, try search.goAround(&walk, behind: allowed) {
        isAround = true
        refused = walk.points.count
      }
      if let best, refused - allowed <= 1 {
        guard refinements > 0, try search.refine(&walk, behind: allowed) else { return best }
        refinements -= 1
        refused += 1
      }
      let kept = spent / max(reduction.spent(point), .leastNormalMagnitude)
      let next = walk.points.lastIndex { kept * reduction.spent($0) <= 1 }
      place = min(max(next ?? 0, allowed + 1), refused - 1)
    }
  }

  /// The passes that make of a hybrid on trial what `point` says.
  private func passes(
    for point: Reduction.Point, chosen: [Int], choices: MixerChoices, owning: Bool, _ teacher: Teacher,
    _ hybrid: inout Hybrid
  ) throws -> [any Pass] {
    let sizes = point.sizes
    let layers = isFree ? sizes.replaced : chosen
    var passes = mixerPasses(
      for: sizes, chosen: layers, choices: choices, owning: owning, teacher, &hybrid)
    let whole = ChannelSite.all(in: teacher.graph).map(\.channels)
    if sizes.channels != whole {
      passes.append(Prune(counts: sizes.channels, images: reduction.images, tile: reduction.tile))
    }
    if (sizes.scores + sizes.values).contains(where: { $0 > 0 }) {
      passes.append(
        Factorise(
          scoreCounts: sizes.scores, valueCounts: sizes.values, images: reduction.images,
          tile: reduction.headTile))
    }
    // Behind the others: those count all perceptrons and layers of the teacher.
    if !sizes.removed.isEmpty {
      passes.append(Depth(layers: sizes.removed, map: .linear, images: reduction.images))
    }
    if !sizes.shared.isEmpty { passes.append(Share(layers: sizes.shared, images: reduction.images)) }
    return passes
  }

  /// The passes that leave of mixers on trial those that were chosen, and put in those that stand in their place.
  private func mixerPasses(
    for sizes: Reduction.Sizes, chosen: [Int], choices: MixerChoices, owning: Bool, _ teacher: Teacher,
    _ hybrid: inout Hybrid
  ) -> [any Pass] {
    // Layers may be chosen before anything replaces them.
    guard !choices.byLayer.isEmpty || chosen.isEmpty else { return [Select(layers: chosen)] }
    let standing = zip(teacher.layers, sizes.standing).compactMap { layer, text in
      chosen.contains(layer.index) ? choices.choice(text, in: layer.index) : nil
    }
    let whole = standing.filter { $0.swap == nil }.map(\.mixer.layer.index).sorted()
    let candidates = hybrid.layers.filter { $0.isReplaceable || $0.isReplaced }
    choose(Set(whole), among: candidates, &hybrid)
    if chosen.isEmpty { return hybrid.replaced.isEmpty ? [] : [Restore()] }
    var passes: [any Pass] = owning ? [OwnPrefix()] : []
    if !whole.isEmpty { passes.append(Select(layers: whole)) }
    passes.append(Restore())
    var done = whole
    for isTrained in [true, false] {
      let choices = standing.filter { $0.swap != nil && $0.isTrained == isTrained }
      guard !choices.isEmpty else { continue }
      done += choices.map(\.mixer.layer.index)
      passes += MixerChoices.swaps(choices)
      passes += [
        isTrained ? reduction.distil : Distil(steps: 0, images: reduction.images),
        Select(layers: done.sorted()),
      ]
    }
    return passes
  }

  /// Gives mixers that were put in the weights that they have among the choices.
  private func take(
    _ choices: MixerChoices, for sizes: Reduction.Sizes, _ teacher: Teacher, _ hybrid: inout Hybrid
  ) throws {
    for mixer in try MixerNode.all(in: hybrid, teacher: teacher) {
      guard let index = teacher.layers.firstIndex(where: { $0.index == mixer.layer.index }),
        let choice = choices.choice(sizes.standing[index], in: mixer.layer.index), choice.isTrained,
        let place = hybrid.place(of: mixer.layer.index), mixer.text == choice.text
      else { continue }
      hybrid.graph.setTensors(
        zip(mixer.region.constants, choice.mixer.region.constants).map { ($0.name, $1.tensor) })
      hybrid.layers[place].candidates = choice.mixer.layer.candidates
    }
  }

  /// Notes what was found out about those that stand in the place of mixers on trial.
  private func note(_ choices: MixerChoices, in hybrid: inout Hybrid) {
    for (place, layer) in hybrid.layers.enumerated() where layer.isReplaced {
      guard let last = layer.candidates.indices.last,
        let choice = choices.choice(layer.candidates[last].mixer, in: layer.index), choice.swap != nil
      else { continue }
      hybrid.layers[place].candidates[last].damage = choice.damage
    }
  }

  /// What can stand in the place of each mixer on trial, with what it does to the outputs where it is chosen by that.
  func choices(_ hybrid: Hybrid, _ context: PassContext) throws -> MixerChoices {
    let teacher = try hybrid.teacher(for: Select.name)
    let trial = try MixerNode.all(in: hybrid, teacher: teacher)
    return try MixerChoices(
      trial, reduction, of: teacher,
      meter: trial.isEmpty ? nil : meter(teacher, context), context: context)
  }

  /// Makes what can stand in the place of one layer's mixer on trial, for whoever goes on to find it made (`PassContext.part`); nothing
  /// where this chooses by a score.
  func makeChoices(of layer: Int, _ hybrid: inout Hybrid, _ context: PassContext) throws {
    guard criterion == .auto else { return }
    let teacher = try hybrid.teacher(for: Select.name)
    // As where all is chosen: what stands there may have maps of its own by then.
    try measure(&hybrid, context)
    _ = try giveOwnMaps(&hybrid, context)
    let trial = try MixerNode.all(in: hybrid, teacher: teacher).filter { $0.layer.index == layer }
    _ = try MixerChoices(trial, reduction, of: teacher, meter: nil, context: context)
  }

  /// What measures single changes.
  private func meter(_ teacher: Teacher, _ context: PassContext) throws -> FidelityMeter {
    let data = try context.heldOut ?? context.samples(for: Select.name)
    return try FidelityMeter(
      teacher: teacher.graph, data: data, samples: data.spread(images), context: context,
      profile: criterion == .auto ? reduction.profile : nil)
  }

  /// Gives all mixers on trial an output map of their own for the first tokens' rows (see `OwnPrefix`), where what those do that
  /// are best, or named, is then in sum less by a quarter; says whether it did. The damage of each is measured.
  func giveOwnMaps(_ hybrid: inout Hybrid, _ context: PassContext) throws -> Bool {
    guard !hybrid.replaced.isEmpty else { return false }
    var owning = hybrid
    guard try OwnPrefix().run(on: &owning, context: context).changes > 0 else { return false }
    try measure(&owning, context)
    func sum(_ hybrid: Hybrid) -> Double {
      let candidates = hybrid.replaced.filter { layers?.contains($0.index) ?? true }
      return candidates.compactMap { $0.candidates.last?.damage }.sorted()
        .prefix(count(among: hybrid.layers)).reduce(0, +)
    }
    guard sum(owning) < Select.gainOfOwnMap * sum(hybrid) else { return false }
    hybrid = owning
    return true
  }

  /// How often a model is tried that is halfway between the farthest that is allowed and the nearest that is not.
  private static let refinements = 2

  /// What is left of the damage where a map of their own is worth its weights.
  private static let gainOfOwnMap = 0.75
}
