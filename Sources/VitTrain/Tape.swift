public import VitIR
public import VitRuntime

/// The reverse mode over a planned graph: gradients of its parameters and inputs, from those of its outputs.
///
/// One pass: `executor.run()`, then add the loss's gradients into `outputGradients`, then `backward()`.
/// Parameter gradients add up over passes until `zeroGradients()`; those of other values live only as long as
/// the pass needs them. Values that are one memory under several shapes share one gradient, so a reshape
/// costs nothing.
public final class Tape {
  private struct Step {
    let operation: any Operation
    let context: KernelContext
    let results: [View?]
    let operands: [View?]
    /// Gradients whose first contribution comes from this step.
    let fresh: [View]
  }

  /// The executor whose last run is differentiated; it was planned for training.
  public let executor: Executor
  /// The parameters, in the order in which they were given.
  public let parameters: [ValueID]
  /// Their gradients.
  public let parameterGradients: [View]
  /// For each output of the graph the gradient that the loss adds to; `nil` where no parameter can change it.
  public let outputGradients: [View?]
  private let arena: Arena
  private var steps: [Step] = []
  private var inputGradients: [Int: View] = [:]

  /// A tape for `parameters` (constants) and, for checks, `inputs` of the graph.
  ///
  /// Throws where an operation between them and the outputs has no gradient, naming it.
  public init(_ executor: Executor, parameters: [ValueID], inputs: [ValueID] = []) throws {
    self.executor = executor
    self.parameters = parameters
    let graph = executor.graph
    let plan = executor.plan
    let layout = try GradientLayout(graph, plan, wanted: parameters + inputs)
    arena = try Arena(byteCount: layout.byteCount, for: "the gradients")
    let arena = arena
    func view(_ id: ValueID?) -> View? {
      guard let id, let offset = layout.offset(of: id) else { return nil }
      return arena.view(plan.types[id.index], at: offset)
    }
    parameterGradients = parameters.map { id in
      view(id) ?? View(base: arena.view(TensorType(.f32, [0]), at: 0).base, element: .f32, shape: [0])
    }
    for id in inputs { inputGradients[id.index] = view(id) }
    outputGradients = graph.outputs.map { view($0.value) }
    for (step, fresh) in layout.steps {
      let node = graph.nodes[step.node]
      steps.append(
        Step(
          operation: step.operation, context: step.context, results: node.results.map(view),
          operands: node.operands.map(view), fresh: fresh.compactMap(view)))
    }
  }

  /// The bytes that gradients take.
  public var byteCount: Int { arena.byteCount }

  /// The gradient of an input that was asked for.
  public func gradient(ofInput id: ValueID) -> View? { inputGradients[id.index] }

  /// Sets the gradients of parameters, inputs and outputs to zero.
  public func zeroGradients() {
    for view in parameterGradients { view.zero() }
    for view in inputGradients.values { view.zero() }
    zeroOutputGradients()
  }

  /// Sets the gradients of the outputs to zero, where more is to be added to those of the parameters.
  public func zeroOutputGradients() {
    for case let view? in outputGradients { view.zero() }
  }

  /// Adds to the gradients of parameters and inputs what follows from those of the outputs.
  public func backward() {
    for step in steps {
      for view in step.fresh { view.zero() }
      step.operation.vjp(step.context, resultGradients: step.results, operandGradients: step.operands)
    }
  }
}

/// Which values have a gradient, and where it lies.
private struct GradientLayout {
  private var offsets: [Int?]
  private let home: [Int]
  /// The steps of the reverse pass, with the values whose gradient first appears there.
  private(set) var steps: [(Plan.Step, fresh: [ValueID])] = []
  private(set) var byteCount = 0

  func offset(of id: ValueID) -> Int? { offsets[home[id.index]] }

  init(_ graph: Graph, _ plan: Plan, wanted: [ValueID]) throws {
    let count = graph.values.count
    var home = Array(0..<count)
    for step in plan.steps where !step.runs {
      let node = graph.nodes[step.node]
      if case .alias(let operand) = step.operation.memory, let source = node.operands[operand] {
        home[node.results[0].index] = home[source.index]
      }
    }
    // Forward: what depends on the wanted values. Backward: of that, what an output depends on.
    var reached = [Bool](repeating: false, count: count)
    for id in wanted { reached[home[id.index]] = true }
    for step in plan.steps where step.runs {
      let node = graph.nodes[step.node]
      let active = node.operands.contains { $0.map { reached[home[$0.index]] } ?? false }
      guard active else { continue }
      for id in node.results where plan.types[id.index].element.isFloat { reached[home[id.index]] = true }
    }
    var needed = [Bool](repeating: false, count: count)
    var permanent = [Bool](repeating: false, count: count)
    for id in wanted {
      permanent[home[id.index]] = true
      needed[home[id.index]] = true
    }
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
    // Offsets: a gradient appears with its last consumer and goes when its producer's step has run.
    self.home = home
    offsets = [Int?](repeating: nil, count: count)
    var next = 0
    func bytes(_ index: Int) -> Int {
      (plan.types[index].count * plan.types[index].element.size + 63) / 64 * 64
    }
    for index in 0..<count where permanent[index] && home[index] == index {
      offsets[index] = next
      next += max(bytes(index), 64)
    }
    var free: [(offset: Int, size: Int)] = []
    for step in active {
      let node = graph.nodes[step.node]
      var fresh: [ValueID] = []
      for case let id? in node.operands where reached[home[id.index]] && offsets[home[id.index]] == nil {
        let size = max(bytes(home[id.index]), 64)
        if let index = free.indices.filter({ free[$0].size >= size }).min(by: {
          free[$0].size < free[$1].size
        }) {
          offsets[home[id.index]] = free[index].offset
          free[index] = (free[index].offset + size, free[index].size - size)
          if free[index].size == 0 { free.remove(at: index) }
        } else {
          offsets[home[id.index]] = next
          next += size
        }
        fresh.append(id)
      }
      steps.append((step, fresh))
      for id in node.results where home[id.index] == id.index && !permanent[id.index] {
        if let offset = offsets[id.index] { free.append((offset, max(bytes(id.index), 64))) }
      }
    }
    byteCount = next
  }
}
