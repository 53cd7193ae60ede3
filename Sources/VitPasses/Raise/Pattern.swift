internal import VitIR

/// A rewrite of the graph: finds its places by dataflow and replaces them.
protocol Pattern: Sendable {
  /// Its name, for `--explain` and the count of changes.
  static var name: String { get }
  /// Matches against the graph as it is and collects replacements in `rewriter`.
  static func sweep(_ rewriter: inout Rewriter) throws(VitError)
}

extension Rewriter {
  /// Lets `build` add nodes in place of the one that defines `old`; where a type rule refuses them, nothing
  /// changes.
  mutating func tryReplace(
    _ old: ValueID, at node: Node, _ build: (inout GraphBuilder) throws(VitError) -> ValueID
  ) {
    let before = builder
    builder.location = node.location
    do throws(VitError) {
      let new = try build(&builder)
      try replace(old, with: new, by: node.name)
    } catch {
      builder = before
      miss("replacement", at: node, error.diagnostic.message)
    }
  }
}
