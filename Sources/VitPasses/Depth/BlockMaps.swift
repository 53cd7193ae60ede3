internal import VitIR

/// What can stand in the place of a teacher's block: a linear map of the residual stream, solved on what the teacher itself gives
/// on both sides of it.
struct BlockMap {
  /// The layer's number.
  let layer: Int
  /// The teacher's block.
  let block: ResidualBlock
  private let weight, bias: Tensor

  /// Puts the map in the place of the block in a model with the teacher's layers.
  func apply(to hybrid: inout Hybrid, registry: Registry) throws {
    guard let own = hybrid.layers.first(where: { $0.index == layer }) else { return }
    do {
      let block = try ResidualBlock(own, in: hybrid.graph, hybrid.layers)
      try BlockRemoval(registry: registry)
        .replace(block, of: layer, with: .linear(weight: weight, bias: bias), in: &hybrid)
    } catch let obstacle as ResidualBlock.Obstacle {
      throw VitError(
        "the block of layer \(layer) cannot be taken out: \(obstacle.reason)", code: "layer-not-removable")
    }
  }

  /// The bytes that sums may take at once.
  private static let bytes = 512 << 20

  /// The maps of all blocks that can go, in the order of their layers; as few runs of the teacher on so many samples as memory
  /// for the sums allows.
  static func solved(
    of teacher: Teacher, images: Int, context: PassContext
  ) throws -> [BlockMap] {
    let blocks = teacher.layers.compactMap { layer -> (Int, ResidualBlock)? in
      guard let input = layer.input,
        let block = try? ResidualBlock(layer, in: teacher.graph, teacher.layers),
        // Of a layer that computes only some of its tokens' rows those alone are in the stream.
        teacher.graph.type(block.before).shape[1] == teacher.graph.type(input).shape[1]
      else { return nil }
      return (layer.index, block)
    }
    var (maps, first): ([BlockMap], Int) = ([], 0)
    while first < blocks.count {
      let width = teacher.graph.type(blocks[first].1.before).shape[2].fixedValue ?? 1
      let most = max(1, bytes / max(1, 32 * width * width))
      let group = Array(blocks[first..<min(blocks.count, first + most)])
      maps += try solved(group, of: teacher, images: images, context: context)
      first += group.count
    }
    return maps
  }

  private static func solved(
    _ blocks: [(layer: Int, block: ResidualBlock)], of teacher: Teacher, images: Int, context: PassContext
  ) throws -> [BlockMap] {
    var values: [ValueID] = []
    for block in blocks.map(\.block) {
      for value in [block.before, block.after] where !values.contains(value) { values.append(value) }
    }
    var readouts: [Readout] = []
    try TeacherTap.each(teacher.graph, values: values, images: images, for: Select.name, context: context) {
      views in
      let streams = Dictionary(zip(values, views)) { first, _ in first }
      for (place, block) in blocks.map(\.block).enumerated() {
        guard let before = streams[block.before], let after = streams[block.after] else { continue }
        if place == readouts.count {
          let width = before.shape.last ?? 0
          readouts.append(
            Readout(
              inputs: width, outputs: width,
              weights: TokenGeometry.rowWeights(of: before.shape, in: teacher.graph), pool: context.pool))
        }
        try readouts[place].add(before, after)
      }
    }
    return try zip(blocks, readouts).compactMap { found, readout in
      let width = teacher.graph.type(found.block.before).shape[2].fixedValue ?? 0
      guard let solution = try readout.solve(toward: Tensor.identity(width).doubles()) else { return nil }
      return BlockMap(
        layer: found.layer, block: found.block,
        weight: Tensor(shape: [width, width], floats: solution.weight),
        bias: Tensor(shape: [width], floats: solution.bias))
    }
  }
}
