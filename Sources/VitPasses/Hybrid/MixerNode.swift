internal import VitIR
internal import VitOps

/// A mixer that stands in a layer's place, seen from the hybrid and from its teacher.
struct MixerNode {
  /// The layer as it is in the hybrid.
  let layer: Layer
  /// What stands there.
  let region: MixerRegion
  /// The tokens that the teacher's layer reads.
  let input: ValueID
  /// What the teacher's layer gives, and the mixer approximates.
  let target: ValueID

  /// The mixers that were put into a hybrid, in order of their layers; throws where its teacher has other layers.
  static func all(in hybrid: Hybrid, teacher: Teacher) throws(VitError) -> [MixerNode] {
    try teacher.check(hybrid)
    var mixers: [MixerNode] = []
    for layer in hybrid.replaced {
      guard let original = teacher.layer(layer.index), let input = original.input,
        let target = original.output,
        hybrid.mayHave(hybrid.graph.type(layer.core), in: teacher.graph.type(target))
      else { throw teacher.mismatch("it has no layer \(layer.index) that a mixer could replace") }
      let nodes = hybrid.graph.places(of: layer).map { hybrid.graph.nodes[$0] }
      guard let tokens = layer.input, let region = MixerRegion(nodes, tokens: tokens, in: hybrid.graph),
        hybrid.graph.withoutMerging(nodes).first?.results.first == layer.core
      else {
        throw VitError(
          "layer \(layer.index) is said to be a mixer, and is none", code: "invalid-layer",
          location: nodes.first?.location ?? Location(node: layer.node))
      }
      mixers.append(MixerNode(layer: layer, region: region, input: input, target: target))
    }
    return mixers
  }

  /// The names of the constants that are its parameters.
  var parameters: [String] { region.constants.map(\.name) }

  /// Where a layer's branch is scaled channel by channel on its way to the residual: what comes of it, and the factors.
  func scaled(in teacher: Graph) -> (result: ValueID, factors: Tensor)? { teacher.scaled(target) }

  /// `teacher` with these mixers in place of its layers; the layers say nothing of what was found out.
  static func transplant(
    _ mixers: [MixerNode], into teacher: Teacher, registry: Registry
  ) throws(VitError) -> (graph: Graph, layers: [Layer]) {
    var transplant = Transplant(teacher.graph, layers: teacher.layers, registry: registry)
    for mixer in mixers { try transplant.replace(mixer.layer.index, with: mixer.region) }
    return try transplant.finish()
  }
}
