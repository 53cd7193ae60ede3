internal import VitIR
internal import VitOps

/// A block of a transformer as the residual stream sees it: a layer and the perceptron behind it, each added to the stream.
struct ResidualBlock {
  /// The stream that goes in and the stream that comes out, `[batch, tokens, width]`.
  let before, after: ValueID
  /// The places of the nodes between the two.
  let nodes: [Int]

  /// Why there is no such block.
  struct Obstacle: Error {
    let reason: String
  }

  /// The block of a layer; throws where it is none, holds another layer, or something beside it reads a value inside.
  init(_ layer: Layer, in graph: Graph, _ layers: [Layer]) throws(Obstacle) {
    guard !layer.isRemoved else { throw Obstacle(reason: "its block is gone already") }
    let consumers = graph.consumers()
    guard let (before, middle) = graph.residual(behind: layer.output, consumers),
      graph.type(before).rank == 3
    else { throw Obstacle(reason: "what it gives is not added to a residual stream") }
    let ends = consumers[middle.index].compactMap { graph.sum(at: $0, with: middle) }
    guard ends.count == 1, let after = ends.first else {
      throw Obstacle(reason: "no perceptron behind it is added to the residual stream")
    }
    let places = graph.nodes(from: before, to: after)
    let inside = Set(places)
    let producers = graph.producers()
    for other in layers where other.index != layer.index && !other.isRemoved {
      if let place = producers[other.core.index], inside.contains(place) {
        throw Obstacle(reason: "layer \(other.index) lies between it and the next addition to the stream")
      }
    }
    let outputs = Set(graph.outputs.map(\.value))
    for value in places.flatMap({ graph.nodes[$0].results }) where value != after {
      guard !outputs.contains(value), consumers[value.index].allSatisfy(inside.contains) else {
        throw Obstacle(reason: "something beside its block reads '\(graph[value].name)'")
      }
    }
    (self.before, self.after, nodes) = (before, after, places)
  }
}

extension Graph {
  /// What a node gives that adds something computed to `stream`, and has its type.
  fileprivate func sum(at place: Int, with stream: ValueID) -> ValueID? {
    let node = nodes[place]
    guard node.isAny(VitAdd.self, Onnx.add), let a = node.operands[0], let b = node.operands[1],
      let result = node.results.first, type(result) == type(stream)
    else { return nil }
    let other = a == stream ? b : a
    return other != stream && !self[other].isConstant && type(other) == type(stream) ? result : nil
  }
}
