package import VitIR

/// One job of a study: what is lost at most where a study is killed. What it gives depends on the teacher, the data and the protocol alone.
package enum StudyJob: Hashable, Sendable {
  /// Groups of layers replaced by a mixer.
  case replacement(mixer: String, seed: Int)
  /// Layers at equal depth: the teacher as it is, one of a square, or the one with noisy values.
  case original, square(Int, teacher: Int), sham
  /// All subsets of layers, and a pair of them that is trained.
  case subsets, pair(Int)
  /// A teacher that drops tokens, and a student that sees all of them, or those that it keeps.
  case retention(keep: Double, isGuided: Bool)

  /// The jobs of a protocol on a teacher, in their order.
  package static func all(of plan: StudyProtocol, layers: [Layer]) -> [StudyJob] {
    let replaceable = layers.filter(\.isReplaceable)
    var jobs: [StudyJob] = [.original]
    jobs += (0..<plan.replacement.seeds).flatMap { seed in
      (plan.replacement.mixers + plan.replacement.controls).map { .replacement(mixer: $0, seed: seed) }
    }
    if plan.subsets.most > 0 {
      jobs.append(.subsets)
      jobs += (0..<plan.subsets.pairs).map { .pair($0) }
    }
    if plan.position.squares > 0, replaceable.count > 1 {
      for number in 0..<plan.position.squares {
        jobs += plan.position.factors.indices.map { .square(number, teacher: $0) }
      }
      jobs.append(.sham)
    }
    return jobs
      + plan.retention.keep.flatMap { keep in
        [false, true].map { .retention(keep: keep, isGuided: $0) }
      }
  }

  /// Its name, of letters, digits and hyphens: the file of its records has it.
  package var name: String {
    switch self {
    case .replacement(let mixer, let seed):
      "replacement-" + String(mixer.map { $0.isLetter || $0.isNumber ? $0 : "-" }) + "-\(seed)"
    case .original: "position-original"
    case .square(let number, let teacher): "position-square-\(number)-\(teacher)"
    case .sham: "position-sham"
    case .subsets: "subsets"
    case .pair(let number): "pair-\(number)"
    case .retention(let keep, let isGuided):
      "retention-\(Int((1000 * keep).rounded()))-\(isGuided ? "guided" : "plain")"
    }
  }

  /// Whether a job that ended with that error is one that cannot be done on this model: the others can.
  package static func isLeftOut(_ error: VitError) -> Bool {
    error.kind == .usage || ["retain-impossible", "study-position"].contains(error.diagnostic.code)
  }

  /// Does it.
  package func run(on bench: StudyBench) throws -> [StudyRecord] {
    switch self {
    case .replacement(let mixer, let seed): try ReplacementJob(bench: bench, mixer: mixer, seed: seed).run()
    case .original: try PositionJob(bench: bench, arm: .original).run()
    case .square(let number, let teacher):
      try PositionJob(bench: bench, arm: .square(number, teacher: teacher)).run()
    case .sham: try PositionJob(bench: bench, arm: .sham).run()
    case .subsets: try SubsetJob(bench: bench).run()
    case .pair(let number): try PairJob(bench: bench, number: number).run()
    case .retention(let keep, let isGuided):
      try RetentionJob(bench: bench, keep: keep, isGuided: isGuided).run()
    }
  }
}
