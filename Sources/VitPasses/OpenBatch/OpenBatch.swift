public import VitIR
internal import VitRuntime

/// Opens the axis that counts images in a model made for a number of them, where it does the same to each.
public struct OpenBatch: GraphPass {
  /// `open-batch`.
  public static let name = "open-batch"
  /// See `Pass`.
  public static let summary =
    "Opens a batch that is fixed, where the model does the same to each image"

  /// The pass; it has no options.
  public init() {}
  /// The pass; it takes no options.
  public init(options: inout OptionReader) throws(VitError) {}
  /// None.
  public var options: [(name: String, value: String)] { [] }

  /// Builds the graph anew with an open batch; where that cannot be done, reports why and leaves it as it is.
  ///
  /// A graph that calls its batch open and works for one number of images alone is taken for one made for that number.
  public func run(on graph: inout Graph, context: PassContext) throws -> PassResult {
    let hidden = HiddenBatch(graph, pool: context.pool)
    if let hidden, hidden.isForced { graph = hidden.graph }
    guard let opener = try opener(of: hidden?.graph ?? graph, context) else { return PassResult() }
    let count = opener.count
    let place =
      hidden == nil ? "in the file" : "inside of the model, although its input says that any number will do"
    switch opener.run() {
    case .success(let open):
      graph = open
      graph.annotations["batch_opened"] = .bool(true)
      graph.removeDeadNodes()
      context.report(
        Diagnostic(
          .note,
          "the batch is fixed at \(count) \(place); the model does the same to each image, so that any batch is read",
          code: "batch-opened"))
      return PassResult(changes: 1)
    case .failure(let error):
      guard hidden?.isForced ?? true else { return PassResult() }
      let node = error.diagnostic.location.node.map { " at node '\($0)'" } ?? ""
      guard BatchForm(graph).isCounted else {
        context.report(
          Diagnostic(.note, "the input is one sample, without an axis that counts them", code: "batch-absent")
        )
        return PassResult(notes: ["there is no axis that counts samples"])
      }
      context.report(
        Diagnostic(
          .note,
          "the batch stays fixed at \(count)\(node): \(error.diagnostic.message); samples run \(count) at a time, the last ones padded",
          code: "batch-fixed"))
      return PassResult(notes: ["the batch stays fixed at \(count)"])
    }
  }

  /// What opens `graph`, of which the constants that hold something for each of several images are computed first.
  private func opener(of graph: Graph, _ context: PassContext) throws -> BatchOpener? {
    let opener = BatchOpener(graph, registry: context.registry, pool: context.pool)
    guard let opener, opener.count > 1 else { return opener }
    var folded = graph
    _ = try Fold().run(on: &folded, context: context)
    return BatchOpener(folded, registry: context.registry, pool: context.pool)
  }
}
