import Testing
import VitIR
import VitOps
import VitRuntime
import VitTestSupport

@Suite("vit.* operations as ONNX operators")
struct VitLoweringTests {
  @Test("the lowered graph has ONNX operators only and gives the same in double", arguments: VitFixture.all)
  func lowersToTheSame(_ fixture: VitFixture) throws {
    let operation = try Registry.standard.make(fixture.operation, Attributes(fixture.attributes))
    var builder = GraphBuilder(Graph(name: "lowered"), registry: .standard)
    // The batch stays a symbol: what is lowered must not depend on it.
    let ids = fixture.operands.enumerated().map { index, tensor -> ValueID? in
      guard let tensor else { return nil }
      guard index == 0, tensor.shape.count >= 3, fixture.operation != "vit.sdpa", fixture.name != "add",
        !fixture.name.hasSuffix("images")
      else { return builder.graph.addInput(tensor.type, name: "x\(index)") }
      let shape = [Dimension.symbol("batch")] + tensor.shape.dropFirst().map(Dimension.fixed)
      return builder.graph.addInput(TensorType(.f64, shape), name: "x\(index)")
    }
    let result = try operation.lower(into: &builder, operands: ids, resultCount: 1)[0]
    builder.graph.outputs = [("y", result)]
    #expect(builder.graph.nodes.allSatisfy { $0.name.hasPrefix("onnx.") })
    let tensors = fixture.operands.compactMap { $0 }
    let executor = try Executor(
      builder.graph, weights: WeightStore(builder.graph), inputShapes: tensors.map(\.shape),
      pool: SerialPool())
    for (view, tensor) in zip(executor.inputs, tensors) {
      for (index, value) in try tensor.doubles().enumerated() { view.f64[index] = value }
    }
    executor.run()
    #expect(try relativeDifference(Tensor(copying: executor.outputs[0]), fixture.result) < 1e-11)
  }
}
