internal import VitIR
public import VitPasses

extension Model {
  /// The model with its products computed in that precision: its weights are brought into fewer bits, or taken for the floats that
  /// they stand for. Throws a usage error where they are not as precise as that asks for, and one where there is no linear map
  /// whose products could be computed so.
  public func computing(in precision: Precision) throws -> Model {
    var result = self
    let elements = Set(graph.tensors.names.compactMap { graph.tensors[$0]?.element })
    if precision == .bf16, elements.contains(.q8) {
      throw VitError(
        "the model has weights in 8 bits, found precision bf16, expected int8, or f32 for the floats that they stand for",
        kind: .usage, code: "precision", location: Location(file: path))
    }
    guard let weights = precision.weights else {
      result.hybrid.graph.widenWeights()
      return result
    }
    if elements.contains(weights == .int8 ? .q8 : .bf16) { return self }
    result.hybrid.graph.widenWeights()
    guard try Quantise(weights: weights).narrow(&result.hybrid.graph).changed > 0 else {
      throw VitError(
        "the model has no linear map between others whose products could be computed in \(precision.rawValue)",
        kind: .usage, code: "precision", location: Location(file: path))
    }
    return result
  }
}
