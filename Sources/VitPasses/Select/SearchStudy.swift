package import VitIR

/// How good a search is: how well the sum of single damages orders models, and whether the greedy walk finds what others do not.
/// For `tools/bench search`.
package struct SearchStudy {
  /// A model that parts were made smaller of at random.
  package struct Sample {
    /// The sum of what its parts lose alone.
    package let estimated: Double
    /// What it is, and loses.
    package let point: Reduction.Point

    /// What it loses.
    package var measured: Double { point.damage }
    /// The part of the teacher's cost.
    package var cost: Double { point.cost }
  }

  private let search: ReductionSearch
  private let context: PassContext

  /// A study of what `select` with this reduction would search, on a hybrid with mixers on trial or none; `images` of the held-out
  /// ones are measured on.
  package init(_ hybrid: Hybrid, _ reduction: Reduction, images: Int, context: PassContext) throws {
    let teacher = try hybrid.teacher(for: Select.name)
    let mixers = try MixerNode.all(in: hybrid, teacher: teacher)
    let data = try context.heldOut ?? context.samples(for: Select.name)
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: data, samples: data.spread(images), context: context)
    search = try ReductionSearch(
      reduction, teacher: teacher,
      mixers: MixerChoices(
        mixers, reduction, of: teacher, meter: meter, context: context), isFree: true, meter: meter,
      context: context)
    self.context = context
  }

  /// So many models whose parts have sizes at random, each of them changed with a probability that is drawn, too.
  package func combinations(_ count: Int) throws -> [Sample] {
    var random = context.random("combinations")
    return try (0..<count).map { _ in
      let part = random.uniform()
      let state = search.model.random(&random) { $0.uniform() < part }
      return try sample(state)
    }
  }

  /// The models of the greedy walk.
  package func greedy() throws -> [Reduction.Point] { try search.walk().points }

  /// So many models to which random steps lead, each stopped when it costs no more than `cost` of the teacher's by the estimate
  /// of the search.
  package func rivals(_ count: Int, cost: Double) throws -> [Sample] {
    var random = context.random("rivals")
    return try (0..<count).map { done in
      var state = search.model.start
      while search.model.cost(state) > cost * search.model.reference {
        guard let next = search.model.step(state, &random) else { break }
        state = next
      }
      context.progress(Select.name, done + 1, count, "rivals")
      return try sample(state)
    }
  }

  private func sample(_ state: [Int]) throws -> Sample {
    try Sample(estimated: search.model.damage(state), point: search.point(state))
  }
}

extension ReducibleModel {
  /// Sizes at random for the slots that are chosen.
  fileprivate func random(_ random: inout SplitMix, _ isChosen: (inout SplitMix) -> Bool) -> [Int] {
    var state = start
    for (index, slot) in slots.enumerated() where slot.sizes.count > 1 && isChosen(&random) {
      var candidate = state
      candidate[index] = 1 + random.below(slot.sizes.count - 1)
      if isPossible(candidate) { state = candidate }
    }
    return state
  }

  /// A random part one step smaller; `nil` where none can be.
  fileprivate func step(_ state: [Int], _ random: inout SplitMix) -> [Int]? {
    let open = zip(slots, state).enumerated().filter { $1.1 + 1 < $1.0.sizes.count }.map(\.offset)
    for index in random.shuffled(open) {
      var candidate = state
      candidate[index] += 1
      if isPossible(candidate), cost(candidate) < cost(state) { return candidate }
    }
    return nil
  }
}
