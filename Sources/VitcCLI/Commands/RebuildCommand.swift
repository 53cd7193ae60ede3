internal import VitIR
internal import VitPasses
internal import Vitc

extension Command {
  /// `vitc rebuild`.
  static let rebuild = Command(
    "rebuild", "repeats the compile that a hybrid says it comes from, and compares",
    operands: [("HYBRID", "a .vmod that 'vitc compile' wrote")],
    options: [
      Option("--teacher", "TEACHER", "the model that it was compiled from"),
      Option("--data", "PATH[:SPLIT]", "the images that it was trained on (default: synthetic ones)"),
      Option(
        "--eval-data", "PATH[:SPLIT]", "the images that it was measured on, where they were others"),
      Option(
        "--tolerance", "R",
        "how far numbers may differ, relative to the largest of a tensor (default 0): another kind of machine sums in another order"
      ),
      Option("-o", "OUT", "where the hybrid that is made again goes (default: it is compared alone)"),
      Option("--resume", "goes on with an interrupted rebuild, from OUT.checkpoint"),
      Option.json("rebuild"), Option.preprocess, Option.inputShape, Option.threads, Option.memoryLimit,
    ],
    notes: [
      "The lineage ('vitc inspect --lineage') names the pipeline, the seed and how many images are held out, and the digests of teacher and data, which "
        + "are checked first. On the same kind of machine the same bytes come out, times aside. Exit code 1 where another model does.",
      "What '--deadline' stopped cannot be repeated; where layers were chosen by measured time, the choice that was made is.",
    ]
  ) { arguments, terminal in
    guard let name = arguments.text("--teacher") else {
      throw usage(
        "rebuild needs --teacher", code: "option-missing",
        help: "'vitc inspect --lineage' tells the digest of the file")
    }
    let threads = try arguments.threads()
    let tolerance = try arguments.number("--tolerance") ?? 0
    try arguments.checkPreprocessing()
    var files = FileUse()
    let out = arguments.text("-o")
    if arguments.flag("--resume"), out == nil {
      throw usage("--resume goes on from what is beside -o", code: "option-conflict")
    }
    if out.map({ FileFormat($0) == .text || FileFormat($0) == .onnx }) ?? false {
      throw usage("-o '\(out ?? "")': what is made again is a .vmod", code: "output-format")
    }
    _ = try arguments.modelOutput(as: .vmod, &files)
    try files.reads([arguments.operands[0], name])
    for option in ["--data", "--eval-data"] { try files.readsData(arguments.text(option)) }
    let hybrid = try terminal.load(arguments.operands[0], threads: threads, &files)
    var rebuild: Rebuild
    do { rebuild = try Rebuild(hybrid) } catch let error as VitError {
      throw error.at(Location(file: arguments.operands[0]))
    }
    rebuild.options.threads = threads
    if let out {
      rebuild.options.checkpoint = FileIdentity(out).map { _ in out + ".checkpoint" }
      if let checkpoint = rebuild.options.checkpoint {
        try files.writes(checkpoint, as: "the checkpoint of -o")
      }
      rebuild.options.resumes = arguments.flag("--resume")
      try Compiler.checkCheckpoint(rebuild.options)
      try Model.checkWritable(out)
      terminal.yieldOutput(to: out)
    }
    // Its images were prepared as it says, unless that is said here.
    var told = arguments
    if arguments.texts("--preprocess").isEmpty {
      told = arguments.replacing("--preprocess", by: rebuild.preprocessing.map { "\($0.key)=\($0.value)" })
    }
    let teacher = try terminal.fitted(
      terminal.load(name, inputShapes: arguments.texts("--input-shape"), threads: threads, &files), told)
    try rebuild.check(teacher: teacher)
    let seed = rebuild.options.seed
    let data =
      try told.samples(
        "--data", for: teacher, limit: CompilerOptions.maximumImages, seed: seed, terminal: terminal, &files)
      ?? Samples.synthetic(for: teacher, seed: seed, threads: threads) { terminal.report($0) }
    try rebuild.check(data: data)
    let evaluation = try told.samples(
      "--eval-data", for: teacher, purpose: .evaluation, terminal: terminal, &files)
    let result = try Interrupts.deferring {
      try rebuild.run(
        teacher, data, evaluation: evaluation, to: out, tolerance: tolerance, progress: terminal.progress)
    }
    terminal.write(arguments.flag("--json") ? result.json.text : result.text)
    return result.agreement == .none ? .checkFailed : .done
  }
}

extension Rebuild.Result {
  /// The whole as text.
  fileprivate var text: String {
    var text =
      switch agreement {
      case .content: "the same: every byte but times, digest \(digest)\n"
      case .model: "the same model, in a file that says something else of it\n"
      case .tolerance: "the same model as far as the tolerance goes\n"
      case .none: "another model\n"
      }
    for entry in lineage {
      func shown(_ value: String?) -> String { value.map { "'\($0.escapedForDisplay)'" } ?? "missing" }
      text +=
        "lineage '\(entry.key.escapedForDisplay)': \(shown(entry.hybrid)), now \(shown(entry.rebuilt))\n"
    }
    for difference in differences {
      text +=
        "\(difference.kind.rawValue) '\(difference.place.escapedForDisplay)': \(difference.message.escapedForDisplay)\n"
    }
    return text
  }

  /// The whole as JSON (`schemas/rebuild.schema.json`).
  fileprivate var json: JSON {
    func text(_ value: String?) -> JSON { value.map(JSON.string) ?? .null }
    return .object([
      ("schema", "vitc.rebuild/1"), ("same", .string(agreement.rawValue)), ("digest", .string(digest)),
      ("rebuilt", .string(rebuilt)),
      (
        "lineage",
        .array(
          lineage.map {
            .object([("key", .string($0.key)), ("hybrid", text($0.hybrid)), ("rebuilt", text($0.rebuilt))])
          })
      ),
      ("differences", .array(differences.map(\.json))),
    ])
  }
}
