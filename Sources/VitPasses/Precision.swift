package import VitIR

/// What the products of linear maps are computed in.
public enum Precision: String, CaseIterable, Sendable {
  /// Floats of 32 bits.
  case f32
  /// Whole numbers of 8 bits, where weights have them.
  case int8
}

extension Diagnostic {
  /// What is said where a model with weights of 8 bits is worked on in floats.
  package static let dequantisedWeights = Diagnostic(
    .note, "weights in 8 bits are taken for the floats that they stand for", code: "dequantised",
    help: "'quantise' behind other passes brings them into 8 bits again")
}
