/// The state of a compile: a model, its layers, and the model that it is made from.
///
/// What passes run on. A model of which nothing was replaced is a hybrid like others, with no teacher.
public struct Hybrid: Sendable {
  /// What the model computes.
  public var graph: Graph
  /// Its attention layers and mixers, in the order of their numbers; none before they were looked for.
  public var layers: [Layer]
  /// Units that look like attention and are no layers.
  public var others: [AttentionLike]
  /// The model as it was before any layer was replaced: what mixers are distilled from and compared with.
  public var teacher: Teacher?

  /// A model with its layers.
  public init(
    _ graph: Graph, layers: [Layer] = [], others: [AttentionLike] = [], teacher: Teacher? = nil
  ) {
    self.graph = graph
    self.layers = layers
    self.others = others
    self.teacher = teacher
  }

  /// A model that nothing was found out about or done to: the beginning of a compile of `teacher`.
  public init(of teacher: Teacher) {
    self.init(teacher.graph, layers: teacher.layers, others: teacher.others, teacher: teacher)
  }

  /// The layers in whose place a mixer was put.
  public var replaced: [Layer] { layers.filter(\.isReplaced) }

  /// The place in `layers` of the layer of that number.
  public func place(of index: Int) -> Int? { layers.firstIndex { $0.index == index } }

  /// The most heads that the layers may have together.
  public static let maximumHeads = 1 << 16

  /// Throws unless graph and layers are well formed: numbers ascend, every core is the result of a node (or, where the block is
  /// gone, what it would have read), all that layers name is in the graph, and a layer that can be replaced maps tokens to tokens.
  public func checkInvariants() throws(VitError) {
    try graph.checkInvariants()
    guard !layers.isEmpty else { return }
    let producers = graph.producers()
    var (last, heads) = (-1, 0)
    for layer in layers {
      func broken(_ what: String) -> VitError {
        VitError("layer \(layer.index) \(what)", code: "invalid-layer", location: Location(node: layer.node))
      }
      guard layer.index > last else { throw broken("comes after layer \(last)") }
      last = layer.index
      guard producers.indices.contains(layer.core.index),
        producers[layer.core.index] != nil || layer.isRemoved && graph.inputs.contains(layer.core)
      else {
        throw broken("is around a value that no operation gives")
      }
      for case let id? in [layer.input, layer.output] {
        guard graph.values.indices.contains(id.index),
          graph[id].isConstant || producers[id.index] != nil || graph.inputs.contains(id)
        else { throw broken("names a value that is not there") }
      }
      guard (0...Hybrid.maximumHeads - heads).contains(layer.heads), layer.parameters >= 0 else {
        throw broken("has \(layer.heads) heads and \(layer.parameters) parameters")
      }
      heads += layer.heads
      if layer.isReplaceable {
        guard let input = layer.input.map(graph.type), let output = layer.output.map(graph.type),
          input.rank == 3, output.rank == 3,
          input.shape.prefix(2) == output.shape.prefix(2)
        else { throw broken("can be replaced, but does not map tokens to tokens") }
      }
    }
  }

  /// What first tells this hybrid from `other`, in words, or `nil` where they are the same: graph, layers and other
  /// units; the teacher does not count. See `Graph.firstDifference`.
  public func firstDifference(from other: Hybrid, comparingValues: Bool = true) throws -> String? {
    if let found = try graph.firstDifference(from: other.graph, comparingValues: comparingValues) {
      return found
    }
    let (a, b) = (layerLines, other.layerLines)
    for (line, same) in zip(a, b) where line != same { return "layers: \(line) against \(same)" }
    return a.count == b.count ? nil : "number of layers: \(a.count) against \(b.count)"
  }
}

/// The model that a hybrid is made from.
public struct Teacher: Sendable {
  /// What it computes.
  public var graph: Graph
  /// Its layers; nothing is noted in them.
  public var layers: [Layer]
  /// Its units that look like attention and are no layers.
  public var others: [AttentionLike]

  /// A model as a teacher: what was found out or decided about its layers is forgotten.
  public init(_ model: Hybrid) {
    graph = model.graph
    layers = model.layers.map(\.forgotten)
    others = model.others
  }

  /// The layer of that number.
  public func layer(_ index: Int) -> Layer? { layers.first { $0.index == index } }
}

extension Graph {
  /// The place in `nodes` of the one that defines a value, found by a walk over the nodes.
  public func place(defining id: ValueID) -> Int? { nodes.firstIndex { $0.results.contains(id) } }
}
