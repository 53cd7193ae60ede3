public import VitIR

/// Reads `.vmod` files, which may hold anything.
public enum VModReader {
  /// Whether a file that begins with these bytes says that it is a `.vmod`; eight are enough.
  public static func recognises(_ prefix: [UInt8]) -> Bool { prefix.starts(with: ContainerKind.model.magic) }

  /// Reads a file: everything but the tensors, each of which is read, checked and decompressed when it is
  /// asked for.
  ///
  /// Operations come from `registry`, and every type rule runs again, with `fold` for what
  /// follows from constants. Throws a `VitError` that says what is
  /// damaged.
  public static func read(
    path: String, registry: Registry, fold: GraphBuilder.Fold? = nil
  ) throws(VitError) -> VModFile {
    try read(MappedFile(path: path), registry: registry, fold: fold)
  }

  /// Reads a file that is open.
  public static func read(
    _ mapped: MappedFile, registry: Registry, fold: GraphBuilder.Fold? = nil
  ) throws(VitError) -> VModFile {
    let (container, path) = (try Container(mapped, .model), mapped.path)
    do throws(VitError) {
      let manifest = try Manifest(unpacking: container.manifest, version: container.header.version)
      let tensors = try container.tensors(manifest.tensors)
      var rest = tensors[...]
      var file = VModFile(
        try manifest.hybrid(Array(rest.prefix(manifest.graph.tensors.count)), path: path, registry, fold))
      rest = rest.dropFirst(manifest.graph.tensors.count)
      file.preprocessing = manifest.preprocessing
      file.labels = manifest.labels
      file.lineage = manifest.lineage
      func named(_ records: [TensorRecord]) -> [(name: String, tensor: Tensor)] {
        defer { rest = rest.dropFirst(records.count) }
        return Array(zip(records.map(\.name), rest))
      }
      for probe in manifest.probes {
        let inputs = named(probe.inputs)
        file.probes.append(Probe(inputs: inputs, outputs: named(probe.outputs), tolerance: probe.tolerance))
      }
      file.report = manifest.report.isEmpty ? nil : manifest.report
      if !container.measurements.isEmpty {
        guard let text = String(validating: container.measurements, as: UTF8.self) else {
          throw VitError("the measurements are no UTF-8", code: "bad-manifest")
        }
        file.measurements = text
      }
      file.contentDigest = container.digest
      return file
    } catch { throw error.at(Location(file: path)) }
  }
}

extension Manifest {
  /// The graph, its constants being `tensors`, and its layers.
  fileprivate func hybrid(
    _ tensors: [Tensor], path: String, _ registry: Registry, _ fold: GraphBuilder.Fold?
  ) throws(VitError) -> Hybrid {
    let (graph, values) = try graph.graph(tensors, path: path, registry, fold)
    func value(_ number: Int) throws(VitError) -> ValueID {
      guard number < values.count else {
        throw VitError("a layer names value \(number) of \(values.count)", code: "undefined-value")
      }
      return values[number]
    }
    var hybrid = Hybrid(graph, others: others)
    for record in layers {
      var layer = Layer(
        index: record.index, kind: record.kind, heads: record.heads, node: record.node,
        core: try value(record.core), input: nil, output: nil, parameters: record.parameters,
        obstacle: record.obstacle)
      if let input = record.input { layer.input = try value(input) }
      if let output = record.output { layer.output = try value(output) }
      layer.choice = record.choice
      layer.merges = record.merges
      layer.scores = record.scores
      layer.candidates = record.candidates
      hybrid.layers.append(layer)
    }
    if !hybrid.layers.isEmpty { try hybrid.checkInvariants() }
    return hybrid
  }
}

extension GraphRecord {
  /// The graph, its constants being `tensors`, and its values by number.
  fileprivate func graph(
    _ tensors: [Tensor], path: String, _ registry: Registry, _ fold: GraphBuilder.Fold?
  ) throws(VitError) -> (graph: Graph, values: [ValueID]) {
    var graph = GraphAssembler(name: name, registry: registry, fold: fold)
    graph.setAnnotations(annotations)
    var values: [ValueID] = []
    func value(_ number: Int) throws(VitError) -> ValueID {
      guard number < values.count else {
        throw VitError("value \(number) is read before it is defined", code: "undefined-value")
      }
      return values[number]
    }
    for input in inputs { values.append(try graph.addInput(input.name, try TensorType(text: input.type))) }
    for (record, tensor) in zip(self.tensors, tensors) {
      values.append(try graph.addConstant(record.name, tensor))
    }
    for node in nodes {
      var operands: [ValueID?] = []
      for number in node.operands {
        if let number { operands.append(try value(number)) } else { operands.append(nil) }
      }
      var results: [(name: String, type: TensorType)] = []
      for result in node.results { results.append((result.name, try TensorType(text: result.type))) }
      let location = Location(file: path, node: node.origin.isEmpty ? nil : node.origin)
      values += try graph.addNode(
        node.operation, node.attributes, operands: operands, results: results, location: location)
    }
    for output in outputs { try graph.addOutput(output.name, try value(output.value)) }
    return (graph.graph, values)
  }
}
