internal import VitData
internal import VitIR

/// Holds a model against a report or a golden.
public enum Check {
  /// What a model is held against.
  public enum Reference: Sendable {
    /// What `vitc compile --report` wrote.
    case report(JSON)
    /// What `vitc golden` keeps.
    case golden(Golden)

    /// The reference in a file; throws for one that is missing or neither.
    public init(contentsOf path: String) throws {
      let json = JSON(try JSONValue.read(path))
      guard case .string(let schema)? = json["schema"] else { throw Reference.unknown(path) }
      if schema == "vitc.report/1" {
        self = .report(json)
      } else if schema.hasPrefix(Golden.anySchema) {
        self = .golden(try Golden(contentsOf: path))
      } else {
        throw Reference.unknown(path)
      }
    }

    private static func unknown(_ path: String) -> VitError {
      VitError(
        "expected a report of 'vitc compile --report' or a golden of 'vitc golden init'",
        code: "check-reference",
        location: Location(file: path))
    }
  }

  /// What `model` is beside a `report` of the compile that it should come from: its size, what stands in its layers, and how well it
  /// does, in the figures that there are of both.
  ///
  /// Accuracy and agreement may be below the report's by what two standard errors on these images are, for a compile on
  /// another machine ends at other weights; so may the divergence be above.
  public static func results(
    of model: Model, _ figures: ModelFigures, against report: JSON
  ) throws -> [CheckResult] {
    try sizeResults(figures, report) + layerResults(model, report) + scoreResults(figures, report)
      + figures.nonFinite
  }

  private static func sizeResults(_ figures: ModelFigures, _ report: JSON) throws(VitError) -> [CheckResult] {
    try [("parameters", figures.parameters), ("flops", figures.flops)].map { name, found throws(VitError) in
      guard case .int(let expected)? = report["hybrid"]?[name] else { throw damaged("hybrid.\(name)") }
      return CheckResult(
        name: "size", place: name, verdict: found == expected ? .holds : .fails, expected: expected.grouped,
        found: found.grouped)
    }
  }

  private static func damaged(_ member: String) -> VitError {
    VitError(
      "the report has no '\(member)', or not as 'vitc compile --report' writes it", code: "check-reference")
  }

  private static func layerResults(_ model: Model, _ report: JSON) throws -> [CheckResult] {
    guard case .array(let layers)? = report["layers"] else { throw damaged("layers") }
    let found = Dictionary(
      try Inspection(model).layers.map { ($0.index, $0.kind) }, uniquingKeysWith: { first, _ in first })
    var reported: [Int: String] = [:]
    for (place, layer) in layers.enumerated() {
      guard case .int(let index)? = layer["index"], case .string(let kind)? = layer["kind"] else {
        throw damaged("layers[\(place)]")
      }
      reported[index] = kind
    }
    let results = Set(reported.keys).union(found.keys).sorted().compactMap { index -> CheckResult? in
      let kind = reported[index] ?? "no such layer"
      // Of a block that is gone nothing need be left.
      let isGone = [Layer.removed, Layer.linear].contains(kind)
      let now = found[index] ?? (isGone ? kind : "no such layer")
      return now == kind
        ? nil
        : CheckResult(name: "layer", place: "layer \(index)", verdict: .fails, expected: kind, found: now)
    }
    let text = "\(layers.count) layers as reported"
    return results.isEmpty
      ? [CheckResult(name: "layer", verdict: .holds, expected: text, found: text)] : results
  }

  private static func scoreResults(_ figures: ModelFigures, _ report: JSON) -> [CheckResult] {
    let fidelity = report["fidelity"]
    let images = fidelity?["images"]?.number ?? 0
    let shares: [(name: String, figure: ModelFigures.Figure?, key: String)] = [
      ("accuracy", figures.accuracy, "accuracy"), ("agreement", figures.agreement, "agreement"),
    ]
    func unknown(_ name: String, _ expected: String) -> CheckResult {
      CheckResult(
        name: "scores", place: name, verdict: .fails, expected: expected, found: "nothing that says it",
        help: "--data D and --teacher T measure it")
    }
    var results = shares.compactMap { name, figure, key -> CheckResult? in
      guard let reported = fidelity?[key]?.number else { return nil }
      guard let figure else { return unknown(name, reported.percent) }
      let chance = images > 0 ? 2 * (reported * (1 - reported) / images).squareRoot() : 0
      return CheckResult(
        name: "scores", place: name, verdict: figure.value >= reported - chance ? .holds : .fails,
        expected: "at least \((reported - chance).percent)", found: figure.described(figure.value.percent),
        message: "\(reported.percent) reported, less two standard errors")
    }
    if let reported = fidelity?["kl"]?.number {
      guard let figure = figures.divergence else { return results + [unknown("kl", reported.short)] }
      let chance = 2 * (fidelity?["kl_error"]?.number ?? 0)
      results.append(
        CheckResult(
          name: "scores", place: "kl", verdict: figure.value <= reported + chance ? .holds : .fails,
          expected: "at most \((reported + chance).short)", found: figure.described(figure.value.short),
          message: "\(reported.short) reported, and two standard errors"))
    }
    return results
  }
}
