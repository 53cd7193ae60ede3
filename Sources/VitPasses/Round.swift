public import VitIR

/// Rounds the weights to the type in which they are stored; see `Graph.roundingWeights(to:)`.
public struct Round: Pass {
  /// `round`.
  public static let name = "round"
  /// See `Pass`.
  public static let summary = "Rounds the weights to the type in which they are stored"
  /// See `Pass`.
  public static let example = "round{weights=bf16}"

  /// The type.
  public var weights: ElementType

  /// The pass.
  public init(weights: ElementType = .f16) { self.weights = weights }

  /// Takes `weights` (f16): `f16`, `bf16`, or `f32` for no change.
  public init(options: inout OptionReader) throws(VitError) {
    weights = try options.choice("weights", default: .f16)
  }

  /// Throws for a type that weights are not stored in.
  public func check() throws(VitError) {
    guard [.f16, .bf16, .f32].contains(weights) else {
      throw VitError(
        "round: option 'weights' cannot be '\(weights.rawValue)' (expected one of f16, bf16, f32)",
        kind: .usage, code: "option-value")
    }
  }

  /// It leaves those as they are.
  public var worksOnNarrowWeights: Bool { true }
  /// All options.
  public var options: [(name: String, value: String)] { [("weights", weights.rawValue)] }

  /// Rounds.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    let old = hybrid.graph
    hybrid.graph = try old.roundingWeights(to: weights)
    let changes = old.tensors.names.filter { old.tensors[$0]?.element != hybrid.graph.tensors[$0]?.element }
    return PassResult(changes: changes.count)
  }
}
