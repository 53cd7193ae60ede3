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
  private let model: ReducibleModel
  private let meter: FidelityMeter
  private let measured: MeasuredCosts?
  private let context: PassContext

  /// How many times more than the limit may be lost before a model is solved: some of it comes back then.
  private static let reach = 3.0
  /// How many times the model is measured on the way to nothing.
  private static let measurements = 24
  /// To which part the cost falls from one measurement to the next.
  private static let fall = 0.93

  /// How often a model is measured at most while parts of a teacher are looked at: each part and each mixer alone, and the whole on the way.
  static func measurements(of teacher: Teacher) -> Int {
    let layers = teacher.layers.count { $0.isReplaceable }
    return ChannelSite.all(in: teacher.graph).count + 6 * layers + measurements + 1
  }

  /// Measures each part of the teacher alone that no mixer replaces; each mixer, too, where attention may stay, and it is `isFree`
  /// which do.
  init(
    _ reduction: Reduction, teacher: Teacher, mixers: NarrowMixers, isFree: Bool, meter: FidelityMeter,
    context: PassContext
  ) throws {
    (self.reduction, self.meter, self.context) = (reduction, meter, context)
    let (shapes, _) = try ReductionSurvey.shapes(teacher.graph, context)
    measured =
      try reduction.cost == .measured
      ? MeasuredCosts(ReductionSurvey.trimmed(teacher.graph, context), shapes: shapes, context: context) : nil
    model = try ReductionSurvey(reduction, teacher: teacher, meter: meter, context: context)
      .model(mixers, isFree: isFree)
  }

  private func point(_ state: [Int]) throws -> Reduction.Point {
    let graph = try model.graph(state)
    let fidelity = try meter.measure(graph)
    let cost =
      try measured?.part(ReductionSurvey.trimmed(graph, context))
      ?? ReductionSurvey.cost(graph, reduction.cost, context) / max(model.whole, .leastNormalMagnitude)
    return Reduction.Point(
      cost: cost, damage: fidelity.damage, agreement: fidelity.agreement,
      sizes: model.sizes(state))
  }

  /// The models on the way, each measured: first that with the mixers alone, last that with the least cost, or the first
  /// beyond a bound; each costs less than those before.
  func points() throws -> [Reduction.Point] {
    var state = model.start
    var points = [try point(state)]
    var last = points[0]
    var measured = model.cost(state)
    while let next = model.next(state), reduction.spent(last) <= ReductionSearch.reach,
      last.cost > reduction.goal
    {
      state = next
      let cost = model.cost(state)
      let isAtGoal = last.cost * cost <= reduction.goal * measured
      guard isAtGoal || model.next(state) == nil || cost <= ReductionSearch.fall * measured else { continue }
      measured = cost
      last = try point(state)
      if let least = points.last?.cost, last.cost < least { points.append(last) }
      context.progress(
        Select.name, points.count, ReductionSearch.measurements + 1, "\(points.count - 1) reductions")
    }
    return points
  }
}
