/// What the products of linear maps are computed in.
public enum Precision: String, CaseIterable, Sendable {
  /// Floats of 32 bits.
  case f32
  /// Whole numbers of 8 bits, where weights have them.
  case int8
}
