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
  private let region: MixerRegion
  private let names: [String]
  private let executor: Executor
  private let tape: Tape
  private let matched: ContextMatch?
  /// What the steps run: `executor`, or the part of it before the last map.
  private let trained: Executor
  /// The optimiser, whose state a checkpoint holds.
  let optimiser: AdamW
  private let pool: any WorkPool
  private let weights: [View]
  /// What the rows of each token weigh for a mixer that is trained towards what the layer gave, and in what the steps bring together.
  private let rowWeights, trainedRowWeights: [Double]
  /// Whether there is anything to train.
  let isTrainable: Bool

  /// A trainer of the mixer that stands at `node`, for tokens of that `shape`, and a table of their `places` where some were dropped; with `factors`, towards a target that was scaled
  /// by them channel by channel. Where `match` says so and the mixer has the attention's channels, the steps bring what its last
  /// map reads towards what the attention's output map reads, and leave that map alone.
  init(
    _ node: MixerNode, of teacher: Teacher, tokens shape: [Int], places: [Int]?, factors: Tensor?,
    match: DistilMatch, pool: any WorkPool
  ) throws {
    layer = node.layer.index
    let region = node.region
    self.region = region
    self.pool = pool
    let geometry = TokenGeometry(teacher.graph, tokens: shape[1])
    rowWeights = geometry.rowWeights(tokens: shape[1])
    let (alone, constants) = try region.alone(on: shape, places: places, scaledBy: factors)
    names = constants.map { alone[$0].name }
    if region.readout != nil || region.prefix != nil { try Blas.require(on: pool) }
    let trainable = Set(names)
    matched =
      try match == .context
      ? ContextMatch(
        node, of: teacher, on: shape, places: places, factors: factors, trainable: trainable, pool: pool)
      : nil
    // What reads the context has no part in the rows that attention makes.
    trainedRowWeights =
      matched == nil ? rowWeights : geometry.rowWeights(tokens: shape[1], unread: region.unreadRows)
    let store = try matched?.weights ?? WeightStore(alone, trainable: trainable)
    executor = try Executor(
      alone, weights: store, inputShapes: region.inputShapes(shape, places: places),
      training: matched == nil, pool: pool)
    trained = matched?.executor ?? executor
    tape = try Tape(trained, parameters: names.compactMap(trained.graph.value(named:)))
    let views = names.compactMap { store.view($0) }
    weights = views
    // The attention's own maps stay as they are until the whole is trained.
    let readout = matched == nil ? nil : region.readout
    let frozen =
      region.mixer.frozen.compactMap(region.constant) + [readout?.weight, readout?.bias].compactMap(\.self)
    let free = views.indices.filter { !frozen.contains($0) }
    let gradients = tape.parameterGradients
    let decays = region.constants.map { $0.tensor.shape.count > 1 }
    optimiser = try AdamW(
      parameters: free.map { views[$0] }, gradients: free.map { gradients[$0] },
      decays: free.map { decays[$0] },
      pool: pool)
    isTrainable = !free.isEmpty
  }

  /// What the steps train towards, for the layer's tokens `x` and what it gives, `y`; valid until the next call.
  private func target(_ x: View, _ y: View) -> View { matched?.target(x) ?? y }

  /// ‖target‖² with the weights of its rows.
  func squaredTarget(_ x: View, _ y: View) -> Double {
    SquaredNorm.squared(target(x, y), weights: trainedRowWeights, pool: pool)
  }

  /// Adds the gradient of `scale · ‖mixer(x) − target‖²`, with the weights of rows; returns that loss.
  func accumulate(_ x: View, places: View?, _ y: View, scale: Double) -> Double {
    let target = target(x, y)
    trained.read(x, places: places)
    trained.run()
    tape.zeroOutputGradients()
    let loss = Loss.squaredError(
      trained.outputs[0], target, scale: scale, weights: trainedRowWeights, adding: tape.outputGradients[0],
      pool: pool)
    tape.backward()
    return loss
  }

  /// One optimiser step with what `accumulate` gathered.
  func step(rate: Double, clip: Double) {
    optimiser.step(rate: rate, clip: clip)
    tape.zeroGradients()
  }

  /// How far what the mixer gives on `x` is from `y`.
  func error(_ x: View, places: View?, _ y: View, prefix: Int) -> LayerError {
    executor.read(x, places: places)
    executor.run()
    return LayerError(executor.outputs[0], of: y, prefix: prefix, weights: rowWeights)
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
    get throws { try zip(names, weights).map { ($0, try Tensor(copying: $1)) } }
  }

  /// Takes up a checkpoint.
  func restore(from reader: inout StateReader) throws(VitError) { try optimiser.restore(from: &reader) }

  // MARK: Closed form

  /// The region with the weights as they are now.
  var current: MixerRegion {
    get throws {
      var region = region
      for (place, tensor) in try snapshot.enumerated() { region.constants[place].tensor = tensor }
      return region
    }
  }

  /// Takes over weights that were solved for.
  func apply(_ region: MixerRegion) throws { try restore(region.constants.map(\.tensor)) }
}
