internal import VitIR
internal import VitOps
internal import VitRuntime

/// A model whose attention maps can be looked at while it runs: the layers lowered to products and a softmax.
struct MapTap {
  /// The lowered graph.
  private(set) var graph: Graph
  /// For each layer the value that holds its maps.
  private(set) var maps: [ValueID?]
  /// For each layer the values that its maps are multiplied with, and what comes of it, both `[…, heads, tokens, width]`.
  private(set) var products: [(values: ValueID, result: ValueID)?]
  /// For each layer the residual stream before and behind it, and the node that adds.
  private(set) var residuals: [(before: ValueID, after: ValueID)?]

  init(_ source: Graph, layers: [Layer], registry: Registry) throws(VitError) {
    var rewriter = Rewriter(source, registry: registry)
    var maps: [ValueID?] = []
    var outputs: [ValueID?] = layers.map(\.output)
    let producers = source.producers()
    for (place, layer) in layers.enumerated() {
      guard let core = producers[layer.core.index] else {
        maps.append(nil)
        continue
      }
      let node = source.nodes[core]
      guard node.isAny(VitAttention.self, VitSDPA.self) else {
        maps.append(node.isAny(Onnx.softmax) ? node.results.first : nil)
        continue
      }
      let first = rewriter.builder.graph.nodes.count
      rewriter.builder.location = node.location
      let results = try node.operation.lower(
        into: &rewriter.builder, operands: node.operands, resultCount: node.results.count)
      let lowered = rewriter.builder.graph.nodes[first...]
      let map = lowered.first { $0.isAny(Onnx.softmax) }?.results.first
      // Where a guard puts zeros in the place of NaN, they are the map.
      maps.append(lowered.first { $0.isAny(Onnx.where) && $0.operands[2] == map }?.results.first ?? map)
      for (old, new) in zip(node.results, results) {
        try rewriter.replace(old, with: new, by: "map-tap")
        if outputs[place] == old { outputs[place] = new }
      }
    }
    graph = try rewriter.finish()
    self.maps = maps
    let consumers = graph.consumers()
    let finished = graph
    products = maps.map { map in
      guard let map else { return nil }
      for place in consumers[map.index] {
        let node = finished.nodes[place]
        guard node.isAny(Onnx.matMul), node.operands[0] == map, let values = node.operands[1],
          let result = node.results.first, finished.type(values) == finished.type(result)
        else { continue }
        return (values, result)
      }
      return nil
    }
    residuals = outputs.map { $0.flatMap { finished.residual(behind: $0, consumers) } }
  }
}
