internal import VitIR

/// Groups of layers, replaced by one mixer and trained for the same steps: the mixer is distilled once in all layers, and each group
/// takes what it needs of that.
struct ReplacementJob {
  let bench: StudyBench
  let mixer: String
  let seed: Int

  func run() throws -> [StudyRecord] {
    let (plan, teacher) = (bench.plan, bench.teacher)
    let context = bench.context(seed: seed)
    let meter = try bench.meter(teacher.graph, context)
    var scored = Hybrid(of: teacher)
    try bench.run([Score(images: plan.scored, drop: false)], on: &scored, context)
    let form = StudyProtocol.Form(mixer, steps: plan.replacement.distilSteps)
    var whole = try bench.replaced(teacher, by: form, seed: seed, context)
    for place in whole.layers.indices {
      whole.layers[place].scores = scored.layers[place].scores
    }
    return try plan.replacement.groups.map { group in
      guard let choice = Select.choice(group) else { throw VitError("'\(group)' is no group") }
      var hybrid = whole
      let count = StudyProtocol.count(plan.replacement.part, of: whole.replaced.count)
      let passes: [any Pass] = [
        Select(by: choice.by, group: choice.group, count: count), Restore(), Solve(images: plan.fitted),
        bench.fineTune(plan.replacement.fineTuneSteps),
      ]
      try bench.run(passes, on: &hybrid, context)
      let control = plan.replacement.controls.contains(mixer)
      return StudyRecord(
        "replacement",
        [
          ("mixer", .text(mixer)), ("control", .whole(control ? 1 : 0)), ("group", .text(group)),
          ("seed", .whole(seed)), ("layers", .integers(hybrid.replaced.map(\.index))),
        ] + (try meter.measure(hybrid.graph).fields) + (try bench.cost(hybrid.graph).fields))
    }
  }
}
