internal import VitIR
internal import VitOps

/// Teachers whose layers are made sparser, denser or noisier, and layers that give a random error.
enum TeacherVariant {
  /// A teacher whose queries are multiplied layer by layer, and with them its scores: larger ones make sparser maps. Throws where a
  /// layer's queries are no map of its own.
  static func scaledQueries(_ teacher: Teacher, by factors: [Int: Double]) throws -> Teacher {
    var result = teacher
    for layer in teacher.layers where layer.isReplaceable {
      guard let factor = factors[layer.index], factor != 1 else { continue }
      let node = try attention(layer, teacher.graph)
      for place in [1, 2] {
        guard place < node.operands.count, let id = node.operands[place] else { continue }
        let tensor = try own(id, layer, teacher.graph)
        result.graph.setTensor(
          Tensor(tensor.element, shape: tensor.shape, values: try tensor.doubles().map { $0 * factor }),
          of: id)
      }
    }
    return result
  }

  /// A teacher whose values have noise in their weights, of so many times a standard normal one each; the same for the same `random`.
  static func noisyValues(_ teacher: Teacher, by sizes: [Int: Double], _ random: SplitMix) throws -> Teacher {
    var result = teacher
    for layer in teacher.layers where layer.isReplaceable {
      guard let size = sizes[layer.index], size != 0 else { continue }
      let node = try attention(layer, teacher.graph)
      guard 5 < node.operands.count, let id = node.operands[5] else { throw refusal(layer) }
      let tensor = try own(id, layer, teacher.graph)
      var draw = random.split(layer.index)
      result.graph.setTensor(
        Tensor(
          tensor.element, shape: tensor.shape, values: try tensor.doubles().map { $0 + size * draw.normal() }),
        of: id)
    }
    return result
  }

  /// A teacher's graph in which a layer gives a random error: for each token and channel the same for all samples, of so much a
  /// root mean square in the rows before the patches, and in those of the patches.
  static func disturbed(
    _ teacher: Teacher, _ layer: Layer, prefix: Double, patches: Double, _ random: SplitMix,
    _ registry: Registry
  ) throws -> Graph {
    let graph = teacher.graph
    guard let output = layer.output, let extents = graph.type(output).fixedShapeTail(2) else {
      throw refusal(layer)
    }
    let first = TokenGeometry(graph, tokens: extents[0]).prefix
    var draw = random
    let noise = (0..<extents[0] * extents[1]).map { place in
      draw.normal() * (place / extents[1] < first ? prefix : patches)
    }
    var rewriter = Rewriter(graph, registry: registry)
    let constant = rewriter.builder.graph.addConstant(
      Tensor(graph.type(output).element, shape: [1] + extents, values: noise), name: "noise")
    let sum = try rewriter.builder.add(VitAdd(), [output, constant])[0]
    try rewriter.replace(output, with: sum, by: "noise")
    return try rewriter.finish()
  }

  private static func attention(_ layer: Layer, _ graph: Graph) throws(VitError) -> Node {
    guard let place = graph.place(defining: layer.core), graph.nodes[place].operation is VitAttention else {
      throw refusal(layer)
    }
    return graph.nodes[place]
  }

  /// A constant that this layer alone reads.
  private static func own(_ id: ValueID, _ layer: Layer, _ graph: Graph) throws(VitError) -> Tensor {
    let readers = graph.nodes.reduce(0) { sum, node in sum + node.operands.count { $0 == id } }
    guard readers == 1, let tensor = graph.tensor(id) else { throw refusal(layer) }
    return tensor
  }

  private static func refusal(_ layer: Layer) -> VitError {
    VitError(
      "study: layer \(layer.index) has no maps of queries, keys and values of its own, so that it cannot be made sparser",
      code: "study-position", location: Location(node: layer.node),
      help: "a protocol with 'position.squares' 0 leaves that experiment out")
  }
}
