import Testing
import VitIR
import VitOps
import VitRuntime
import VitTestSupport
import VitTrain

struct TapeTests {
  /// A graph with its parameters, inputs of known shapes and, for each output, the gradient of a loss.
  private struct Problem {
    var builder = GraphBuilder(Graph(name: "random"), registry: .standard)
    var parameters: [ValueID] = []
    var random: SplitMix
    let element: ElementType

    init(seed: UInt64, element: ElementType = .f64) {
      random = SplitMix(seed: seed)
      self.element = element
    }

    mutating func numbers(_ shape: [Int], scale: Double = 1) -> Tensor {
      Tensor(element, shape: shape, values: (0..<shape.reduce(1, *)).map { _ in random.normal() * scale })
    }

    mutating func parameter(_ shape: [Int], scale: Double = 1) -> ValueID {
      let id = builder.graph.addConstant(numbers(shape, scale: scale), name: "parameter")
      parameters.append(id)
      return id
    }

    /// Values of one shape, combined at random: with several readers, through moves that share memory,
    /// through operations with several results, parts of which nobody reads.
    static func random(seed: UInt64) throws -> Problem {
      var problem = Problem(seed: seed)
      let x = problem.builder.graph.addInput(TensorType(.f64, fixed: [2, 6, 4]), name: "x")
      var values = [x, problem.parameter([2, 6, 4])]
      for _ in 0..<9 {
        let (a, b) = (
          values[problem.random.below(values.count)], values[problem.random.below(values.count)]
        )
        values.append(try problem.combination(a, b))
      }
      var outputs: [ValueID] = [values[values.count - 1]]
      for _ in 0..<2 { outputs.append(values[problem.random.below(values.count)]) }
      outputs.append(
        try problem.builder.add("onnx.Reshape", [values[3], problem.builder.integers([8, 6])]))
      problem.builder.graph.outputs = outputs.enumerated().map { ("y\($0.offset)", $0.element) }
      return problem
    }

    private mutating func combination(_ a: ValueID, _ b: ValueID) throws -> ValueID {
      switch random.below(7) {
      case 0: return try builder.add("vit.add", [a, b])
      case 1: return try builder.add("onnx.Mul", [a, b])
      case 2: return try builder.add("onnx.Tanh", [a])
      case 3:
        return try builder.add(
          "vit.linear", [a, parameter([4, 4], scale: 0.5), parameter([4], scale: 0.5)])
      case 4:
        // Tokens regrouped: one memory under three shapes, two of which are read.
        let flat = try builder.add("onnx.Reshape", [a, builder.integers([2, 4, 6])])
        let mixed = try builder.add("vit.linear", [flat, parameter([6, 6], scale: 0.4), nil])
        let back = try builder.add("onnx.Reshape", [mixed, builder.integers([2, 6, 4])])
        let again = try builder.add("onnx.Reshape", [flat, builder.integers([2, 6, 4])])
        return try builder.add("vit.add", [back, again])
      case 5:
        let parts = try builder.add(
          builder.registry.make("onnx.Split", Attributes([("axis", .int(1))])),
          [a, builder.integers([2, 3, 1])], resultCount: 3)
        return try builder.add("onnx.Concat", [parts[1], parts[0], parts[0], parts[0]], [("axis", .int(1))])
          .cut(to: 6, &builder)
      default:
        let norm = try builder.add(
          "vit.layer_norm", [a, parameter([4]), parameter([4])], [("epsilon", .float(1e-5))])
        return try builder.add("vit.add", [norm, b])
      }
    }
  }

  @Test(
    "gradients of random graphs are what central differences say, in double", arguments: UInt64(0)..<12)
  func randomGraphs(seed: UInt64) throws {
    var problem = try Problem.random(seed: seed)
    let graph = problem.builder.graph
    let store = try WeightStore(graph, trainable: Set(problem.parameters.map { graph[$0].name }))
    let executor = try Executor(
      graph, weights: store, inputShapes: [[2, 6, 4]], training: true, pool: SerialPool())
    let tape = try Tape(executor, parameters: problem.parameters, inputs: graph.inputs)
    for index in 0..<executor.inputs[0].count { executor.inputs[0].f64[index] = problem.random.normal() }
    let seeds = executor.outputs.map { view in (0..<view.count).map { _ in problem.random.normal() } }
    func loss() -> Double {
      executor.run()
      return zip(executor.outputs, seeds).reduce(0) { sum, pair in
        sum + zip(pair.0.numbers, pair.1).reduce(0) { $0 + $1.0 * $1.1 }
      }
    }
    func passBack() {
      executor.run()
      tape.zeroOutputGradients()
      for case let (gradient?, seed) in zip(tape.outputGradients, seeds) {
        // Two outputs may be one value: their gradients add up.
        for (index, value) in seed.enumerated() { gradient.f64[index] += value }
      }
      tape.backward()
    }
    tape.zeroGradients()
    passBack()
    var checked = 0
    var places = zip(problem.parameters, tape.parameterGradients).compactMap { id, gradient in
      store.view(graph[id].name).map { (graph[id].name, $0, gradient) }
    }
    if let gradient = tape.gradient(ofInput: graph.inputs[0]) {
      // What the loss adds to an output that is the input itself is gathered with the rest.
      places.append(("x", executor.inputs[0], gradient))
    }
    let exact = places.map(\.2.numbers)
    for (place, (name, view, _)) in places.enumerated() {
      var estimates: [Double] = []
      for index in 0..<view.count {
        let value = view.f64[index]
        let step = 1e-5 * max(1, abs(value))
        view.f64[index] = value + step
        let above = loss()
        view.f64[index] = value - step
        let below = loss()
        view.f64[index] = value
        estimates.append((above - below) / (2 * step))
      }
      #expect(difference(exact[place], estimates) < 1e-7, "\(name) of graph \(seed)")
      checked += 1
    }
    #expect(checked == problem.parameters.count + 1)
  }

  /// A perceptron with a normalisation, of sizes that are no multiples of the tiles.
  private func perceptron(element: ElementType) throws -> Problem {
    var problem = Problem(seed: 5, element: element)
    let x = problem.builder.graph.addInput(TensorType(element, [.symbol("batch"), 17, 33]), name: "x")
    let norm = try problem.builder.add(
      "vit.layer_norm", [x, problem.parameter([33]), problem.parameter([33])], [("epsilon", .float(1e-6))])
    let inner = try problem.builder.add(
      "vit.mlp",
      [
        norm, problem.parameter([71, 33], scale: 0.2), problem.parameter([71]),
        problem.parameter([33, 71], scale: 0.1), problem.parameter([33]),
      ])
    let sum = try problem.builder.add("vit.add", [x, inner])
    problem.builder.graph.outputs = [("y", sum)]
    return problem
  }

  /// The gradients of half the squares of the outputs.
  private func gradients(
    _ problem: Problem, passes: Int = 1, only: Int? = nil, batch: Int = 5, pool: any WorkPool
  ) throws -> [[Double]] {
    let graph = problem.builder.graph
    let executor = try Executor(
      graph, weights: WeightStore(graph), inputShapes: [[batch, 17, 33]], training: true, pool: pool)
    let tape = try Tape(executor, parameters: problem.parameters)
    tape.zeroGradients()
    var random = SplitMix(seed: 8)
    for pass in 0..<passes {
      let input = executor.inputs[0]
      let buffer = UnsafeMutableRawBufferPointer(start: input.base, count: input.byteCount)
      for index in 0..<input.count { buffer.store(random.normal(), at: index, as: input.element) }
      guard only.map({ $0 == pass }) ?? true else { continue }
      executor.run()
      tape.zeroOutputGradients()
      guard let gradient = tape.outputGradients[0] else { continue }
      let target = UnsafeMutableRawBufferPointer(start: gradient.base, count: gradient.byteCount)
      for (index, value) in executor.outputs[0].numbers.enumerated() {
        target.store(value, at: index, as: gradient.element)
      }
      tape.backward()
    }
    return tape.parameterGradients.map(\.numbers)
  }

  @Test("the gradients of a batch are the sum of its micro-batches', each complete on its own, to the bit")
  func sumOfMicroBatches() throws {
    let problem = try perceptron(element: .f32)
    // More rows than a product takes at a time.
    let whole = try gradients(problem, passes: 3, batch: 40, pool: SerialPool())
    let parts = try (0..<3).map { try gradients(problem, passes: 3, only: $0, batch: 40, pool: SerialPool()) }
    for (parameter, sums) in whole.enumerated() {
      for (index, sum) in sums.enumerated() {
        let found = parts.reduce(Float(0)) { $0 + Float($1[parameter][index]) }
        #expect(found == Float(sum))
      }
    }
  }

  @Test("gradients are the same to the bit on one thread and on two")
  func threads() throws {
    let problem = try perceptron(element: .f32)
    let one = try gradients(problem, pool: SerialPool())
    #expect(try gradients(problem, pool: ThreadPool(threads: 2)) == one)
    #expect(try gradients(problem, pool: ThreadPool(threads: 3)) == one)
  }

  @Test("gradients in 32 bits are those in double within 1e-5")
  func precision() throws {
    let single = try gradients(try perceptron(element: .f32), pool: SerialPool())
    var wide = try perceptron(element: .f64)
    for id in wide.parameters {
      // The very numbers that the other graph holds.
      guard let tensor = wide.builder.graph.tensor(id) else { continue }
      let rounded = try tensor.doubles().map { Double(Float($0)) }
      wide.builder.graph.setTensor(Tensor(.f64, shape: tensor.shape, values: rounded), of: id)
    }
    for (a, b) in zip(single, try gradients(wide, pool: SerialPool())) { #expect(difference(a, b) < 1e-5) }
  }

  @Test("a small weight that is repeated or moved before it is used has a gradient, and new values count")
  func movedWeights() throws {
    var problem = Problem(seed: 1)
    let x = problem.builder.graph.addInput(TensorType(.f64, fixed: [3, 2, 4]), name: "x")
    let token = problem.parameter([4])
    let shaped = try problem.builder.add("onnx.Reshape", [token, problem.builder.integers([1, 1, 4])])
    let repeated = try problem.builder.add("onnx.Expand", [shaped, problem.builder.integers([3, 1, 4])])
    let tokens = try problem.builder.add("onnx.Concat", [repeated, x], [("axis", .int(1))])
    problem.builder.graph.outputs = [("y", tokens)]
    let graph = problem.builder.graph
    let store = try WeightStore(graph, trainable: [graph[token].name])
    let executor = try Executor(
      graph, weights: store, inputShapes: [[3, 2, 4]], training: true, pool: SerialPool())
    let tape = try Tape(executor, parameters: [token])
    executor.run()
    for index in 0..<36 { tape.outputGradients[0]?.f64[index] = 1 }
    tape.backward()
    #expect(tape.parameterGradients[0].numbers == [3, 3, 3, 3])
    store.view(graph[token].name)?.f64[2] = 9
    executor.run()
    #expect(executor.outputs[0].numbers[14] == 9)
  }

  @Test("gradients of parameters add up over passes until they are set to zero")
  func accumulates() throws {
    let problem = try perceptron(element: .f64)
    let both = try gradients(problem, passes: 2, pool: SerialPool())
    let first = try gradients(problem, passes: 1, pool: SerialPool())
    for (a, b) in zip(both, first) { #expect(difference(a, b) > 1e-3) }
    let graph = problem.builder.graph
    let executor = try Executor(
      graph, weights: WeightStore(graph), inputShapes: [[1, 17, 33]], training: true, pool: SerialPool())
    let tape = try Tape(executor, parameters: problem.parameters)
    executor.run()
    tape.outputGradients[0]?.f64[3] = 1
    tape.backward()
    #expect(tape.parameterGradients.contains { $0.numbers.contains { $0 != 0 } })
    tape.zeroGradients()
    #expect(tape.parameterGradients.allSatisfy { $0.numbers.allSatisfy { $0 == 0 } })
    #expect(tape.outputGradients[0]?.numbers.allSatisfy { $0 == 0 } == true)
  }

  @Test(
    "an output that no parameter can change has no gradient, a parameter that no output reads one of zeros")
  func unrelated() throws {
    var problem = Problem(seed: 1)
    let x = problem.builder.graph.addInput(TensorType(.f64, fixed: [2, 4]), name: "x")
    let y = try problem.builder.add("vit.linear", [x, problem.parameter([4, 4]), nil])
    let alone = problem.parameter([3])
    let z = try problem.builder.add("onnx.Tanh", [x])
    problem.builder.graph.outputs = [("y", y), ("z", z)]
    let graph = problem.builder.graph
    let executor = try Executor(
      graph, weights: WeightStore(graph), inputShapes: [[2, 4]], training: true, pool: SerialPool())
    let tape = try Tape(executor, parameters: problem.parameters)
    #expect(tape.outputGradients[0] != nil)
    #expect(tape.outputGradients[1] == nil)
    executor.run()
    tape.backward()
    #expect(tape.parameters.last == alone)
    #expect(tape.parameterGradients.last?.numbers == [0, 0, 0])
  }

  /// An operation without a gradient.
  private struct Opaque: Operation {
    static let name = "test.opaque"
    static let summary = "Copies, and has no gradient"
    init() {}
    init(attributes: inout AttributeReader) {}
    var attributes: Attributes { Attributes() }
    func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] { [try operands.type(0, "x")] }
    func forward(_ context: KernelContext) { context.output.copy(from: context.input(0)) }
  }

  @Test("an operation without a gradient is named before anything runs, where a parameter lies before it")
  func missingGradient() throws {
    func tape(opaqueFirst: Bool) throws -> Tape {
      var problem = Problem(seed: 1)
      let x = problem.builder.graph.addInput(TensorType(.f64, fixed: [2, 4]), name: "x")
      let weight = problem.parameter([4, 4])
      let place = Location(file: "model.onnx", node: "/head/Opaque")
      var y = x
      if opaqueFirst { y = try problem.builder.add(Opaque(), [y], location: place)[0] }
      y = try problem.builder.add("vit.linear", [y, weight, nil])
      if !opaqueFirst { y = try problem.builder.add(Opaque(), [y], location: place)[0] }
      problem.builder.graph.outputs = [("y", y)]
      let graph = problem.builder.graph
      let executor = try Executor(
        graph, weights: WeightStore(graph), inputShapes: [[2, 4]], training: true, pool: SerialPool())
      return try Tape(executor, parameters: problem.parameters)
    }
    #expect(
      throws: VitError(
        "operation 'test.opaque' has no gradient, so nothing before it can be trained", code: "no-gradient",
        location: Location(file: "model.onnx", node: "/head/Opaque"))
    ) { try tape(opaqueFirst: false) }
    #expect(throws: Never.self) { try tape(opaqueFirst: true) }
  }
}

extension ValueID {
  /// The first `count` entries of the value's second axis.
  fileprivate func cut(to count: Int, _ builder: inout GraphBuilder) throws -> ValueID {
    try builder.add(
      "onnx.Slice",
      [self, builder.integers([0]), builder.integers([count]), builder.integers([1]), builder.integers([1])])
  }
}
