public import VitIR
public import VitPasses
internal import VitRuntime

extension Difference {
  /// The differences of `b` from `a`: the first of structure and of attributes, every tensor, and what both compute from
  /// `input`, or from random numbers where that is `nil`.
  ///
  /// Numbers may differ by `tolerance`, relative to the largest magnitude of a tensor. Names of values inside do not matter.
  public static func find(
    _ a: Model, _ b: Model, input: [Tensor]? = nil, tolerance: Double = 0, threads: Int? = nil
  ) throws -> [Difference] {
    try find(
      a.graph, b.graph, inputs: input ?? GraphProbe.inputs(a.graph, shapes: a.inputShapes()),
      tolerance: tolerance, pool: ThreadPool.shared(threads: threads))
  }
}
