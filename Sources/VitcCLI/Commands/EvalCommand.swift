internal import VitIR
internal import VitPasses
internal import Vitc

extension Command {
  /// `vitc eval`.
  static let eval = Command(
    "eval", "measures accuracy on labelled images, and closeness to a teacher",
    operands: [("MODEL", "an .onnx, .vmod or textual IR file")],
    options: [
      Option.data,
      Option("--against", "TEACHER", "the model to compare with: agreement, KL and its accuracy"),
      Option.json("eval"), Option.preprocess, Option.threads, Option.memoryLimit,
    ],
    notes: [
      "Of data with two splits the test split is taken unless :train is asked for. Exit code 1 where an output is no number."
    ]
  ) { arguments, terminal in
    guard arguments.text("--data") != nil else { throw usage("eval needs --data", code: "option-missing") }
    let threads = try arguments.threads()
    try arguments.checkPreprocessing()
    var files = FileUse()
    let model = try terminal.load(arguments.operands[0], threads: threads, &files)
    let other = try arguments.text("--against").map { try terminal.load($0, threads: threads, &files) }
    guard
      let data = try arguments.samples(
        "--data", for: model, purpose: .evaluation, terminal: terminal, &files)
    else {
      return .done
    }
    let fidelity = try Evaluation.fidelity(
      of: model, against: other, on: data, threads: threads, progress: terminal.progress)
    if arguments.flag("--json") {
      terminal.write(fidelity.document.text)
    } else {
      terminal.write(fidelity.text)
    }
    return fidelity.nonFinite == 0 ? .done : .checkFailed
  }
}

extension Fidelity {
  /// The JSON document of `eval`.
  var document: JSON {
    guard case .members(var members) = json else { return json }
    members["schema"] = "vitc.eval/1"
    return .members(members)
  }

  /// The figures, a line each; those without a meaning are left out.
  var text: String {
    let rows: [(String, String?)] = [
      ("images", images.grouped), ("accuracy", accuracy?.percent),
      ("teacher accuracy", teacherAccuracy?.percent),
      ("agreement", agreement?.percent), ("KL", divergence?.short),
      ("relative error", agreement == nil && relativeError > 0 ? relativeError.short : nil),
      ("not finite", nonFinite > 0 ? "\(nonFinite.grouped) of \(images.grouped) images" : nil),
    ]
    return rows.compactMap { name, value in
      value.map { name + String(repeating: " ", count: 18 - name.count) + $0 + "\n" }
    }.joined()
  }
}
