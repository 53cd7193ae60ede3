/// What a model may cost and must reach. Each limit is a number, or is not there.
public struct Budgets: Sendable, Hashable {
  /// One limit.
  public struct Limit: Sendable {
    /// Its name, as in `--max-params` and in a golden.
    public let name: String
    /// What it limits.
    public let summary: String
    /// What stands for its value in the help.
    public let value: String
    /// Whether a model must stay at or below it; else at or above.
    let isUpper: Bool
    let unit: Unit
    let figure: @Sendable (ModelFigures) -> ModelFigures.Figure?
    /// What makes the figure known.
    let help: String
  }

  /// What a number counts.
  enum Unit { case count, bytes, ratio, share, points }

  /// All limits, in the order in which they are looked at.
  public static let all: [Limit] = [
    Limit(
      name: "max-params", summary: "parameters", value: "N", isUpper: true, unit: .count,
      figure: { .init(Double($0.parameters)) }, help: ""),
    Limit(
      name: "max-flops", summary: "operations for a sample", value: "N", isUpper: true, unit: .count,
      figure: { .init(Double($0.flops)) }, help: ""),
    Limit(
      name: "max-bytes", summary: "bytes of the model's files", value: "SIZE", isUpper: true, unit: .bytes,
      figure: { .init(Double($0.bytes)) }, help: ""),
    Limit(
      name: "max-ms-ratio", summary: "time of a sample as a part of the teacher's, as 0.7", value: "R",
      isUpper: true, unit: .ratio, figure: \.timeRatio, help: "--teacher T times both here"),
    Limit(
      name: "min-accuracy", summary: "the share of images whose class is right, as 0.9", value: "SHARE",
      isUpper: false, unit: .share, figure: \.accuracy, help: "--data D with labels measures it"),
    Limit(
      name: "max-drop", summary: "points of accuracy below the teacher's", value: "POINTS", isUpper: true,
      unit: .points, figure: \.drop, help: "--data D with labels and --teacher T measure it"),
    Limit(
      name: "min-agreement", summary: "the share of images of which the teacher says the same, as 0.95",
      value: "SHARE", isUpper: false, unit: .share, figure: \.agreement,
      help: "--data D and --teacher T measure it"),
    Limit(
      name: "max-kl", summary: "the mean divergence of the outputs from the teacher's", value: "X",
      isUpper: true, unit: .ratio, figure: \.divergence, help: "--data D and --teacher T measure it"),
  ]

  /// The limits that there are, by name.
  public var limits: [String: Double] = [:]

  /// No limits.
  public init() {}

  /// Whether there is none.
  public var isEmpty: Bool { limits.isEmpty }

  /// Each limit beside what a model has. What nobody knows fails.
  func results(_ figures: ModelFigures) -> [CheckResult] {
    Budgets.all.compactMap { limit in
      limits[limit.name].map { bound in
        let expected = "\(limit.isUpper ? "at most" : "at least") \(limit.unit.text(bound))"
        guard let figure = limit.figure(figures) else {
          return CheckResult(
            name: limit.name, verdict: .fails, expected: expected, found: "nothing that says it",
            help: limit.help)
        }
        let holds = limit.isUpper ? figure.value <= bound : figure.value >= bound
        return CheckResult(
          name: limit.name, verdict: holds ? .holds : .fails, expected: expected,
          found: figure.described(limit.unit.text(figure.value)))
      }
    }
  }
}

extension Budgets.Unit {
  /// A number with its unit.
  func text(_ value: Double) -> String {
    switch self {
    case .count, .bytes: Int(exactly: value)?.grouped ?? "\(value)"
    case .ratio: value.short
    case .share: value.percent
    case .points: "\(value.fixed(2)) points"
    }
  }
}
