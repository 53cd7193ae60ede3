public import VitIR

/// Inputs of a model and the outputs that it gives for them: a proof that a file carries.
public struct Probe: Sendable {
  /// The inputs by name.
  public var inputs: [(name: String, tensor: Tensor)]
  /// The expected outputs by name.
  public var outputs: [(name: String, tensor: Tensor)]
  /// The greatest deviation, relative to the greatest magnitude of an output, that another machine may show.
  public var tolerance: Double

  /// A probe.
  public init(
    inputs: [(name: String, tensor: Tensor)], outputs: [(name: String, tensor: Tensor)], tolerance: Double
  ) {
    self.inputs = inputs
    self.outputs = outputs
    self.tolerance = tolerance
  }
}

/// What a `.vmod` file holds: a model, how its inputs are made, what its outputs mean, where it comes from.
public struct VModFile: Sendable {
  /// The model with its layers; its tensors are read when they are asked for.
  public var hybrid: Hybrid
  /// What the model computes.
  public var graph: Graph {
    get { hybrid.graph }
    set { hybrid.graph = newValue }
  }
  /// How images become inputs, by key.
  public var preprocessing: [(key: String, value: String)] = []
  /// The names of the classes, in order.
  public var labels: [String] = []
  /// Digests of teacher and data, the resolved pipeline, seed and versions, by key.
  public var lineage: [(key: String, value: String)] = []
  /// Inputs with expected outputs.
  public var probes: [Probe] = []
  /// The compile's report without times, as JSON.
  public var report: String?
  /// What was timed, as JSON; no digest covers it.
  public var measurements: String?
  /// The digest of everything but the measurements, of the file that this was read from; `nil` before it is
  /// written.
  public internal(set) var contentDigest: Digest?

  /// A model, and nothing about it yet.
  public init(_ hybrid: Hybrid) { self.hybrid = hybrid }

  /// All tensors, in the order in which they are written.
  var tensors: [Tensor] {
    graph.tensors.names.compactMap { graph.tensors[$0] }
      + probes.flatMap { ($0.inputs + $0.outputs).map(\.tensor) }
  }

  /// Reads every tensor of a file and compares it with its digest; throws at the first that is damaged.
  public func verifyTensors() throws {
    for tensor in tensors { try (tensor.storage as? FrameStorage)?.verify() }
  }
}
