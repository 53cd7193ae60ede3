package import VitIR

/// What the products of linear maps are computed in.
public enum Precision: String, CaseIterable, Sendable {
  /// Floats of 32 bits.
  case f32
  /// bfloat16, where weights are in it and the processor is faster in it.
  case bf16
  /// Whole numbers of 8 bits, where weights have them.
  case int8

  /// What weights are brought into for it; `nil` where they stay.
  package var weights: Quantise.Weights? {
    switch self {
    case .f32: nil
    case .bf16: .bf16
    case .int8: .int8
    }
  }

  /// The type that those have then.
  package var element: ElementType { weights.map { Quantise(weights: $0).element } ?? .f32 }
}

extension Diagnostic {
  /// What is said where a model with weights of fewer bits is worked on in floats.
  package static let widenedWeights = Diagnostic(
    .note, "weights in fewer bits are taken for the floats that they stand for", code: "dequantised",
    help: "'quantise' behind other passes brings them into fewer bits again")
}
