internal import VitIR
internal import VitPasses
internal import Vitc

extension Command {
  /// `vitc study`.
  static let study = Command(
    "study", "repeats the paper's experiments on a teacher, and asks whether sparsity or position decides",
    operands: [("TEACHER", "an .onnx, .vmod or textual IR file with attention layers")],
    options: [
      Option("-o", "DIR", "where results go: study.json, study.csv, study.html and a file for each job"),
      Option.data,
      Option(
        "--eval-data", "PATH[:SPLIT]",
        "images to measure on (default: a part of the data that is not trained on)"),
      Option(
        "--budget", "SIZE",
        "how much is done: \(StudyProtocol.Size.allCases.map(\.rawValue).joined(separator: ", ")) (default small)"
      ),
      Option("--protocol", "FILE", "in place of --budget: what is done, as JSON"),
      Option("--print-protocol", "prints the protocol and does nothing"),
      Option("--dry-run", "prints the jobs with their minutes at 150 GFLOP/s and does nothing"),
      Option(
        "--beside", "STUDY",
        "a study.json of another teacher, which the page and the summary show beside this one",
        isRepeatable: true),
      Option(
        "--against", "STUDY",
        "an earlier study.json of the same teacher, data and protocol: says what differs, and ends with exit code 1 where other kernels do not explain it"
      ),
      Option(
        "--job", "NAME",
        "only does that job, whether it was done or not: a step of those that 'vitc plan' lists"),
      Option.threads, Option.memoryLimit, Option.preprocess, Option.inputShape,
    ] + Option.dependencies,
    notes: [
      "A study that was stopped or killed goes on where it was: jobs whose file is in DIR are not done again.",
      "The same teacher, data and protocol give the same bytes with one instruction set, whatever the number of threads.",
    ]
  ) { arguments, terminal in
    let plan = try studyProtocol(arguments)
    if arguments.flag("--print-protocol") {
      terminal.write(plan.json.text)
      return .done
    }
    let isDry = arguments.flag("--dry-run")
    let out = arguments.text("-o")
    guard isDry || out != nil else {
      throw usage("study needs -o DIR", code: "option-missing", help: "see 'vitc help study'")
    }
    guard arguments.text("--data") != nil else {
      throw usage(
        "study needs --data", code: "option-missing", help: "images that the teacher is for, labelled or not")
    }
    let threads = try arguments.threads()
    try arguments.checkPreprocessing()
    var files = FileUse()
    let job = arguments.text("--job")
    for option in ["--dry-run", "--beside", "--against"] where job != nil && arguments.flag(option) {
      throw usage("\(option) has nothing to say beside --job", code: "option-conflict")
    }
    let outputs =
      out.map { out in job.map { [StudyFolder.file(of: $0, in: out)] } ?? StudyFolder.files(in: out) } ?? []
    for path in outputs { try files.writes(path, as: "-o") }
    let depfile = try arguments.depfile(for: outputs.first, &files)
    try files.reads([arguments.operands[0]] + arguments.texts("--beside") + arguments.texts("--against"))
    for option in ["--data", "--eval-data"] { try files.readsData(arguments.text(option)) }
    let beside = try arguments.texts("--beside").map { try StudyResult(contentsOf: $0) }
    let earlier = try arguments.text("--against").map { try StudyResult(contentsOf: $0) }
    let teacher = try terminal.fitted(
      terminal.load(
        arguments.operands[0], inputShapes: arguments.texts("--input-shape"), threads: threads, &files),
      arguments)
    guard
      let data = try arguments.samples(
        "--data", for: teacher, limit: CompilerOptions.maximumImages, seed: UInt64(plan.seed),
        terminal: terminal,
        &files)
    else { return .done }
    let evaluation = try arguments.samples(
      "--eval-data", for: teacher, purpose: .evaluation, terminal: terminal, &files)
    let study = try Study(
      plan, of: teacher, on: data, evaluation: evaluation, threads: threads, progress: terminal.progress)
    let jobs = try study.jobs()
    if isDry {
      terminal.write(StudyText.jobs(jobs, plan: plan))
      return .done
    }
    guard let out else { return .done }
    if let job {
      guard jobs.contains(where: { $0.name == job }) else {
        throw Arguments.unknown(job, among: jobs.map(\.name), what: "job", help: "study")
      }
      try Interrupts.deferring { try study.run(job, in: out) }
      try depfile?.write(files, terminal)
      return .done
    }
    terminal.write(StudyText.begin(jobs, plan: plan))
    try? terminal.flush()
    var done = 0
    let result = try Interrupts.deferring {
      try study.run(in: out) { name, isKnown in
        done += 1
        terminal.write("\(done)/\(jobs.count) \(name)\(isKnown ? ": done before" : "")\n")
        try? terminal.flush()
      }
    }
    try result.write(to: out, beside: beside)
    terminal.write(StudyText.summary([result] + beside))
    try depfile?.write(files, terminal)
    guard let earlier else { return .done }
    let differences = result.differences(from: earlier)
    terminal.write(
      "\n" + (differences.isEmpty ? "as before\n" : differences.map { "differs: \($0)\n" }.joined()))
    return differences.isEmpty ? .done : .checkFailed
  }

  /// What a study does.
  static func studyProtocol(_ arguments: Arguments) throws -> StudyProtocol {
    guard let path = arguments.text("--protocol") else {
      let sizes = StudyProtocol.Size.allCases.map(\.rawValue)
      return StudyProtocol(
        try arguments.choice("--budget", of: sizes).flatMap(StudyProtocol.Size.init) ?? .small)
    }
    guard arguments.text("--budget") == nil else {
      throw usage("--protocol and --budget are one too many", code: "option-conflict")
    }
    return try StudyProtocol(contentsOf: path)
  }
}

/// What `vitc study` prints.
enum StudyText {
  /// The jobs with their minutes.
  static func jobs(_ jobs: [Study.Job], plan: StudyProtocol) -> String {
    var table = Table(["job", "minutes"])
    for job in jobs { table.add([job.name, job.minutes.fixed(2)]) }
    return begin(jobs, plan: plan) + table.text
  }

  /// What is about to be done.
  static func begin(_ jobs: [Study.Job], plan: StudyProtocol) -> String {
    let minutes = jobs.reduce(0) { $0 + $1.minutes }
    return
      "protocol \(plan.name), \(plan.digest)\n\(jobs.count) jobs, \((60 * minutes).asTime) at 150 GFLOP/s\n"
  }

  /// What was found, teacher by teacher.
  static func summary(_ studies: [StudyResult]) -> String {
    studies.map { study in
      var text = "\n\(study.name)\n"
      var groups = Table(["mixer", "group", "seed", "points", "±", "agreement", "KL"], left: [1])
      for record in study.records where record.kind == "replacement" {
        groups.add([
          record.text("mixer") ?? "", record.text("group") ?? "", "\(record.integer("seed") ?? 0)",
          record.number("points")?.fixed(2) ?? "-", record.number("points_error")?.fixed(2) ?? "-",
          record.number("agreement")?.percent ?? "-", record.number("damage")?.short ?? "-",
        ])
      }
      text += groups.text
      var tokens = Table(["keep", "student of", "teacher", "student", "gap", "agreement", "KL"], left: [1])
      for record in study.records where record.kind == "retention" {
        tokens.add([
          record.number("keep")?.fixed(2) ?? "", record.integer("guided") == 1 ? "kept tokens" : "all tokens",
          record.number("masked_teacher_accuracy")?.percent ?? "-", record.number("accuracy")?.percent ?? "-",
          record.number("gap_masked")?.fixed(2) ?? "-", record.number("agreement")?.percent ?? "-",
          record.number("damage")?.short ?? "-",
        ])
      }
      text += "\n" + tokens.text
      text += "\nverdict: \(study.analysis.verdict.rawValue)\n"
      if let primary = study.analysis.primary {
        text +=
          "log \(primary.endpoint) on a standard deviation of sparsity, within layers: \(interval(primary.estimate)), sign flip p = \(primary.signFlip.fixed(3))\n"
      }
      if study.analysis.isOpposite {
        text += "  off 0 on the other side: sparser layers are harder to replace\n"
      }
      if let beside = study.analysis.beside { text += "  with dependence beside it: \(interval(beside))\n" }
      if let sham = study.analysis.sham {
        text += "  of values disturbed at the same maps: \(interval(sham))\n"
      }
      return text
    }.joined()
  }

  private static func interval(_ estimate: StudyStatistics.Estimate) -> String {
    "\(estimate.mean.fixed(3)) (95 %: \((estimate.mean - estimate.half95).fixed(3)) to \((estimate.mean + estimate.half95).fixed(3)))"
  }
}
