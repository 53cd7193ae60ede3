internal import VitIR

extension Select {
  /// With `by=auto`, behind the choice of layers: gives those that were not chosen their attention back, and takes from
  /// the model as far as the bounds allow.
  func reduce(
    _ hybrid: inout Hybrid, chosen: [Int], notes: [String], _ context: PassContext
  ) throws -> PassResult {
    let teacher = try hybrid.teacher(for: Select.name)
    let mixers = try MixerNode.all(in: hybrid, teacher: teacher).filter { $0.layer.choice == .selected }
    let data = try context.heldOut ?? context.samples(for: Select.name)
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: data, samples: data.spread(images), context: context)
    let points = try ReductionSearch(
      reduction, teacher: teacher, mixers: mixers, meter: meter, context: context
    ).points()
    // The first stands whatever it does: the layers were asked for.
    let point = points.last { $0.damage <= reduction.limit } ?? points[0]
    if reduction.goal > 0, point.cost > reduction.goal {
      func percent(_ part: Double) -> String { "\((1000 * part).rounded() / 10) %" }
      let least = points.map(\.cost).min() ?? 1
      throw VitError(
        "the model cannot come to \(percent(reduction.goal)) of its \(reduction.cost.rawValue): "
          + "at a damage of \(reduction.limit) before training it comes to \(percent(point.cost)) of them",
        kind: .check, code: "target-unreachable",
        help: least < point.cost
          ? "a larger drop allows more, as does replacing more layers" : "replacing more layers allows more")
    }
    var passes: [any Pass] = chosen.isEmpty ? [] : [Select(layers: chosen.sorted())]
    if !hybrid.replaced.isEmpty { passes.append(Restore()) }
    let sizes = point.sizes
    if sizes.channels != points[0].sizes.channels {
      passes.append(Prune(counts: sizes.channels, images: reduction.images, tile: reduction.tile))
    }
    if (sizes.scores + sizes.values).contains(where: { $0 > 0 }) {
      passes.append(
        Factorise(
          scoreCounts: sizes.scores, valueCounts: sizes.values, images: reduction.images,
          tile: reduction.headTile))
    }
    for pass in passes { _ = try pass.run(on: &hybrid, context: context) }
    var result = PassResult(changes: max(1, chosen.count), notes: notes)
    let (from, to) = (Float(points[0].damage), Float(point.damage))
    let part = (100 * point.cost).rounded()
    result.notes.append(
      "perceptrons keep \(sizes.channels) channels, heads \(sizes.scores) for scores and \(sizes.values) of values: "
        + "damage \(from) to \(to), \(part) % of the teacher's \(reduction.cost.rawValue)")
    (result.found, result.points) = (passes, points)
    return result
  }
}
