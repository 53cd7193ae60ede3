import Testing
import VitIR
import VitOps
import VitRuntime
import VitTestSupport

@Suite("packed weights") struct PackingTests {
  /// An MLP on tokens with weights of its own.
  private static func graph() throws -> Graph {
    var random = SplitMix(seed: 3)
    var builder = GraphBuilder(Graph(name: "mlp"), registry: .standard)
    func constant(_ name: String, _ shape: [Int]) -> ValueID {
      let values = (0..<shape.reduce(1, *)).map { _ in random.normal() * 0.2 }
      return builder.graph.addConstant(Tensor(.f32, shape: shape, values: values), name: name)
    }
    let x = builder.graph.addInput(TensorType(.f32, fixed: [5, 19]), name: "x")
    let weights = [
      constant("w1", [33, 19]), constant("b1", [33]), constant("w2", [19, 33]), constant("b2", [19]),
    ]
    let y = try builder.add("vit.mlp", [x] + weights)
    builder.graph.outputs = [("y", y)]
    return builder.graph
  }

  private static func run(_ graph: Graph, _ store: WeightStore, packing: Bool) throws -> [Float] {
    let executor = try Executor(
      graph, weights: store, inputShapes: [[5, 19]], packing: packing, pool: SerialPool())
    for index in 0..<executor.inputs[0].count { executor.inputs[0].f32[index] = Float(index % 11) - 5 }
    executor.run()
    return try Tensor(copying: executor.outputs[0]).floats()
  }

  @Test("a plan that packs computes what one that does not computes, and keeps no weights beside")
  func packing() throws {
    let graph = try Self.graph()
    let (packed, plain) = (try WeightStore(graph), try WeightStore(graph))
    let (a, b) = (
      try Self.run(graph, packed, packing: true), try Self.run(graph, plain, packing: false)
    )
    for (x, y) in zip(a, b) { #expect(abs(x - y) < 1e-5) }
    #expect(packed.view("w1") == nil && packed.view("b1") != nil)
    #expect(plain.view("w1") != nil)
  }

  @Test("stores share the tensors that they have in common, and no others")
  func sharing() throws {
    let graph = try Self.graph()
    let base = try WeightStore(graph)
    _ = try Self.run(graph, base, packing: false)
    var other = graph
    if let id = other.value(named: "w2") {
      other.setTensor(Tensor(.f32, shape: [19, 33], values: Array(repeating: 0, count: 19 * 33)), of: id)
    }
    let store = try WeightStore(other, sharing: base)
    let result = try Self.run(other, store, packing: false)
    let own = try Self.run(other, WeightStore(other), packing: false)
    #expect(result == own)
    #expect(store.view("w1") == nil && store.view("w2") != nil)
  }

  @Test("a weight that was left out of the file is missed by plans that pack it, too")
  func missing() throws {
    var graph = try Self.graph()
    if let id = graph.value(named: "w1") {
      graph.setTensor(try Tensor(elided: .f32, shape: [33, 19]), of: id)
    }
    let elided = graph
    #expect(throws: VitError.self) { try Self.run(elided, WeightStore(elided), packing: true) }
  }

  @Test("a weight too wide for a worker's scratch is packed from 16 bits like one of 32")
  func wide() throws {
    var random = SplitMix(seed: 5)
    let (rows, columns) = (32, 40_000)
    let weight = Tensor(
      .f16, shape: [rows, columns], values: (0..<rows * columns).map { _ in random.normal() })
    let x = Tensor(.f32, shape: [1, columns], values: (0..<columns).map { _ in random.normal() })
    let results = try [weight, Tensor(.f32, shape: weight.shape, values: weight.doubles())].map {
      try OpCase("vit.linear", inputs: [x, $0], constantOperands: [1]).run(pool: ThreadPool(threads: 2))[0]
        .floats()
    }
    #expect(results[0] == results[1] && results[0].allSatisfy { $0.isFinite && $0 != 0 })
  }
}
