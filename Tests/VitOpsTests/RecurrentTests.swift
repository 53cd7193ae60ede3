import Testing
import VitIR
import VitOps
import VitTestSupport

@Suite("Recurrent operators")
struct RecurrentTests {
  static let fixtures = OnnxFixture.load("recurrent.json")

  @Test("the fixtures are there")
  func fixturesLoad() { #expect(Self.fixtures.count > 10) }

  @Test("results are ONNX Runtime's", arguments: fixtures)
  func matchesReference(_ fixture: OnnxFixture) throws {
    let difference = try fixture.difference(try fixture.makeCase().run())
    #expect(difference <= fixture.tol)
  }

  @Test("attributes read back what they print", arguments: fixtures)
  func attributesRoundTrip(_ fixture: OnnxFixture) throws {
    let operation = try fixture.makeCase().operation
    let again = try Registry.standard.make(fixture.op, operation.attributes)
    #expect(again.attributes == operation.attributes)
  }

  private func transposed(_ tensor: Tensor, _ a: Int, _ b: Int) throws -> Tensor {
    var order = Array(tensor.shape.indices)
    order.swapAt(a, b)
    return try OpCase("onnx.Transpose", [("perm", .ints(order))], inputs: [tensor]).run()[0]
  }

  @Test(
    "with the batch first everything is the same, transposed",
    arguments: [("LSTM", 4, 2), ("GRU", 3, 1), ("RNN", 1, 1)])
  func batchFirst(_ name: String, gates: Int, states: Int) throws {
    let attributes: [(String, Attribute)] = [("direction", .string("bidirectional"))]
    let x = Tensor.random([5, 3, 4], seed: 1)
    let weights: [Tensor?] = [
      .random([2, 2 * gates, 4], seed: 2), .random([2, 2 * gates, 2], seed: 3),
      .random([2, 4 * gates], seed: 4), Tensor(.i32, shape: [3], values: [5, 3, 1]),
    ]
    let initial = (0..<states).map { Tensor.random([2, 3, 2], seed: UInt64(5 + $0)) }
    let plain = try OpCase(
      "onnx." + name, attributes, inputs: [x] + weights + initial, resultCount: 1 + states
    ).run()
    let batched = try OpCase(
      "onnx." + name, attributes + [("layout", .int(1))],
      inputs: [transposed(x, 0, 1)] + weights + initial.map { try transposed($0, 0, 1) },
      resultCount: 1 + states
    ).run()
    // [steps, directions, batch, hidden] and [batch, steps, directions, hidden]
    let y = try OpCase("onnx.Transpose", [("perm", .ints([2, 0, 1, 3]))], inputs: [plain[0]]).run()[0]
    #expect(try relativeDifference(batched[0], y) == 0)
    for state in 1...states {
      #expect(try relativeDifference(batched[state], transposed(plain[state], 0, 1)) == 0)
    }
  }

  @Test("operands and attributes that do not fit are refused")
  func refusals() throws {
    let types: [TensorType?] = [
      TensorType(.f32, [5, .symbol("batch"), 4]), TensorType(.f32, [1, 8, 4]), TensorType(.f32, [1, 8, 2]),
      TensorType(.f32, [1, 16]), TensorType(.i32, [.symbol("batch")]),
      TensorType(.f32, [1, .symbol("batch"), 2]),
      TensorType(.f32, [1, .symbol("batch"), 2]), TensorType(.f32, [1, 6]),
    ]
    let operation = try Registry.standard.make("onnx.LSTM")
    let results = try operation.resultTypes(Operands(types, resultCount: 3))
    #expect(results.map(\.description) == ["f32[5, 1, batch, 2]", "f32[1, batch, 2]", "f32[1, batch, 2]"])
    for index in types.indices {
      for wrong in [TensorType(.f32, [7]), TensorType(.f64, types[index]?.shape ?? []), TensorType(.f32, [])]
      {
        var changed = types
        changed[index] = wrong
        #expect(throws: VitError.self) { try operation.resultTypes(Operands(changed)) }
      }
    }
    #expect(throws: VitError.self) { try operation.resultTypes(Operands(types, resultCount: 4)) }
    #expect(throws: VitError.self) { try operation.resultTypes(Operands(Array(types.prefix(2)))) }
    for (name, value) in [
      ("direction", Attribute.string("both")), ("activations", .strings(["Tanh"])), ("hidden_size", .int(0)),
      ("activations", .strings(["Sine", "Tanh", "Tanh"])), ("clip", .float(-1)), ("layout", .int(2)),
    ] {
      #expect(throws: VitError.self) { try Registry.standard.make("onnx.LSTM", Attributes([(name, value)])) }
    }
  }
}
