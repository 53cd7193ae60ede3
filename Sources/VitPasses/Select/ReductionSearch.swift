internal import VitIR
internal import VitOps
internal import VitRuntime

/// Looks for the channels that perceptrons can do without, beside mixers that are chosen already.
///
/// What a perceptron without half of its channels does to the outputs is measured once for each, alone in the teacher; for
/// other counts it follows the error of least squares, which is known exactly. Steps are taken in the order of what they add to
/// the damage for what they save, and the model is measured as it stands whenever the cost has fallen by a sixteenth: the sum
/// of single damages orders well, and says too little where they are large, so that measurements alone decide where to stop.
struct ReductionSearch {
  private let reduction: Reduction
  private let teacher: Teacher
  private let mixers: [MixerNode]
  private let meter: FidelityMeter
  private let context: PassContext
  private var slots: [Slot] = []
  private let whole: Double

  /// One perceptron.
  private struct Slot {
    /// How many channels it may keep, falling; first all.
    let counts: [Int]
    /// What it is without some, for each count.
    let surgeries: [Surgery]
    /// The damage that it does alone, and the cost of the model, for each count.
    let damages, costs: [Double]
  }

  /// How many times the cost is measured on the way to nothing.
  private static let measurements = 16
  /// Into how many parts channels are cut.
  private static let parts = 8

  /// Measures each perceptron of the teacher alone.
  init(
    _ reduction: Reduction, teacher: Teacher, mixers: [MixerNode], meter: FidelityMeter,
    context: PassContext
  ) throws {
    (self.reduction, self.teacher, self.mixers) = (reduction, teacher, mixers)
    (self.meter, self.context) = (meter, context)
    whole = try ReductionSearch.cost(teacher.graph, teacher, reduction.cost, context)
    let sites = ChannelSite.all(in: teacher.graph)
    let prune = Prune(images: reduction.images, tile: reduction.tile)
    for group in Prune.groups(sites.indices.map { ($0, sites[$0].channels) }) {
      let moments = try prune.moments(group.map { sites[$0] }, teacher.graph, context)
      for (place, moments) in zip(group, moments) {
        slots.append(try slot(sites[place], moments))
        context.progress(Select.name, slots.count, sites.count, "measuring perceptron \(place)")
      }
    }
  }

  /// The counts that a perceptron may keep: whole tiles, by eighths of its channels.
  private func counts(_ channels: Int) -> [Int] {
    var counts = [channels]
    for part in (1..<ReductionSearch.parts).reversed() {
      let exact = Double(part * channels) / Double(ReductionSearch.parts * reduction.tile)
      let count = reduction.tile * max(1, Int(exact.rounded()))
      if let last = counts.last, count < last { counts.append(count) }
    }
    return counts
  }

  private func slot(_ site: ChannelSite, _ moments: ChannelMoments) throws -> Slot {
    let counts = counts(site.channels)
    let (surgeries, errors) = try Surgery.all(
      site, in: teacher.graph, moments: moments, keeping: counts, .ridge, pool: context.pool)
    let error = counts.map { count in errors.first { $0.left <= count }?.error ?? 0 }
    let middle = counts.count / 2
    var graph = teacher.graph
    try surgeries[middle].apply(to: &graph)
    try graph.inferTypes(pool: context.pool)
    let scale = max(0, try meter.measure(graph).damage) / max(error[middle], .leastNormalMagnitude)
    let saved = whole - (try ReductionSearch.cost(graph, teacher, reduction.cost, context))
    let perChannel = saved / Double(max(1, site.channels - counts[middle]))
    return Slot(
      counts: counts, surgeries: surgeries, damages: error.map { scale * $0 },
      costs: counts.map { whole - perChannel * Double(site.channels - $0) })
  }

  /// The cost of a model as it will be without the rows that nobody reads.
  private static func cost(
    _ graph: Graph, _ teacher: Teacher, _ kind: Reduction.Cost, _ context: PassContext
  ) throws -> Double {
    var model = Hybrid(graph)
    _ = try Trim().run(on: &model, context: context)
    guard kind == .flops else { return Double(graph.parameterCount) }
    let data = try context.samples(for: Select.name)
    let form = BatchForm(model.graph, sample: data.shape)
    let shapes = try InputShapes.of(model.graph, batch: form.samples(1), data: data)
    return Double(
      try ModelCost(model.graph, inputShapes: shapes, samples: form.count ?? 1, pool: context.pool).total
        .flops)
  }

  /// The model with the mixers and so many channels in each perceptron.
  private func model(_ state: [Int]) throws -> Graph {
    var reduced = teacher
    for (slot, place) in zip(slots, state) where place > 0 {
      try slot.surgeries[place].apply(to: &reduced.graph)
    }
    try reduced.graph.inferTypes(pool: context.pool)
    return try MixerNode.transplant(mixers, into: reduced, registry: context.registry).graph
  }

  private func point(_ state: [Int]) throws -> Reduction.Point {
    let graph = try model(state)
    return Reduction.Point(
      cost: try ReductionSearch.cost(graph, teacher, reduction.cost, context) / max(whole, 1),
      damage: try meter.measure(graph).damage, counts: zip(slots, state).map { $0.counts[$1] })
  }

  /// The step that adds least to the damage for what it saves; of equal ones that in the later perceptron.
  private func next(_ state: [Int]) -> Int? {
    var best: (rate: Double, slot: Int)?
    for (index, (slot, place)) in zip(slots, state).enumerated() where place + 1 < slot.counts.count {
      let rise = max(0, slot.damages[place + 1] - slot.damages[place])
      let rate = rise / max(slot.costs[place] - slot.costs[place + 1], .leastNormalMagnitude)
      if rate <= best?.rate ?? .infinity { best = (rate, index) }
    }
    return best?.slot
  }

  /// The models on the way, each measured: first that with the mixers alone, last that with the least cost, or the first
  /// beyond a bound.
  func points() throws -> [Reduction.Point] {
    var state = slots.map { _ in 0 }
    var points = [try point(state)]
    func cost() -> Double { zip(slots, state).reduce(0) { $0 + ($1.0.costs[$1.1] - whole) / whole } }
    let least = slots.reduce(0) { $0 + (($1.costs.last ?? whole) - whole) / whole }
    var measured = 0.0
    while let slot = next(state), let last = points.last, last.damage <= reduction.limit,
      last.cost > reduction.goal
    {
      state[slot] += 1
      let isAtGoal = points[0].cost + cost() <= reduction.goal
      guard
        isAtGoal || next(state) == nil
          || cost() <= measured + least / Double(ReductionSearch.measurements)
      else { continue }
      measured = cost()
      points.append(try point(state))
      context.progress(
        Select.name, points.count, ReductionSearch.measurements + 1, "\(points.count - 1) reductions")
    }
    return points
  }
}
