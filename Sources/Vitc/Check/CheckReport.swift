/// What was checked about one or several models, in the forms that build systems read.
public struct CheckReport: Sendable {
  /// One model.
  public struct Subject: Sendable {
    /// The model's path as it was given or as a golden names it.
    public let model: String
    /// The file that it was held against; `nil` where there is none.
    public let against: String?
    /// What came out.
    public let results: [CheckResult]

    /// A model with what came out.
    public init(model: String, against: String?, results: [CheckResult]) {
      (self.model, self.against, self.results) = (model, against, results)
    }
  }

  /// The models, in the order in which they were checked.
  public var subjects: [Subject] = []

  /// Nothing checked yet.
  public init() {}

  /// Whether nothing fails.
  public var holds: Bool { subjects.allSatisfy(\.results.hold) }

  /// The report in the form of `schemas/check.schema.json`.
  public var json: JSON {
    .object([
      ("schema", "vitc.check/1"), ("holds", .bool(holds)),
      (
        "models",
        .array(
          subjects.map { subject in
            .object([
              ("model", .string(subject.model)), ("against", subject.against.map(JSON.string) ?? .null),
              ("holds", .bool(subject.results.hold)),
              (
                "drift",
                .array(Golden.Drift.kinds(in: subject.results).map { .string($0.rawValue) })
              ), ("results", .array(subject.results.map(\.json))),
            ])
          })
      ),
    ])
  }

  /// The report as JUnit's XML: a suite for each model, a case for each result.
  ///
  /// In the form that Jenkins, GitLab and GitHub's actions read (`testsuites/testsuite/testcase/failure`).
  public var junit: String {
    func count(_ results: [CheckResult]) -> String {
      "tests=\"\(results.count)\" failures=\"\(results.filter { $0.verdict == .fails }.count)\" errors=\"0\""
    }
    var text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    text += "<testsuites name=\"vitc\" \(count(subjects.flatMap(\.results)))>\n"
    for subject in subjects {
      text += "  <testsuite name=\"\(subject.model.asXML)\" \(count(subject.results))>\n"
      for result in subject.results {
        let name = [result.name, result.place].compactMap { $0 }.joined(separator: " ").asXML
        let head = "    <testcase classname=\"\(subject.model.asXML)\" name=\"\(name)\""
        switch result.verdict {
        case .holds: text += "\(head)/>\n"
        case .differs:
          text += "\(head)>\n      <system-out>\(result.sentence.asXML)</system-out>\n    </testcase>\n"
        case .fails:
          let short = "expected \(result.expected), found \(result.found)".asXML
          let whole = ([result.sentence] + (result.help.map { ["help: \($0)"] } ?? [])).joined(
            separator: "\n")
          text +=
            "\(head)>\n      <failure type=\"\(result.name)\" message=\"\(short)\">\(whole.asXML)</failure>\n"
          text += "    </testcase>\n"
        }
      }
      text += "  </testsuite>\n"
    }
    return text + "</testsuites>\n"
  }

  /// The report as SARIF 2.1.0 (OASIS): what differs is a note, what fails an error. It is told at the file that the model is held
  /// against, which a repository has, and at its first line, for services want one.
  public var sarif: JSON {
    Sarif.log(
      rules: CheckResult.rules,
      results: subjects.flatMap { subject in
        subject.results.filter { $0.verdict != .holds }.map { $0.sarif(at: subject.against ?? subject.model) }
      })
  }
}

extension CheckResult {
  fileprivate var json: JSON {
    .object([
      ("check", .string(name)), ("place", place.map(JSON.string) ?? .null),
      ("verdict", .string(verdict.rawValue)), ("expected", .string(expected)), ("found", .string(found)),
      ("message", .string(message)), ("help", help.map(JSON.string) ?? .null),
    ])
  }

  fileprivate func sarif(at file: String) -> JSON {
    Sarif.result(
      name, level: verdict == .fails ? "error" : "note", text: help.map { "\(sentence). \($0)" } ?? sentence,
      file: file, line: 1, part: place)
  }
}
