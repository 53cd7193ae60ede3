public import VitIR
internal import VitFormats
internal import VitOps
internal import VitRuntime
internal import VitTrain

/// One operation on one set of operands: run, and its gradient checked against central differences in double.
public struct OpCase {
  /// The operation.
  public let operation: any Operation
  /// The operands; `nil` for an absent one.
  public let inputs: [Tensor?]
  /// How many results are wanted.
  public let resultCount: Int
  /// Whether float operands are constants of the graph, so that packed weights are exercised; by default
  /// inputs.
  public let constantOperands: Set<Int>

  /// A case. Integer operands are constants of the graph, float ones its inputs unless listed in
  /// `constantOperands`.
  public init(
    _ operation: any Operation, inputs: [Tensor?], resultCount: Int = 1, constantOperands: Set<Int> = []
  ) {
    self.operation = operation
    self.inputs = inputs
    self.resultCount = resultCount
    self.constantOperands = constantOperands
  }

  /// A case of an operation by name.
  public init(
    _ name: String, _ attributes: [(String, Attribute)] = [], inputs: [Tensor?], resultCount: Int = 1,
    opset: Int? = nil, constantOperands: Set<Int> = []
  ) throws {
    self.init(
      try Registry.standard.make(name, Attributes(attributes), opset: opset), inputs: inputs,
      resultCount: resultCount, constantOperands: constantOperands)
  }

  private func isInput(_ index: Int) -> Bool {
    guard let tensor = inputs[index] else { return false }
    return tensor.element.isFloat && !constantOperands.contains(index)
  }

  /// The operation alone in a graph.
  public func graph() throws -> Graph { try graph(lowered: false) }

  private func graph(lowered: Bool) throws -> Graph {
    var builder = GraphBuilder(Graph(name: "case"), registry: Registry.standard)
    var operands: [ValueID?] = []
    for (index, tensor) in inputs.enumerated() {
      guard let tensor else {
        operands.append(nil)
        continue
      }
      operands.append(
        isInput(index)
          ? builder.graph.addInput(tensor.type.computed, name: "x\(index)")
          : builder.graph.addConstant(tensor, name: "c\(index)"))
    }
    let results =
      lowered
      ? try operation.lower(into: &builder, operands: operands, resultCount: resultCount)
      : try builder.add(operation, operands, resultCount: resultCount)
    builder.graph.outputs = results.enumerated().map { ("y\($0.offset)", $0.element) }
    return builder.graph
  }

  private func executor(_ graph: Graph, training: Bool, pool: any WorkPool) throws -> Executor {
    let tensors = inputs.indices.filter(isInput).compactMap { inputs[$0] }
    let executor = try Executor(
      graph, weights: WeightStore(graph), inputShapes: tensors.map(\.shape), training: training, pool: pool)
    for (view, tensor) in zip(executor.inputs, tensors) {
      let buffer = UnsafeMutableRawBufferPointer(start: view.base, count: view.byteCount)
      for (index, value) in try tensor.doubles().enumerated() {
        buffer.store(value, at: index, as: view.element)
      }
    }
    return executor
  }

  /// The results.
  public func run(training: Bool = false, pool: any WorkPool = SerialPool()) throws -> [Tensor] {
    try run(graph(), training: training, pool: pool)
  }

  /// The results that a graph with this one's inputs gives.
  private func run(_ graph: Graph, training: Bool = false, pool: any WorkPool = SerialPool()) throws
    -> [Tensor]
  {
    let executor = try executor(graph, training: training, pool: pool)
    executor.run()
    return try executor.outputs.map(Tensor.init(copying:))
  }

  /// The results of the graph that is read from its own text; throws unless that prints as the same text.
  public func runThroughText() throws -> [Tensor] {
    var options = TextOptions()
    options.inlineFloats = .max
    options.inlineIntegers = .max
    let text = try graph().text(options)
    let again = try Graph(text: Array(text.utf8), file: "case.vit", registry: .standard)
    guard try again.text(options) == text else { throw VitError("the text changes when it is read") }
    return try run(again)
  }

  /// The results of the graph that is read from a `.vmod` file that it was written to.
  public func runThroughFile(_ scratch: Scratch) throws -> [Tensor] {
    let path = scratch.file("case.vmod")
    try VModWriter.write(VModFile(Hybrid(graph())), to: path)
    return try run(VModReader.read(path: path, registry: .standard).graph)
  }

  /// The results of the operation in terms of ONNX operators; throws where anything else is left.
  public func runLowered() throws -> [Tensor] {
    let graph = try graph(lowered: true)
    if let node = graph.nodes.first(where: { $0.name.hasPrefix("vit.") }) {
      throw VitError("lowering leaves '\(node.name)'")
    }
    return try run(graph)
  }

  /// The case with its float operands in double precision.
  public var inDouble: OpCase {
    get throws {
      let wide = try inputs.map { tensor -> Tensor? in
        guard let tensor, tensor.element.isFloat else { return tensor }
        return Tensor(.f64, shape: tensor.shape, values: try tensor.doubles())
      }
      return OpCase(operation, inputs: wide, resultCount: resultCount, constantOperands: constantOperands)
    }
  }

  /// The largest relative difference (mixers.md §5: largest absolute difference over largest magnitude,
  /// floored at `floor`) between the operation's vector-Jacobian product and central differences, in double,
  /// over all float inputs.
  ///
  /// At most `samples` coordinates of each operand are tried, chosen by `seed`; the gradients of
  /// `results`, by default of all, are random.
  public func gradientError(
    seed: UInt64 = 1, samples: Int = 200, floor: Double = 1e-8, results: Set<Int>? = nil,
    pool: any WorkPool = SerialPool()
  ) throws -> Double {
    let wide = try inDouble
    let executor = try wide.executor(wide.graph(), training: true, pool: pool)
    let tape = try Tape(executor, parameters: [], inputs: executor.graph.inputs)
    var random = SplitMix(seed: seed)
    executor.run()
    tape.zeroGradients()
    var seeds: [[Double]] = []
    for case let (gradient, output) in zip(tape.outputGradients, executor.outputs) {
      let isFollowed = output.element == .f64 && results?.contains(seeds.count) != false
      let values = (0..<output.count).map { _ in isFollowed ? random.normal() : 0 }
      seeds.append(values)
      if isFollowed, let gradient {
        for (index, value) in values.enumerated() { gradient.f64[index] = value }
      }
    }
    tape.backward()
    func objective() -> Double {
      executor.run()
      var sum = 0.0
      for (output, seed) in zip(executor.outputs, seeds) where output.element == .f64 {
        for index in 0..<output.count { sum += output.f64[index] * seed[index] }
      }
      return sum
    }
    var worst = 0.0
    for (id, input) in zip(executor.graph.inputs, executor.inputs) {
      guard let gradient = tape.gradient(ofInput: id) else { continue }
      let exact = (0..<gradient.count).map { gradient.f64[$0] }
      let picks =
        input.count <= samples
        ? Array(0..<input.count) : Array(random.shuffled(Array(0..<input.count)).prefix(samples))
      var scale = floor
      var difference = 0.0
      for index in picks {
        let value = input.f64[index]
        let step = 1e-5 * max(1, abs(value))
        input.f64[index] = value + step
        let above = objective()
        input.f64[index] = value - step
        let below = objective()
        input.f64[index] = value
        let estimate = (above - below) / (2 * step)
        scale = max(scale, abs(estimate))
        difference = max(difference, abs(estimate - exact[index]))
      }
      worst = max(worst, difference / scale)
    }
    return worst
  }
}

/// Random tensors for tests.
extension Tensor {
  /// Normal numbers of the given spread, decided by `seed`.
  public static func random(_ shape: [Int], seed: UInt64, scale: Double = 1, element: ElementType = .f32)
    -> Tensor
  {
    var random = SplitMix(seed: seed)
    return Tensor(
      element, shape: shape, values: (0..<shape.reduce(1, *)).map { _ in random.normal() * scale })
  }
}

/// The largest absolute difference of two tensors over the larger of `floor` and the largest magnitude of the
/// second.
public func relativeDifference(_ a: Tensor, _ b: Tensor, floor: Double = 1e-8) throws -> Double {
  guard a.shape == b.shape else { return .infinity }
  let (x, y) = (try a.doubles(), try b.doubles())
  let scale = y.reduce(floor) { $1.isFinite ? max($0, abs($1)) : $0 }
  return zip(x, y).reduce(0) { worst, pair in
    if pair.0 == pair.1 || (pair.0.isNaN && pair.1.isNaN) { return worst }
    let difference = abs(pair.0 - pair.1) / scale
    return difference.isNaN ? .infinity : max(worst, difference)
  }
}
