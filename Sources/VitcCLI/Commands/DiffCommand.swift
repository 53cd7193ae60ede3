internal import VitIR
internal import VitPasses
internal import Vitc

extension Command {
  /// `vitc diff`.
  static let diff = Command(
    "diff", "compares two models: structure, attributes, tensors and what they compute",
    operands: [("A", "an .onnx, .vmod or textual IR file"), ("B", "the same")],
    options: [
      Option(
        "--input", "X.npy", "an array to run both on; in the order of the inputs (default: random numbers)",
        isRepeatable: true),
      Option(
        "--tolerance", "R",
        "how far numbers may differ, relative to the largest of a tensor (default 0; with --behaviour 0.0001)"
      ),
      Option(
        "--behaviour",
        "only what both compute counts: names, operations and tensors may be others, and are told"),
      Option.json("diff"), Option.threads, Option.memoryLimit,
    ],
    notes: [
      "Operations are compared that answer each other in the flow of data, whatever they are called and in whatever order the files "
        + "list them. The first value that diverges is named. Exit code 1 where they differ."
    ]
  ) { arguments, terminal in
    let threads = try arguments.threads()
    let tolerance = try arguments.number("--tolerance") ?? (arguments.flag("--behaviour") ? 1e-4 : 0)
    var files = FileUse()
    let inputs = try arguments.texts("--input").map(Arrays.read)
    let a = try terminal.load(arguments.operands[0], threads: threads, &files)
    let b = try terminal.load(arguments.operands[1], threads: threads, &files)
    for (model, path) in [(a, arguments.operands[0]), (b, arguments.operands[1])]
    where model.graph.tensors.names.contains(where: { model.graph.tensors[$0]?.isElided ?? false }) {
      terminal.report(
        Diagnostic(
          .warning, "it has no weights: neither model is run", code: "elided-tensor",
          location: Location(file: path)))
    }
    let found = try Difference.find(
      a, b, input: inputs.isEmpty ? nil : inputs, tolerance: tolerance, threads: threads)
    let counting = arguments.flag("--behaviour") ? found.filter { $0.kind == .output } : found
    if arguments.flag("--json") {
      terminal.write(
        JSON.object([
          ("schema", "vitc.diff/1"), ("equal", .bool(counting.isEmpty)),
          ("differences", .array(found.map(\.json))),
        ]).text)
    } else {
      for difference in found {
        terminal.print(
          "\(difference.kind.rawValue) '\(difference.place.escapedForDisplay)': \(difference.message.escapedForDisplay)"
        )
      }
      if found.isEmpty {
        terminal.print("no differences")
      } else if counting.isEmpty {
        terminal.print("what they compute agrees")
      }
    }
    return counting.isEmpty ? .done : .checkFailed
  }
}

extension Difference {
  /// The difference as JSON.
  var json: JSON {
    .object([("kind", .string(kind.rawValue)), ("place", .string(place)), ("message", .string(message))])
  }
}
