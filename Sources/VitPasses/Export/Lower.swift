public import VitIR
internal import VitOps

/// Takes vitc's own operations apart into standard operators of ONNX, as one version of the standard has them.
///
/// Nothing is computed otherwise than the operations say; what then depends on constants alone is left for `fold`. Throws where
/// something has no standard operator, and names all that have none.
public struct Lower: GraphPass {
  /// `lower`.
  public static let name = "lower"
  /// See `Pass`.
  public static let summary = "Takes vitc's own operations apart into standard operators of ONNX"
  /// See `Pass`.
  public static let example = "lower{opset=17},fold,dce"

  /// The version of the standard operators.
  public var opset: Int

  /// The pass.
  public init(opset: Int = 17) { self.opset = opset }

  /// Takes `opset` (17), the version of the standard operators, from 13 to 24.
  public init(options: inout OptionReader) throws(VitError) {
    self.init()
    opset = try options.value("opset", default: opset)
  }

  /// The version.
  public var options: [(name: String, value: String)] { [("opset", "\(opset)")] }

  /// Throws where there is no such version.
  public func check() throws(VitError) {
    guard OnnxForm.versions.contains(opset) else {
      throw VitError(
        "lower: option 'opset' cannot be \(opset) (expected \(OnnxForm.versions.lowerBound) to \(OnnxForm.versions.upperBound))",
        kind: .usage, code: "option-value")
    }
  }

  /// Walks the nodes, first those of vitc's own, then those that the version does not have.
  public func run(on graph: inout Graph, context: PassContext) throws -> PassResult {
    let opset = opset
    var changes = 0
    let read = Set(graph.nodes.flatMap(\.operands).compactMap { $0 } + graph.outputs.map(\.value))
    changes += try Lower.rewrite(&graph, context.registry) { node, builder throws(VitError) in
      guard OnnxForm.standardType(of: node) == nil, !node.name.hasPrefix("onnx.") else { return nil }
      let apart = try MicrosoftDecomposition.results(of: node, isRead: read.contains, into: &builder)
      if let apart { return apart }
      return try node.operation.lower(
        into: &builder, operands: node.operands, resultCount: node.results.count)
    }
    changes += try Lower.rewrite(&graph, context.registry) { node, builder throws(VitError) in
      try OnnxDecomposition.results(of: node, opset: opset, into: &builder)
    }
    try Lower.checkStandard(graph, opset)
    return PassResult(changes: changes)
  }

  /// Puts in the place of each node what `body` makes of it; `nil` leaves it.
  private static func rewrite(
    _ graph: inout Graph, _ registry: Registry,
    _ body: (Node, inout GraphBuilder) throws(VitError) -> [ValueID]?
  ) throws(VitError) -> Int {
    var builder = GraphBuilder(graph, registry: registry)
    builder.graph.nodes = []
    var replaced: [ValueID: ValueID] = [:]
    var changes = 0
    for var node in graph.nodes {
      node.operands = node.operands.map { id in id.map { replaced[$0] ?? $0 } }
      builder.location = node.location
      let before = builder.graph.nodes.count
      do {
        if let results = try body(node, &builder) {
          let isSame =
            builder.graph.nodes.count == before + 1 && builder.graph.nodes[before].name == node.name
          if !isSame {
            for (old, new) in zip(node.results, results) { replaced[old] = new }
            changes += 1
            continue
          }
          builder.graph.nodes.removeLast()
        }
      } catch { throw error.at(node.location) }
      _ = try builder.visit(node) { _, _, _ throws(VitError) in [] }
      builder.graph.nodes.append(node)
    }
    graph = builder.graph
    graph.outputs = graph.outputs.map { ($0.name, replaced[$0.value] ?? $0.value) }
    return changes
  }

  /// Throws where a node has no form in the version, naming all of those, and the version that would do for all.
  private static func checkStandard(_ graph: Graph, _ opset: Int) throws(VitError) {
    var (reasons, first): ([String], VitError?) = ([], nil)
    // One version would do for all only where all say so.
    var help: Set<String?> = []
    for node in graph.nodes {
      do throws(VitError) { _ = try OnnxForm(node, in: graph, opset: opset) } catch {
        first = first ?? error
        help.insert(error.diagnostic.help)
        let reason = error.diagnostic.message
        if !reasons.contains(reason) { reasons.append(reason) }
      }
    }
    guard let first else { return }
    guard reasons.count > 1 else { throw first }
    throw VitError(
      "\(reasons.count) operators cannot be written: \(reasons.joined(separator: "; "))",
      code: first.diagnostic.code, location: first.diagnostic.location,
      help: help.count == 1 ? first.diagnostic.help : nil)
  }
}
