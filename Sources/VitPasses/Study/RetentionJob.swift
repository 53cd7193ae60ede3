internal import VitIR

/// A teacher that drops tokens, and a student of it that drops them, too: its mixers are distilled on all tokens of the whole teacher, or,
/// guided by what the teacher keeps, on those alone, for as much time. Both are then trained end to end towards that teacher.
struct RetentionJob {
  let bench: StudyBench
  let keep: Double
  let isGuided: Bool

  func run() throws -> [StudyRecord] {
    let plan = bench.plan.retention
    let retain = Retain(keep: [keep])
    var sparse = Hybrid(of: bench.teacher)
    try bench.run([retain], on: &sparse, bench.context())
    sparse.teacher = nil
    let masked = Teacher(sparse)
    let context = bench.context()
    let meter = try bench.meter(bench.teacher.graph, context)
    let teacher = try meter.measure(masked.graph)
    let costs = try [bench.teacher.graph, masked.graph].map { Double(try bench.cost($0).flops) }
    // A step on fewer tokens costs less, so that there are more of them.
    let steps =
      isGuided ? Int((Double(plan.distilSteps) * costs[0] / max(costs[1], 1)).rounded()) : plan.distilSteps
    let replaceable = bench.teacher.layers.filter(\.isReplaceable).map(\.index)
    let layers = Array(replaceable.suffix(StudyProtocol.count(plan.part, of: replaceable.count)))
    var hybrid = try bench.replaced(
      isGuided ? masked : bench.teacher, by: StudyProtocol.Form(plan.mixer, steps: steps), seed: 0,
      layers: .listed(layers), bench.context())
    if !isGuided { try bench.run([retain], on: &hybrid, bench.context()) }
    hybrid.teacher = masked
    try bench.run([bench.fineTune(plan.fineTuneSteps)], on: &hybrid, bench.context())
    let student = try meter.measure(hybrid.graph)
    func gap(_ whole: Double?) -> Double? {
      whole.flatMap { whole in student.accuracy.map { 100 * (whole - $0) } }
    }
    return [
      StudyRecord(
        "retention",
        [
          ("keep", .number(keep)), ("guided", .whole(isGuided ? 1 : 0)), ("steps", .whole(steps)),
          ("layers", .integers(layers)), ("masked_teacher_accuracy", .number(teacher.accuracy)),
          ("masked_teacher_agreement", .number(teacher.agreement)),
          ("masked_teacher_damage", .number(teacher.damage)), ("gap_masked", .number(gap(teacher.accuracy))),
          ("gap_unmasked", .number(gap(student.teacherAccuracy))),
        ] + student.fields + (try bench.cost(hybrid.graph).fields))
    ]
  }
}
