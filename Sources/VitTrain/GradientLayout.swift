internal import VitIR
internal import VitRuntime

/// Which values have a gradient, and where it lies.
struct GradientLayout {
  /// One step of the reverse pass.
  struct Step {
    let step: Plan.Step
    /// Values whose gradient first appears there.
    let fresh: [ValueID]
    /// Parameters, by place, whose gradient is complete after it.
    let finished: [Int]
  }

  private var offsets: [Int?]
  private let home: [Int]
  /// The steps of the reverse pass.
  private(set) var steps: [Step] = []
  /// Where the parameters' sums over passes lie.
  private(set) var sums: [Int] = []
  /// Parameters, by place, that are outputs: the loss adds to their gradient, so it is complete only at the end.
  private(set) var outputParameters: [Int] = []
  private(set) var byteCount = 0

  func offset(of id: ValueID) -> Int? { offsets[home[id.index]] }

  init(_ graph: Graph, _ plan: Plan, parameters: [ValueID], inputs: [ValueID]) throws {
    let home = GradientLayout.homes(graph, plan)
    let count = graph.values.count
    let reached = GradientLayout.dependents(of: parameters + inputs, graph, plan, home)
    // Backward: of what depends on the wanted values, what an output depends on.
    var needed = [Bool](repeating: false, count: count)
    var permanent = [Bool](repeating: false, count: count)
    for id in inputs { permanent[home[id.index]] = true }
    for id in parameters + inputs { needed[home[id.index]] = true }
    for output in graph.outputs where reached[home[output.value.index]] {
      needed[home[output.value.index]] = true
      permanent[home[output.value.index]] = true
    }
    var active: [Plan.Step] = []
    for step in plan.steps.reversed() where step.runs {
      let node = graph.nodes[step.node]
      guard node.results.contains(where: { reached[home[$0.index]] && needed[home[$0.index]] }) else {
        continue
      }
      guard step.operation.isDifferentiable else {
        throw VitError(
          "operation '\(node.name)' has no gradient, so nothing before it can be trained",
          code: "no-gradient",
          location: node.location)
      }
      for case let id? in node.operands where reached[home[id.index]] { needed[home[id.index]] = true }
      active.append(step)
    }
    self.home = home
    offsets = [Int?](repeating: nil, count: count)
    place(active, graph, plan, reached: reached, permanent: permanent, parameters)
  }

  /// The value whose gradient each value shares: those that are one memory under several shapes have one.
  private static func homes(_ graph: Graph, _ plan: Plan) -> [Int] {
    var home = Array(graph.values.indices)
    for step in plan.steps where !step.runs {
      let node = graph.nodes[step.node]
      if case .alias(let operand) = step.operation.memory, let source = node.operands[operand] {
        home[node.results[0].index] = home[source.index]
      }
    }
    return home
  }

  /// What depends on the wanted values, by home.
  private static func dependents(
    of wanted: [ValueID], _ graph: Graph, _ plan: Plan, _ home: [Int]
  ) -> [Bool] {
    var reached = [Bool](repeating: false, count: graph.values.count)
    for id in wanted { reached[home[id.index]] = true }
    for step in plan.steps where step.runs {
      let node = graph.nodes[step.node]
      guard node.operands.contains(where: { $0.map { reached[home[$0.index]] } ?? false }) else { continue }
      for id in node.results where plan.types[id.index].element.isFloat { reached[home[id.index]] = true }
    }
    return reached
  }

  /// Offsets: a gradient appears with its last consumer; it goes when its producer's step has run, a parameter's when it has
  /// been added to its sum.
  private mutating func place(
    _ active: [Plan.Step], _ graph: Graph, _ plan: Plan, reached: [Bool], permanent: [Bool],
    _ parameters: [ValueID]
  ) {
    func bytes(_ index: Int) -> Int { plan.types[index].count * plan.types[index].element.size }
    var layout = ArenaLayout()
    sums = parameters.map { layout.allocate(bytes($0.index)) }
    for index in home.indices where permanent[index] && home[index] == index {
      offsets[index] = layout.allocate(bytes(index))
    }
    var lastUse: [Int: Int] = [:]
    for (index, step) in active.enumerated() {
      for case let id? in graph.nodes[step.node].operands { lastUse[home[id.index]] = index }
    }
    var ending: [Int: [Int]] = [:]
    for (place, id) in parameters.enumerated() {
      if permanent[home[id.index]] {
        outputParameters.append(place)
      } else if let last = lastUse[home[id.index]] {
        ending[last, default: []].append(place)
      }
    }
    for (index, step) in active.enumerated() {
      let node = graph.nodes[step.node]
      var fresh: [ValueID] = []
      for case let id? in node.operands where reached[home[id.index]] && offsets[home[id.index]] == nil {
        offsets[home[id.index]] = layout.allocate(bytes(home[id.index]))
        fresh.append(id)
      }
      let finished = ending[index] ?? []
      steps.append(Step(step: step, fresh: fresh, finished: finished))
      let done = node.results.map(\.index) + finished.map { home[parameters[$0].index] }
      for value in done where home[value] == value && !permanent[value] {
        if let offset = offsets[value] { layout.release(bytes(value), at: offset) }
      }
    }
    byteCount = layout.byteCount
  }
}
