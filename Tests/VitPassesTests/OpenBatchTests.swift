import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

/// Single operations made for one image, of which the decoder once knew nothing.
@Suite("opening the batch")
struct OpenBatchTests {
  /// An operation on images, beside constants, and where the images stand among its operands.
  struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    var attributes: [(String, Attribute)] = []
    let image: [Int]
    var element = ElementType.f32
    /// Operands before and behind the image.
    var before: [Tensor?] = []
    var behind: [Tensor?] = []

    var testDescription: String { name }

    func graph() throws -> Graph {
      var builder = GraphBuilder(Graph(name: "one"), registry: .standard)
      let x = builder.graph.addInput(TensorType(element, fixed: image), name: "x")
      func constant(_ tensor: Tensor?) -> ValueID? { tensor.map { builder.graph.addConstant($0, name: "c") } }
      let operands = before.map(constant) + [x] + behind.map(constant)
      let operation = try Registry.standard.make(name, Attributes(attributes))
      builder.graph.outputs = [("y", try builder.add(operation, operands)[0])]
      return builder.graph
    }

    /// Images of that many, different from one another.
    func images(_ count: Int) -> Tensor {
      var random = SplitMix(seed: 5)
      let values = (0..<count * image.reduce(1, *)).map { _ in
        element.isFloat ? random.normal() : Double(random.next() % 5)
      }
      return Tensor(element, shape: [count] + image.dropFirst(), values: values)
    }
  }

  private static func bytes(_ shape: [Int], _ element: ElementType = .u8) -> Tensor {
    Tensor(element, shape: shape, values: (0..<shape.reduce(1, *)).map { Double($0 * 37 % 11) })
  }

  private static func number(_ value: Double, _ element: ElementType = .f32) -> Tensor {
    Tensor(element, shape: [], values: [value])
  }

  static let opened: [Case] = [
    Case(
      name: "onnx.QLinearMatMul", image: [1, 4, 6], element: .u8,
      behind: [
        number(0.1), number(2, .u8), bytes([6, 5]), number(0.2), number(3, .u8), number(0.9), number(1, .u8),
      ]),
    Case(
      name: "com.microsoft.QLinearAdd", image: [1, 4, 6], element: .u8,
      behind: [
        number(0.1), number(2, .u8), bytes([4, 6]), number(0.2), number(3, .u8), number(0.3), number(1, .u8),
      ]),
    Case(
      name: "com.microsoft.QAttention", attributes: [("num_heads", .int(2))], image: [1, 4, 6], element: .u8,
      behind: [
        bytes([6, 18]), .random([18], seed: 1), number(0.1), number(0.1), nil, number(2, .u8), number(3, .u8),
      ]),
    Case(
      name: "onnx.MatMulInteger", image: [1, 4, 6], element: .u8,
      behind: [bytes([6, 5], .i8), number(2, .u8)]),
    Case(
      name: "com.microsoft.FusedGemm", attributes: [("activation", .string("Relu"))], image: [1, 6],
      behind: [.random([6, 5], seed: 1), .random([5], seed: 2)]),
    Case(
      name: "com.microsoft.GroupNorm",
      attributes: [
        ("groups", .int(2)), ("channels_last", .int(1)), ("activation", .int(0)), ("epsilon", .float(1e-5)),
      ], image: [1, 3, 3, 4], behind: [.random([4], seed: 1), .random([4], seed: 2)]),
    Case(
      name: "onnx.GridSample", image: [1, 2, 4, 5], behind: [.random([1, 3, 3, 2], seed: 1, scale: 0.5)]),
    Case(
      name: "onnx.OneHot", image: [1, 4], element: .i64,
      behind: [Tensor(shape: [], integers: [5]), Tensor(.f32, shape: [2], values: [0, 1])]),
    Case(
      name: "onnx.GatherND", attributes: [("batch_dims", .int(1))], image: [1, 4, 3],
      behind: [Tensor(shape: [1, 2, 1], integers: [3, 1])]),
    Case(
      name: "onnx.ScatterElements", attributes: [("axis", .int(1))], image: [1, 4],
      behind: [Tensor(shape: [1, 2], integers: [3, 1]), .random([1, 2], seed: 1)]),
    Case(
      name: "vit.layer_norm", image: [1, 4, 6], behind: [.random([6], seed: 1), .random([6], seed: 2)]),
    Case(name: "vit.linear", image: [1, 4, 6], behind: [.random([5, 6], seed: 1), .random([5], seed: 2)]),
    Case(
      name: "onnx.Tile", image: [1, 4], behind: [Tensor(shape: [2], integers: [1, 3])]),
  ]

  static let fixed: [Case] = [
    Case(name: "onnx.DynamicQuantizeLinear", image: [1, 4]),
    Case(
      name: "onnx.ScatterND", image: [1, 4],
      behind: [Tensor(shape: [1, 1], integers: [0]), .random([1, 4], seed: 1)]),
    Case(name: "onnx.MatMul", image: [1, 4], before: [.random([3, 1], seed: 1)]),
    Case(name: "onnx.CumSum", image: [1, 4], behind: [Tensor(shape: [], integers: [0])]),
    Case(
      name: "com.microsoft.QLinearSoftmax", attributes: [("axis", .int(0)), ("opset", .int(13))],
      image: [1, 4],
      element: .u8, behind: [number(0.1), number(2, .u8), number(0.004), number(0, .u8)]),
  ]

  private func open(_ graph: Graph) throws -> (Graph, [String]) {
    var graph = graph
    var codes: [String] = []
    let context = PassContext(pool: SerialPool(), registry: .standard)
    context.report = { codes.append($0.code) }
    _ = try OpenBatch().run(on: &graph, context: context)
    return (graph, codes)
  }

  @Test("an operation that does the same to each image does so for many", arguments: opened)
  func opens(_ test: Case) throws {
    let one = try test.graph()
    let (graph, codes) = try open(one)
    #expect(codes == ["batch-opened"])
    let images = test.images(3)
    let all = try Zoo.run(graph, [images])[0]
    let values = try images.doubles()
    let (size, results) = (images.count / 3, try all.doubles())
    for image in 0..<3 {
      let part = Tensor(
        test.element, shape: test.image, values: Array(values[image * size..<(image + 1) * size]))
      let alone = try Zoo.run(one, [part])[0]
      let own = Array(results[image * alone.count..<(image + 1) * alone.count])
      let joined = Tensor(alone.element, shape: alone.shape, values: own)
      #expect(try relativeDifference(joined, alone) < 1e-6, "image \(image)")
    }
  }

  @Test("an operation that mixes images stays for one", arguments: fixed)
  func stays(_ test: Case) throws {
    let (graph, codes) = try open(try test.graph())
    #expect(codes == ["batch-fixed"])
    #expect(graph.type(graph.inputs[0]).shape[0] == 1)
  }
}
