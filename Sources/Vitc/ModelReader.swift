internal import VitFormats
internal import VitIR
internal import VitPasses
internal import VitRuntime

/// Reads a model in any of its formats.
struct ModelReader {
  private let file: MappedFile
  private var path: String { file.path }
  private let pool: any WorkPool
  private let inputShapes: [InputShape]
  private var diagnostics: [Diagnostic] = []

  init(_ file: MappedFile, inputShapes: [InputShape], pool: any WorkPool) {
    self.file = file
    self.inputShapes = inputShapes
    self.pool = pool
  }

  /// Reads the model; with `dequantising`, what is quantised in it is taken as floats.
  mutating func read(raising: Bool, dequantising: Bool = false) throws -> Model {
    let start = try file.read(0..<min(file.count, 4096))
    var contents: VModFile
    var format = Model.Format.vmod
    var external: [String] = []
    if VModReader.recognises(start) {
      contents = try VModReader.read(file, registry: .standard)
    } else if VitText.recognises(start) {
      format = .text
      contents = VModFile(try VitText.read(file, registry: .standard))
      external = VitText.tensorsPath(of: path, read: contents.graph).map { [$0] } ?? []
    } else {
      format = .onnx
      let model = try OnnxReader.read(
        file, registry: .standard, fold: ConstantFolder(pool: pool).fold, inputShapes: inputShapes)
      (diagnostics, external) = (model.diagnostics, model.externalFiles)
      var graph = try opened(model.graph)
      // In ONNX bfloat16 is how weights are stored; here it would be what products are computed in.
      graph.widenWeights()
      contents = VModFile(Hybrid(graph))
      let card = Model.card(from: model.metadata)
      (contents.preprocessing, contents.labels) = (card.preprocessing, card.labels)
    }
    if format != .onnx, !inputShapes.isEmpty {
      throw VitError(
        "shapes of inputs are given to ONNX files, this one has its own", kind: .usage, code: "input-shape")
    }
    try checkSizes(contents.graph)
    let nonFinite = try nonFinite(contents.graph)
    if dequantising { try dequantise(&contents.hybrid.graph) }
    if format == .onnx || dequantising, raising { contents.hybrid = try raised(contents.graph) }
    if format != .onnx, contents.hybrid.layers.isEmpty { contents.hybrid.findLayers() }
    let bytes = try external.reduce(file.count) { try $0 + MappedFile(path: $1).count }
    var model = Model(
      contents, path: file.isInMemory ? nil : path, format: format,
      files: (file.isInMemory ? [] : [path]) + external, byteCount: bytes,
      diagnostics: diagnostics)
    model.nonFiniteWeights = nonFinite
    return model
  }

  /// The graph with its batch open, where it does the same to each image.
  private mutating func opened(_ original: Graph) throws -> Graph {
    var (graph, notes) = (original, [Diagnostic]())
    let context = PassContext(pool: pool, registry: .standard)
    context.report = { notes.append($0) }
    _ = try OpenBatch().run(on: &graph, context: context)
    for var note in notes {
      note.location = note.location.filled(from: Location(file: path))
      diagnostics.append(note)
    }
    return graph
  }

  /// Takes what is quantised as floats.
  private mutating func dequantise(_ graph: inout Graph) throws {
    let context = PassContext(pool: pool, registry: .standard)
    let original = graph
    let result = try Dequantise().run(on: &graph, context: context)
    guard let note = result.notes.first else { return }
    let deviation = try GraphProbe.deviation(of: graph, from: original, pool: pool)
    let difference =
      deviation.map { ": its outputs differ by \(Float(($0 * 1000).rounded() / 10)) % on a random input" }
      ?? ""
    diagnostics.append(
      Diagnostic(
        .note,
        "the teacher is the file with its \(note)\(difference)",
        code: "dequantised", location: Location(file: path)))
  }

  /// Refuses a model of which one sample needs a tensor that no vision transformer has.
  ///
  /// A file of a few bytes can ask for any amount of memory; it is refused before anything runs.
  private func checkSizes(_ graph: Graph) throws {
    let shapes = try ModelShapes(graph).shapes(batch: 1)
    let inputs = zip(graph.inputs, shapes).map { TensorType(graph.type($0).element, fixed: $1) }
    let types = try GraphBuilder.infer(graph, inputTypes: inputs, fold: ConstantFolder(pool: pool).fold).types
    for node in graph.nodes {
      for id in node.results where types[id.index].fixedShape != nil && types[id.index].count >= 1 << 30 {
        throw VitError(
          "the result of '\(node.name)' has \(types[id.index].count) elements for one sample, at most \(1 << 30) are "
            + "supported", code: "too-large", location: node.location)
      }
    }
  }

  /// Finds the weights that are no numbers, and warns of them. Minus infinity alone is what masks are made of.
  private mutating func nonFinite(_ graph: Graph) throws -> [Model.NonFinite] {
    var result: [Model.NonFinite] = []
    for name in graph.tensors.names {
      guard let tensor = graph.tensors[name], let number = try tensor.nonFiniteNumber() else { continue }
      let found = Model.NonFinite(tensor: name, number: number)
      diagnostics.append(
        Diagnostic(.warning, found.message, code: "non-finite-weight", location: Location(file: path)))
      result.append(found)
    }
    return result
  }

  /// The model in vitc's operations with its layers, or as it was where that would not be the same function.
  private mutating func raised(_ original: Graph) throws -> Hybrid {
    var hybrid = Hybrid(original)
    let context = PassContext(pool: pool, registry: .standard)
    try Pipeline([Fold(), Raise(), DeadCode()]).run(on: &hybrid, context: context)
    guard let deviation = try GraphProbe.deviation(of: hybrid.graph, from: original, pool: pool),
      deviation > 1e-3
    else {
      // Weights that were turned round lie in memory of their own now.
      for name in original.tensors.names { original.tensors[name]?.storage.release() }
      return hybrid
    }
    diagnostics.append(
      Diagnostic(
        .warning,
        "the raised model differs from the file by \(Float(deviation)) on a random input; it is used unraised",
        code: "raise-differs", location: Location(file: path)))
    return Hybrid(finding: original)
  }
}
