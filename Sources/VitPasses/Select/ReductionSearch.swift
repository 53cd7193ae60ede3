internal import VitIR
internal import VitRuntime

/// Looks for what a model can do without, beside mixers that are chosen already: hidden channels of perceptrons, channels of
/// heads where attention stays, and patches that are like others.
///
/// Steps are taken in the order of what they add to the damage for what they save, and the model is measured as it stands
/// whenever the cost has fallen by a fourteenth of what it was then: the sum of single damages orders well, and says too little
/// where they are large, so that measurements alone decide where to stop.
struct ReductionSearch {
  private let reduction: Reduction
  let model: ReducibleModel
  private let meter: FidelityMeter
  private let measured: MeasuredCosts?
  private let context: PassContext

  /// How many times more than the limit may be lost before a model is solved: some of it comes back then.
  private static let reach = 3.0
  /// How many times the model is measured on the way to nothing.
  private static let measurements = 24
  /// To which part the cost falls from one measurement to the next.
  private static let fall = 0.93

  /// How often a model is measured at most while parts of a teacher are looked at: each part alone, and the whole on the way.
  static func measurements(of teacher: Teacher) -> Int {
    let layers = teacher.layers.count { $0.isReplaceable }
    return ChannelSite.all(in: teacher.graph).count + 5 * layers + measurements + 1
  }

  /// Measures each part of the teacher alone that no mixer replaces; each mixer, too, where attention may stay, and it is `isFree`
  /// which do.
  init(
    _ reduction: Reduction, teacher: Teacher, mixers: MixerChoices, isFree: Bool, meter: FidelityMeter,
    context: PassContext
  ) throws {
    (self.reduction, self.meter, self.context) = (reduction, meter, context)
    measured =
      try reduction.cost == .measured
      ? MeasuredCosts(
        ReductionSurvey.trimmed(teacher.graph, context),
        shapes: ReductionSurvey.shapes(teacher.graph, context, samples: reduction.timedBatch).shapes,
        context: context) : nil
    model = try ReductionSurvey(reduction, teacher: teacher, meter: meter, context: context)
      .model(mixers, isFree: isFree)
  }

  /// A model, measured.
  func point(_ state: [Int]) throws -> Reduction.Point {
    let graph = try model.graph(state)
    let fidelity = try meter.measure(graph)
    return Reduction.Point(
      cost: try cost(of: graph), damage: fidelity.damage, agreement: fidelity.agreement,
      sizes: model.sizes(state))
  }

  /// The part of the teacher's cost that a model will have in its precision.
  private func cost(of graph: Graph) throws -> Double {
    guard let measured else {
      return try ReductionSurvey.cost(graph, reduction.cost, in: reduction.precision, context)
        / max(model.reference, .leastNormalMagnitude)
    }
    var timed = try ReductionSurvey.trimmed(graph, context)
    if let weights = reduction.precision.weights { _ = try Quantise(weights: weights).narrow(&timed) }
    return try measured.part(timed)
  }

  /// Keeps the costs that were measured in the checkpoint, once it is decided by them.
  func keepCosts() throws { try measured?.keep() }

  /// A walk from the mixers alone to the model with the least cost, or to the first beyond a bound.
  struct Walk {
    /// The models that were measured; each costs less than those before.
    fileprivate(set) var points: [Reduction.Point]
    /// All states on the way, and where on it the points are.
    fileprivate var states: [[Int]]
    fileprivate var places: [Int]
  }

  /// Measures the model halfway between a point and the next, and puts it there; false where there is none, or it does not cost
  /// less than the one and more than the other.
  func refine(_ walk: inout Walk, behind index: Int) throws -> Bool {
    guard walk.points.indices.contains(index + 1) else { return false }
    let place = (walk.places[index] + walk.places[index + 1]) / 2
    guard place > walk.places[index] else { return false }
    let point = try point(walk.states[place])
    guard point.cost < walk.points[index].cost, point.cost > walk.points[index + 1].cost else { return false }
    walk.points.insert(point, at: index + 1)
    walk.places.insert(place, at: index + 1)
    return true
  }

  /// Walks.
  func walk() throws -> Walk {
    let start = model.start
    var walk = Walk(points: [try point(start)], states: [start], places: [0])
    try goOn(&walk, removing: true)
    return walk
  }

  /// Walks another way behind a point, on which no more blocks go, where one does on the next stretch: that is a large step, and
  /// what is left of the way may be gone in small ones. False where there is no such way.
  func goAround(_ walk: inout Walk, behind index: Int) throws -> Bool {
    guard index >= 0, index + 1 < walk.points.count,
      walk.points[index + 1].sizes.removed.count > walk.points[index].sizes.removed.count
    else { return false }
    walk.points.removeSubrange((index + 1)...)
    walk.states.removeSubrange((walk.places[index] + 1)...)
    walk.places.removeSubrange((index + 1)...)
    try goOn(&walk, removing: false)
    return walk.points.count > index + 1
  }

  private func goOn(_ walk: inout Walk, removing: Bool) throws {
    guard var state = walk.states.last, var last = walk.points.last else { return }
    var measured = model.cost(state)
    while let next = model.next(state, removing: removing), reduction.spent(last) <= ReductionSearch.reach,
      last.cost > reduction.goal
    {
      state = next
      walk.states.append(state)
      let cost = model.cost(state)
      let isAtGoal = last.cost * cost <= reduction.goal * measured
      let isLast = model.next(state, removing: removing) == nil
      guard isAtGoal || isLast || cost <= ReductionSearch.fall * measured else { continue }
      measured = cost
      last = try point(state)
      if let least = walk.points.last?.cost, last.cost < least {
        walk.points.append(last)
        walk.places.append(walk.states.count - 1)
      }
      let done = walk.points.count
      context.progress(Select.name, done, ReductionSearch.measurements + 1, "\(done - 1) reductions")
    }
  }
}
