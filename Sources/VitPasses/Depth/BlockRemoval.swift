internal import VitIR
internal import VitOps

/// Takes whole blocks out of a hybrid, and keeps its layers up to date.
struct BlockRemoval {
  /// What the residual stream goes through in the place of a block.
  enum Replacement {
    /// Nothing.
    case identity
    /// A linear map of each token, `[width, width]` and `[width]`.
    case linear(weight: Tensor, bias: Tensor)
  }

  private let registry: Registry

  init(registry: Registry) { self.registry = registry }

  /// Puts something in the place of the block of a layer.
  func replace(
    _ block: ResidualBlock, of index: Int, with replacement: Replacement, in hybrid: inout Hybrid
  ) throws(VitError) {
    guard let place = hybrid.place(of: index) else { return }
    var rewriter = Rewriter(hybrid.graph, registry: registry)
    rewriter.builder.location =
      hybrid.graph.place(defining: block.after).map { hybrid.graph.nodes[$0].location }
      ?? Location()
    var layer = hybrid.layers[place].forgotten
    layer.scores = hybrid.layers[place].scores
    (layer.heads, layer.parameters, layer.kind) = (0, 0, Layer.removed)
    layer.obstacle = "its block is gone"
    var stream = block.before
    if case .linear(let weight, let bias) = replacement {
      let operands = [
        block.before, rewriter.builder.graph.addConstant(weight, name: "block.\(index).weight"),
        rewriter.builder.graph.addConstant(bias, name: "block.\(index).bias"),
      ]
      stream = try rewriter.builder.add(VitLinear(), operands, names: ["block.\(index)"])[0]
      (layer.parameters, layer.kind) = (weight.count + bias.count, Layer.linear)
      layer.obstacle = "its block is a linear map"
    }
    try rewriter.replace(block.after, with: stream, by: Depth.name)
    hybrid.graph = try rewriter.finish()
    (layer.core, layer.input, layer.output) = (stream, block.before, stream)
    hybrid.layers[place] = layer
    // Others may stand right behind the block, with nothing between.
    for other in hybrid.layers.indices {
      func moved(_ id: ValueID) -> ValueID { id == block.after ? stream : id }
      hybrid.layers[other].core = moved(hybrid.layers[other].core)
      hybrid.layers[other].input = hybrid.layers[other].input.map(moved)
      hybrid.layers[other].output = hybrid.layers[other].output.map(moved)
    }
  }
}

/// A linear map that stands in the place of a block, and the block that the teacher has there.
struct LinearBlock {
  /// The layer's number.
  let layer: Int
  /// The place of its node.
  let node: Int
  /// The stream that it reads.
  let input: ValueID
  /// Its weight, `[width, width]`, and bias.
  let weight, bias: ValueID
  /// The teacher's.
  let original: ResidualBlock

  /// All of a hybrid that solving can change, in the order of its layers.
  static func all(in hybrid: Hybrid, teacher: Teacher) -> [LinearBlock] {
    hybrid.layers.compactMap { layer in
      guard layer.kind == Layer.linear, let place = hybrid.graph.place(defining: layer.core) else {
        return nil
      }
      let node = hybrid.graph.nodes[place]
      guard node.operation is VitLinear, node.operands.count == 3, let input = node.operands[0],
        let weight = node.operands[1], let bias = node.operands[2],
        let original = teacher.layer(layer.index).flatMap({
          try? ResidualBlock($0, in: teacher.graph, teacher.layers)
        }), hybrid.graph.type(layer.core) == teacher.graph.type(original.after)
      else { return nil }
      return LinearBlock(
        layer: layer.index, node: place, input: input, weight: weight, bias: bias, original: original)
    }
  }
}
