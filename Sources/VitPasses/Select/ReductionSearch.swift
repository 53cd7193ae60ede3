internal import VitIR
internal import VitOps
internal import VitRuntime

/// Looks for what a model can do without, beside mixers that are chosen already: hidden channels of perceptrons, and channels
/// of heads where attention stays.
///
/// What half of a perceptron or of a head does to the outputs is measured once for each, alone in the teacher; for other sizes
/// it follows the error of least squares, which is known exactly. Steps are taken in the order of what they add to the damage
/// for what they save, and the model is measured as it stands whenever the cost has fallen by a sixteenth of what it can: the
/// sum of single damages orders well, and says too little where they are large, so that measurements alone decide where to stop.
struct ReductionSearch {
  private let reduction: Reduction
  private let teacher: Teacher
  private let mixers: NarrowMixers
  /// Whether attention may stay where a mixer could stand.
  private let isFree: Bool
  private let meter: FidelityMeter
  private let context: PassContext
  private var slots: [ReductionSlot] = []
  private let whole: Double

  /// How many times more than the limit may be lost before a model is solved: some of it comes back then.
  private static let reach = 3.0
  /// How many times the model is measured on the way to nothing.
  private static let measurements = 16

  /// How often a model is measured at most while parts of a teacher are looked at: each part and each mixer alone, and the whole on the way.
  static func measurements(of teacher: Teacher) -> Int {
    let layers = teacher.layers.count { $0.isReplaceable }
    return ChannelSite.all(in: teacher.graph).count + 4 * layers + measurements + 1
  }

  /// Measures each part of the teacher alone that no mixer replaces; each mixer, too, where attention may stay, and it is `isFree`
  /// which do.
  init(
    _ reduction: Reduction, teacher: Teacher, mixers: NarrowMixers, isFree: Bool, meter: FidelityMeter,
    context: PassContext
  ) throws {
    (self.reduction, self.teacher, self.mixers, self.isFree) = (reduction, teacher, mixers, isFree)
    (self.meter, self.context) = (meter, context)
    whole = try ReductionSearch.cost(teacher.graph, reduction.cost, context)
    let perceptrons = ChannelSite.all(in: teacher.graph)
    let replaced = Set(mixers.whole.map(\.layer.index))
    let heads = try HeadSite.all(in: teacher.graph, layers: teacher.layers)
      .filter { isFree || !replaced.contains($0.layer) }
    let total = perceptrons.count + 2 * heads.count + mixers.whole.count
    let prune = Prune(images: reduction.images, tile: reduction.tile)
    for group in Prune.groups(perceptrons.indices.map { ($0, perceptrons[$0].channels) }) {
      let moments = try prune.moments(group.map { perceptrons[$0] }, teacher.graph, context)
      for (place, moments) in zip(group, moments) {
        let site = perceptrons[place]
        let sizes = ReductionSlot.sizes(site.channels, tile: reduction.tile)
        let (surgeries, errors) = try Surgery.all(
          site, in: teacher.graph, moments: moments, keeping: sizes, .ridge, pool: context.pool)
        let error = sizes.map { size in errors.first { $0.left <= size }?.error ?? 0 }
        try add(.channels(perceptron: place), sizes, error, at: site.node, of: total) {
          try surgeries[$0].apply(to: &$1)
        }
      }
    }
    for (layer, widths) in mixers.byLayer { try add(widths, layer: layer, of: total) }
    let factorise = Factorise(images: reduction.images, tile: reduction.headTile)
    let factors = try factorise.factors(heads, teacher.graph, context)
    for (site, factors) in zip(heads, factors) {
      let (width, values) = (site.weights.headDim, site.weights.valueDim)
      let ranks = ReductionSlot.sizes(width, tile: factorise.tile)
      try add(.scores(layer: site.layer), ranks, ranks.map(factors.scoreError), at: site.node, of: total) {
        try factors.apply(scores: ranks[$0], values: values, to: &$1)
      }
      let widths = ReductionSlot.sizes(values, tile: factorise.tile)
      try add(.values(layer: site.layer), widths, widths.map(factors.valueError), at: site.node, of: total) {
        try factors.apply(scores: width, values: widths[$0], to: &$1)
      }
    }
  }

  /// Measures a layer's mixer at each of its widths.
  private mutating func add(_ mixers: [MixerNode], layer: Int, of total: Int) throws {
    guard isFree || mixers.count > 1 else { return }
    var damages, costs: [Double]
    (damages, costs) = isFree ? ([0], [whole]) : ([], [])
    for mixer in mixers {
      let graph = try MixerNode.transplant([mixer], into: teacher, registry: context.registry).graph
      let place = teacher.layer(layer).flatMap { teacher.graph.place(defining: $0.core) }
      damages.append(try meter.measure(graph, differingFrom: teacher, at: place).damage)
      costs.append(try ReductionSearch.cost(graph, reduction.cost, context))
    }
    slots.append(
      ReductionSlot(
        part: .mixer(layer: layer), sizes: (isFree ? [0] : []) + mixers.map(\.width), damages: damages,
        costs: costs, apply: { _, _ in }, mixers: (isFree ? [nil] : []) + mixers))
    context.progress(Select.name, slots.count, total, "measuring what the model can do without")
  }

  /// Measures a part at about half of its size; its damage at others goes with the error of least squares.
  private mutating func add(
    _ part: ReductionSlot.Part, _ sizes: [Int], _ errors: [Double], at node: Int, of total: Int,
    _ apply: @escaping (Int, inout Graph) throws -> Void
  ) throws {
    guard sizes.count > 1 else { return }
    let middle = sizes.count / 2
    var graph = teacher.graph
    try apply(middle, &graph)
    try finish(&graph)
    let scale =
      max(0, try meter.measure(graph, differingFrom: teacher, at: node).damage)
      / max(errors[middle], .leastNormalMagnitude)
    let saved = whole - (try ReductionSearch.cost(graph, reduction.cost, context))
    let each = saved / Double(max(1, sizes[0] - sizes[middle]))
    slots.append(
      ReductionSlot(
        part: part, sizes: sizes, damages: errors.map { scale * $0 },
        costs: sizes.map { whole - each * Double(sizes[0] - $0) }, apply: apply))
    context.progress(Select.name, slots.count, total, "measuring what the model can do without")
  }

  private func finish(_ graph: inout Graph) throws {
    graph.removeDeadNodes()
    try graph.inferTypes(pool: context.pool)
  }

  /// The cost of a model as it will be without the rows that nobody reads.
  private static func cost(
    _ graph: Graph, _ kind: Reduction.Cost, _ context: PassContext
  ) throws -> Double {
    guard kind == .flops else { return Double(graph.parameterCount) }
    var model = Hybrid(graph)
    _ = try Trim().run(on: &model, context: context)
    let data = try context.samples(for: Select.name)
    let form = BatchForm(model.graph, sample: data.shape)
    let shapes = try InputShapes.of(model.graph, batch: form.samples(1), data: data)
    return Double(
      try ModelCost(model.graph, inputShapes: shapes, samples: form.count ?? 1, pool: context.pool).total
        .flops)
  }

  /// The mixers that stand in the model.
  private func standing(_ state: [Int]) -> [MixerNode] {
    let sized = zip(slots, state).compactMap { $1 < $0.mixers.count ? $0.mixers[$1] : nil }
    guard !isFree else { return sized }
    return mixers.whole.filter { mixer in !sized.contains { $0.layer.index == mixer.layer.index } } + sized
  }

  /// The slots that say nothing: those of the heads of a layer where a mixer stands.
  private func isVoid(_ slot: ReductionSlot, _ state: [Int]) -> Bool {
    guard isFree, let layer = slot.part.attention else { return false }
    return zip(slots, state).contains { other, place in
      if case .mixer(layer) = other.part { place > 0 } else { false }
    }
  }

  /// The model with the mixers, and each part of the size at its place.
  private func model(_ state: [Int]) throws -> Graph {
    var reduced = teacher
    for (slot, place) in zip(slots, state) where place > 0 && !isVoid(slot, state) {
      try slot.apply(place, &reduced.graph)
    }
    try finish(&reduced.graph)
    return try MixerNode.transplant(standing(state), into: reduced, registry: context.registry).graph
  }

  private func point(_ state: [Int]) throws -> Reduction.Point {
    let graph = try model(state)
    let standing = standing(state)
    var sizes = Reduction.Sizes(
      replaced: standing.map(\.layer.index).sorted(),
      channels: ChannelSite.all(in: teacher.graph).map(\.channels),
      scores: [Int](repeating: 0, count: teacher.layers.count),
      values: [Int](repeating: 0, count: teacher.layers.count),
      mixers: [Int](repeating: 0, count: teacher.layers.count))
    for (slot, place) in zip(slots, state) where place > 0 && !isVoid(slot, state) {
      switch slot.part {
      case .channels(let index): sizes.channels[index] = slot.sizes[place]
      case .scores(let index): sizes.set(\.scores, slot.sizes[place], layer: index, of: teacher)
      case .values(let index): sizes.set(\.values, slot.sizes[place], layer: index, of: teacher)
      case .mixer(let index):
        // The first mixer is whole.
        if isFree, place == 1 { continue }
        sizes.set(\.mixers, slot.sizes[place], layer: index, of: teacher)
      }
    }
    let fidelity = try meter.measure(graph)
    return Reduction.Point(
      cost: try ReductionSearch.cost(graph, reduction.cost, context) / max(whole, 1),
      damage: fidelity.damage, agreement: fidelity.agreement, sizes: sizes)
  }

  /// The step that adds least to the damage for what it saves, as a slot and the place it goes to; of equal ones that in the
  /// later part.
  private func next(_ state: [Int]) -> (slot: Int, place: Int)? {
    var best: (rate: Double, slot: Int, place: Int)?
    for (index, (slot, place)) in zip(slots, state).enumerated()
    where place + 1 < slot.sizes.count && !isVoid(slot, state) {
      var (damage, cost) = (slot.damages[place], slot.costs[place])
      let isFirst = isFree && place == 0 && !slot.mixers.isEmpty
      if isFirst, case .mixer(let layer) = slot.part {
        // With its attention goes what that lost and saved.
        for (other, place) in zip(slots, state) where other.part.attention == layer {
          damage += other.damages[place]
          cost += other.costs[place] - other.costs[0]
        }
      }
      for next in isFirst ? 1..<slot.sizes.count : place + 1..<place + 2 {
        let saved = cost - slot.costs[next]
        if isFirst, saved <= 0 { continue }
        let rate = max(0, slot.damages[next] - damage) / max(saved, .leastNormalMagnitude)
        if rate <= best?.rate ?? .infinity { best = (rate, index, next) }
      }
    }
    return best.map { ($0.slot, $0.place) }
  }

  /// The models on the way, each measured: first that with the mixers alone, last that with the least cost, or the first
  /// beyond a bound.
  func points() throws -> [Reduction.Point] {
    var state = slots.map { _ in 0 }
    var points = [try point(state)]
    func cost(_ state: [Int]) -> Double {
      zip(slots, state).reduce(0) { sum, entry in
        let (slot, place) = entry
        return isVoid(slot, state) ? sum : sum + (slot.costs[place] - slot.costs[0]) / whole
      }
    }
    let least = cost(slots.map { $0.sizes.count - 1 })
    var measured = 0.0
    while let step = next(state), let last = points.last, reduction.spent(last) <= ReductionSearch.reach,
      last.cost > reduction.goal
    {
      state[step.slot] = step.place
      let isAtGoal = points[0].cost + cost(state) <= reduction.goal
      guard
        isAtGoal || next(state) == nil
          || cost(state) <= measured + least / Double(ReductionSearch.measurements)
      else { continue }
      measured = cost(state)
      points.append(try point(state))
      context.progress(
        Select.name, points.count, ReductionSearch.measurements + 1, "\(points.count - 1) reductions")
    }
    return points
  }
}

extension Reduction.Sizes {
  /// Notes the size of a part of the layer with that number.
  fileprivate mutating func set(
    _ part: WritableKeyPath<Reduction.Sizes, [Int]>, _ size: Int, layer index: Int, of teacher: Teacher
  ) {
    if let place = teacher.layers.firstIndex(where: { $0.index == index }) {
      self[keyPath: part][place] = size
    }
  }
}
