internal import VitIR
internal import VitOps

/// Puts mixers into the places of layers: a rewrite of a graph that keeps its layers up to date.
struct Transplant {
  private var rewriter: Rewriter
  private var layers: [Layer]
  /// What took the place of a layer's output.
  private var replaced: [ValueID: ValueID] = [:]

  /// Nothing replaced yet in a graph with these layers.
  init(_ graph: Graph, layers: [Layer], registry: Registry) {
    rewriter = Rewriter(graph, registry: registry)
    self.layers = layers
  }

  /// The layers as they will be.
  subscript(index: Int) -> Layer? {
    get { layers.first { $0.index == index } }
    set {
      guard let newValue, let place = layers.firstIndex(where: { $0.index == index }) else { return }
      layers[place] = newValue
    }
  }

  /// Lets `mixer`, whose operands after the tokens are `parameters`, stand in for a layer.
  mutating func replace(
    _ index: Int, with mixer: any Mixer, _ parameters: [(name: String, tensor: Tensor)], location: Location
  ) throws(VitError) {
    guard var layer = self[index], let input = layer.input, let output = layer.output else { return }
    let constants = parameters.map { rewriter.builder.graph.addConstant($0.tensor, name: $0.name) }
    let result = try rewriter.builder.add(
      mixer, [input] + constants, names: ["mixer.\(index)"], location: location)[0]
    try rewriter.replace(output, with: result, by: "transplant")
    replaced[output] = result
    layer.kind = type(of: mixer).kind
    layer.heads = 1
    if case .int(let heads)? = mixer.attributes["heads"] { layer.heads = heads }
    (layer.core, layer.output) = (result, result)
    layer.parameters = parameters.reduce(0) { $0 + $1.tensor.count }
    layer.obstacle = "it is a mixer already"
    self[index] = layer
  }

  /// The graph with all mixers in it, and its layers.
  func finish() throws(VitError) -> (graph: Graph, layers: [Layer]) {
    let graph = try rewriter.finish()
    // A layer may read what the one before gives, with nothing between.
    return (
      graph,
      layers.map { layer in
        var layer = layer
        layer.input = layer.input.map { replaced[$0] ?? $0 }
        return layer
      }
    )
  }
}

/// A mixer that stands in a layer's place, seen from the hybrid and from its teacher.
struct MixerNode {
  /// The layer as it is in the hybrid.
  let layer: Layer
  /// The mixer.
  let node: Node
  /// The tokens that the teacher's layer reads.
  let input: ValueID
  /// What the teacher's layer gives, and the mixer approximates.
  let target: ValueID

  /// The mixers that were put into a hybrid, in order of their layers; throws where its teacher has other layers.
  static func all(in hybrid: Hybrid, teacher: Teacher) throws(VitError) -> [MixerNode] {
    try teacher.check(hybrid)
    let producers = hybrid.graph.producers()
    var mixers: [MixerNode] = []
    for layer in hybrid.replaced {
      guard let place = producers[layer.core.index], let original = teacher.layer(layer.index),
        let input = original.input, let target = original.output,
        teacher.graph.type(target) == hybrid.graph.type(layer.core)
      else { throw teacher.mismatch("it has no layer \(layer.index) that a mixer could replace") }
      let node = hybrid.graph.nodes[place]
      guard node.operation is any Mixer, node.operands.first == layer.input, layer.output == layer.core else {
        throw VitError(
          "layer \(layer.index) is said to be a mixer, and is none", code: "invalid-layer",
          location: node.location)
      }
      mixers.append(MixerNode(layer: layer, node: node, input: input, target: target))
    }
    return mixers
  }

  /// The names of the constants that are its parameters.
  func parameters(in graph: Graph) -> [String] {
    node.operands.dropFirst().compactMap { $0.map { graph[$0].name } }
  }

  /// Where a layer's branch is scaled channel by channel on its way to the residual: what comes of it, and the factors.
  func scaled(in teacher: Graph) -> (result: ValueID, factors: Tensor)? {
    let readers = teacher.nodes.filter { $0.operands.contains(target) }
    guard readers.count == 1, let reader = readers.first, reader.operation is VitScale,
      !teacher.outputs.contains(where: { $0.value == target }), reader.operands[0] == target,
      let factors = reader.operands[1].flatMap(teacher.tensor), let result = reader.results.first
    else { return nil }
    return (result, factors)
  }

  /// `teacher` with these mixers of `graph` in place of its layers; the layers say nothing of what was found out.
  static func transplant(
    _ mixers: [MixerNode], from graph: Graph, into teacher: Teacher, registry: Registry
  ) throws(VitError) -> (graph: Graph, layers: [Layer]) {
    var transplant = Transplant(teacher.graph, layers: teacher.layers, registry: registry)
    for mixer in mixers {
      guard let operation = mixer.node.operation as? any Mixer else { continue }
      var parameters: [(name: String, tensor: Tensor)] = []
      for case let id? in mixer.node.operands.dropFirst() {
        guard let tensor = graph.tensor(id) else { continue }
        parameters.append((graph[id].name, tensor))
      }
      try transplant.replace(mixer.layer.index, with: operation, parameters, location: mixer.node.location)
    }
    return try transplant.finish()
  }
}

extension Teacher {
  /// An error that the teacher is not the one of a hybrid.
  fileprivate func mismatch(_ reason: String) -> VitError {
    VitError(
      "the teacher is not the model that the layers were replaced in: \(reason)", code: "teacher-mismatch",
      help: "give the model that the hybrid was made from")
  }

  /// Throws unless inputs, outputs and layers are those that a hybrid made of it has.
  func check(_ hybrid: Hybrid) throws(VitError) {
    let (own, other) = (graph.inputs.map(graph.type), hybrid.graph.inputs.map(hybrid.graph.type))
    guard own == other else { throw mismatch("its inputs are \(own), those of the hybrid \(other)") }
    guard graph.outputs.count == hybrid.graph.outputs.count else {
      throw mismatch("it has \(graph.outputs.count) outputs, the hybrid \(hybrid.graph.outputs.count)")
    }
    guard layers.map(\.index) == hybrid.layers.map(\.index) else {
      throw mismatch("it has \(layers.count) layers, the hybrid \(hybrid.layers.count)")
    }
    for (layer, same) in zip(layers, hybrid.layers) {
      let (a, b) = (layer.input.map(graph.type), same.input.map(hybrid.graph.type))
      guard a == b else { throw mismatch("layer \(layer.index) reads other tokens") }
    }
  }
}

extension Hybrid {
  /// The teacher; throws a usage error where there is none.
  func teacher(for pass: String) throws(VitError) -> Teacher {
    if let teacher { return teacher }
    throw VitError(
      "\(pass) needs the model that the layers were replaced in", kind: .usage, code: "teacher-missing",
      help: "give it with --teacher")
  }
}
