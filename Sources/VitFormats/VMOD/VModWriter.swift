public import VitIR

/// Writes `.vmod` files.
public enum VModWriter {
  /// Writes a file, which appears whole or not at all; returns its content digest.
  ///
  /// The same contents give the same bytes. With `weights` of `f16` or `bf16` the graph's weights are rounded
  /// first (`Graph.roundingWeights(to:)`), which changes nothing where they already are: probes belong to the
  /// rounded graph. Throws a `.environment` error where the file cannot be written, and where a tensor cannot
  /// be read; a `.check` error where there would be more than `most` bytes.
  @discardableResult
  public static func write(
    _ file: VModFile, to path: String, weights: ElementType = .f32, atMost most: Int = .max
  ) throws -> Digest {
    var file = file
    file.graph = try file.graph.roundingWeights(to: weights)
    try file.hybrid.checkInvariants()
    var manifest = Manifest(file)
    // What a reader would refuse, a key given twice, is refused here.
    _ = try Manifest(unpacking: manifest.packed(), version: ContainerHeader.version)
    // Digests have one length, so the size of the manifest is known before them.
    return try Container.write(
      to: path, .model, manifestSize: manifest.packed().count, tensors: file.tensors,
      measurements: Array((file.measurements ?? "").utf8), atMost: most
    ) { digests in
      manifest.setDigests(digests)
      return manifest.packed()
    }
  }
}

extension VModWriter {
  /// The bytes that a graph's tensors take in a file, its weights rounded to `weights`.
  public static func frameByteCount(_ graph: Graph, weights: ElementType) throws -> Int {
    let encoder = try FrameEncoder()
    return try VModFile(Hybrid(graph.roundingWeights(to: weights))).tensors.reduce(0) { sum, tensor in
      try encoder.encode(tensor) { _, frame, _ in sum + frame.size }
    }
  }
}

extension Manifest {
  /// The manifest of a file, digests of tensors still zero.
  fileprivate init(_ file: VModFile) {
    let numbers: [Int?]
    (graph, numbers) = GraphRecord.numbered(file.graph)
    layers = file.hybrid.layers.compactMap { layer in
      numbers[layer.core.index].map { core in
        LayerRecord(
          index: layer.index, kind: layer.kind, heads: layer.heads, node: layer.node, core: core,
          input: layer.input.flatMap { numbers[$0.index] },
          output: layer.output.flatMap { numbers[$0.index] },
          parameters: layer.parameters, obstacle: layer.obstacle, choice: layer.choice,
          merges: layer.merges, scores: layer.scores, candidates: layer.candidates)
      }
    }
    others = file.hybrid.others
    preprocessing = file.preprocessing
    labels = file.labels
    lineage = file.lineage
    report = file.report ?? ""
    probes = file.probes.map { probe in
      ProbeRecord(
        inputs: probe.inputs.map(TensorRecord.init), outputs: probe.outputs.map(TensorRecord.init),
        tolerance: probe.tolerance)
    }
  }

  /// Fills in the digests of all tensors, in order.
  fileprivate mutating func setDigests(_ digests: [Digest]) {
    var rest = digests.map(\.bytes)[...]
    func fill(_ tensors: inout [TensorRecord]) {
      for index in tensors.indices { tensors[index].digest = rest.removeFirst() }
    }
    fill(&graph.tensors)
    for index in probes.indices {
      fill(&probes[index].inputs)
      fill(&probes[index].outputs)
    }
  }
}

extension TensorRecord {
  /// A tensor's record, the digest still zero.
  init(name: String, tensor: Tensor) {
    self.init(
      name: name, type: tensor.type.description, digest: [UInt8](repeating: 0, count: Digest.byteCount))
  }
}

extension GraphRecord {
  /// The record of a graph, and the number of each value over `ValueID.index`.
  fileprivate static func numbered(_ graph: Graph) -> (record: GraphRecord, numbers: [Int?]) {
    var record = GraphRecord()
    record.name = graph.name
    record.annotations = graph.annotations
    var numbers = [Int?](repeating: nil, count: graph.values.count)
    var count = 0
    func define(_ id: ValueID) -> ValueRecord {
      numbers[id.index] = count
      count += 1
      return ValueRecord(name: graph[id].name, type: graph.type(id).description)
    }
    record.inputs = graph.inputs.map(define)
    for name in graph.tensors.names {
      guard let id = graph.value(named: name), let tensor = graph.tensor(id) else { continue }
      _ = define(id)
      record.tensors.append(TensorRecord(name: name, tensor: tensor))
    }
    for node in graph.nodes {
      record.nodes.append(
        NodeRecord(
          operation: node.name, attributes: node.operation.attributes,
          operands: node.operands.map { $0.flatMap { numbers[$0.index] } }, results: node.results.map(define),
          origin: node.location.node ?? ""))
    }
    record.outputs = graph.outputs.compactMap { output in
      numbers[output.value.index].map { (output.name, $0) }
    }
    return (record, numbers)
  }
}
