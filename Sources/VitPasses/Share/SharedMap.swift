internal import VitIR

/// What a teacher's layer can become that uses the attention map of a layer before it: its output map, solved on what the teacher
/// gives.
struct SharedMap {
  /// The layer's number.
  let layer: Int
  /// The numbers of the layers before it whose maps are enough like its own.
  let sources: Set<Int>
  private let solved: [(name: String, tensor: Tensor)]

  /// Lets the layer share in a model with the teacher's layers; throws where it cannot.
  func apply(to hybrid: inout Hybrid, context: PassContext) throws {
    _ = try Share(layers: [layer], images: 0).run(on: &hybrid, context: context)
    hybrid.graph.setTensors(solved)
  }

  /// The bytes that sums of maps may take at once.
  private static let bytes = 512 << 20

  /// The layers of a teacher that can share, each for itself: whose mean map's correlation with that of the layer before it is
  /// at least so much.
  static func solved(
    of teacher: Teacher, correlation: Double, images: Int, context: PassContext
  ) throws -> [SharedMap] {
    let attention = teacher.layers.filter(\.isAttention)
    var likes: [Int: Set<Int>] = [:]
    // Maps of a few layers at a time, each of which but the first is compared with those before it.
    let size =
      attention.map { layer in
        let tokens = layer.input.flatMap { teacher.graph.type($0).shape.dropFirst().first?.fixedValue } ?? 1
        return layer.heads * tokens * tokens * 8
      }.max() ?? 1
    let window = max(2, bytes / max(1, size))
    for first in stride(from: 0, to: max(0, attention.count - 1), by: window - 1) {
      let group = Array(attention[first..<min(attention.count, first + window)])
      let maps = try MeanMaps(Hybrid(of: teacher), of: group, images: images, context: context)
      for (place, layer) in group.enumerated() {
        for source in group[..<place] {
          if let found = maps.correlation(source.index, layer.index), found >= correlation {
            likes[layer.index, default: []].insert(source.index)
          }
        }
      }
    }
    return try zip(attention.dropFirst(), attention).compactMap { layer, before in
      guard let sources = likes[layer.index], sources.contains(before.index) else { return nil }
      var hybrid = Hybrid(of: teacher)
      do {
        _ = try Share(layers: [layer.index], images: images).run(on: &hybrid, context: context)
      } catch let error as VitError where error.diagnostic.code == "layer-not-shareable" {
        return nil
      }
      guard let own = hybrid.layers.first(where: { $0.index == layer.index }),
        let map = OutputMap(own, in: hybrid.graph)
      else { return nil }
      let constants = [map.weight, map.bias].compactMap { id in
        id.flatMap { id in hybrid.graph.tensor(id).map { (hybrid.graph[id].name, $0) } }
      }
      return SharedMap(layer: layer.index, sources: sources, solved: constants)
    }
  }
}
