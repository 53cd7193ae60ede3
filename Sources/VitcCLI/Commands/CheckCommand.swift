internal import VitIR
internal import Vitc

extension Command {
  /// `vitc check`.
  static let check = Command(
    "check", "holds a model against limits, and against the report of its compile or a golden",
    operands: [("MODEL", "an .onnx, .vmod or textual IR file")],
    options: [
      Option("--against", "FILE", "a report of 'vitc compile --report', or a golden of 'vitc golden'")
    ] + Option.budgets + Option.measuring + Option.checkOutputs + [
      Option.inputShape, Option.threads, Option.memoryLimit,
    ],
    notes: [
      "Without --data the figures are those that were measured when the model was compiled, which its file keeps. Exit code 1 "
        + "where something fails; what it is stands in a table, and with --junit and --sarif in files for build systems."
    ]
  ) { arguments, terminal in
    var files = FileUse()
    try arguments.checkOutputs(&files)
    let path = arguments.operands[0]
    let given = [arguments.text("--against"), arguments.text("--teacher")].compactMap { $0 }
    try files.reads([path] + given)
    try files.readsData(arguments.text("--data"))
    var budgets = try arguments.budgets()
    let reference = try arguments.text("--against").map { try Check.Reference(contentsOf: $0) }
    guard reference != nil || !budgets.isEmpty else {
      throw usage(
        "check has nothing to hold the model against", code: "option-missing",
        help: "--against FILE, or a limit such as --max-params N")
    }
    var subject = try CheckSubject(path, arguments, terminal, &files)
    var results: [CheckResult] = []
    switch reference {
    case .golden(let golden):
      let folder = GoldenFolder(arguments.text("--against").map(CheckSubject.folder) ?? ".")
      for (name, limit) in golden.budgets.limits where budgets.limits[name] == nil {
        budgets.limits[name] = limit
      }
      let now = try subject.golden(like: golden, in: folder, budgets, &files)
      results = golden.drift(to: now) + subject.figures.nonFinite
    case .report(let report):
      try subject.measure(
        budgets, data: arguments.text("--data"), teacher: arguments.text("--teacher"), &files)
      results = try Check.results(of: subject.model, subject.figures, against: report)
    case nil:
      try subject.measure(
        budgets, data: arguments.text("--data"), teacher: arguments.text("--teacher"), &files)
      results = subject.figures.nonFinite
    }
    results += subject.figures.results(budgets)
    var report = CheckReport()
    report.subjects = [
      CheckReport.Subject(model: path, against: arguments.text("--against"), results: results)
    ]
    try arguments.write(report, terminal)
    return report.holds ? .done : .checkFailed
  }
}

/// A model that is being checked, with what is known of it so far.
struct CheckSubject {
  let model: Model
  private(set) var figures: ModelFigures
  private let arguments: Arguments
  private let terminal: Terminal

  init(_ path: String, _ arguments: Arguments, _ terminal: Terminal, _ files: inout FileUse) throws {
    (self.arguments, self.terminal) = (arguments, terminal)
    try arguments.checkPreprocessing()
    let shapes = arguments.takes("--input-shape") ? arguments.texts("--input-shape") : []
    model = try terminal.fitted(
      terminal.load(path, inputShapes: shapes, threads: arguments.threads(), &files), arguments)
    figures = try ModelFigures(model)
  }

  /// The folder in which a file lies.
  static func folder(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// Measures on the data and beside the teacher that are named, where they are.
  @discardableResult
  mutating func measure(
    _ budgets: Budgets, data: String?, teacher: String?, _ files: inout FileUse
  ) throws -> Samples? {
    let threads = try arguments.threads()
    let other = try teacher.map { try terminal.load($0, threads: threads, &files) }
    let samples = try data.map { name in
      try Samples(
        name, for: model, purpose: .evaluation, settings: arguments.preprocessing(), threads: threads,
        report: { [terminal] in terminal.report($0) })
    }
    if let samples { try files.reads(samples.sources) }
    try figures.measure(
      model, on: samples, teacher: other, timed: budgets.limits["max-ms-ratio"] != nil, threads: threads,
      progress: terminal.progress)
    return samples
  }

  /// The model as a golden would record it now: measured on what `golden` was, or what options name.
  mutating func golden(
    like golden: Golden, in folder: GoldenFolder, _ budgets: Budgets, _ files: inout FileUse
  ) throws -> Golden {
    var now = try Golden(recording: model, as: golden.model, threads: arguments.threads())
    now.budgets = budgets
    now.tolerance = golden.tolerance
    now.allowance = golden.allowance
    let scores = golden.scores
    let data = arguments.text("--data") ?? scores.map { folder.path(to: $0.data) }
    let teacher = arguments.text("--teacher") ?? scores?.teacher.map { folder.path(to: $0) }
    // What is not there shows as a score that is missing.
    let found = data.flatMap { GoldenFolder.isMissing($0) && arguments.text("--data") == nil ? nil : $0 }
    let beside = teacher.flatMap {
      GoldenFolder.isMissing($0) && arguments.text("--teacher") == nil ? nil : $0
    }
    guard let samples = try measure(budgets, data: found, teacher: beside, &files),
      let fidelity = figures.fidelity
    else { return now }
    try now.keep(
      fidelity, on: (samples, found.map(folder.reference) ?? ""), teacher: beside.map(folder.reference))
    return now
  }
}
