public import VitIR

/// Removes the nodes that no output depends on.
public struct DeadCode: GraphPass {
  /// `dce`.
  public static let name = "dce"
  /// See `Pass`.
  public static let summary = "Removes what no output depends on"
  /// See `Pass`.
  public static let example = "fold,raise,dce"

  /// The pass; it has no options.
  public init() {}
  /// The pass; it takes no options.
  public init(options: inout OptionReader) throws(VitError) {}
  /// None.
  public var options: [(name: String, value: String)] { [] }

  /// Walks the nodes once, backwards.
  public func run(on graph: inout Graph, context: PassContext) throws -> PassResult {
    let before = graph.nodes.count
    graph.removeDeadNodes()
    return PassResult(changes: before - graph.nodes.count)
  }
}
