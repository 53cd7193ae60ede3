public import VitIR
internal import VitRuntime

/// Opens the axis that counts images in a model made for one, where it does the same to each.
public struct OpenBatch: GraphPass {
  /// `open-batch`.
  public static let name = "open-batch"
  /// See `Pass`.
  public static let summary =
    "Opens a batch that is fixed at one, where the model does the same to each image"

  /// The pass; it has no options.
  public init() {}
  /// The pass; it takes no options.
  public init(options: inout OptionReader) throws(VitError) {}
  /// None.
  public var options: [(name: String, value: String)] { [] }

  /// Builds the graph anew with an open batch; where that cannot be done, reports why and leaves it as it is.
  public func run(on graph: inout Graph, context: PassContext) throws -> PassResult {
    guard let opener = BatchOpener(graph, registry: context.registry, pool: context.pool) else {
      return PassResult()
    }
    switch opener.run() {
    case .success(let open):
      graph = open
      graph.annotations["batch_opened"] = .bool(true)
      graph.removeDeadNodes()
      context.report(
        Diagnostic(
          .note,
          "the batch is fixed at 1 in the file; the model does the same to each image, so that any batch is read",
          code: "batch-opened"))
      return PassResult(changes: 1)
    case .failure(let error):
      let node = error.diagnostic.location.node.map { " at node '\($0)'" } ?? ""
      context.report(
        Diagnostic(
          .note, "the batch stays fixed at 1\(node): \(error.diagnostic.message)", code: "batch-fixed"))
      return PassResult(notes: ["the batch stays fixed at 1"])
    }
  }
}
