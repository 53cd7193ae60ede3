public import VitIR

/// A graph laid out in memory for inputs of known shapes.
public struct Plan: Sendable {
  /// One node that runs, with those whose work it does along with its own.
  public struct Step: Sendable {
    /// Their places in `graph.nodes`: the one that computes first, the one whose results are written last.
    public let nodes: [Int]
    /// The place of the node that computes.
    public var node: Int { nodes[0] }
    /// What it computes.
    public let operation: any Operation
    /// Its memory.
    public let context: KernelContext
    /// Whether there is anything to compute; an alias has a gradient but no forward.
    public let runs: Bool
  }

  let arena: Arena
  let views: [View?]
  /// Concrete types over `ValueID.index`.
  public let types: [TensorType]
  /// The nodes that run, in order.
  public let steps: [Step]

  /// The bytes of activations and scratch; packed weights are the store's.
  public var byteCount: Int { arena.byteCount }

  /// Where a value lies; `nil` where it is never written, since the node that reads it is done along with the one
  /// before. Its contents may be gone after a run, unless it is an input, an output or the plan is for training.
  public func view(_ id: ValueID) -> View? { views[id.index] }
}

/// Runs a graph on inputs of known shapes. All its memory is there after `init`.
///
/// Write the inputs into `inputs`, call `run`, read `outputs`. Not for use from two threads at once: each needs its own.
public final class Executor: Sendable {
  /// The graph that runs.
  public let graph: Graph
  /// Its layout.
  public let plan: Plan
  /// The constants.
  public let weights: WeightStore
  /// Where the inputs are written to, in order.
  public let inputs: [View]
  /// Where the outputs are read from, in order.
  public let outputs: [View]

  /// Plans `graph` for these input shapes.
  ///
  /// `training` keeps every value until the next run. `packing` rearranges weights for the kernels, once for all plans on
  /// these weights: the fastest on small batches, for as much memory again as the weights; large batches repay the packing in
  /// every run. Throws where a
  /// shape does not fit, a type rule refuses it, the shape of a value depends on data, or memory does not suffice.
  public init(
    _ graph: Graph, weights: WeightStore, inputShapes: [[Int]], training: Bool = false, packing: Bool = true,
    pool: any WorkPool
  ) throws {
    self.graph = graph
    self.weights = weights
    let plan = try Planner(
      graph, weights: weights, inputShapes: inputShapes, training: training, packing: packing && !training,
      pool: pool
    ).makePlan()
    self.plan = plan
    inputs = graph.inputs.compactMap { plan.view($0) }
    outputs = try graph.outputs.map { output in
      guard let view = plan.view(output.value) else {
        throw VitError("the tensor of output '\(output.name)' is missing", code: "tensor-missing")
      }
      return view
    }
  }

  /// Runs all nodes.
  public func run() {
    for step in plan.steps where step.runs { step.operation.forward(step.context) }
  }

  /// Runs all nodes, telling `observe` before and after each.
  public func run(observing observe: (_ step: Plan.Step, _ done: Bool) -> Void) {
    for step in plan.steps where step.runs {
      observe(step, false)
      step.operation.forward(step.context)
      observe(step, true)
    }
  }
}
