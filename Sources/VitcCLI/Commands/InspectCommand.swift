internal import VitIR
internal import Vitc

extension Command {
  /// `vitc inspect`.
  static let inspect = Command(
    "inspect", "shows what a model is made of and which layers can be replaced",
    operands: [("MODEL", "an .onnx, .vmod or textual IR file, told by its contents")],
    options: [
      Option("--json", "the same as JSON (schemas/inspect.schema.json)"),
      Option("--explain", "also where a pattern nearly matched, and what was in the way"),
      Option(
        "--lineage",
        "where the model comes from alone: digests of teacher and data, the pipeline, seed, versions"),
      Option("--bom", "FORMAT", "a bill of materials with the model's card, as JSON: cyclonedx (1.6)"),
      Option.inputShape,
    ]
  ) { arguments, terminal in
    let bill = try arguments.choice("--bom", of: ["cyclonedx"]) != nil
    let isLineage = arguments.flag("--lineage")
    if bill, let other = ["--json", "--explain", "--lineage"].first(where: arguments.flag) {
      throw usage("\(other) has nothing to say beside --bom", code: "option-conflict")
    }
    if isLineage, arguments.flag("--explain") {
      throw usage("--explain has nothing to say beside --lineage", code: "option-conflict")
    }
    var files = FileUse()
    let model = try terminal.load(
      arguments.operands[0], inputShapes: arguments.texts("--input-shape"), &files)
    guard !bill else {
      terminal.write(try model.billOfMaterials().text)
      return .done
    }
    guard !isLineage else {
      terminal.write(
        arguments.flag("--json")
          ? JSON.object(model.lineage.map { ($0.key, .string($0.value)) }).text
          : model.lineage.map { "\($0.key): \($0.value.escapedForDisplay)\n" }.joined())
      return .done
    }
    let inspection = try Inspection(model, explaining: arguments.flag("--explain"))
    terminal.write(arguments.flag("--json") ? inspection.json.text : inspection.text)
    return .done
  }
}

extension Inspection {
  /// The whole as text.
  var text: String {
    let graph = model.graph
    var text =
      "model       \(graph.name.escapedForDisplay) (\(model.format.rawValue), \(model.byteCount.grouped) bytes)\n"
    for input in graph.inputs {
      text += "input       \(graph[input].name.escapedForDisplay)  \(graph.type(input))\n"
    }
    for output in graph.outputs {
      text += "output      \(output.name.escapedForDisplay)  \(graph.type(output.value))\n"
    }
    if let form = model.inputForm { text += "takes       \(form)\n" }
    text += "parameters  \(parameters.grouped)\n"
    if storage.contains(where: { $0.element != .f32 }) {
      text += "stored      "
      text += storage.map { "\($0.numbers.grouped) in \($0.element.rawValue)" }.joined(separator: ", ") + "\n"
    }
    text += "flops       \(Double(flops).asCount) a sample\n"
    if let preprocessing = model.preprocessing { text += "images      \(preprocessing.escapedForDisplay)\n" }
    if let labels = model.labels { text += "classes     \(labels.count)\n" }
    for (key, value) in model.lineage {
      text += "lineage     \(key.escapedForDisplay): \(value.escapedForDisplay)\n"
    }
    if let report = model.report { text += Inspection.measurements(report) }
    for (name, value) in graph.annotations.entries { text += "note        \(name) = \(value.text)\n" }
    if let quantisation { text += "quantised   \(quantisation)\n" }
    text += "\n"
    if layers.isEmpty {
      text += "no attention layers\n"
    } else {
      var table = Table(
        ["layer", "kind", "heads", "parameters", "flops", "replaceable", "node"], left: [1, 5, 6])
      for layer in layers {
        table.add([
          "\(layer.index)", layer.kind, "\(layer.heads)", layer.parameters.grouped,
          Double(layer.flops).asCount,
          !layer.isAttention ? "-" : layer.obstacle == nil ? "yes" : "no", layer.node.escapedForDisplay,
        ])
      }
      text += table.text
      for layer in layers where layer.isAttention {
        if let obstacle = layer.obstacle { text += "layer \(layer.index) is not replaceable: \(obstacle)\n" }
      }
    }
    for other in others { text += "not a layer: \(other.node.escapedForDisplay): \(other.reason)\n" }
    text += "\n"
    var table = Table(["operation", "count"])
    for operation in operations { table.add([operation.name, "\(operation.count)"]) }
    text += table.text
    if !misses.isEmpty {
      text += "\nnearly matched:\n" + misses.map { "  \($0.escapedForDisplay)\n" }.joined()
    }
    return text
  }

  /// What was measured when the model was compiled.
  private static func measurements(_ report: JSON) -> String {
    var facts: [String] = []
    func add(_ name: String, _ value: Double?, _ teacher: Double?, _ text: (Double) -> String) {
      guard let value else { return }
      facts.append("\(name) \(text(value))" + (teacher.map { " (teacher \(text($0)))" } ?? ""))
    }
    func count(_ value: Double) -> String { Int(exactly: value)?.grouped ?? value.short }
    let fidelity = report["fidelity"]
    add("accuracy", fidelity?["accuracy"]?.number, fidelity?["teacher"]?["accuracy"]?.number, \.percent)
    add("agreement", fidelity?["agreement"]?.number, nil, \.percent)
    add("KL", fidelity?["kl"]?.number, nil, \.short)
    if fidelity?["agreement"]?.number == nil {
      add("relative error", fidelity?["relative_error"]?.number, nil, \.short)
    }
    add("parameters", report["hybrid"]?["parameters"]?.number, report["teacher"]?["parameters"]?.number) {
      count($0)
    }
    add("ms", report["hybrid"]?["ms"]?.number, report["teacher"]?["ms"]?.number) { $0.fixed(2) }
    guard !facts.isEmpty else { return "" }
    let images = fidelity?["images"]?.number.map { "on \(count($0)) images: " } ?? ""
    return "measured    \(images)\(facts.joined(separator: ", "))\n"
  }
}
