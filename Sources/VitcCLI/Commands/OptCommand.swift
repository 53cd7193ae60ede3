internal import VitIR
internal import VitPasses
internal import Vitc

extension Command {
  /// `vitc opt`.
  static let opt = Command(
    "opt", "runs passes on a model and writes what they make of it",
    operands: [("MODEL", "an .onnx, .vmod or textual IR file; an .onnx is taken as decoded, not raised")],
    options: [
      Option("--passes", "PIPELINE", "passes as in 'fold,raise,dce' or 'score,select{by=entropy,count=4}'"),
      Option(
        "-o", "OUT",
        "where the result goes: NAME.vit with its tensors beside it, or NAME.vmod (default: text on "
          + "standard output, without tensors)"),
      Option("--elide-tensors", "leaves the tensors' values out of a .vit"),
      Option("--print-after-all", "prints the textual IR after each pass, to standard error"),
      Option("--verify-each", "checks types and invariants after each pass"),
      Option("--time-passes", "says how long each pass took"),
      Option(
        "--teacher", "TEACHER",
        "the model that the layers of MODEL were replaced in, where they were: the one that it was made from"),
      Option.data, Option.heldOut, Option.preprocess, Option.inputShape, Option.seed, Option.threads,
      Option.memoryLimit,
    ] + Option.dependencies,
    notes: [
      "A compile can be run in steps, as in 'score', 'swap{layers=all}', 'distil', 'select,restore', 'fine-tune' and 'round': "
        + "with the same data, --held-out and --seed they give the weights of one compile with the whole pipeline and --eval-data.",
      "'open-batch,fold,raise,dce,head' with --data makes a teacher for the classes of the data of one for others: what it gives is "
        + "a teacher of its own, to be written with -o and compiled.",
      "'raise{max-rewrites=N}' stops after N rewrites, of which --time-passes counts all: the least N with which a result "
        + "is wrong finds the rewrite that is.",
    ]
  ) { arguments, terminal in
    guard let text = arguments.text("--passes") else {
      throw usage(
        "opt needs --passes", code: "option-missing", help: "the passes are listed by 'vitc help pass'")
    }
    let pipeline = try Pipeline(text)
    let threads = try arguments.threads()
    let seed = try arguments.seed()
    try arguments.checkPreprocessing()
    var files = FileUse()
    let out = try arguments.modelOutput(&files)
    if arguments.flag("--elide-tensors"), out?.isText == false {
      throw usage(
        "--elide-tensors leaves tensors out of a text, and -o is a .vmod", code: "option-conflict")
    }
    let depfile = try arguments.depfile(for: out?.path, &files)
    let heldOut = try arguments.integer("--held-out", in: 1...Int.max)
    try files.reads([arguments.operands[0], arguments.text("--teacher")].compactMap { $0 })
    try files.readsData(arguments.text("--data"))
    let model = try terminal.load(
      arguments.operands[0], raising: false, inputShapes: arguments.texts("--input-shape"), threads: threads,
      &files)
    // With a new head the model has the data's classes.
    let heads = pipeline.passes.compactMap { $0 as? Head }
    let limit = heads.map { $0.images ?? .max }.max() ?? CompilerOptions.maximumImages
    let samples = try arguments.samples(
      "--data", for: model, limit: limit, numbering: heads.isEmpty ? .model : .data, seed: seed,
      terminal: terminal, &files)
    let split = try heldOut.flatMap { count in try samples?.holdingOut(count, seed: seed) }
    let teacher = try arguments.text("--teacher").map { try terminal.load($0, threads: threads, &files) }
    var observers: [any PassObserver] = []
    if arguments.flag("--time-passes") { observers.append(PassTimer(terminal)) }
    if arguments.flag("--print-after-all") { observers.append(PassPrinter(terminal)) }
    if arguments.flag("--verify-each") { observers.append(PassVerifier()) }
    let result = try pipeline.run(
      on: model, split?.training ?? samples, heldOut: split?.heldOut, teacher: teacher, seed: seed,
      threads: threads, progress: terminal.progress, observers: observers)
    if let out {
      try result.write(
        to: out.path, as: out.isText ? .text : .vmod, elidingTensors: arguments.flag("--elide-tensors"))
      try depfile?.write(files, terminal)
    } else {
      terminal.write(try result.hybrid.text())
    }
    return .done
  }
}

/// Says how long passes took.
private final class PassTimer: PassObserver {
  private let terminal: Terminal
  private var start = ContinuousClock.now

  init(_ terminal: Terminal) { self.terminal = terminal }

  func before(_ pass: any Pass, _ hybrid: Hybrid) { start = .now }

  func after(_ pass: any Pass, _ hybrid: Hybrid, _ result: Result<PassResult, any Error>) {
    let milliseconds = start.duration(to: .now) / .milliseconds(1)
    let changes = (try? result.get().changes).map { "\($0) changes" } ?? "failed"
    terminal.say("\(type(of: pass).name): \(milliseconds.fixed(1)) ms, \(changes)")
  }
}

/// Prints the model after each pass.
private final class PassPrinter: PassObserver {
  private let terminal: Terminal

  init(_ terminal: Terminal) { self.terminal = terminal }

  func before(_ pass: any Pass, _ hybrid: Hybrid) {}

  func after(_ pass: any Pass, _ hybrid: Hybrid, _ result: Result<PassResult, any Error>) throws {
    terminal.say("// after \(Pipeline.text(pass))\n\(try hybrid.text())")
  }
}

/// Checks the model after each pass.
private final class PassVerifier: PassObserver {
  func before(_ pass: any Pass, _ hybrid: Hybrid) {}

  func after(_ pass: any Pass, _ hybrid: Hybrid, _ result: Result<PassResult, any Error>) throws {
    guard case .success = result else { return }
    do { try Verifier.verify(hybrid.graph, registry: .vitc) } catch {
      var failure = error
      failure.diagnostic.message = "after \(type(of: pass).name): " + error.diagnostic.message
      throw failure
    }
  }
}
