internal import VitIR
internal import Vitc

extension Command {
  /// `vitc golden`.
  static let golden = Command(
    "golden", "keeps what models are and compute as texts that people review, and tells what moved",
    operands: [
      (
        "ACTION",
        "init: records models; check: tells what is not as recorded; bless: records anew what is there, limits and tolerances kept"
      ), ("DIR", "the folder of the goldens: NAME.json for the model NAME.vmod"),
      (
        "MODEL…",
        "models (check and bless: of all goldens the ones of these names; default: all, where they lie)"
      ),
    ],
    options: Option.budgets + [
      Option(
        "--tolerance", "R",
        "init, bless: how far outputs may be away, relative to the largest (default 0.001)"),
      Option("--points", "P", "init, bless: how many points accuracy and agreement may fall (default 0.5)"),
      Option(
        "--allow", "WHAT",
        "init, bless: what may change while outputs and scores hold: nothing, bytes (default: tensors stay; but for models compiled with other kernels, whose rounding differs), or numbers (tensors too)"
      ),
    ] + Option.measuring + Option.checkOutputs + [Option.threads, Option.memoryLimit],
    notes: [
      "A golden has the layers, operations and outputs in full, and of tensors and of values on the way digests and sums, from which check tells "
        + "which moved first and about how far. With --data it has accuracy too, and with --teacher agreement and KL. "
        + "Paths in it are from its folder. Exit code 1 where something fails."
    ], operandCount: 2...Int.max
  ) { arguments, terminal in
    let actions = ["init", "check", "bless"]
    let action = arguments.operands[0]
    guard actions.contains(action) else {
      throw Arguments.unknown(action, among: actions, what: "action", help: "golden")
    }
    var run = try GoldenRun(arguments, terminal)
    switch action {
    case "init": return try run.begin()
    case "check": return try run.check()
    default: return try run.bless()
    }
  }
}

/// One `vitc golden`.
private struct GoldenRun {
  private let arguments: Arguments
  private let terminal: Terminal
  private let folder: GoldenFolder
  private let models: [String]
  private let budgets: Budgets
  private var files = FileUse()

  init(_ arguments: Arguments, _ terminal: Terminal) throws {
    (self.arguments, self.terminal) = (arguments, terminal)
    folder = GoldenFolder(arguments.operands[1])
    models = Array(arguments.operands.dropFirst(2))
    budgets = try arguments.budgets()
    try arguments.checkOutputs(&files)
    let action = arguments.operands[0]
    let checked = action == "check"
    for option in ["--tolerance", "--points", "--allow"] where checked && arguments.text(option) != nil {
      throw usage(
        "\(option) is for init and bless: check takes what the golden says", code: "option-conflict")
    }
    for option in ["--junit", "--sarif"] where action == "init" && arguments.text(option) != nil {
      throw usage("\(option) is for check and bless: init compares nothing", code: "option-conflict")
    }
    _ = try settled(Golden.Tolerance(), .bytes)
  }

  /// Tolerance and allowance, as options change them.
  private func settled(
    _ tolerance: Golden.Tolerance, _ allowance: Golden.Allowance
  ) throws(VitError) -> (Golden.Tolerance, Golden.Allowance) {
    var tolerance = tolerance
    tolerance.outputs = try arguments.number("--tolerance") ?? tolerance.outputs
    tolerance.points = try arguments.number("--points") ?? tolerance.points
    let word = try arguments.choice("--allow", of: Golden.Allowance.allCases.map(\.rawValue))
    return (tolerance, word.flatMap(Golden.Allowance.init) ?? allowance)
  }

  /// Records models for the first time.
  mutating func begin() throws -> Outcome {
    guard !models.isEmpty else {
      throw usage("golden init needs MODEL", code: "operand-missing", help: "see 'vitc help golden'")
    }
    for model in models {
      let file = folder.file(for: model)
      guard FileIdentity.isMissing(file) else {
        throw usage(
          "'\(file)' is there already", code: "golden-exists",
          help: "'vitc golden bless' records it anew; models of one name need folders of their own")
      }
      try files.writes(file, as: "the golden")
    }
    try files.readsData(arguments.text("--data"))
    for model in models {
      try files.reads([model])
      var subject = try CheckSubject(model, arguments, terminal, &files)
      // Where the folder is decides how paths are written.
      try folder.make()
      var golden = try Golden(
        recording: subject.model, as: folder.reference(to: model), threads: arguments.threads())
      golden.budgets = budgets
      (golden.tolerance, golden.allowance) = try settled(golden.tolerance, golden.allowance)
      let (data, teacher) = (arguments.text("--data"), arguments.text("--teacher"))
      if let samples = try subject.measure(budgets, data: data, teacher: teacher, &files),
        let data, let fidelity = subject.figures.fidelity
      {
        try golden.keep(
          fidelity, on: (samples, folder.reference(to: data)), teacher: teacher.map(folder.reference))
      }
      try golden.write(to: folder.file(for: model))
      terminal.print("wrote \(folder.file(for: model).escapedForDisplay): \(golden.summary)")
    }
    return .done
  }

  /// The goldens that the operands choose, with the paths of their models.
  private func chosen() throws -> [(file: String, golden: Golden, model: String)] {
    let all = try folder.goldens()
    for model in models where !all.contains(where: { $0.file == folder.file(for: model) }) {
      throw usage(
        "no golden in '\(folder.path)' is of '\(model)'", code: "golden-missing",
        help: "'vitc golden init \(folder.path) \(model)' makes one")
    }
    return all.compactMap { file, golden in
      let given = models.first { folder.file(for: $0) == file }
      return models.isEmpty || given != nil
        ? (file, golden, given ?? folder.path(to: golden.model)) : nil
    }
  }

  /// Each golden beside what there is now.
  private mutating func compared() throws -> [(
    file: String, now: Golden, subject: CheckReport.Subject
  )] {
    let chosen = try chosen()
    try files.reads(chosen.map(\.file))
    try files.readsData(arguments.text("--data"))
    return try chosen.map { file, golden, path in
      var subject = try CheckSubject(path, arguments, terminal, &files)
      var limits = golden.budgets
      for (name, limit) in budgets.limits { limits.limits[name] = limit }
      let now = try subject.golden(like: golden, in: folder, limits, &files)
      let results = golden.drift(to: now) + subject.figures.results(limits)
      return (file, now, CheckReport.Subject(model: path, against: file, results: results))
    }
  }

  /// Tells what is not as recorded.
  mutating func check() throws -> Outcome {
    var report = CheckReport()
    report.subjects = try compared().map(\.subject)
    try arguments.write(report, terminal)
    return report.holds ? .done : .checkFailed
  }

  /// Records what there is now, and tells what that changes.
  mutating func bless() throws -> Outcome {
    let entries = try compared()
    var report = CheckReport()
    report.subjects = entries.map(\.subject)
    for (file, var now, subject) in entries {
      (now.tolerance, now.allowance) = try settled(now.tolerance, now.allowance)
      if let given = models.first(where: { folder.file(for: $0) == file }) {
        now.model = folder.reference(to: given)
      }
      guard now.scores != nil || !subject.results.contains(where: { $0.name == "scores" }) else {
        throw VitError(
          "the data that it is measured on are not there", code: "golden-data",
          location: Location(file: file),
          help: "--data D names them where they lie elsewhere")
      }
      try now.write(to: file)
    }
    try arguments.write(report, terminal)
    if !arguments.flag("--json") {
      for entry in entries { terminal.print("wrote \(entry.file.escapedForDisplay)") }
    }
    return .done
  }
}
