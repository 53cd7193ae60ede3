public import VitIR
internal import VitOps

/// Gives the rows of the first tokens, where they stay attention behind a mixer, an output map of their own: the attention's.
///
/// Else they share the mixer's last map, which is then a compromise of both. Costs a map for each layer and hardly any time.
public struct OwnPrefix: Pass {
  /// `own-prefix`.
  public static let name = "own-prefix"
  /// See `Pass`.
  public static let summary =
    "Gives the rows of the first tokens behind mixers the attention's output map, where they share the mixer's"
  /// See `Pass`.
  public static let example = "swap{layers=[0]},own-prefix"

  /// The layers' numbers; `nil` for all.
  public var layers: [Int]?

  /// The pass.
  public init(layers: [Int]? = nil) { self.layers = layers }

  /// Takes `layers` (all).
  public init(options: inout OptionReader) throws(VitError) {
    if options.word("layers", of: ["all"]) == nil { layers = try options.integers("layers") }
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    [("layers", layers.map { "[\($0.map(String.init).joined(separator: ","))]" } ?? "all")]
  }

  /// Adds the maps; throws where a listed layer is no mixer.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    for number in layers ?? [] where !hybrid.replaced.contains(where: { $0.index == number }) {
      throw VitError("layer \(number) is no mixer", kind: .usage, code: "layer-unknown")
    }
    guard !hybrid.replaced.isEmpty else { return context.nothingReplaced(for: OwnPrefix.name) }
    let teacher = try hybrid.teacher(for: OwnPrefix.name)
    var changed: [Int] = []
    for place in hybrid.layers.indices {
      let layer = hybrid.layers[place]
      guard layer.isReplaced, layers?.contains(layer.index) ?? true, let input = layer.input,
        let output = layer.output, let attention = teacher.attention(of: layer.index),
        let end = hybrid.graph.place(defining: output),
        try give(attention, of: teacher.graph, to: end, "mixer.\(layer.index).prefix", &hybrid.graph)
      else { continue }
      hybrid.layers[place].parameters = hybrid.graph.parameterCount(from: input, to: output)
      if let last = layer.candidates.indices.last {
        hybrid.layers[place].candidates[last].mixer = try OwnPrefix.noting(layer.candidates[last].mixer)
      }
      changed.append(layer.index)
    }
    return PassResult(changes: changed.count, notes: changed.isEmpty ? [] : ["layers \(changed)"])
  }

  /// Gives the rows at `place` the output map of an attention; says whether they shared one of the same size.
  private func give(
    _ attention: Node, of teacher: Graph, to place: Int, _ name: String, _ graph: inout Graph
  ) throws -> Bool {
    let node = graph.nodes[place]
    guard node.operation is PrefixAttention, node.operands.count > 8, let shared = node.operands[7],
      graph.nodes.count(where: { $0.operands.contains(shared) }) > 1,
      let weight = attention.operands[7].flatMap(teacher.tensor),
      weight.shape == graph.tensor(shared)?.shape
    else { return false }
    let bias = attention.operands.count > 8 ? attention.operands[8].flatMap(teacher.tensor) : nil
    graph.nodes[place].operands[7] = graph.addConstant(weight, name: "\(name).wo")
    graph.nodes[place].operands[8] = bias.map { graph.addConstant($0, name: "\(name).bo") }
    return true
  }

  /// What is noted of a mixer, with a map of its own for the first tokens.
  private static func noting(_ text: String) throws(VitError) -> String {
    let written = try NestedOption(text)
    guard case .string(let word)? = written.attributes["prefix"],
      case .attend(let rank, _) = try PrefixRows(word)
    else { return text }
    var attributes = written.attributes
    attributes["prefix"] = .string(PrefixRows.attend(rank: rank, own: true).text)
    return NestedOption(written.name, attributes).description
  }
}
