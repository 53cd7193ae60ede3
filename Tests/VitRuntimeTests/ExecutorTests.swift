import Testing
import VitIR
import VitRuntime

/// Operations of the tests' own, so that the runtime is tested without any of vitc's.
private struct Sum: Operation {
  static let name = "test.sum"
  static let summary = "Adds two tensors of one shape"
  init() {}
  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    let (a, b) = (try operands.type(0, "a"), try operands.type(1, "b"))
    guard a == b else { throw VitError("expected \(a), found \(b)") }
    return [a]
  }
  var memory: ResultMemory { .inPlace(operands: [0, 1]) }
  func forward(_ context: KernelContext) {
    let (a, b) = (context.input(0).f32, context.input(1).f32)
    for index in 0..<context.output.count { context.output.f32[index] = a[index] + 2 * b[index] }
  }
}

private struct Residual: Operation {
  static let name = "test.residual"
  static let summary = "Adds two tensors of one shape, if need be along with the operation before"
  init() {}
  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] { [try operands.type(0, "a")] }
  var memory: ResultMemory { .inPlace(operands: [0, 1]) }
  var epilogueRole: EpilogueRole? { .residual }
  func forward(_ context: KernelContext) {
    let (a, b) = (context.input(0).f32, context.input(1).f32)
    for index in 0..<context.output.count { context.output.f32[index] = a[index] + b[index] }
  }
}

private struct Factor: Operation {
  static let name = "test.factor"
  static let summary = "Multiplies each row with one of factors, if need be along with the operation before"
  init() {}
  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] { [try operands.type(0, "x")] }
  var memory: ResultMemory { .inPlace(operands: [0]) }
  var epilogueRole: EpilogueRole? { .scale }
  func forward(_ context: KernelContext) {
    let (x, factors) = (context.input(0).f32, context.input(1))
    for index in 0..<context.output.count {
      context.output.f32[index] = x[index] * factors.f32[index % factors.count]
    }
  }
}

private struct Halve: Operation {
  static let name = "test.halve"
  static let summary = "Half of each element, and what follows along with it"
  init() {}
  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] { [try operands.type(0, "x")] }
  var takesEpilogue: Bool { true }
  func forward(_ context: KernelContext) {
    let (x, y) = (context.input(0).f32, context.output)
    for index in 0..<y.count {
      y.f32[index] = x[index] / 2
      if let scale = context.epilogue.scale { y.f32[index] *= scale.f32[index % scale.count] }
      if let residual = context.epilogue.residual { y.f32[index] += residual.f32[index] }
    }
  }
}

private struct Flip: Operation {
  static let name = "test.flip"
  static let summary = "Reverses the elements; cannot run in place"
  init() {}
  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] { [try operands.type(0, "x")] }
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    operands.types.compactMap { $0 }
  }
  func forward(_ context: KernelContext) {
    let count = context.output.count
    context.scratch[0].copy(from: context.input(0))
    for index in 0..<count { context.output.f32[index] = context.scratch[0].f32[count - 1 - index] }
  }
}

private struct Regroup: Operation {
  static let name = "test.regroup"
  static let summary = "Exchanges the two extents without moving anything"
  init() {}
  init(attributes: inout AttributeReader) throws(VitError) {}
  var attributes: Attributes { Attributes() }
  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    let type = try operands.type(0, "x")
    return [TensorType(type.element, type.shape.reversed())]
  }
  var memory: ResultMemory { .alias(operand: 0) }
  func forward(_ context: KernelContext) {}
}

private let registry = Registry([
  Sum.self, Flip.self, Regroup.self, Residual.self, Factor.self, Halve.self,
])

/// A random graph over one input [batch, 6].
private func randomGraph(_ seed: UInt64) throws -> Graph {
  var random = SplitMix(seed: seed)
  var builder = GraphBuilder(Graph(name: "random"), registry: registry)
  let x = builder.graph.addInput(TensorType(.f32, [.symbol("batch"), 6]), name: "x")
  var values = [x]
  for _ in 0..<30 {
    let a = values[random.below(values.count)]
    switch random.below(8) {
    case 4, 5:
      var value = try builder.add("test.halve", [a])
      if random.below(2) == 0 {
        let width = builder.graph.type(a).shape[1].fixedValue ?? 1
        let factors = builder.constant((1...width).map { Double($0) / 4 }, shape: [width])
        value = try builder.add("test.factor", [value, factors])
      }
      let fitting = values.filter { builder.graph.type($0) == builder.graph.type(a) }
      let other = fitting[random.below(fitting.count)]
      values.append(
        try builder.add("test.residual", random.below(2) == 0 ? [value, other] : [other, value]))
    case 0: values.append(try builder.add("test.flip", [a]))
    case 1: values.append(try builder.add("test.regroup", [a]))
    default:
      let fitting = values.filter { builder.graph.type($0) == builder.graph.type(a) }
      values.append(try builder.add("test.sum", [a, fitting[random.below(fitting.count)]]))
    }
  }
  builder.graph.outputs = values.suffix(3).enumerated().map { ("y\($0.offset)", $0.element) }
  builder.graph.removeDeadNodes()
  return builder.graph
}

private func run(_ graph: Graph, training: Bool, times: Int) throws -> [[Float]] {
  let executor = try Executor(
    graph, weights: WeightStore(graph), inputShapes: [[3, 6]], training: training, pool: SerialPool())
  var results: [[Float]] = []
  for _ in 0..<times {
    for index in 0..<18 { executor.inputs[0].f32[index] = Float(index) * 0.25 - 1 }
    executor.run()
    results = executor.outputs.map { view in (0..<view.count).map { view.f32[$0] } }
  }
  return results
}

@Suite("executor") struct ExecutorTests {
  @Test("memory that is used again gives what memory of one's own gives", arguments: 0..<60)
  func reuseChangesNothing(seed: Int) throws {
    let graph = try randomGraph(UInt64(seed))
    #expect(try run(graph, training: false, times: 1) == run(graph, training: true, times: 1), "seed \(seed)")
  }

  @Test("what follows an operation that can do it along takes no step and no memory of its own")
  func finishing() throws {
    var builder = GraphBuilder(Graph(name: "branch"), registry: registry)
    let x = builder.graph.addInput(TensorType(.f32, [3, 6]), name: "x")
    let factors = builder.constant([1, 2, 3, 4, 5, 6], shape: [6])
    let half = try builder.add("test.halve", [x])
    let scaled = try builder.add("test.factor", [half, factors])
    builder.graph.outputs = [("y", try builder.add("test.residual", [x, scaled]))]
    let graph = builder.graph
    func executor(training: Bool) throws -> Executor {
      try Executor(
        graph, weights: WeightStore(graph), inputShapes: [[3, 6]], training: training, pool: SerialPool())
    }
    let fused = try executor(training: false).plan
    #expect(fused.steps.map(\.nodes) == [[0, 1, 2]])
    #expect(fused.view(half) == nil && fused.view(scaled) == nil)
    #expect(try executor(training: true).plan.steps.map(\.nodes) == [[0], [1], [2]])
    #expect(try run(graph, training: false, times: 1) == run(graph, training: true, times: 1))
  }

  @Test("a result that somebody else reads, or that is an output, is written")
  func notFinishing() throws {
    var builder = GraphBuilder(Graph(name: "branch"), registry: registry)
    let x = builder.graph.addInput(TensorType(.f32, [3, 6]), name: "x")
    let half = try builder.add("test.halve", [x])
    let twice = try builder.add("test.halve", [x])
    builder.graph.outputs = [
      ("half", half), ("sum", try builder.add("test.residual", [x, half])),
      ("double", try builder.add("test.residual", [twice, twice])),
    ]
    let graph = builder.graph
    let executor = try Executor(
      graph, weights: WeightStore(graph), inputShapes: [[3, 6]], pool: SerialPool())
    #expect(executor.plan.steps.map(\.nodes) == [[0], [1], [2], [3]])
    #expect(try run(graph, training: false, times: 1) == run(graph, training: true, times: 1))
  }

  @Test("a second run gives the same as the first", arguments: 0..<20)
  func runsRepeat(seed: Int) throws {
    let graph = try randomGraph(UInt64(seed))
    #expect(
      try run(graph, training: false, times: 3) == run(graph, training: false, times: 1), "seed \(seed)")
  }

  @Test("inference takes less memory than training")
  func inferenceIsSmaller() throws {
    let graph = try randomGraph(3)
    func bytes(_ training: Bool) throws -> Int {
      try Executor(
        graph, weights: WeightStore(graph), inputShapes: [[64, 6]], training: training, pool: SerialPool()
      ).plan.byteCount
    }
    #expect(try bytes(false) < bytes(true))
  }

  @Test("an input of the wrong shape is refused with both shapes")
  func wrongShape() throws {
    let graph = try randomGraph(1)
    let error = #expect(throws: VitError.self) {
      try Executor(graph, weights: WeightStore(graph), inputShapes: [[3, 5]], pool: SerialPool())
    }
    #expect(error?.diagnostic.message.contains("[3, 5]") == true)
  }

  @Test("a batch that needs more than the machine's memory is refused, not allocated")
  func hugeBatch() throws {
    let graph = try randomGraph(1)
    #expect(throws: VitError.self) {
      try Executor(graph, weights: WeightStore(graph), inputShapes: [[1 << 36, 6]], pool: SerialPool())
    }
  }
}
