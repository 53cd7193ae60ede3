internal import VitIR
internal import Vitc

extension Command {
  /// `vitc verify`.
  static let verify = Command(
    "verify",
    "checks a model: its types, its tensors' digests, and the outputs for the inputs that it carries",
    operands: [("MODEL", "a .vmod; another model has no inputs to check, its types are")],
    options: [Option.threads, Option.memoryLimit, Option.json("verify")]
  ) { arguments, terminal in
    let threads = try arguments.threads()
    var files = FileUse()
    let model = try terminal.load(arguments.operands[0], threads: threads, &files)
    let results = try Verification.run(model, threads: threads)
    let holds = results.allSatisfy(\.holds)
    if arguments.flag("--json") {
      terminal.write(
        JSON.object([
          ("schema", "vitc.verify/1"), ("holds", .bool(holds)),
          (
            "probes",
            .array(
              results.map {
                .object([
                  ("output", .string($0.output)), ("deviation", .number($0.deviation)),
                  ("tolerance", .number($0.tolerance)), ("holds", .bool($0.holds)),
                ])
              })
          ),
        ]).text)
    } else {
      for result in results {
        terminal.print(
          "\(result.holds ? "ok" : "failed"): output '\(result.output.escapedForDisplay)' deviates by "
            + "\(result.deviation.short), at most \(result.tolerance.short) is allowed")
      }
      if results.isEmpty { terminal.print("ok: types and tensors; the model carries no inputs to check") }
    }
    return holds ? .done : .checkFailed
  }
}
