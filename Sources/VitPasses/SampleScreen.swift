public import VitIR

/// Finds samples for which a teacher gives no numbers, before anything is learnt from them.
public enum SampleScreen {
  /// The places in `data` of samples, among those of `places`, for which an output of `teacher` is a NaN or an infinity. Costs one
  /// run of the teacher for each.
  ///
  /// Names them in warnings. Throws where they are more than a tenth.
  public static func nonFinite(
    _ teacher: Graph, _ data: any SampleSource, places: [Int]? = nil, context: PassContext,
    progress: (Int, Int) -> Void = { _, _ in }
  ) throws -> Set<Int> {
    let places = places ?? Array(0..<data.count)
    var found: [Int] = []
    try SampleRunner(teacher, data: data, samples: places, context: context)
      .run(teacher, context.weights(of: teacher), progress: progress) { first, outputs, count in
        for row in 0..<count where !SampleRunner.isFinite(outputs, row: row) {
          found.append(places[first + row])
        }
      }
    guard !found.isEmpty else { return [] }
    let names = found.prefix(SampleScreen.named).map { "'\(data.name(of: $0))'" }.joined(separator: ", ")
    let more = found.count > SampleScreen.named ? " and \(found.count - SampleScreen.named) more" : ""
    guard found.count * 10 <= places.count else {
      throw VitError(
        "the teacher gives no numbers for \(found.count) of \(places.count) samples: \(names)\(more)",
        code: "non-finite-samples", help: "check how images are prepared (--preprocess), and the teacher")
    }
    context.report(
      Diagnostic(
        .warning,
        "the teacher gives no numbers for \(found.count) of \(places.count) samples, which are left out: \(names)\(more)",
        code: "non-finite-samples"))
    return Set(found)
  }

  /// How many are named.
  private static let named = 8

  /// The places of the samples, of `count`, that training with `pipeline` reads; all where it has passes that vitc does not know.
  public static func places(readBy pipeline: Pipeline, of count: Int, context: PassContext) -> [Int] {
    var isRead = [Bool](repeating: false, count: count)
    func read(_ label: String, _ steps: Int, _ batch: Int) {
      var order = SampleOrder(count: count, random: context.random(label))
      let total = steps.multipliedReportingOverflow(by: batch)
      guard !total.overflow, total.partialValue < count else {
        return isRead = [Bool](repeating: true, count: count)
      }
      for step in 0..<steps { for sample in order.batch(step, size: batch) { isRead[sample.index] = true } }
    }
    for index in 0..<min(count, Distil.checkSamples) { isRead[index] = true }
    for pass in pipeline.passes {
      switch pass {
      case let distil as Distil: read(Distil.name, distil.steps, distil.batch)
      case let tune as FineTune: read(FineTune.name, tune.steps, tune.batch)
      case let score as Score: for index in 0..<min(count, score.images) { isRead[index] = true }
      default:
        if !Pipeline.standardPasses.contains(where: { $0.name == type(of: pass).name }) {
          return Array(0..<count)
        }
      }
    }
    return isRead.indices.filter { isRead[$0] }
  }
}
