internal import VitIR
internal import VitOps
internal import VitRuntime
internal import Glibc

/// Finds out what each part of a teacher loses, and saves, when it alone becomes smaller.
///
/// What half of a perceptron or of a head does to the outputs is measured once for each; for other sizes it follows the error of
/// least squares, which is known exactly. Merging is measured for few patches and for many, with a power of their number
/// between; a mixer at each of its widths. What merging does is not made up for by solving, as much of the rest is, and counts more.
struct ReductionSurvey {
  private let reduction: Reduction
  private let teacher: Teacher
  private let meter: FidelityMeter
  private let context: PassContext
  private let whole, reference: Double
  private var slots: [ReductionSlot] = []
  private var total = 0

  /// How many times more of the damage stays that merging does, when a model is solved, than of what else is left out: by half
  /// to two thirds of that comes back.
  private static let lasting = 3.0

  /// A survey that has measured nothing yet.
  init(_ reduction: Reduction, teacher: Teacher, meter: FidelityMeter, context: PassContext) throws {
    (self.reduction, self.teacher, self.meter, self.context) = (reduction, teacher, meter, context)
    whole = try ReductionSurvey.cost(teacher.graph, reduction.cost, in: reduction.precision, context)
    reference = try ReductionSurvey.cost(teacher.graph, reduction.cost, in: .f32, context)
  }

  /// Measures each part that no mixer replaces; each mixer, too, where attention may stay, and it is `isFree` which do.
  consuming func model(_ mixers: MixerChoices, isFree: Bool) throws -> ReducibleModel {
    let perceptrons = ChannelSite.all(in: teacher.graph)
    let replaced = Set(mixers.byLayer.map(\.layer))
    let heads = try HeadSite.all(in: teacher.graph, layers: teacher.layers)
      .filter { isFree || !replaced.contains($0.layer) }
    let merging = try reduction.merges && reduction.cost != .parameters ? mergingLayers(mixers.trial) : []
    let blocks =
      try reduction.removesBlocks
      ? BlockMap.solved(of: teacher, images: reduction.images, context: context)
        .filter { isFree || !replaced.contains($0.layer) } : []
    let sharing =
      try reduction.shares && teacher.graph.mergedTokens == nil
      ? SharedMap.solved(
        of: teacher, correlation: reduction.leastCorrelation, images: reduction.images, context: context
      ).filter { isFree || !replaced.contains($0.layer) } : []
    total =
      perceptrons.count + 2 * heads.count + mixers.byLayer.count + merging.count + blocks.count
      + sharing.count
    try look(at: perceptrons)
    for (layer, choices) in mixers.byLayer { try look(at: choices, layer: layer, isFree: isFree) }
    try look(at: heads)
    for map in blocks { try look(at: map) }
    for map in sharing { try look(at: map) }
    let nodes = try nodeCosts()
    for layer in merging { try look(atPatchesBehind: layer, nodes) }
    return ReducibleModel(
      teacher: teacher, slots: slots, mixers: mixers.trial, isFree: isFree, whole: whole,
      reference: reference,
      nodes: nodes,
      tokens: tokens.all, patches: tokens.patches, context: context)
  }

  /// The cost of a model as it will be without the rows that nobody reads, its time once weights are brought into `precision`.
  static func cost(
    _ graph: Graph, _ kind: Reduction.Cost, in precision: Precision, _ context: PassContext
  ) throws -> Double {
    guard kind != .parameters else { return Double(graph.parameterCount) }
    return try costs(trimmed(graph, context), kind, in: precision, context).reduce(0, +)
  }

  private func cost(of graph: Graph) throws -> Double {
    try ReductionSurvey.cost(graph, reduction.cost, in: reduction.precision, context)
  }

  /// A model without the rows that nobody reads.
  static func trimmed(_ graph: Graph, _ context: PassContext) throws -> Graph {
    var model = Hybrid(graph)
    _ = try Trim().run(on: &model, context: context)
    return model.graph
  }

  /// What runs on `count` samples, or on as many as a fixed batch has.
  static func shapes(
    _ graph: Graph, _ context: PassContext, samples count: Int = 1
  ) throws -> (shapes: [[Int]], samples: Int) {
    let data = try context.samples(for: Select.name)
    let form = BatchForm(graph, sample: data.shape)
    return (try InputShapes.of(graph, batch: form.samples(count), data: data), form.count ?? count)
  }

  /// What each node of a model costs for a sample: operations, or else nanoseconds.
  private static func costs(
    _ graph: Graph, _ kind: Reduction.Cost, in precision: Precision, _ context: PassContext
  ) throws -> [Double] {
    let (shapes, samples) = try shapes(graph, context)
    let cost = try ModelCost(graph, inputShapes: shapes, samples: samples, pool: context.pool)
    return zip(graph.nodes, cost.nodes).map { node, cost in
      kind == .flops
        ? Double(cost.flops) : CostTable.nanoseconds(node.name, cost, weights: precision.element)
    }
  }

  /// What each node of the teacher costs. Rows that nobody reads are in the last layer.
  private func nodeCosts() throws -> [Double] {
    guard reduction.cost != .parameters else { return [] }
    var costs = try ReductionSurvey.costs(
      teacher.graph, reduction.cost, in: reduction.precision, context)
    guard let last = teacher.layers.last.flatMap({ teacher.graph.place(defining: $0.core) }) else {
      return costs
    }
    let tail = costs[last...].reduce(0, +)
    let unread = costs.reduce(0, +) - whole
    for place in last..<costs.count { costs[place] *= max(0, 1 - unread / max(tail, 1)) }
    return costs
  }

  // MARK: Channels

  private mutating func look(at perceptrons: [ChannelSite]) throws {
    let prune = Prune(images: reduction.images, tile: reduction.tile)
    for group in Prune.groups(perceptrons.indices.map { ($0, perceptrons[$0].channels) }) {
      let moments = try prune.moments(group.map { perceptrons[$0] }, teacher.graph, context)
      for (place, moments) in zip(group, moments) {
        let site = perceptrons[place]
        let sizes = ReductionSlot.sizes(site.channels, tile: reduction.tile)
        let (surgeries, errors) = try Surgery.all(
          site, in: teacher.graph, moments: moments, keeping: sizes, .ridge, pool: context.pool)
        let error = sizes.map { size in errors.first { $0.left <= size }?.error ?? 0 }
        try add(.channels(perceptron: place), sizes, error, at: site.node) {
          try surgeries[$0].apply(to: &$1)
        }
      }
    }
  }

  private mutating func look(at heads: [HeadSite]) throws {
    let factorise = Factorise(images: reduction.images, tile: reduction.headTile)
    let factors = try factorise.factors(heads, teacher.graph, context)
    for (site, factors) in zip(heads, factors) {
      let (width, values) = (site.weights.headDim, site.weights.valueDim)
      let ranks = ReductionSlot.sizes(width, tile: factorise.tile)
      try add(.scores(layer: site.layer), ranks, ranks.map(factors.scoreError), at: site.node) {
        try factors.apply(scores: ranks[$0], values: values, to: &$1)
      }
      let widths = ReductionSlot.sizes(values, tile: factorise.tile)
      try add(.values(layer: site.layer), widths, widths.map(factors.valueError), at: site.node) {
        try factors.apply(scores: width, values: widths[$0], to: &$1)
      }
    }
  }

  /// Measures a part at about half of its size; its damage at others goes with the error of least squares.
  private mutating func add(
    _ part: ReductionSlot.Part, _ sizes: [Int], _ errors: [Double], at node: Int,
    _ apply: @escaping (Int, inout Graph) throws -> Void
  ) throws {
    guard sizes.count > 1 else { return }
    let middle = sizes.count / 2
    var graph = teacher.graph
    try apply(middle, &graph)
    try graph.finish(pool: context.pool)
    let scale =
      max(0, try meter.measure(graph, differingFrom: teacher, at: node).damage)
      / max(errors[middle], .leastNormalMagnitude)
    let saved = whole - (try cost(of: graph))
    let each = saved / Double(max(1, sizes[0] - sizes[middle]))
    add(
      ReductionSlot(
        part: part, node: node, sizes: sizes, damages: errors.map { scale * $0 },
        costs: sizes.map { whole - each * Double(sizes[0] - $0) }, change: .surgery(apply)))
  }

  private mutating func add(_ slot: ReductionSlot) {
    slots.append(slot)
    context.progress(Select.name, slots.count, total, "measuring what the model can do without")
  }

  // MARK: Mixers

  /// Notes what can stand in a layer's place.
  private mutating func look(at choices: [MixerChoice], layer: Int, isFree: Bool) throws {
    guard let node = teacher.layer(layer).flatMap({ teacher.graph.place(defining: $0.core) }) else { return }
    let worth = try choices.map { choice in
      let graph = try MixerNode.transplant([choice.mixer], into: teacher, registry: context.registry).graph
      return MixerWorth(
        choice.preference, damage: choice.damage, error: choice.error,
        cost: try cost(of: graph))
    }
    let kept = MixerWorth.kept(worth, whole: whole)
    let mixers = kept.map { choices[$0].mixer }
    // What stands there in any case adds to no step.
    let isCertain = !isFree && mixers.count == 1
    add(
      ReductionSlot(
        part: .mixer(layer: layer), node: node,
        sizes: (isFree ? [0] : []) + mixers.map(\.width),
        damages: (isFree ? [0] : []) + kept.map { isCertain ? 0 : worth[$0].damage },
        costs: (isFree ? [whole] : []) + kept.map { worth[$0].cost },
        change: .mixers((isFree ? [nil] : []) + mixers)))
  }

  // MARK: Blocks

  /// Measures a linear map in the place of a block.
  private mutating func look(at map: BlockMap) throws {
    guard let node = teacher.layer(map.layer).flatMap({ teacher.graph.place(defining: $0.core) }) else {
      return
    }
    var hybrid = Hybrid(of: teacher)
    try map.apply(to: &hybrid, registry: context.registry)
    let damage = try meter.measure(hybrid.graph, differingFrom: teacher, at: node).damage
    add(
      ReductionSlot(
        part: .block(layer: map.layer), node: node, sizes: [1, 0], damages: [0, max(0, damage)],
        costs: [whole, try cost(of: hybrid.graph)], change: .map(map)))
  }

  // MARK: Maps

  /// Measures a layer that uses the map of the one before.
  private mutating func look(at map: SharedMap) throws {
    guard let node = teacher.layer(map.layer).flatMap({ teacher.graph.place(defining: $0.core) }) else {
      return
    }
    var hybrid = Hybrid(of: teacher)
    try map.apply(to: &hybrid, context: context)
    let damage = try meter.measure(hybrid.graph).damage
    add(
      ReductionSlot(
        part: .map(layer: map.layer), node: node, sizes: [1, 0], damages: [0, max(0, damage)],
        costs: [whole, try cost(of: hybrid.graph)],
        change: .sharing(map)))
  }

  // MARK: Patches

  /// The tokens of the first layer, and how many of them are patches.
  private var tokens: (all: Int, patches: Int) {
    guard let input = teacher.layers.first?.input,
      let count = teacher.graph.type(input).shape.dropFirst().first?.fixedValue
    else { return (1, 0) }
    return (count, TokenGeometry(teacher.graph, tokens: count).grid.count)
  }

  /// The layers behind which patches can be merged, whether the teacher's attention stands there and behind them, or `mixers`;
  /// without the last, behind which nothing is saved.
  private func mergingLayers(_ mixers: [MixerNode]) throws -> [Int] {
    let (_, patches) = tokens
    // Where the teacher drops some, the others are not merged.
    guard teacher.graph.mergedTokens == nil, patches >= reduction.fewestPatches,
      TokenMatch.most(of: patches) > 0
    else { return [] }
    var mixed = Hybrid(of: teacher)
    (mixed.graph, mixed.layers) = try MixerNode.transplant(mixers, into: teacher, registry: context.registry)
    return teacher.layers.indices.dropLast().filter { place in
      [Hybrid(of: teacher), mixed].allSatisfy { (try? merged($0, behind: place, 1)) != nil }
    }
  }

  private func merged(_ hybrid: Hybrid, behind place: Int, _ count: Int) throws -> Graph {
    var (hybrid, counts) = (hybrid, hybrid.layers.map { _ in 0 })
    counts[place] = count
    _ = try Merge(counts: counts).run(on: &hybrid, context: context)
    return hybrid.graph
  }

  /// Measures merging behind a layer, for an eighth of the most patches and for a half of them. What it costs itself is what is
  /// left between the cost as it is and what the nodes behind it, by their tokens, would cost.
  private mutating func look(atPatchesBehind place: Int, _ nodes: [Double]) throws {
    let layer = teacher.layers[place]
    guard let node = teacher.graph.place(defining: layer.core) else { return }
    let sizes = ReductionSlot.merges(tokens.patches)
    let measured = Set([sizes.count / 8, sizes.count / 2].map { sizes[max(1, $0)] }).sorted()
    var (damages, own): ([Double], Double) = ([], 0)
    for count in measured {
      let graph = try merged(Hybrid(of: teacher), behind: place, count)
      damages.append(max(0, try meter.measure(graph, differingFrom: teacher, at: node).damage))
      let gone = nodes[(node + 1)...].reduce(0, +) * Double(count) / Double(tokens.all)
      own = max(own, try cost(of: graph) - (whole - gone))
    }
    let law = PowerLaw(through: zip(measured, damages).map { (Double($0), $1) })
    add(
      ReductionSlot(
        part: .patches(layer: layer.index), node: node, sizes: sizes,
        damages: sizes.map { ReductionSurvey.lasting * law(Double($0)) },
        costs: sizes.map { $0 > 0 ? whole + own : whole },
        change: .merging))
  }
}

/// `c · xᵖ` through one or two points, with a power from 1 to 3.
private struct PowerLaw {
  private let factor, power: Double

  init(through points: [(x: Double, y: Double)]) {
    guard let last = points.last, let first = points.first, last.x > 0, last.y > 0 else {
      (factor, power) = (0, 1)
      return
    }
    let steepest = 3.0
    let isTwo = first.x < last.x && first.y > 0
    let slope = isTwo ? log(last.y / first.y) / log(last.x / first.x) : points.count > 1 ? steepest : 1
    power = min(max(slope, 1), steepest)
    factor = last.y / pow(last.x, power)
  }

  func callAsFunction(_ x: Double) -> Double { x > 0 ? factor * pow(x, power) : 0 }
}
