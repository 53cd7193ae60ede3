public import VitIR

/// Gives layers that were replaced on trial, but not selected, their attention back.
public struct Restore: Pass {
  /// `restore`.
  public static let name = "restore"
  /// See `Pass`.
  public static let summary = "Puts the teacher's attention back where a mixer was not selected"
  /// See `Pass`.
  public static let example = "swap{layers=all},distil{steps=100},select{count=1},restore"

  /// The pass; it has no options.
  public init() {}
  /// The pass; it takes no options.
  public init(options: inout OptionReader) throws(VitError) {}
  /// None.
  public var options: [(name: String, value: String)] { [] }

  /// Starts from the teacher and carries over the selected mixers with their weights.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    let teacher = try hybrid.teacher(for: Restore.name)
    let mixers = try MixerNode.all(in: hybrid, teacher: teacher)
    guard !mixers.isEmpty else { return context.nothingReplaced(for: Restore.name) }
    if let layer = hybrid.layers.first(where: { $0.isRemoved || $0.isShared }) {
      throw VitError(
        "restore: layer \(layer.index) would become the teacher's again: \(layer.obstacle ?? layer.kind)",
        kind: .usage, code: "layer-changed", location: Location(node: layer.node),
        help: "run restore before depth and share")
    }
    let kept = mixers.filter { $0.layer.choice == .selected }
    let (graph, layers) = try MixerNode.transplant(
      kept, into: teacher, registry: context.registry)
    let known = hybrid.layers
    hybrid.graph = graph
    hybrid.layers = zip(layers, known).map { layer, old in
      var layer = layer.remembering(old)
      if old.isReplaced, old.choice != .selected { layer.choice = .kept }
      return layer
    }
    return PassResult(changes: mixers.count - kept.count)
  }
}
