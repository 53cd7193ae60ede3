public import VitIR
internal import VitOps

/// What a model's first output means.
public enum OutputKind: String, Sendable {
  /// Scores of classes: [batch, classes].
  case classes
  /// Anything else: compared by relative squared error.
  case values

  /// Scores of classes are a first output [batch, n] where any sample has a label below n, or none has a label and n is
  /// not the width of the model's tokens (an embedding).
  ///
  /// All labels of `data` are looked at, for no order of them may decide. Those that are no class of the model count as
  /// none, with a warning to `report`.
  public init(_ graph: Graph, data: [any SampleSource], _ report: (Diagnostic) -> Void = { _ in }) {
    guard let classes = OutputKind.width(of: graph) else {
      self = .values
      return
    }
    let labels = data.flatMap { data in (0..<data.count).compactMap(data.label) }
    if !labels.isEmpty {
      let foreign = labels.filter { $0 < 0 || $0 >= classes }
      self = foreign.count < labels.count ? .classes : .values
      if let first = foreign.first, self == .classes {
        report(
          Diagnostic(
            .warning,
            "\(foreign.count) of \(labels.count) labels are no class of the model, which has \(classes): \(first)",
            code: "label-range", help: "these samples are taken as if they had no label"))
      }
      return
    }
    self = OutputKind.isAsWideAsTokens(graph) ? .values : .classes
  }

  /// How many numbers the first output has for each sample, where it is [batch, n], or [n] for a single one, and n more than one.
  public static func width(of graph: Graph) -> Int? {
    guard let output = graph.outputs.first else { return nil }
    let shape = graph.type(output.value).shape
    let isRow = BatchForm(graph).isCounted ? shape.count == 2 : shape.count == 1 || shape.first == 1
    guard isRow, shape.count <= 2, let width = shape.last?.fixedValue, width > 1 else { return nil }
    return width
  }

  /// Whether the first output has as many numbers as the model's tokens, as embeddings have.
  public static func isAsWideAsTokens(_ graph: Graph) -> Bool {
    guard let width = width(of: graph) else { return false }
    return graph.nodes.contains { node in
      node.isAny(VitAttention.self, VitLayerNorm.self)
        && node.results.first.flatMap { graph.type($0).shape.last?.fixedValue } == width
    }
  }
}
