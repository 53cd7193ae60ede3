import VitIR
import VitOps
import VitRuntime
import VitTestSupport
import VitTrain

/// The gradients of an operation's operands, computed in `element`, that follow from `upstream`, the gradient
/// of its result.
func operandGradients(
  of operation: any Operation, _ operands: [Tensor?], upstream: Tensor, element: ElementType,
  pool: any WorkPool
) throws -> [Tensor?] {
  var builder = GraphBuilder(Graph(name: "case"), registry: .standard)
  let ids = operands.enumerated().map { index, tensor in
    tensor.map { builder.graph.addInput(TensorType(element, fixed: $0.shape), name: "x\(index)") }
  }
  builder.graph.outputs = [("y", try builder.add(operation, ids)[0])]
  let tensors = operands.compactMap { $0 }
  let executor = try Executor(
    builder.graph, weights: WeightStore(builder.graph), inputShapes: tensors.map(\.shape), training: true,
    pool: pool)
  func store(_ tensor: Tensor, in view: View) throws {
    let buffer = UnsafeMutableRawBufferPointer(start: view.base, count: view.byteCount)
    for (index, value) in try tensor.doubles().enumerated() { buffer.store(value, at: index, as: element) }
  }
  for (view, tensor) in zip(executor.inputs, tensors) { try store(tensor, in: view) }
  let tape = try Tape(executor, parameters: [], inputs: executor.graph.inputs)
  executor.run()
  // A second pass over the same values: gradients are added, so nothing may be left of the first.
  for _ in 0..<2 {
    tape.zeroGradients()
    if let view = tape.outputGradients[0] { try store(upstream, in: view) }
    tape.backward()
  }
  return try ids.map { id in try id.flatMap { tape.gradient(ofInput: $0) }.map(Tensor.init(copying:)) }
}

/// The gradient of operand 0 in double that follows from `upstream`; integer operands are constants.
func tokenGradient(of operation: any Operation, _ operands: [Tensor?], upstream: Tensor) throws -> Tensor? {
  var builder = GraphBuilder(Graph(name: "case"), registry: .standard)
  let ids = operands.enumerated().map { index, tensor in
    tensor.map {
      $0.element.isFloat
        ? builder.graph.addInput($0.type, name: "x\(index)")
        : builder.graph.addConstant($0, name: "c\(index)")
    }
  }
  builder.graph.outputs = [("y", try builder.add(operation, ids)[0])]
  let tensors = operands.compactMap { $0 }.filter(\.element.isFloat)
  let executor = try Executor(
    builder.graph, weights: WeightStore(builder.graph), inputShapes: tensors.map(\.shape), training: true,
    pool: SerialPool())
  for (view, tensor) in zip(executor.inputs, tensors) {
    for (index, value) in try tensor.doubles().enumerated() { view.f64[index] = value }
  }
  let tape = try Tape(executor, parameters: [], inputs: executor.graph.inputs)
  executor.run()
  tape.zeroGradients()
  for (index, value) in try upstream.doubles().enumerated() { tape.outputGradients[0]?.f64[index] = value }
  tape.backward()
  return try ids[0].flatMap { tape.gradient(ofInput: $0) }.map(Tensor.init(copying:))
}
