public import VitIR
public import VitPasses

extension Model {
  /// The model with its products computed in that precision: rows of 8 bits are taken for the floats that they stand for where
  /// that is `f32`. Throws where the weights are not as precise as that asks for: they are brought into 8 bits by a pass.
  public func computing(in precision: Precision) throws(VitError) -> Model {
    switch precision {
    case .f32:
      var result = self
      result.hybrid.graph.dequantiseWeights()
      return result
    case .int8:
      guard graph.hasQuantisedWeights else {
        throw VitError(
          "the model has no weights in 8 bits, in which products could be computed", kind: .usage,
          code: "precision", location: Location(file: path),
          help: "'vitc compile' with --precision int8, or the pass 'quantise', makes a model that has")
      }
      return self
    }
  }
}
