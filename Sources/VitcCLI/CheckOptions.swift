internal import VitIR
internal import Vitc

extension Option {
  /// What a model may cost and must reach.
  static let budgets = Budgets.all.map { Option("--\($0.name)", $0.value, "a limit: \($0.summary)") }
  /// What a model is measured on and beside.
  static let measuring = [
    Option(
      "--data", "PATH[:SPLIT]",
      "images to measure on (default: what the file says was measured, or the golden names)"),
    Option("--teacher", "T", "the model to compare with: agreement, KL, its accuracy, its time"),
    Option.preprocess,
  ]
  /// Where what came out goes.
  static let checkOutputs = [
    Option("--junit", "FILE", "also writes what came out as JUnit's XML"),
    Option("--sarif", "FILE", "also writes what differs as SARIF 2.1.0"), Option.json("check"),
  ]
}

extension Arguments {
  /// The limits that options give.
  func budgets() throws(VitError) -> Budgets {
    var budgets = Budgets()
    for limit in Budgets.all {
      let option = "--\(limit.name)"
      switch limit.value {
      case "SIZE": budgets.limits[limit.name] = try byteCount(option).map(Double.init)
      case "N": budgets.limits[limit.name] = try integer(option, in: 0...Int.max).map(Double.init)
      case "SHARE":
        let value = try number(option)
        if let value, value > 1 {
          throw usage(
            "option \(option) cannot be '\(value)' (expected a part of one, as 0.95)", code: "option-value")
        }
        budgets.limits[limit.name] = value
      default: budgets.limits[limit.name] = try number(option)
      }
    }
    return budgets
  }

  /// The files that `--junit` and `--sarif` name, which the command writes.
  func checkOutputs(_ files: inout FileUse) throws(VitError) {
    for (option, format) in [("--junit", FileFormat.xml), ("--sarif", .sarif)] {
      guard let path = text(option) else { continue }
      if format == .sarif {
        try FileFormat.check(path, is: .sarif, .json, as: option)
      } else {
        try FileFormat.check(path, is: format, as: option)
      }
      try files.writes(path, as: option)
    }
  }

  /// Writes what came out where it is wanted.
  func write(_ report: CheckReport, _ terminal: Terminal) throws {
    if let path = text("--junit") { try TextFile.write(report.junit, to: path) }
    if let path = text("--sarif") { try TextFile.write(report.sarif.text, to: path) }
    if flag("--json") {
      terminal.write(report.json.text)
    } else {
      for subject in report.subjects { terminal.write(subject.text) }
    }
  }
}

extension CheckReport.Subject {
  /// A table of all that was looked at, then in full what is not as it should be.
  var text: String {
    let against = against.map { " against \($0.escapedForDisplay)" } ?? ""
    var text = "\(model.escapedForDisplay)\(against)\n"
    var table = Table(["", "check", "place", "expected", "found"], left: [0, 1, 2, 3, 4])
    for result in results {
      let verdict = ["holds": "ok", "differs": "differs", "fails": "FAILED"][result.verdict.rawValue] ?? ""
      table.add(
        [verdict, result.name] + [result.place ?? "", result.expected, result.found].map(CheckReport.cell))
    }
    text += table.text
    for result in results where result.verdict != .holds && !(result.message.isEmpty && result.help == nil) {
      text += "\(result.sentence.escapedForDisplay)\n"
      if let help = result.help { text += "help: \(help.escapedForDisplay)\n" }
    }
    let kinds = Golden.Drift.kinds(in: results).map(\.rawValue)
    if !kinds.isEmpty { text += "drift: \(kinds.joined(separator: ", "))\n" }
    let broken = results.filter { $0.verdict == .fails }.count
    return text + (broken == 0 ? "all hold\n" : "\(broken) of \(results.count) fail\n")
  }
}

extension CheckReport {
  /// Text for a cell of a table: of a long one the beginning.
  fileprivate static func cell(_ text: String) -> String {
    let shown = text.escapedForDisplay
    return shown.count > 44 ? shown.prefix(43) + "…" : shown
  }
}
