public import VitIR
internal import VitOps

/// Gives layers that were replaced on trial, but not selected, their attention back.
public struct Restore: Pass {
  /// `restore`.
  public static let name = "restore"
  /// See `Pass`.
  public static let summary = "Puts the teacher's attention back where a mixer was not selected"

  /// The pass; it has no options.
  public init() {}
  /// The pass; it takes no options.
  public init(options: inout OptionReader) throws(VitError) {}
  /// None.
  public var options: [(name: String, value: String)] { [] }

  /// Starts from the teacher and carries over the selected mixers with their weights.
  public func run(on graph: inout Graph, context: PassContext) throws -> PassResult {
    let teacher = try context.teacher(for: Restore.name)
    let trial = MixerNode.new(in: graph, context: context)
    let kept = trial.filter { $0.node.annotations["selected"] == .bool(true) }
    graph = try MixerNode.transplant(kept, from: graph, into: teacher, registry: context.registry)
    return PassResult(changes: trial.count - kept.count)
  }
}

/// A mixer in a graph, and the layer it stands for.
struct MixerNode {
  /// The layer's number.
  let layer: Int
  /// Its place in `graph.nodes`.
  let place: Int
  /// The node.
  let node: Node
  /// The name, in the teacher, of what it approximates.
  let target: String

  /// The mixers that `swap` put into a graph, in order of their layers; those that the teacher has itself are layers of it
  /// like others.
  static func new(in graph: Graph, context: PassContext) -> [MixerNode] {
    graph.nodes.enumerated().compactMap { place, node -> MixerNode? in
      guard node.operation is any Mixer, case .int(let layer)? = node.annotations["layer"],
        case .string(let target)? = node.annotations["target"], let result = node.results.first,
        context.teacher?.value(named: graph[result].name) == nil
      else { return nil }
      return MixerNode(layer: layer, place: place, node: node, target: target)
    }.sorted { $0.layer < $1.layer }
  }

  /// The teacher's value that a mixer of `graph` reads, and the one that it approximates.
  func taps(in teacher: Graph, from graph: Graph) throws(VitError) -> (input: ValueID, target: ValueID) {
    guard let x = node.operands[0], let input = teacher.value(named: graph[x].name),
      let output = teacher.value(named: target)
    else {
      throw VitError(
        "the teacher has no values '\(target)' for layer \(layer)", code: "teacher-mismatch",
        location: node.location)
    }
    return (input, output)
  }

  /// Where a layer's branch is scaled channel by channel on its way to the residual: what comes of it, and the factors.
  func scaled(_ target: ValueID, in teacher: Graph) -> (result: ValueID, factors: Tensor)? {
    let readers = teacher.nodes.filter { $0.operands.contains(target) }
    guard readers.count == 1, let reader = readers.first, reader.name == "vit.scale",
      !teacher.outputs.contains(where: { $0.value == target }), reader.operands[0] == target,
      let factors = reader.operands[1].flatMap(teacher.tensor), let result = reader.results.first
    else { return nil }
    return (result, factors)
  }

  /// `teacher` with these mixers of `graph` in place of its layers.
  static func transplant(
    _ mixers: [MixerNode], from graph: Graph, into teacher: Graph, registry: Registry
  ) throws(VitError) -> Graph {
    var rewriter = Rewriter(teacher, registry: registry)
    for mixer in mixers {
      let (input, target) = try mixer.taps(in: teacher, from: graph)
      var operands: [ValueID?] = [input]
      for id in mixer.node.operands.dropFirst() {
        operands.append(
          id.flatMap { id in
            graph.tensor(id).map { rewriter.builder.graph.addConstant($0, name: graph[id].name) }
          })
      }
      let results = try rewriter.builder.add(
        mixer.node.operation, operands, names: [graph[mixer.node.results[0]].name],
        location: mixer.node.location)
      let place = rewriter.builder.graph.nodes.count - 1
      rewriter.builder.graph.nodes[place].annotations = mixer.node.annotations
      try rewriter.replace(target, with: results[0], by: "transplant")
    }
    return try rewriter.finish()
  }
}
