internal import VitIR

extension Select {
  /// With `by=auto`, behind the choice of layers: gives those that were not chosen their attention back, and takes channels
  /// from perceptrons as far as the bounds allow.
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
    var passes: [any Pass] = chosen.isEmpty ? [] : [Select(layers: chosen.sorted())]
    if !hybrid.replaced.isEmpty { passes.append(Restore()) }
    if !point.counts.isEmpty {
      passes.append(Prune(counts: point.counts, images: reduction.images, tile: reduction.tile))
    }
    for pass in passes { _ = try pass.run(on: &hybrid, context: context) }
    var result = PassResult(changes: max(1, chosen.count), notes: notes)
    result.notes.append(
      "channels of perceptrons \(point.counts): damage \(Float(points[0].damage)) to \(Float(point.damage)), "
        + "\((100 * point.cost).rounded()) % of the teacher's \(reduction.cost.rawValue)")
    (result.found, result.points) = (passes, points)
    return result
  }
}
