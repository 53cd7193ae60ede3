internal import VitIR

/// What fewer bits do to a model, block by block, and the blocks that have to stay so that all of them do no more than they may.
struct Sensitivity {
  /// The damage that each block's weights do alone, by the place of its layer.
  private(set) var damages: [(place: Int, damage: Double)] = []
  /// The numbers of the layers in whose blocks weights stay, in order.
  private(set) var kept: [Int]
  /// What the rest do together.
  private(set) var damage = 0.0
  /// What was found out.
  private(set) var notes: [String] = []

  /// Measures `pass` on held-out samples, against the model as it is. Blocks are kept from the most sensitive on; what is asked to be kept is,
  /// in any case. Throws where there are no samples.
  init(
    _ pass: Quantise, _ maps: InnerMaps, _ rounded: RoundedWeights, _ hybrid: Hybrid, limit: Double,
    _ context: PassContext
  ) throws {
    let data = try context.heldOut ?? context.samples(for: Quantise.name)
    let meter = try FidelityMeter(
      teacher: hybrid.graph, data: data, samples: data.spread(pass.images), context: context)
    kept = Set(pass.keep).sorted()
    let blocks = Set(maps.blocks.values).sorted()
    for (done, block) in blocks.enumerated() {
      try context.checkCancelled()
      var graph = hybrid.graph
      _ = rounded.put(into: &graph, maps, beside: [], only: block)
      damages.append((block, try meter.measure(graph).damage))
      context.progress(Quantise.name, done + 1, blocks.count, "layer \(hybrid.layers[block].index)")
    }
    func measured() throws -> Double {
      let places = hybrid.layers.indices.filter { kept.contains(hybrid.layers[$0].index) }
      var graph = hybrid.graph
      _ = rounded.put(into: &graph, maps, beside: Set(places))
      return try meter.measure(graph).damage
    }
    damage = try measured()
    // Of equal ones the first.
    var rest = damages.sorted { $0.damage > $1.damage }.map(\.place)
      .filter { place in !kept.contains(hybrid.layers[place].index) }[...]
    while damage > limit, let place = rest.popFirst() {
      kept = (kept + [hybrid.layers[place].index]).sorted()
      damage = try measured()
    }
    let most = damages.max { $0.damage < $1.damage }
    notes = [
      most.map {
        "of \(damages.count) blocks that of layer \(hybrid.layers[$0.place].index) is the most sensitive, \(Float($0.damage)) alone; together "
          + "\(Float(damage))" + (kept.isEmpty ? "" : " beside layers \(kept), which stay")
      }
    ].compactMap(\.self)
    if damage > limit {
      notes.append("no layer is left to keep, and the damage is more than \(limit)")
    }
  }
}
