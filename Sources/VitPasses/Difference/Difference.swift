package import VitIR
internal import VitRuntime

/// What tells two models apart.
public struct Difference: Sendable {
  /// What differs.
  public enum Kind: String, Sendable {
    /// Inputs, outputs, operations, or what is connected to what.
    case structure
    /// The attributes of an operation.
    case attributes
    /// The values of a constant.
    case tensor
    /// A value computed on the way to the outputs: the first one that differs.
    case value
    /// An output.
    case output
  }

  /// What differs.
  public let kind: Kind
  /// The node, tensor or output where it does.
  public let place: String
  /// What stands in one and in the other.
  public let message: String

  /// A difference.
  package init(kind: Kind, place: String, message: String) {
    (self.kind, self.place, self.message) = (kind, place, message)
  }

  /// The differences of `b` from `a`, which are run on `inputs` of `a`: what is computed in one alone, attributes, tensors, and
  /// what both compute.
  ///
  /// Nodes are compared that answer each other in the flow of data (`GraphAlignment`); inputs and outputs by name where both
  /// have the same names, else in order. Numbers may differ by `tolerance`, relative to the largest magnitude of a tensor.
  package static func find(
    _ a: Graph, _ b: Graph, inputs: [Tensor], tolerance: Double, pool: any WorkPool
  ) throws -> [Difference] {
    var finder = try DifferenceFinder(a, b, tolerance: tolerance)
    try finder.compareGraphs()
    try finder.compareRuns(inputs: inputs, pool: pool)
    return finder.found
  }
}
