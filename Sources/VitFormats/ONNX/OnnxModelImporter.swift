internal import VitIR

/// Makes a graph of a decoded model: checks what the model says about itself, then builds it with its inputs' extents left
/// as open as the model allows.
struct OnnxModelImporter {
  private let model: OnnxModel
  private let path: String
  private let registry: Registry
  private let fold: GraphBuilder.Fold?
  private var diagnostics: [Diagnostic] = []

  init(_ model: OnnxModel, path: String, registry: Registry, fold: GraphBuilder.Fold?) {
    self.model = model
    self.path = path
    self.registry = registry
    self.fold = fold
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
    var inputs = InputTypes()
    var unsigned: Set<FlatValue> = []
    for input in source.inputs where !constants.contains(model.names[input.name]) {
      let value = try flattener.define(input.name, in: scope)
      try inputs.add(input, value, name: model.names[input.name])
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
    var graph = try build(program, inputs)
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

  /// Builds the graph. Where it cannot be built with all the extents that the file leaves open, those of the image are fixed.
  private mutating func build(_ program: Program, _ inputs: InputTypes) throws(VitError) -> Graph {
    let first: VitError
    try GraphImporter(program.flattener, file: path, graph: Graph(name: ""), registry: registry, fold: nil)
      .checkOperators(program.nodes)
    let reader = ImageReader(
      program.nodes, program.flattener.initializers, inputs, registry: registry)
    let inputs = inputs.withChannels(of: reader)
    do { return try attempt(program, inputs) } catch { first = error }
    // Each attempt takes as long as the model is large; no model of images is that large.
    guard program.nodes.count < 20_000 else { throw first }
    for (symbols, extent) in inputs.candidates(for: reader) {
      let fixed = inputs.substituting { symbols.contains($0) ? .fixed(extent) : nil }
      guard let graph = try? attempt(program, fixed) else { continue }
      note(
        .note,
        "the model works for some sizes of image only: \(symbols.joined(separator: " and ")) fixed at \(extent)",
        code: "fixed-extent", help: "with a free size, " + first.diagnostic.message)
      return graph
    }
    throw first
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
