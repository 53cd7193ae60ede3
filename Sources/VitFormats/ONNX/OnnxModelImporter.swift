internal import VitIR

/// Makes a graph of a decoded model: checks what the model says about itself, then builds it with its inputs' extents left
/// as open as the model allows.
struct OnnxModelImporter {
  private let model: OnnxModel
  private let path: String
  private let registry: Registry
  private let fold: GraphBuilder.Fold?
  /// What the user says of inputs that the file leaves open.
  private let given: [InputShape]
  private var diagnostics: [Diagnostic] = []

  init(
    _ model: OnnxModel, path: String, registry: Registry, fold: GraphBuilder.Fold?, given: [InputShape]
  ) {
    self.model = model
    self.path = path
    self.registry = registry
    self.fold = fold
    self.given = given
  }

  /// The versions of the file format that are known.
  private static let versions = 3...13

  private func checkHeader() throws(VitError) -> OnnxGraph {
    guard let graph = model.graph else { throw VitError("the model has no graph", code: "bad-model") }
    guard !model.opsets.isEmpty else {
      throw VitError("the model names no opset (opset_import is missing)", code: "opset")
    }
    try model.opsets.check()
    guard !graph.outputs.isEmpty else { throw VitError("the graph has no outputs", code: "bad-model") }
    return graph
  }

  /// The graph and what is to be said about it; external files are left to the caller.
  consuming func read() throws -> OnnxImport {
    let source = try checkHeader()
    if !Self.versions.contains(model.irVersion) {
      note(
        .warning,
        "IR version \(model.irVersion) is unknown, expected \(Self.versions.lowerBound) to "
          + "\(Self.versions.upperBound); reading it as the newest", code: "ir-version")
    }
    var flattener = try Flattener(model)
    let scope = OnnxScope(opsets: model.opsets)
    try flattener.defineInitializers(of: source, in: scope)
    let constants = Set(source.initializers.map(\.name))
    var declared: [(source: OnnxValue, value: FlatValue)] = []
    var unsigned: Set<FlatValue> = []
    for input in source.inputs where !constants.contains(model.names[input.name]) {
      let value = try flattener.define(input.name, in: scope)
      declared.append((input, value))
      if OnnxElement.isWidenedUnsigned(input.element) { unsigned.insert(value) }
    }
    let (flat, wasSorted) = try flattener.flatten(source.nodes, in: scope)
    if !wasSorted {
      note(
        .warning, "the nodes are in no order of definition, which ONNX asks for; sorted", code: "node-order")
    }
    var outputs: [(name: String, value: FlatValue)] = []
    for output in source.outputs {
      let name = model.names[output.name]
      guard !outputs.contains(where: { $0.name == name }) else {
        throw VitError("duplicate output '\(name)'", code: "duplicate-value")
      }
      guard output.name != NameTable.absent, let value = scope.find(output.name) else {
        throw VitError("nothing defines the output '\(name)'", code: "undefined-value")
      }
      outputs.append((name, value))
    }
    let nodes = live(flat, from: outputs.map(\.value), count: flattener.texts.count)
    if nodes.contains(where: { $0.source.domain.isEmpty && $0.scope.opsets[""] == nil }) {
      throw VitError("the model names no opset of the standard operators", code: "opset")
    }
    let program = Program(
      flattener: flattener, nodes: nodes, outputs: outputs, unsigned: unsigned, name: source.name)
    try GraphImporter(program.flattener, file: path, graph: Graph(name: ""), registry: registry, fold: nil)
      .checkOperators(program.nodes)
    // Outputs may say how many images the file was made for.
    var counts = [1]
    for case .fixed(let count)? in source.outputs.map(\.shape?.first)
    where (2...Self.maximumCount).contains(count) && !counts.contains(count) { counts.append(count) }
    var graph = try build(program, try inputTypes(declared, program), counts)
    graph.removeDeadNodes()
    return OnnxImport(graph: graph, diagnostics: diagnostics, externalFiles: [])
  }

  private mutating func note(
    _ severity: Diagnostic.Severity, _ message: String, code: String, help: String? = nil
  ) {
    diagnostics.append(Diagnostic(severity, message, code: code, help: help))
  }

  /// What stays the same however the inputs are typed.
  private struct Program {
    let flattener: Flattener
    let nodes: [FlatNode]
    let outputs: [(name: String, value: FlatValue)]
    /// Inputs of types without sign that are computed in a wider one.
    let unsigned: Set<FlatValue>
    let name: String
  }

  /// The nodes that an output depends on.
  private func live(_ nodes: [FlatNode], from outputs: [FlatValue], count: Int) -> [FlatNode] {
    var isLive = [Bool](repeating: false, count: count)
    for value in outputs { isLive[Int(value)] = true }
    var kept: [FlatNode] = []
    for node in nodes.reversed() where node.outputs.contains(where: { $0 != 0 && isLive[Int($0)] }) {
      for value in node.inputs + node.captures { isLive[Int(value)] = true }
      kept.append(node)
    }
    return kept.reversed()
  }

  /// The most images for which a file is taken to be made where its inputs do not say so.
  private static let maximumCount = 1024

  /// The inputs' types. One without a shape has that of an image where a convolution reads it as one.
  private mutating func inputTypes(
    _ declared: [(source: OnnxValue, value: FlatValue)], _ program: Program
  ) throws(VitError) -> InputTypes {
    if let unknown = given.first(where: { shape in
      !declared.contains { model.names[$0.source.name] == shape.name }
    }) {
      throw VitError(
        "the model has no input '\(unknown.name)'", kind: .usage, code: "unknown-input",
        help: "its inputs are " + declared.map { "'\(model.names[$0.source.name])'" }.joined(separator: ", "))
    }
    func typed(assuming shape: [OnnxValue.Extent]?) throws(VitError) -> InputTypes {
      var types = InputTypes()
      for (source, value) in declared {
        let name = model.names[source.name]
        let given = given.first { $0.name == name }
        var source = source
        if given == nil, source.kind == "tensor" { source.shape = source.shape ?? shape }
        try types.add(source, value, name: name, given: given)
      }
      return types
    }
    let image = [OnnxValue.Extent](repeating: .unknown, count: 4)
    let shapeless = declared.filter { input in
      input.source.shape == nil && !given.contains { $0.name == model.names[input.source.name] }
    }
    for (source, value) in shapeless {
      var assumed = source
      assumed.shape = image
      var types = InputTypes()
      try types.add(assumed, value, name: model.names[source.name])
      let reader = ImageReader(
        program.nodes, program.flattener.initializers, types, registry: registry)
      // Else `add` says what is missing.
      guard reader.input == value, reader.channels != nil else { return try typed(assuming: nil) }
      note(
        .note,
        "input '\(model.names[source.name])' has no shape; a convolution reads it as images, so that it has four axes",
        code: "derived-shape")
    }
    return try typed(assuming: image)
  }

  /// Builds the graph. Where it cannot be built with all the extents that the file leaves open, those are fixed that have to
  /// be: the number of images at one of `counts`, or the size of the image.
  private mutating func build(
    _ program: Program, _ inputs: InputTypes, _ counts: [Int]
  ) throws(VitError) -> Graph {
    let reader = ImageReader(
      program.nodes, program.flattener.initializers, inputs, registry: registry)
    let inputs = inputs.withChannels(of: reader)
    let first: VitError
    do { return try attempt(program, inputs) } catch { first = error }
    // Each attempt takes as long as the model is large; no model of images is that large.
    guard program.nodes.count < 20_000 else { throw first }
    let joined = inputs.withOneBatch()
    if let joined, let graph = try? attempt(program, joined.inputs) {
      let names = joined.names.map { "'\($0)'" }.joined(separator: ", ")
      note(
        .note,
        "the first axes of all inputs count the same images, whatever the file calls them: \(names) as the first",
        code: "same-batch")
      return graph
    }
    let fixed = counts.compactMap { count in (joined?.inputs ?? inputs).withBatch(count).map { (count, $0) } }
    for (count, inputs) in fixed {
      guard let graph = try? attempt(program, inputs) else { continue }
      noteCount(count, first)
      return graph
    }
    for (count, inputs) in [(0, joined?.inputs ?? inputs)] + fixed.prefix(1) {
      for (symbols, extent) in inputs.candidates(for: reader) {
        let sized = inputs.substituting { symbols.contains($0) ? .fixed(extent) : nil }
        guard let graph = try? attempt(program, sized) else { continue }
        if count > 0 { noteCount(count, first) }
        note(
          .note,
          "the model works for some sizes of image only: \(symbols.joined(separator: " and ")) fixed at \(extent), "
            + "unless --input-shape gives others", code: "fixed-extent",
          help: "with a free size, " + first.diagnostic.message)
        return graph
      }
    }
    throw first
  }

  private mutating func noteCount(_ count: Int, _ first: VitError) {
    note(
      .note, "the model is made for batches of \(count), although the file calls their size free",
      code: "fixed-batch", help: "with a free batch, " + first.diagnostic.message)
  }

  private func attempt(_ program: Program, _ inputs: InputTypes) throws(VitError) -> Graph {
    var importer = GraphImporter(
      program.flattener, file: path, graph: Graph(name: program.name), registry: registry, fold: fold,
      unsigned: program.unsigned)
    for input in inputs.inputs { importer.addInput(input.value, input.type, name: input.name) }
    try importer.add(program.nodes)
    for output in program.outputs { try importer.addOutput(output.value, name: output.name) }
    return importer.builder.graph
  }
}
