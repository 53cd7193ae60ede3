internal import VitIR
internal import VitPasses
internal import Vitc

extension Command {
  /// `vitc bench`.
  static let bench = Command(
    "bench", "measures how long a model takes, in turn with another",
    operands: [("MODEL", "an .onnx, .vmod or textual IR file")],
    options: [
      Option("--against", "OTHER", "a model to run in turn with"),
      Option("--batch", "B", "images of a run (default 1)"), Option.inputShape, Option.precision,
      Option.threads,
      Option.memoryLimit,
      Option("--time", "TIME", "how long to measure (default 3s)"),
      Option("--profile", "where the time goes, by operation"), Option.json("bench"),
    ],
    notes: ["Times are the median of many runs, with the tenth and the ninetieth percentile beside it."]
  ) { arguments, terminal in
    let threads = try arguments.threads()
    let batch = try arguments.integer("--batch", in: 1...65536) ?? 1
    let seconds = try arguments.seconds("--time") ?? 3
    if arguments.flag("--profile"), arguments.text("--against") != nil {
      throw usage("--profile and --against exclude each other", code: "option-conflict")
    }
    var files = FileUse()
    let model = try terminal.load(
      arguments.operands[0], inputShapes: arguments.texts("--input-shape"), threads: threads,
      precision: arguments.precision(), &files)
    if arguments.flag("--profile") {
      let shares = try Evaluation.profile(
        model, batch: batch, threads: threads, seconds: seconds, progress: terminal.progress)
      terminal.write(arguments.flag("--json") ? shares.json(batch: batch).text : shares.table.text)
      return .done
    }
    let other = try arguments.text("--against").map { try terminal.load($0, threads: threads, &files) }
    let results = try Evaluation.benchmark(
      [model] + [other].compactMap { $0 }, batch: batch, threads: threads, seconds: seconds,
      progress: terminal.progress)
    if arguments.flag("--json") {
      var members = results[0].members
      members += [("schema", "vitc.bench/1"), ("batch", .int(batch))]
      if results.count > 1 { members.append(("other", .object(results[1].members))) }
      terminal.write(JSON.object(members).text)
      return .done
    }
    var table = Table(["model", "ms", "low", "high", "parameters", "bytes", "flops"])
    for (path, result) in zip([arguments.operands[0], arguments.text("--against") ?? ""], results) {
      table.add([
        path, result.timing.median.fixed(3), result.timing.low.fixed(3), result.timing.high.fixed(3),
        result.parameters.grouped, result.bytes.grouped, Double(result.flops).asCount,
      ])
    }
    terminal.write(table.text)
    if results.count > 1 {
      terminal.print("speed-up \((results[1].timing.median / results[0].timing.median).fixed(3))")
    }
    return .done
  }
}

extension Evaluation.Benchmark {
  /// The members of a JSON object that hold it.
  var members: [(String, JSON)] {
    [
      ("ms", .number(timing.median)), ("ms_low", .number(timing.low)), ("ms_high", .number(timing.high)),
      ("parameters", .int(parameters)), ("bytes", .int(bytes)), ("flops", .int(flops)),
      ("memory", .int(memory)), ("level", .string(level)),
    ]
  }
}

extension [Evaluation.Share] {
  private var total: Double { reduce(0) { $0 + $1.milliseconds } }

  /// The operations, a row each, and their sum.
  var table: Table {
    var table = Table(["operation", "nodes", "ms", "share", "GFLOP/s"])
    for share in self {
      let rate = share.milliseconds > 0 ? Double(share.flops) / share.milliseconds / 1e6 : 0
      table.add([
        share.operation, "\(share.count)", share.milliseconds.fixed(3),
        (share.milliseconds / total).percent, rate.fixed(0),
      ])
    }
    table.add(["total", "\(reduce(0) { $0 + $1.count })", total.fixed(3), 1.percent, ""])
    return table
  }

  /// The same as JSON.
  func json(batch: Int) -> JSON {
    .object([
      ("schema", "vitc.profile/1"), ("batch", .int(batch)), ("ms", .number(total)),
      (
        "operations",
        .array(
          map {
            .object([
              ("operation", .string($0.operation)), ("nodes", .int($0.count)),
              ("ms", .number($0.milliseconds)),
              ("flops", .int($0.flops)), ("bytes", .int($0.bytes)),
            ])
          })
      ),
    ])
  }
}
