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
      Option("--per-class", "also the accuracy of each class that the data have"),
      Option("--against", "TEACHER", "the model to compare with: agreement, KL and its accuracy"),
      Option.json("eval"), Option.preprocess, Option.inputShape, Option.precision,
      Option.threads, Option.memoryLimit,
    ],
    notes: [
      "Class folders are numbered by the names in config.json beside the model (id2label, label_names), else by ImageNet's ids, else by the order of the names of all class folders, those of the other split included; which of them is said.",
      "Of data with two splits the test split is taken unless :train is asked for. Exit code 1 where an output is no number.",
    ]
  ) { arguments, terminal in
    guard arguments.text("--data") != nil else { throw usage("eval needs --data", code: "option-missing") }
    let threads = try arguments.threads()
    try arguments.checkPreprocessing()
    var files = FileUse()
    let model = try terminal.fitted(
      terminal.load(
        arguments.operands[0], inputShapes: arguments.texts("--input-shape"), threads: threads,
        precision: arguments.precision(), &files),
      arguments)
    let other = try arguments.text("--against").map { try terminal.load($0, threads: threads, &files) }
    guard
      let data = try arguments.samples(
        "--data", for: model, purpose: .evaluation, terminal: terminal, &files)
    else {
      return .done
    }
    let fidelity = try Evaluation.fidelity(
      of: model, against: other, on: data, threads: threads, progress: terminal.progress)
    let perClass = arguments.flag("--per-class") ? (fidelity.scores?.classes ?? []) : nil
    if arguments.flag("--json") {
      terminal.write(fidelity.document(perClass, named: data.className).text)
    } else {
      terminal.write(fidelity.text)
      if let perClass { terminal.write(Fidelity.text(perClass, named: data.className)) }
    }
    return fidelity.nonFinite == 0 ? .done : .checkFailed
  }
}

extension Fidelity {
  /// The JSON document of `eval`, with the classes where they were asked for.
  fileprivate func document(_ perClass: [Accuracy.Class]?, named: (Int) -> String?) -> JSON {
    guard case .members(var members) = json else { return json }
    members["schema"] = "vitc.eval/1"
    members["classes"] = perClass.map { classes in
      .array(
        classes.map { score in
          .object([
            ("class", .int(score.number)), ("name", named(score.number).map(JSON.string) ?? .null),
            ("images", .int(score.images)), ("right", .int(score.right)),
          ])
        })
    }
    return .members(members)
  }

  /// A table of the classes.
  fileprivate static func text(_ classes: [Accuracy.Class], named: (Int) -> String?) -> String {
    var table = Table(["class", "name", "images", "accuracy"], left: [1])
    for score in classes {
      table.add([
        "\(score.number)", named(score.number) ?? "", score.images.grouped,
        (Double(score.right) / Double(score.images)).percent,
      ])
    }
    return "\n" + table.text
  }

  /// The figures, a line each; those without a meaning are left out.
  var text: String {
    let rows: [(String, String?)] = [
      ("images", images.grouped),
      ("labelled", scores.flatMap { (1..<images).contains($0.labelled) ? $0.labelled.grouped : nil }),
      ("accuracy", accuracy?.percent),
      ("accuracy top-5", scores?.topFive?.percent),
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
