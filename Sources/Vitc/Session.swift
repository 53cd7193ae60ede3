internal import Synchronization
public import VitIR
internal import VitPasses
internal import VitRuntime

/// Runs a model.
///
/// Plans once for each combination of input shapes and keeps the last few plans. All sessions of a model share its weights. May be used from several threads
/// at once, each of which gets a plan of its own; the work of one run is spread over the session's threads, on which runs take
/// turns, kernel by kernel. All sessions of a process that have as many threads, more than one, share them.
public final class Session: Sendable {
  /// What runs.
  public let graph: Graph
  private let pool: any WorkPool
  private let weights: WeightStore
  /// How many images the model takes at once, where it takes no other number.
  let fixedBatch: Int?
  /// The plans that nobody uses just now, the last used last.
  private let idle: Mutex<[Executor]>

  /// How many idle plans are kept.
  private static let capacity = 4

  /// A session on `threads` threads, by default as many as cores may be used.
  ///
  /// Throws where a constant's data are missing or damaged.
  public convenience init(_ model: Model, threads: Int? = nil) throws {
    try self.init(model.graph, weights: model.weights(), pool: ThreadPool.shared(threads: threads))
  }

  convenience init(_ graph: Graph, pool: any WorkPool) throws {
    try self.init(graph, weights: WeightStore(graph), pool: pool)
  }

  private init(_ graph: Graph, weights: WeightStore, pool: any WorkPool) {
    self.graph = graph
    self.pool = pool
    self.weights = weights
    let form = BatchForm(graph)
    fixedBatch = form.isCounted ? form.count.flatMap { $0 > 0 ? $0 : nil } : nil
    var plans: [Executor] = []
    plans.reserveCapacity(Session.capacity + 1)
    idle = Mutex(plans)
  }

  /// The bytes of the model's weights that are in memory beside its file: packed for the kernels, or widened.
  public var weightByteCount: Int { weights.byteCount }

  /// The outputs for these inputs, both in the model's order.
  ///
  /// Numbers are converted to the type of the input where both are floats or both whole numbers. Where the batch is fixed,
  /// another number of images runs in parts of that size. Throws where the number, a type or a shape of the inputs is not the
  /// model's.
  public func run(_ inputs: [Tensor]) throws -> [Tensor] {
    if let size = partSize(first: inputs.first?.shape, of: inputs.count) {
      return try run(inputs, inPartsOf: size)
    }
    let executor = try take { executor in
      zip(executor.inputs, inputs).allSatisfy { $0.shape == $1.shape }
        && executor.inputs.count == inputs.count
    } orPlanFor: {
      inputs.map(\.shape)
    }
    defer { put(executor) }
    for (index, tensor) in inputs.enumerated() {
      try check(index, tensor.element)
      try tensor.copy(to: executor.inputs[index])
    }
    executor.run()
    return try executor.outputs.map(Tensor.init(copying:))
  }

  /// Writes the outputs for these inputs, both in the model's order, into memory of the caller's. On one thread a second run
  /// on the same shapes allocates nothing in a vision transformer or hybrid of `vit.*` operations; with several, handing out a
  /// kernel's work takes one small allocation.
  ///
  /// Numbers are converted as by the other `run`. Throws where the number, a type or a shape of inputs or outputs is not the
  /// model's.
  public func run(_ inputs: [View], into outputs: [View]) throws {
    if partSize(first: inputs.first?.shape, of: inputs.count) != nil {
      let found = try run(inputs.map(Tensor.init(copying:)))
      try checkOutputs(outputs, found.map(\.type))
      for (view, tensor) in zip(outputs, found) { try tensor.copy(to: view) }
      return
    }
    let executor = try take { executor in
      zip(executor.inputs, inputs).allSatisfy { $0.shape == $1.shape }
        && executor.inputs.count == inputs.count
    } orPlanFor: {
      inputs.map(\.shape)
    }
    defer { put(executor) }
    guard outputs.count == executor.outputs.count else { throw wrongCount(outputs.count) }
    for (index, view) in outputs.enumerated() {
      let own = executor.outputs[index]
      guard view.shape == own.shape, view.element == own.element else {
        throw wrongOutput(index, TensorType(own.element, fixed: own.shape), view)
      }
    }
    for (index, view) in inputs.enumerated() {
      try check(index, view.element)
      executor.inputs[index].convert(
        from: UnsafeRawBufferPointer(start: view.base, count: view.byteCount), view.element)
    }
    executor.run()
    for (index, view) in outputs.enumerated() { view.copy(from: executor.outputs[index]) }
  }

  private func checkOutputs(_ outputs: [View], _ types: [TensorType]) throws(VitError) {
    guard outputs.count == types.count else { throw wrongCount(outputs.count) }
    for (index, (view, type)) in zip(outputs, types).enumerated()
    where TensorType(view.element, fixed: view.shape) != type {
      throw wrongOutput(index, type, view)
    }
  }

  private func wrongCount(_ found: Int) -> VitError {
    VitError("the model has \(graph.outputs.count) outputs, found \(found)")
  }

  private func wrongOutput(_ index: Int, _ type: TensorType, _ view: View) -> VitError {
    VitError(
      "output '\(graph.outputs[index].name)' is \(type), found memory for \(view.element.rawValue)\(view.shape)",
      code: "output-type")
  }

  /// Throws where elements of an input cannot be converted.
  private func check(_ index: Int, _ from: ElementType) throws(VitError) {
    let to = graph.type(graph.inputs[index]).element
    guard from == to || from.isFloat && to.isFloat || from.isInteger && to.isInteger else {
      throw VitError(
        "input '\(graph[graph.inputs[index]].name)' has elements of the type \(to.rawValue), found \(from.rawValue)",
        code: "input-type")
    }
  }

  /// The output of a model that has one input and one output.
  public func run(_ input: Tensor) throws -> Tensor {
    guard graph.inputs.count == 1, graph.outputs.count == 1 else {
      throw VitError(
        "the model has \(graph.inputs.count) inputs and \(graph.outputs.count) outputs, expected one of each")
    }
    return try run([input])[0]
  }

  /// The shapes of the outputs for inputs of these shapes, as the plan for them has them.
  func plannedShapes(for shapes: [[Int]]) throws -> [[Int]] {
    let executor = try take {
      $0.inputs.map(\.shape) == shapes
    } orPlanFor: {
      shapes
    }
    defer { put(executor) }
    return executor.outputs.map(\.shape)
  }

  /// A plan that nobody else uses until it is `put` back.
  private func take(
    where fits: (Executor) -> Bool, orPlanFor shapes: () -> [[Int]]
  ) throws -> Executor {
    let found = idle.withLock { plans in
      plans.lastIndex(where: fits).map { plans.remove(at: $0) }
    }
    return try found ?? Executor(graph, weights: weights, inputShapes: shapes(), pool: pool)
  }

  private func put(_ executor: Executor) {
    idle.withLock { plans in
      if plans.count == Session.capacity { plans.removeFirst() }
      plans.append(executor)
    }
  }
}
