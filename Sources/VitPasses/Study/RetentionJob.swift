internal import VitIR

/// A teacher that drops tokens, and a student of it: one that is distilled on all tokens, or one that is distilled on those that the
/// teacher keeps and drops them as it does.
struct RetentionJob {
  let bench: StudyBench
  let keep: Double
  let isGuided: Bool

  func run() throws -> [StudyRecord] { [] }
}
