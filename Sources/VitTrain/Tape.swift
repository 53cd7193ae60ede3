public import VitIR
public import VitRuntime

/// The reverse mode over a planned graph: gradients of its parameters and inputs, from those of its outputs.
///
/// One pass: `executor.run()`, then add the loss's gradients into `outputGradients`, then `backward()`.
/// A parameter's gradient of one pass is complete before it is added to that of the passes before, until `zeroGradients()`:
/// the sum over micro-batches is `((g₁ + g₂) + g₃) + …`, whoever computes the `g`. Gradients of a pass live only as long as
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
    /// Gradients of parameters to which no later step of the pass adds, and the sums over passes that they are added to.
    let finished: [(gradient: View, sum: View)]
  }

  /// The executor whose last run is differentiated; it was planned for training.
  public let executor: Executor
  /// The parameters, in the order in which they were given.
  public let parameters: [ValueID]
  /// Their gradients, summed over passes.
  public let parameterGradients: [View]
  /// For each output of the graph the gradient that the loss adds to; `nil` where no parameter can change it.
  public let outputGradients: [View?]
  private let arena: Arena
  private var steps: [Step] = []
  private var inputGradients: [Int: View] = [:]
  /// The gradients of parameters that are outputs themselves.
  private let outputParameters: [(gradient: View, sum: View)]

  /// A tape for `parameters` (constants) and, for checks, `inputs` of the graph.
  ///
  /// Throws where an operation between them and the outputs has no gradient, naming it.
  public init(_ executor: Executor, parameters: [ValueID], inputs: [ValueID] = []) throws {
    self.executor = executor
    self.parameters = parameters
    let graph = executor.graph
    let plan = executor.plan
    let layout = try GradientLayout(graph, plan, parameters: parameters, inputs: inputs)
    arena = try Arena(byteCount: layout.byteCount, for: "keeping the gradients")
    let arena = arena
    func view(_ id: ValueID?) -> View? {
      guard let id, let offset = layout.offset(of: id) else { return nil }
      return arena.view(plan.types[id.index], at: offset)
    }
    let sums = zip(parameters, layout.sums).map { arena.view(plan.types[$0.index], at: $1) }
    parameterGradients = sums
    func finished(_ places: [Int]) -> [(gradient: View, sum: View)] {
      places.compactMap { place in view(parameters[place]).map { ($0, sums[place]) } }
    }
    for id in inputs { inputGradients[id.index] = view(id) }
    outputGradients = graph.outputs.map { view($0.value) }
    for step in layout.steps {
      let node = graph.nodes[step.step.node]
      steps.append(
        Step(
          operation: step.step.operation, context: step.step.context, results: node.results.map(view),
          operands: node.operands.map(view), fresh: step.fresh.compactMap(view),
          finished: finished(step.finished)))
    }
    outputParameters = finished(layout.outputParameters)
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
      for (gradient, sum) in step.finished {
        Kernel.accumulate(gradient, into: sum, pool: step.context.pool)
      }
    }
    for (gradient, sum) in outputParameters {
      Kernel.accumulate(gradient, into: sum, pool: SerialPool())
    }
  }
}
