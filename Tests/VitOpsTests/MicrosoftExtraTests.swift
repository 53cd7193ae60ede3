import Testing
import VitIR
import VitOps
import VitRuntime
import VitTestSupport

/// Operators of which the reference runtime has no kernel on a CPU: against compositions of others.
@Suite("Operators without a reference")
struct MicrosoftExtraTests {
  private func run(_ name: String, _ inputs: [Tensor?]) throws -> Tensor { try run(name, [], inputs) }

  private func run(_ name: String, _ attributes: [(String, Attribute)], _ inputs: [Tensor?]) throws
    -> Tensor
  {
    let operation = try OpCase(name, attributes, inputs: inputs)
    #expect(try operation.gradientError() < 2e-6)
    return try operation.run()[0]
  }

  private let x = Tensor.random([2, 3, 6], seed: 1)
  private let bias = Tensor.random([6], seed: 2)
  private let skip = Tensor.random([2, 3, 6], seed: 3)

  @Test("a bias and a skip are added")
  func biasAdd() throws {
    let y = try run("com.microsoft.BiasAdd", [x, bias, skip])
    let sum = try run("onnx.Sum", [x, bias, skip])
    #expect(try relativeDifference(y, sum) < 1e-6)
  }

  @Test("one half of the channels gates the other")
  func biasSplitGelu() throws {
    let y = try run("com.microsoft.BiasSplitGelu", [x, bias])
    let sum = try run("onnx.Add", [x, bias])
    let halves = try OpCase("onnx.Split", [("axis", .int(-1))], inputs: [sum], resultCount: 2).run()
    let gate = try run("onnx.Gelu", [halves[1]])
    #expect(try relativeDifference(y, try run("onnx.Mul", [halves[0], gate])) < 1e-6)
  }

  @Test("the softmax of a sum goes over all axes from one on")
  func biasSoftmax() throws {
    let scores = Tensor.random([2, 3, 4, 5], seed: 4)
    let mask = Tensor.random([2, 1, 1, 5], seed: 5)
    let sum = try run("onnx.Add", [scores, mask])
    let last = try run(
      "com.microsoft.BiasSoftmax", [("axis", .int(3)), ("is_inner_broadcast", .int(1))], [scores, mask])
    #expect(try relativeDifference(last, try run("onnx.Softmax", [("axis", .int(3))], [sum])) < 1e-6)
    let flat = try run(
      "com.microsoft.BiasSoftmax", [("axis", .int(2)), ("is_inner_broadcast", .int(1))], [scores, mask])
    let old = try run("onnx.Softmax", [("axis", .int(2)), ("coerce2d", .bool(true))], [sum])
    #expect(try relativeDifference(flat, old) < 1e-6)
  }

  @Test("groups of the last axis are normalised as groups of the second", arguments: [false, true])
  func groupNorm(activates: Bool) throws {
    let image = Tensor.random([2, 3, 4, 6], seed: 6)
    let (gamma, beta) = (Tensor.random([6], seed: 7), Tensor.random([6], seed: 8))
    let attributes: [(String, Attribute)] = [("groups", .int(2)), ("activation", .int(activates ? 1 : 0))]
    let y = try run("com.microsoft.GroupNorm", attributes, [image, gamma, beta])
    let planes = try run("onnx.Transpose", [("perm", .ints([0, 3, 1, 2]))], [image])
    var expected = try run("onnx.GroupNormalization", [("num_groups", .int(2))], [planes, gamma, beta])
    if activates { expected = try run("onnx.Swish", [expected]) }
    #expect(
      try relativeDifference(y, try run("onnx.Transpose", [("perm", .ints([0, 2, 3, 1]))], [expected])) < 1e-5
    )
    let same = try run(
      "com.microsoft.GroupNorm", attributes + [("channels_last", .int(0))], [planes, gamma, beta])
    #expect(try relativeDifference(same, expected) < 1e-5)
  }

  @Test("packed queries, keys and values are those that are apart")
  func packedHeads() throws {
    let packed = Tensor.random([2, 3, 2, 3, 4], seed: 9)
    let bias = Tensor.random([24], seed: 10)
    let parts = try OpCase("onnx.Split", [("axis", .int(3))], inputs: [packed], resultCount: 3).run()
      .map { $0.reshaped([2, 3, 8]) }
    let heads: [(String, Attribute)] = [("num_heads", .int(2))]
    for added in [nil, bias] {
      let y = try run("com.microsoft.MultiHeadAttention", heads, [packed, nil, nil, added])
      let expected = try run("com.microsoft.MultiHeadAttention", heads, parts + [added])
      #expect(try relativeDifference(y, expected) < 1e-6)
    }
    let pair = Tensor.random([2, 5, 2, 2, 4], seed: 11)
    let two = try OpCase("onnx.Split", [("axis", .int(3))], inputs: [pair], resultCount: 2).run()
      .map { $0.reshaped([2, 5, 8]) }
    let query = Tensor.random([2, 3, 8], seed: 12)
    let y = try run("com.microsoft.MultiHeadAttention", heads, [query, pair])
    let expected = try run("com.microsoft.MultiHeadAttention", heads, [query] + two)
    #expect(try relativeDifference(y, expected) < 1e-6)
  }

  @Test("x·σ(alpha·x)", arguments: [1.0, 0.7])
  func swish(alpha: Double) throws {
    let y = try run("onnx.Swish", [("alpha", .float(alpha))], [x])
    for (value, input) in zip(try y.doubles(), try x.doubles()) {
      #expect(abs(value - input / (1 + (try exponential(-alpha * input)))) < 1e-6)
    }
  }

  private func exponential(_ x: Double) throws -> Double {
    try OpCase("onnx.Exp", inputs: [Tensor(.f64, shape: [], values: [x])]).run()[0].doubles()[0]
  }

  @Test("a window of an even size reaches one channel further up")
  func evenWindow() throws {
    let image = Tensor(shape: [1, 4, 1], floats: [1, 2, 3, 4])
    let y = try run(
      "onnx.LRN", [("size", .int(2)), ("alpha", .float(2)), ("beta", .float(1)), ("bias", .float(1))], [image]
    )
    let expected = Tensor(shape: [1, 4, 1], floats: [1 / 6.0, 2 / 14.0, 3 / 26.0, 4 / 17.0])
    #expect(try relativeDifference(y, expected) < 1e-6)
  }

  static let products = (OnnxFixture.load("compute.json") + OnnxFixture.load("attention.json")).filter {
    fixture in
    [
      "onnx.MatMul", "onnx.Gemm", "com.microsoft.FusedGemm", "com.microsoft.FusedMatMul",
      "com.microsoft.Attention",
    ]
    .contains(fixture.op) && fixture.inputs[1]?.e == "f32"
  }

  @Test("a constant weight, which is packed, gives the same", arguments: products)
  func packedWeights(_ fixture: OnnxFixture) throws {
    let inputs = fixture.inputs.map { $0?.tensor }
    let operation = try fixture.makeCase().operation
    let packed = OpCase(operation, inputs: inputs, resultCount: fixture.outputs.count, constantOperands: [1])
    #expect(try fixture.difference(try packed.run()) <= fixture.tol)
  }

  @Test("results are the same to the bit on one thread and on three")
  func threadsAgree() throws {
    let tokens = Tensor.random([3, 70, 96], seed: 20)
    let weight = Tensor.random([96, 288], seed: 21, scale: 0.2)
    let operation = try OpCase(
      "com.microsoft.Attention", [("num_heads", .int(4))],
      inputs: [tokens, weight, Tensor.random([288], seed: 22)])
    let einsum = try OpCase(
      "onnx.Einsum", [("equation", .string("btd,de->ebt"))], inputs: [tokens, weight])
    for operation in [operation, einsum] {
      let one = try operation.run()[0].floats()
      let three = try operation.run(pool: ThreadPool(threads: 3))[0].floats()
      #expect(one == three)
    }
  }
}
