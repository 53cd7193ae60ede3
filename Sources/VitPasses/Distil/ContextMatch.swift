internal import VitIR
internal import VitOps
internal import VitRuntime
internal import VitTrain

/// What the steps of `distil` bring together.
public enum DistilMatch: String, CaseIterable, Sendable {
  /// What a mixer gives and what the attention gave.
  case output
  /// What a mixer's last linear map reads and what the attention's output map read, wherever these are the same channels;
  /// elsewhere as `output`.
  case context
}

/// A mixer that is trained towards the attended values before the output map, which stays as it is.
final class ContextMatch {
  /// The mixer as far as its last map, ready for its gradients.
  let executor: Executor
  /// The weights: those of the region, and an identity.
  let weights: WeightStore
  private let attended: AttendedValues

  /// For the mixer at `node` with trainable parameters `names`; `nil` where its last map does not read the attention's channels.
  init?(
    _ node: MixerNode, of teacher: Teacher, on shape: [Int], places: [Int]?, factors: Tensor?,
    trainable names: Set<String>, pool: any WorkPool
  ) throws {
    let region = node.region
    guard region.readsAttendedValues, let inner = try region.beforeReadout(),
      let attended = try AttendedValues(node, of: teacher, shape: shape, maps: false, pool: pool)
    else { return nil }
    var graph = try inner.alone(on: shape, places: places).graph
    // What judges the mixer reads the same weights, and scales what it gives.
    if let factors { _ = graph.addConstant(factors, name: "factors") }
    weights = try WeightStore(graph, trainable: names)
    executor = try Executor(
      graph, weights: weights, inputShapes: inner.inputShapes(shape, places: places), training: true,
      pool: pool)
    guard executor.outputs[0].shape == attended.shape else { return nil }
    self.attended = attended
  }

  /// The attended values of tokens; valid until the next call.
  func target(_ tokens: View) -> View { attended.run(tokens).context }
}
