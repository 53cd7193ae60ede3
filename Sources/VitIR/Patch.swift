/// A set of rewrites of one graph: new nodes, and which old values their results stand in for.
///
/// Patterns are matched on the graph as it is; each adds its nodes through `builder` and then calls
/// `replace`. Applying takes one walk over the graph for all of them:
///
/// ```
/// var patch = Patch(graph, registry: registry)
/// let fused = try patch.builder.add(VitLayerNorm(), [x, gain, bias])[0]
/// try patch.replace(normalised, with: fused, by: "layer-norm")
/// try graph.apply(patch)
/// ```
public struct Patch: Sendable {
  /// The old graph, to which new nodes and constants are added.
  public var builder: GraphBuilder
  /// The rewrites so far, by name.
  public private(set) var rewrites: [String] = []
  private let oldNodes: Int
  private let oldValues: Int
  /// How many nodes there were after the last rewrite: those behind belong to the next.
  private var claimed: Int
  /// For each value that is replaced: by which, and which added nodes go on reading the old one.
  fileprivate private(set) var replacements: [Int: (new: ValueID, keeping: Range<Int>)] = [:]

  /// No rewrites yet.
  public init(_ graph: Graph, registry: Registry) {
    builder = GraphBuilder(graph, registry: registry)
    oldNodes = graph.nodes.count
    oldValues = graph.values.count
    claimed = oldNodes
  }

  /// Whether nothing will change.
  public var isEmpty: Bool { rewrites.isEmpty }

  /// The nodes added since the last rewrite are one, named `name`: its values `new` take the places of `old`.
  ///
  /// Everybody who reads an old value will read the new one, those of other rewrites included; the rewrite's
  /// own nodes still read the old one, so that a value can be wrapped. Returns false, and drops the nodes,
  /// where another rewrite has replaced one of the values. Throws, and drops them, where a type would change.
  @discardableResult
  public mutating func replace(_ old: [ValueID], with new: [ValueID], by name: String) throws(VitError)
    -> Bool
  {
    precondition(old.count == new.count && old.allSatisfy { $0.index < oldValues })
    guard old.allSatisfy({ replacements[$0.index] == nil }) else {
      drop()
      return false
    }
    for (old, new) in zip(old, new) where builder.graph.type(old) != builder.graph.type(new) {
      let (was, becomes) = (builder.graph.type(old), builder.graph.type(new))
      drop()
      throw VitError(
        "the rewrite '\(name)' would turn '\(builder.graph[old].name)' from \(was) into \(becomes)",
        kind: .environment,
        code: "rewrite-type")
    }
    let added = claimed..<builder.graph.nodes.count
    for (old, new) in zip(old, new) where old != new { replacements[old.index] = (new, added) }
    claimed = added.upperBound
    rewrites.append(name)
    return true
  }

  /// A rewrite of one value.
  @discardableResult
  public mutating func replace(_ old: ValueID, with new: ValueID, by name: String) throws(VitError) -> Bool {
    try replace([old], with: [new], by: name)
  }

  /// Forgets the nodes added since the last rewrite.
  public mutating func drop() { builder.graph.nodes.removeSubrange(claimed...) }

  /// The graph after the rewrites.
  fileprivate func result(on graph: Graph) throws(VitError) -> Graph {
    precondition(
      graph.nodes.count == oldNodes && graph.values.count == oldValues, "the graph has changed since")
    var result = builder.graph
    result.nodes.removeSubrange(claimed...)
    for index in result.nodes.indices {
      for (place, operand) in result.nodes[index].operands.enumerated() {
        guard let operand else { continue }
        let replaced = try current(operand, readBy: index)
        if replaced != operand { result.nodes[index].operands[place] = replaced }
      }
    }
    for index in result.outputs.indices {
      result.outputs[index].value = try current(result.outputs[index].value, readBy: nil)
    }
    try result.sortNodes()
    result.removeDeadNodes()
    return result
  }

  /// What node `reader` (an output: `nil`) reads in place of `value`, following values that replace
  /// replacements.
  private func current(_ value: ValueID, readBy reader: Int?) throws(VitError) -> ValueID {
    var value = value
    for _ in 0...replacements.count {
      guard let next = replacements[value.index], !(reader.map(next.keeping.contains) ?? false) else {
        return value
      }
      value = next.new
    }
    throw VitError(
      "rewrites replace '\(builder.graph[value].name)' in a circle", kind: .environment, code: "rewrite-cycle"
    )
  }
}

extension Graph {
  /// Applies the rewrites of a patch, which was made from this graph: uses are replaced, nodes put in order,
  /// and those that no output depends on removed.
  public mutating func apply(_ patch: Patch) throws(VitError) {
    if !patch.isEmpty { self = try patch.result(on: self) }
  }
}
