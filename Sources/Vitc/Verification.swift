internal import VitIR
internal import VitRuntime

/// Checks what a model file says about itself.
public enum Verification {
  /// What one output is for the inputs that the file carries.
  public struct Result: Sendable {
    /// The output's name.
    public let output: String
    /// The largest difference from what the file says, relative to the largest magnitude.
    public let deviation: Double
    /// The largest that is allowed.
    public let tolerance: Double
    /// Whether it is.
    public var holds: Bool { deviation <= tolerance }
  }

  /// Checks invariants, types and the digests of tensors, which throw, and runs every probe.
  public static func run(_ model: Model, threads: Int? = nil) throws -> [Result] {
    try Verifier.verify(model.graph, registry: .vitc)
    try model.file.verifyTensors()
    let session = try Session(model, threads: threads)
    var results: [Result] = []
    for probe in model.origin.probes {
      let inputs = try model.graph.inputs.map { id in
        guard let input = probe.inputs.first(where: { $0.name == model.graph[id].name }) else {
          throw VitError("a probe has no input '\(model.graph[id].name)'", code: "bad-probe")
        }
        return input.tensor
      }
      let outputs = try session.run(inputs)
      for (expected, index) in zip(probe.outputs, probe.outputs.indices) {
        guard let place = model.graph.outputs.firstIndex(where: { $0.name == expected.name }) else {
          throw VitError(
            "probe output \(index) ('\(expected.name)') is no output of the model", code: "bad-probe")
        }
        results.append(
          Result(
            output: expected.name, deviation: try outputs[place].deviation(from: expected.tensor),
            tolerance: probe.tolerance))
      }
    }
    return results
  }
}
