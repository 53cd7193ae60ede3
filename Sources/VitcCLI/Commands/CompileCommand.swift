internal import VitIR
internal import VitPasses
internal import Vitc

extension Command {
  /// `vitc compile`.
  static let compile = Command(
    "compile", "replaces attention layers by sequential modules, distilled and measured",
    operands: [("TEACHER", "an .onnx, .vmod or textual IR file with attention layers")],
    options: [
      Option("-o", "OUT", "where the hybrid goes"), Option.data,
      Option(
        "--eval-data", "PATH[:SPLIT]",
        "images to measure on at the end (default: a part of the data that is not trained on)"),
      Option(
        "--replace", "AMOUNT",
        "how many layers, as 4 or 0.5 (default), 0: channels alone go, or auto: as many as pay; which, as layers=3,5; or threshold=T: all whose number, of what --select "
          + "names, keeps it"),
      Option(
        "--select", "BY",
        "how layers are chosen: auto (default: by measured damage, and channels of perceptrons and heads go with them, and patches that are alike), "
          + Select.choices.dropFirst().joined(separator: ", ")),
      Option(
        "--max-drop", "POINTS",
        "how many points of accuracy auto aims to lose at most (default 1); 0 leaves all channels"),
      Option(
        "--min-agreement", "SHARE",
        "in place of --max-drop: on how many images at least auto aims to say what the teacher says, as 0.95"),
      Option("--keep-tokens", "leaves all tokens: auto merges no patches that are alike"),
      Option("--target-speedup", "TIMES", "where auto stops: so many times faster, as 2"),
      Option("--max-params", "N", "where auto stops: at most so many parameters"),
      Option("--max-bytes", "SIZE", "where auto stops: a file of at most so many bytes, as 12M"),
      Option(
        "--search-time", "TIME",
        "what looking for what the model can do without may take of --time-budget; decides on how many images it is measured"
      ),
      Option(
        "--pareto", "DIR",
        "where models of up to eight other points go that auto passes on its way, solved and not trained, with what each reaches in pareto.json"
      ),
      Option(
        "--cost", "KIND",
        "what auto counts: time (default: of an image, by a table), measured (that time here; the default with --target-speedup), flops or parameters"
      ),
      Option(
        "--timed-batch", "N",
        "how many images run at once where time is measured: by --cost measured, and at the end (default 1)"),
      Option(
        "--no-train", "solves in closed form only: the same as no steps of distillation and fine-tuning"),
      Option(
        "--mixer", "KIND",
        "what replaces them: auto (default: \(CompilerOptions().mixer), or conv where that is better, and conv alone where the time pays for fewer than 500 steps), any (also what mixes no tokens), or one kind: \(MixerKinds.listing); options in braces, as in lstm{form=full} (vitc help mixer)"
      ),
      Option(
        "--prefix", "ROWS",
        "how the rows of tokens before the patches are made: auto (default: by attention where a head reads one), mixer, or attend{rank=8,own=true}"
      ),
      Option(
        "--width", "W", "the mixer's inner width as a fraction of the model's (default: the mixer's own)"),
      Option("--heads", "H", "the mixer's heads (default: as many as fit)"),
      Option("--order", "ORDER", "how tokens are scanned: bidirectional (default), forward or cross"),
      Option(
        "--time-budget", "TIME",
        "what the compile may take at 150 GFLOP/s, as 90s or 10m; decides steps and images (default 10m)"),
      Option(
        "--deadline", "TIME",
        "what it may take by the clock, as 10m: training stops at the best so far, elsewhere in each run"),
      Option(
        "--eval-images", "N", "images measured on at the end (default: what a fifth of the budget pays for)"),
      Option("--distil-steps", "N", "steps of distillation, whatever the budget"),
      Option("--distil-rate", "R", "the rate of distillation (default 0.002)"),
      Option("--fine-tune-steps", "N", "steps of fine-tuning, whatever the budget; 0 for none"),
      Option("--fine-tune-rate", "R", "the rate of fine-tuning (default: the best of several)"),
      Option("--batch", "N", "images of a step (default 64; 32 for large models)"),
      Option(
        "--train-precision", "TYPE",
        "what products of steps are computed in: f32 (default), or bf16 where the processor is faster in it"),
      Option.heldOut,
      Option.seed, Option.threads, Option.memoryLimit,
      Option(
        "--weights", "TYPE",
        "how weights are stored: f16 (default) or f32; int8 or int4: those of linear maps as whole numbers with scales"
      ),
      Option(
        "--precision", "TYPE",
        "what products of linear maps are computed in: f32 (default), bf16 or int8, with weights in it"),
      Option("--controls", "also trains the same layers as none and as pointwise, to compare with"),
      Option(
        "--report", "FILE",
        "writes what was found out, chosen and reached: as JSON (schemas/report.schema.json), or, to NAME.html, as a page to look at"
      ),
      Option(
        "--passes", "PIPELINE",
        "a whole pipeline, in place of the options that make one; the weights are rounded behind it"),
      Option(
        "--emit", "FORMAT",
        "what is written: vmod (default), ir, the textual IR with its tensors beside it, or onnx (as 'vitc export' writes it)"
      ),
      Option(
        "--reproducible",
        "leaves times out of OUT, so that the same compile gives the same bytes; also where "
          + "SOURCE_DATE_EPOCH is set"),
      Option("--resume", "goes on with an interrupted compile, from OUT.checkpoint"),
      Option(
        "--part", "LAYER",
        "only does what is next for that layer alone, and keeps it in OUT for --parts: a step of those that 'vitc plan' lists"
      ),
      Option(
        "--parts", "FILE", "takes from there what --part has done with the same options",
        isRepeatable: true),
      Option.preprocess,
      Option.inputShape,
    ] + Option.dependencies,
    notes: [
      "Steps: scores the layers, replaces them on trial, distils each towards the attention that it replaces, measures what "
        + "each swap alone does to the outputs, keeps the least harmful, leaves out the channels of perceptrons and heads that "
        + "do least, as far as --max-drop allows, solves what is left in closed form, and fine-tunes the whole. The pipeline that ran is "
        + "printed in a form that --passes takes.",
      "An interruption (Ctrl-C) leaves OUT.checkpoint behind, which --resume takes up.",
    ]
  ) { arguments, terminal in
    var run = try CompileRun(arguments, terminal)
    return try run.run()
  }
}

extension Command {
  /// What the words of a compile ask for; throws a usage error where they make no sense.
  static func compilerOptions(_ arguments: Arguments, out: String) throws(VitError) -> CompilerOptions {
    let options = try CompileRun.options(arguments, out: out)
    try options.validate()
    return options
  }
}

/// One `vitc compile`.
private struct CompileRun {
  private let arguments: Arguments
  private let terminal: Terminal
  private var options = CompilerOptions()
  private let out: String
  private let depfile: Depfile?
  private let format: Model.Format
  /// The layer that is distilled alone, where this is a part of a compile.
  private let part: Int?
  private var files = FileUse()

  init(_ arguments: Arguments, _ terminal: Terminal) throws(VitError) {
    self.arguments = arguments
    self.terminal = terminal
    guard let out = arguments.text("-o") else {
      throw usage("compile needs -o OUT", code: "option-missing", help: "see 'vitc help compile'")
    }
    self.out = out
    let forms: [String: Model.Format] = ["vmod": .vmod, "ir": .text, "onnx": .onnx]
    format = try arguments.choice("--emit", of: ["vmod", "ir", "onnx"]).flatMap { forms[$0] } ?? .vmod
    part = try arguments.integer("--part", in: 0...Int.max)
    options = try CompileRun.options(arguments, out: out)
    if part != nil {
      let others = ["--report", "--pareto", "--resume", "--emit", "--deadline"]
      if let other = others.first(where: { arguments.flag($0) }) {
        throw usage("\(other) has nothing to say beside --part", code: "option-conflict")
      }
      options.checkpoint = nil
    }
    try options.validate()
    try arguments.checkPreprocessing()
    if format != .text, FileFormat(out) == .text {
      throw usage("-o '\(out)': a text is written with --emit ir", code: "output-format")
    }
    if format != .onnx, FileFormat(out) == .onnx {
      throw usage("-o '\(out)': ONNX is written with --emit onnx", code: "output-format")
    }
    _ = try arguments.modelOutput(as: format, &files)
    if let report = arguments.text("--report") {
      try FileFormat.check(report, is: .json, .html, as: "--report")
      try files.writes(report, as: "--report")
    }
    if format != .vmod, arguments.text("--max-bytes") != nil {
      throw usage(
        "--max-bytes is for a .vmod, and --emit \(arguments.text("--emit") ?? "") writes none",
        code: "option-conflict")
    }
    for path in arguments.text("--pareto").map(ParetoFolder.files) ?? [] {
      try files.writes(path, as: "--pareto")
    }
    depfile = try arguments.depfile(for: out, &files)
    if let checkpoint = options.checkpoint { try files.writes(checkpoint, as: "the checkpoint of -o") }
    if options.resumes { try Compiler.checkCheckpoint(options) }
    try files.reads([arguments.operands[0]] + options.parts)
    for option in ["--data", "--eval-data"] { try files.readsData(arguments.text(option)) }
  }

  /// Options that make the pipeline, and so contradict `--passes`.
  private static let shaping = [
    "--replace", "--select", "--mixer", "--prefix", "--width", "--heads", "--order", "--time-budget",
    "--distil-steps",
    "--distil-rate", "--fine-tune-steps", "--fine-tune-rate", "--batch", "--max-drop", "--target-speedup",
    "--max-params", "--min-agreement", "--cost", "--max-bytes", "--search-time", "--train-precision",
  ]

  fileprivate static func options(_ arguments: Arguments, out: String) throws(VitError) -> CompilerOptions {
    var options = CompilerOptions()
    options.pipeline = try arguments.text("--passes").map { text throws(VitError) in try Pipeline(text) }
    if options.pipeline != nil, let other = shaping.first(where: { arguments.text($0) != nil }) {
      throw usage(
        "\(other) contradicts --passes", code: "option-conflict", help: "write it as an option of a pass")
    }
    for flag in ["--no-train", "--keep-tokens"] where options.pipeline != nil && arguments.flag(flag) {
      throw usage("\(flag) contradicts --passes", code: "option-conflict")
    }
    if options.pipeline?.passes.last is Round, arguments.text("--weights") != nil {
      throw usage("--weights contradicts the pass 'round'", code: "option-conflict")
    }
    if let text = arguments.text("--replace") { options.replace = try amount(text) }
    if case .layers = options.replace, arguments.text("--select") != nil {
      throw usage(
        "--replace layers=… names the layers, so --select has nothing to choose", code: "option-conflict")
    }
    if options.replace == .count(0) {
      for option in [
        "--mixer", "--prefix", "--width", "--heads", "--order", "--distil-steps", "--distil-rate",
      ]
      where arguments.text(option) != nil {
        throw usage(
          "--replace 0 leaves all attention, so \(option) has nothing to say", code: "option-conflict")
      }
    }
    if let choice = try arguments.choice("--select", of: Select.choices).flatMap(Select.choice) {
      (options.select, options.group) = choice
    }
    options.maximumDrop = try arguments.number("--max-drop") ?? options.maximumDrop
    options.minimumAgreement = try arguments.number("--min-agreement", above: 0)
    options.cost = try arguments.choice("--cost", of: Reduction.Cost.allCases.map(\.rawValue))
      .flatMap(Reduction.Cost.init)
    options.timedBatch =
      try arguments.integer("--timed-batch", in: 1...Reduction.largestBatch) ?? options.timedBatch
    options.merges = !arguments.flag("--keep-tokens")
    options.target = try target(arguments)
    if let mixer = arguments.text("--mixer") {
      let several: Reduction.Beside? = mixer == "auto" ? .conv : mixer == "any" ? .any : nil
      if several != nil, options.select != .auto {
        throw usage(
          "--mixer \(mixer) is for auto to choose among kinds, found --select \(options.select.rawValue)",
          code: "option-conflict")
      }
      options.beside = several ?? .none
      if several == nil { options.mixer = mixer }
    }
    options.prefix = try arguments.text("--prefix").map(PrefixRows.init) ?? options.prefix
    options.width = try arguments.number("--width", above: 0)
    options.heads = try arguments.integer("--heads", in: 1...65536)
    options.order =
      try arguments.choice("--order", of: ["bidirectional", "forward", "cross"]).flatMap(Swap.Order.init)
      ?? options.order
    options.timeBudget = try arguments.seconds("--time-budget") ?? options.timeBudget
    options.searchTime = try arguments.seconds("--search-time")
    options.makesOthers = arguments.text("--pareto") != nil
    options.deadline = try arguments.seconds("--deadline")
    options.evaluationImages = try arguments.integer("--eval-images", in: 1...Int.max)
    options.distilSteps = try arguments.integer("--distil-steps", in: Effort.steps)
    options.distilRate = try arguments.number("--distil-rate", above: 0) ?? options.distilRate
    options.fineTuneSteps = try arguments.integer("--fine-tune-steps", in: Effort.steps)
    options.fineTuneRate = try arguments.number("--fine-tune-rate", above: 0)
    if arguments.flag("--no-train") {
      guard options.distilSteps == nil, options.fineTuneSteps == nil else {
        throw usage("--no-train leaves no steps to give", code: "option-conflict")
      }
      (options.distilSteps, options.fineTuneSteps) = (0, 0)
    }
    options.batch = try arguments.integer("--batch", in: Effort.batch)
    options.heldOut = try arguments.integer("--held-out", in: 1...Int.max)
    options.seed = try arguments.seed()
    options.threads = try arguments.threads()
    options.weights =
      switch try arguments.choice("--weights", of: ["f16", "f32", "int8", "int4"]) {
      case "f32": .f32
      case "int8": .w8
      case "int4": .w4
      default: .f16
      }
    options.precision = try arguments.precision() ?? .f32
    options.trainPrecision =
      try arguments.choice("--train-precision", of: ProductPrecision.allCases.map(\.rawValue))
      .flatMap(ProductPrecision.init) ?? .f32
    options.comparesControls = arguments.flag("--controls")
    options.isReproducible = arguments.flag("--reproducible") || SourceDate.isSet
    // A device or a pipe keeps nothing, and nothing goes on from it.
    options.checkpoint = FileIdentity(out).map { _ in out + ".checkpoint" }
    options.resumes = arguments.flag("--resume")
    options.parts = arguments.texts("--parts")
    return options
  }

  /// Where a reduction ends, whatever it may lose.
  private static func target(_ arguments: Arguments) throws(VitError) -> CompilerOptions.Target? {
    let speedup = try arguments.number("--target-speedup", above: 1)
    let parameters = try arguments.integer("--max-params", in: 1...Int.max)
    let bytes = try arguments.byteCount("--max-bytes")
    let targets = ["--target-speedup", "--max-params", "--max-bytes"].filter { arguments.text($0) != nil }
    guard targets.count < 2 else {
      throw usage("\(targets[0]) and \(targets[1]) are one target too many", code: "option-conflict")
    }
    if arguments.text("--min-agreement") != nil, arguments.text("--max-drop") != nil {
      throw usage("--max-drop and --min-agreement are one bound too many", code: "option-conflict")
    }
    for option in targets + ["--max-drop", "--min-agreement", "--cost", "--search-time", "--pareto"]
    where arguments.text(option) != nil {
      if let choice = arguments.text("--select"), choice != "auto" {
        throw usage(
          "\(option) is for --select auto, found '\(choice)'", code: "option-conflict")
      }
    }
    return speedup.map(CompilerOptions.Target.speedup) ?? parameters.map(CompilerOptions.Target.parameters)
      ?? bytes.map(CompilerOptions.Target.bytes)
  }

  /// `4`, `0.5` or `layers=3,5`.
  private static func amount(_ text: String) throws(VitError) -> CompilerOptions.Amount {
    func bad() -> VitError {
      usage(
        "option --replace cannot be '\(text)' (expected a count as 4, 0 for none, a part as 0.5, auto, layers=3,5 or threshold=0.01)",
        code: "option-value")
    }
    if text.hasPrefix("layers=") {
      let numbers = text.dropFirst(7).split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
      guard numbers.allSatisfy({ $0.map { $0 >= 0 } ?? false }) else { throw bad() }
      return .layers(numbers.compactMap { $0 })
    }
    if text.hasPrefix("threshold=") {
      guard let number = Double(text.dropFirst(10)), number.isFinite else { throw bad() }
      return .threshold(number)
    }
    if text == "auto" { return .free }
    if let count = Int(text), count >= 0 { return .count(count) }
    guard text.contains("."), let part = Double(text), part > 0, part <= 1 else { throw bad() }
    return .fraction(part)
  }

  mutating func run() throws -> Outcome {
    let (out, terminal) = (self.out, self.terminal)
    let options = try arguments.text("--data") == nil ? self.options.withoutData() : self.options
    try Model.checkWritable(out)
    terminal.yieldOutput(to: out)
    for path in [arguments.text("--report"), depfile?.path].compactMap({ $0 }) {
      try Model.checkWritable(path)
    }
    let teacher = try terminal.fitted(
      terminal.load(
        arguments.operands[0], inputShapes: arguments.texts("--input-shape"), threads: options.threads, &files
      ),
      arguments)
    if format == .onnx { try teacher.checkONNX() }
    let data =
      try arguments.samples(
        "--data", for: teacher, limit: CompilerOptions.maximumImages, seed: options.seed, terminal: terminal,
        &files)
      ?? Samples.synthetic(for: teacher, seed: options.seed, threads: options.threads) {
        terminal.report($0)
      }
    let evaluation = try arguments.samples(
      "--eval-data", for: teacher, purpose: .evaluation, terminal: terminal, &files)
    let compiler = try Compiler(options)
    if let part {
      try Interrupts.deferring {
        try compiler.makePart(
          part, of: teacher, data, evaluation: evaluation, to: out, progress: terminal.progress)
      }
      try depfile?.write(files, terminal)
      return .done
    }
    var others = try arguments.text("--pareto").map(ParetoFolder.init)
    let result = try Interrupts.deferring {
      try compiler.compile(
        teacher, data, evaluation: evaluation, to: out, as: format,
        progress: terminal.progress,
        events: { event in
          terminal.write(CompileText.event(event))
          try? terminal.flush()
        }, other: { try others?.add($0) })
    }
    terminal.write(CompileText.summary(result.report, options: options))
    if let others {
      try others.finish(withTimes: !options.isReproducible)
      terminal.write("\n" + others.text(chosen: result.report))
    }
    if let path = arguments.text("--report") {
      if FileFormat(path) == .html {
        var page = try ReportPage(result.report)
        // What was measured is there already: no picture is worth it.
        do {
          page.figures = try ReportFigures(
            teacher: teacher, hybrid: result.model, on: evaluation ?? data, threads: options.threads,
            progress: terminal.progress)
        } catch let error as VitError {
          var note = error.diagnostic
          note.severity = .warning
          note.help = "the page has no maps; 'vitc report' can draw them"
          terminal.report(note)
        }
        try page.write(to: path)
      } else {
        try TextFile.write(result.report.json().text, to: path)
      }
    }
    try depfile?.write(files, terminal)
    return .done
  }
}
