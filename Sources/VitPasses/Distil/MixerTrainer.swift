internal import VitIR
internal import VitOps
internal import VitRuntime
internal import VitTrain

/// Trains one mixer on the tokens that go into the layer it replaces, towards what that layer gave.
///
/// Each has its own optimiser, clipping and weights, so that a sweep over all layers gives each the same bits
/// as training it alone.
final class MixerTrainer {
  /// The layer's number.
  let layer: Int
  private let node: Node
  private let mixer: any Mixer
  private let parameters: [MixerParameter]
  private let executor: Executor
  private let tape: Tape
  /// The optimiser, whose state a checkpoint holds.
  let optimiser: AdamW
  private let pool: any WorkPool
  private let weights: [View]

  /// A trainer of the mixer at `node` of `graph`, for `batch` samples at once; with `factors`, towards a target that was
  /// scaled by them channel by channel.
  init(
    _ graph: Graph, node: Node, layer: Int, factors: Tensor?, batch: Int, pool: any WorkPool
  ) throws {
    guard let mixer = node.operation as? any Mixer, let x = node.operands[0],
      let extents = graph.type(x).fixedShapeTail(2)
    else { throw VitError("expected a mixer on tokens of a known number", location: node.location) }
    self.layer = layer
    self.node = node
    self.mixer = mixer
    self.pool = pool
    var alone = Graph(name: "mixer \(layer)")
    let input = alone.addInput(TensorType(.f32, fixed: [batch] + extents), name: "x")
    var operands: [ValueID?] = [input]
    var constants: [ValueID] = []
    var names: [MixerParameter] = []
    for id in node.operands.dropFirst() {
      guard let id, let tensor = graph.tensor(id) else {
        throw VitError("expected constant parameters", location: node.location)
      }
      let constant = alone.addConstant(tensor, name: graph[id].name)
      operands.append(constant)
      constants.append(constant)
      names.append(MixerParameter(graph[id].name, tensor.shape, decay: tensor.shape.count > 1))
    }
    parameters = names
    let type = try mixer.resultTypes(
      Operands(
        operands.map { $0.map(alone.type) },
        values: operands.map { $0.flatMap(alone.tensor).map(KnownValue.tensor) }))
    let result = alone.addValue(type[0], name: "y")
    alone.nodes = [Node(mixer, operands: operands, results: [result], location: node.location)]
    alone.outputs = [("y", result)]
    if let factors {
      let scaled = alone.addValue(type[0], name: "scaled")
      alone.nodes.append(
        Node(
          VitScale(), operands: [result, alone.addConstant(factors, name: "factors")], results: [scaled],
          location: node.location))
      alone.outputs = [("y", scaled)]
    }
    if mixer.readout != nil { try Blas.require(on: pool) }
    let store = try WeightStore(alone, trainable: Set(names.map(\.name)))
    executor = try Executor(
      alone, weights: store, inputShapes: [[batch] + extents], training: true, pool: pool)
    tape = try Tape(executor, parameters: constants)
    weights = names.compactMap { store.view($0.name) }
    optimiser = try AdamW(
      parameters: weights, gradients: tape.parameterGradients, decays: names.map(\.decay), pool: pool)
  }

  /// Whether there is anything to train.
  var isTrainable: Bool { !parameters.isEmpty }

  /// Adds the gradient of `scale · ‖mixer(x) − y‖²`; returns that loss.
  func accumulate(_ x: View, _ y: View, scale: Double) -> Double {
    executor.inputs[0].copy(from: x)
    executor.run()
    tape.zeroOutputGradients()
    let loss = Loss.squaredError(
      executor.outputs[0], y, scale: scale, adding: tape.outputGradients[0], pool: pool)
    tape.backward()
    return loss
  }

  /// One optimiser step with what `accumulate` gathered.
  func step(rate: Double, clip: Double) {
    optimiser.step(rate: rate, clip: clip)
    tape.zeroGradients()
  }

  /// ‖mixer(x) − y‖².
  func squaredError(_ x: View, _ y: View) -> Double {
    executor.inputs[0].copy(from: x)
    executor.run()
    return Loss.squaredError(executor.outputs[0], y, scale: 1, adding: nil, pool: pool)
  }

  /// Exchanges the weights and their running average.
  func exchangeAverage() { optimiser.exchangeAverage() }

  /// Starts the running average anew.
  func resetAverage() { optimiser.resetAverage() }

  /// The weights as they are.
  var snapshot: [Tensor] { get throws { try weights.map(Tensor.init(copying:)) } }

  /// Takes weights back.
  func restore(_ tensors: [Tensor]) throws {
    for (view, tensor) in zip(weights, tensors) {
      try tensor.storage.withBytes {
        UnsafeMutableRawBufferPointer(start: view.base, count: view.byteCount).copyMemory(from: $0)
      }
    }
  }

  /// The weights by the names of their constants.
  var tensors: [(name: String, tensor: Tensor)] {
    get throws { try zip(parameters, weights).map { ($0.name, try Tensor(copying: $1)) } }
  }

  /// Takes up a checkpoint.
  func restore(from reader: inout StateReader) throws(VitError) { try optimiser.restore(from: &reader) }

  // MARK: Readout

  /// An executor that gives the inner values which the last linear map reads, with the weights as they are
  /// now; `nil` where there is no such map.
  func innerExecutor() throws -> Executor? {
    guard let readout = mixer.readout, let weight = readout.weight else { return nil }
    var graph = executor.graph
    graph.nodes = [graph.nodes[0]]
    graph.outputs = graph.nodes[0].results.map { ("y", $0) }
    let operands = graph.nodes[0].operands
    for (place, id) in operands.enumerated().dropFirst() {
      guard let id, place - 1 < weights.count else { continue }
      var tensor = try Tensor(copying: weights[place - 1])
      if place == weight {
        let inputs = tensor.shape[1]
        tensor = try Tensor(.f32, shape: [inputs, inputs]) { buffer in
          for index in 0..<inputs { buffer.store(1, at: index * inputs + index, as: .f32) }
        }
      } else if place == readout.bias {
        tensor = try Tensor(.f32, shape: [weightInputs(weight)]) { _ in }
      }
      graph.setTensor(tensor, of: id)
    }
    let types = try mixer.resultTypes(
      Operands(
        operands.map { $0.map(graph.type) },
        values: operands.map { $0.flatMap(graph.tensor).map(KnownValue.tensor) }))
    graph.setType(types[0], of: graph.outputs[0].value)
    return try Executor(
      graph, weights: WeightStore(graph), inputShapes: [executor.inputs[0].shape], pool: pool)
  }

  private func weightInputs(_ operand: Int) -> Int { weights[operand - 1].shape[1] }

  /// A regression for this mixer's last map.
  func makeReadout() -> Readout? {
    guard let readout = mixer.readout else { return nil }
    let outputs = weights[readout.bias - 1].shape[0]
    return Readout(inputs: readout.weight.map(weightInputs) ?? 0, outputs: outputs)
  }

  /// Takes over a solution.
  func apply(weight: [Float], bias: [Float]) {
    guard let readout = mixer.readout else { return }
    for (index, value) in bias.enumerated() { weights[readout.bias - 1].f32[index] = value }
    guard let place = readout.weight else { return }
    for (index, value) in weight.enumerated() { weights[place - 1].f32[index] = value }
  }
}
