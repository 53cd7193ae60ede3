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
    for (place, model) in models.enumerated() {
      let name = GoldenFolder.stem(of: model)
      guard !name.isEmpty, !name.hasPrefix(".") else {
        throw usage("'\(model)' has no name that a golden could have", code: "golden-name")
      }
      if let other = models[..<place].first(where: { GoldenFolder.stem(of: $0) == name }) {
        throw usage(
          "'\(other)' and '\(model)' have one name, and so one golden", code: "golden-exists",
          help: "models of one name need folders of their own")
      }
    }
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
    try files.reads(models)
    var made: [(file: String, golden: Golden)] = []
    for model in models {
      var subject = try CheckSubject(model, arguments, terminal, &files)
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
      made.append((folder.file(for: model), golden))
    }
    // All of them are there before any is written.
    try folder.make()
    for (file, golden) in made {
      try golden.write(to: file)
      terminal.print("wrote \(file.escapedForDisplay): \(golden.summary)")
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

  /// Each golden beside what there is now; a model that cannot be read fails and does not keep the others from being looked at,
  /// unless it is to be recorded.
  private mutating func compared(reading isStrict: Bool) throws -> [(
    file: String, old: Golden, now: Golden?, subject: CheckReport.Subject
  )] {
    let chosen = try chosen()
    try files.reads(chosen.map(\.file))
    try files.readsData(arguments.text("--data"))
    return try chosen.map { file, golden, path in
      do {
        var subject = try CheckSubject(path, arguments, terminal, &files)
        var limits = golden.budgets
        for (name, limit) in budgets.limits { limits.limits[name] = limit }
        let now = try subject.golden(like: golden, in: folder, limits, &files)
        let results =
          golden.drift(to: now) + subject.figures.nonFinite + subject.figures.results(limits)
        return (file, golden, now, CheckReport.Subject(model: path, against: file, results: results))
      } catch let error as VitError where error.kind == .input && !isStrict && chosen.count > 1 {
        terminal.report(error.diagnostic)
        let result = CheckResult(
          name: "model", verdict: .fails, expected: "a model", found: error.diagnostic.message,
          help: error.diagnostic.help)
        return (file, golden, nil, CheckReport.Subject(model: path, against: file, results: [result]))
      }
    }
  }

  /// Tells what is not as recorded.
  mutating func check() throws -> Outcome {
    var report = CheckReport()
    report.subjects = try compared(reading: false).map(\.subject)
    try arguments.write(report, terminal)
    return report.holds ? .done : .checkFailed
  }

  /// Records what there is now, and tells what that changes.
  mutating func bless() throws -> Outcome {
    let entries = try compared(reading: true)
    var report = CheckReport()
    report.subjects = entries.map(\.subject)
    let renewed = try entries.compactMap { file, old, now, _ -> (file: String, golden: Golden)? in
      guard var now else { return nil }
      (now.tolerance, now.allowance) = try settled(now.tolerance, now.allowance)
      if let given = models.first(where: { folder.file(for: $0) == file }) {
        now.model = folder.reference(to: given)
      }
      let lost = (old.scores?.figures.keys.sorted() ?? []).filter { now.scores?.figures[$0] == nil }
      guard lost.isEmpty else {
        throw VitError(
          "\(lost.joined(separator: ", ")) cannot be measured: the data or the teacher are not there",
          code: "golden-data", location: Location(file: file),
          help: "--data D and --teacher T name them where they lie elsewhere")
      }
      return (file, now)
    }
    // Nothing is written before all of it is known, goldens last.
    try arguments.write(report, terminal)
    for (file, golden) in renewed {
      try golden.write(to: file)
      if !arguments.flag("--json") { terminal.print("wrote \(file.escapedForDisplay)") }
    }
    return .done
  }
}
