public import VitIR
internal import VitRuntime

/// Runs a model.
///
/// Plans once for each combination of input shapes and keeps the last few plans, so that further runs on the same shapes
/// allocate nothing but the tensors they return. Not for use from two threads at once; it uses several itself.
public final class Session {
  /// What runs.
  public let graph: Graph
  private let pool: any WorkPool
  private let weights: WeightStore
  private var executors: [(shapes: [[Int]], executor: Executor)] = []

  /// How many plans are kept.
  private static let capacity = 4

  /// A session on `threads` threads, by default as many as cores may be used.
  ///
  /// Throws where a constant's data are missing or damaged.
  public convenience init(_ model: Model, threads: Int? = nil) throws {
    try self.init(model.graph, pool: ThreadPool(threads: threads))
  }

  init(_ graph: Graph, pool: any WorkPool) throws {
    self.graph = graph
    self.pool = pool
    weights = try WeightStore(graph)
  }

  /// The outputs for these inputs, both in the model's order.
  ///
  /// Numbers are converted to the type of the input where both are floats or both whole numbers. Throws where the number, a
  /// type or a shape of the inputs is not the model's.
  public func run(_ inputs: [Tensor]) throws -> [Tensor] {
    let executor = try executor(for: inputs.map(\.shape))
    for (index, (tensor, view)) in zip(inputs, executor.inputs).enumerated() {
      let (from, to) = (tensor.element, view.element)
      guard from == to || from.isFloat && to.isFloat || from.isInteger && to.isInteger else {
        throw VitError(
          "input '\(graph[graph.inputs[index]].name)' has elements of the type \(to.rawValue), found \(from.rawValue)",
          code: "input-type")
      }
      try tensor.copy(to: view)
    }
    executor.run()
    return try executor.outputs.map(Tensor.init(copying:))
  }

  /// The output of a model that has one input and one output.
  public func run(_ input: Tensor) throws -> Tensor {
    guard graph.inputs.count == 1, graph.outputs.count == 1 else {
      throw VitError(
        "the model has \(graph.inputs.count) inputs and \(graph.outputs.count) outputs, expected one of each")
    }
    return try run([input])[0]
  }

  /// The plan for inputs of these shapes.
  func executor(for shapes: [[Int]]) throws -> Executor {
    if let index = executors.firstIndex(where: { $0.shapes == shapes }) {
      let entry = executors.remove(at: index)
      executors.append(entry)
      return entry.executor
    }
    let executor = try Executor(graph, weights: weights, inputShapes: shapes, pool: pool)
    if executors.count == Session.capacity { executors.removeFirst() }
    executors.append((shapes, executor))
    return executor
  }
}
