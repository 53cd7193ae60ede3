internal import VitFormats
internal import VitIR
public import VitPasses
internal import VitRuntime

extension Golden {
  /// What a model is at present, but for scores, budgets and tolerances: runs it once on the probe.
  ///
  /// Throws where the model cannot be run, or its tensors are not there.
  public init(recording model: Model, as path: String, threads: Int? = nil) throws {
    self.init(model: path)
    let graph = model.graph
    let inspection = try Inspection(model)
    bytes = model.byteCount
    digest = model.files.isEmpty ? "" : try Lineage.digest(of: model)
    lineage = Dictionary(model.lineage.map { ($0.key, $0.value) }, uniquingKeysWith: { $1 })
    interface =
      graph.inputs.map { "input \(graph[$0].name) \(graph.type($0))" }
      + graph.outputs.map { "output \($0.name) \(graph.type($0.value))" }
    if let preprocessing = model.preprocessing { interface.append("images \(preprocessing)") }
    interface += (model.labels ?? []).enumerated().map { "class \($0.offset) \($0.element)" }
    (parameters, flops) = (inspection.parameters, inspection.flops)
    layers = inspection.layers.map { layer in
      "layer \(layer.index) \(layer.kind) heads=\(layer.heads) parameters=\(layer.parameters) flops=\(layer.flops)"
        + (layer.merges > 0 ? " merges=\(layer.merges)" : "")
    }
    var readers: [String: String] = [:]
    for place in graph.nodesByDataflow() {
      for case let operand? in graph.nodes[place].operands where graph[operand].isConstant {
        let name = graph[operand].name
        readers[name] = readers[name] ?? graph.label(of: place)
      }
    }
    for name in graph.tensors.names {
      guard let tensor = graph.tensors[name] else { continue }
      guard !tensor.isElided else {
        throw VitError(
          "tensor '\(name)' is not in the file: a golden needs a model with its weights",
          code: "elided-tensor")
      }
      tensors[name] = Tensor(
        type: tensor.type.description, node: readers[name], digest: try Digest(of: tensor).description,
        contents: try Sketch(tensor))
    }
    let inputs = GraphProbe.inputs(graph, shapes: try model.inputShapes())
    let executor = try Executor(
      graph, weights: WeightStore(graph), inputShapes: inputs.map(\.shape), training: true,
      pool: ThreadPool.shared(threads: threads))
    for (tensor, view) in zip(inputs, executor.inputs) { try tensor.copy(to: view) }
    executor.run()
    let layerOfValue = Dictionary(
      model.hybrid.layers.map { ($0.core, $0.index) }, uniquingKeysWith: { first, _ in first })
    let order = graph.nodesByDataflow()
    let producer = graph.producers()
    let position = Dictionary(uniqueKeysWithValues: order.enumerated().map { ($0.element, $0.offset) })
    func source(_ id: ValueID?) -> String {
      guard let id else { return "_" }
      if graph[id].isConstant { return "@\(graph[id].name)" }
      guard let maker = producer[id.index], let place = position[maker] else { return "=\(graph[id].name)" }
      let result = graph.nodes[maker].results.firstIndex(of: id) ?? 0
      return "#\(place)" + (result > 0 ? ".\(result)" : "")
    }
    operations = try order.map { place in
      let node = graph.nodes[place]
      let attributes = node.operation.attributes.text
      let view = node.results.first.flatMap { executor.plan.view($0) }
      return Operation(
        operation: node.name + (attributes == "{}" ? "" : " " + attributes),
        node: graph.label(of: place), reads: node.operands.map(source),
        layer: node.results.lazy.compactMap { layerOfValue[$0] }.first,
        value: try view.map { try Sketch(VitIR.Tensor(copying: $0)) })
    }
    outputs = try zip(graph.outputs, executor.outputs).map { output, view in
      try Output(output.name, VitIR.Tensor(copying: view))
    }
  }

  /// Keeps how well the model did on `data`, beside its teacher where there was one; paths as a golden names them.
  public mutating func keep(
    _ fidelity: Fidelity, on data: (samples: Samples, path: String), teacher: String?
  ) throws {
    let figures: [(String, Double?)] = [
      ("accuracy", fidelity.accuracy), ("agreement", fidelity.agreement), ("kl", fidelity.divergence),
      ("teacher_accuracy", fidelity.teacherAccuracy),
      ("relative_error", teacher == nil || fidelity.divergence != nil ? nil : fidelity.relativeError),
    ]
    guard fidelity.nonFinite == 0 else {
      throw VitError(
        "outputs are no numbers for \(fidelity.nonFinite) of \(fidelity.images) images: there is nothing to hold to",
        code: "non-finite")
    }
    scores = Scores(
      data: data.path, digest: try Lineage.digest(of: data.samples), teacher: teacher,
      images: fidelity.images,
      figures: figures.reduce(into: [:]) { $0[$1.0] = $1.1.map(Golden.shortened) })
  }

  /// Seven digits.
  static func shortened(_ value: Double) -> Double { Double(Float(value).description) ?? value }
}

extension Golden.Output {
  /// What is kept of an output.
  fileprivate init(_ name: String, _ tensor: Tensor) throws {
    let values = try tensor.doubles()
    let run = Self.run(of: values.count)
    let sums = stride(from: 0, to: values.count, by: run).map { start in
      let part = start..<min(values.count, start + run)
      // A run of one is the element itself.
      return part.reduce(0.0) { run == 1 || Sketch.signs($1) & 1 == 0 ? $0 + values[$1] : $0 - values[$1] }
    }
    self.init(
      name: name, shape: tensor.shape, values: sums.map(Golden.shortened),
      largest: Golden.shortened(values.reduce(0) { $1.isFinite ? max($0, $1.magnitude) : $0 }))
  }
}
