internal import VitIR
internal import Vitc

extension Command {
  /// `vitc run`.
  static let run = Command(
    "run", "runs a model on arrays or on images",
    operands: [
      ("MODEL", "an .onnx, .vmod or textual IR file"),
      ("IMAGE…", "JPEG, PNG or WebP files to classify, or folders of them"),
    ],
    options: [
      Option(
        "--input", "[NAME=]X.npy", "an array for an input; without names in the order of the inputs",
        isRepeatable: true),
      Option(
        "--output", "[NAME=]Y.npy", "where an output goes; without names in the order of the outputs",
        isRepeatable: true),
      Option("--top", "K", "classes to show for an image (default 5)"), Option.json("run"), Option.preprocess,
      Option.inputShape, Option.precision, Option.threads, Option.memoryLimit,
    ],
    operandCount: 1...Int.max
  ) { arguments, terminal in
    let threads = try arguments.threads()
    let top = try arguments.integer("--top", in: 1...Int.max) ?? 5
    let images = Array(arguments.operands.dropFirst())
    let inputs = arguments.texts("--input")
    guard images.isEmpty || inputs.isEmpty else {
      throw usage("run takes either images or --input, not both", code: "option-conflict")
    }
    guard !images.isEmpty || !inputs.isEmpty else {
      throw usage("run needs images or --input", code: "option-missing", help: "see 'vitc help run'")
    }
    guard images.isEmpty || arguments.texts("--output").isEmpty else {
      throw usage("--output belongs to --input", code: "option-conflict")
    }
    if let option = ["--top", "--preprocess"].first(where: arguments.flag), images.isEmpty {
      throw usage("\(option) belongs to images", code: "option-conflict")
    }
    let settings = try arguments.checkPreprocessing()
    var files = FileUse()
    let model = try terminal.load(
      arguments.operands[0], inputShapes: arguments.texts("--input-shape"), threads: threads,
      precision: arguments.precision(), &files)
    if images.isEmpty {
      let arrays = try NamedFiles(
        inputs, names: model.graph.inputs.map { model.graph[$0].name }, what: "input", all: true)
      let targets = try NamedFiles(
        arguments.texts("--output"), names: model.graph.outputs.map(\.name), what: "output", all: false)
      for case let path? in targets.paths {
        try FileFormat.check(path, is: .array, as: "--output")
        try files.writes(path, as: "--output")
      }
      try files.reads(arrays.paths.compactMap { $0 })
      let tensors = try arrays.paths.compactMap { try $0.map(Arrays.read) }
      let fitted = model.refitted(to: tensors.map(\.shape), threads: threads) ?? model
      let outputs = try Session(fitted, threads: threads).run(tensors)
      for (tensor, path) in zip(outputs, targets.paths) { if let path { try Arrays.write(tensor, to: path) } }
      terminal.write(
        arguments.flag("--json") ? RunOutput.json(model, outputs).text : try RunOutput.text(model, outputs))
      return .done
    }
    let session = try Session(model, threads: threads)
    let classifier = try Classifier(model, session: session, settings: settings)
    for diagnostic in classifier.diagnostics { terminal.report(diagnostic) }
    var results: [JSON] = []
    for path in try Classifier.images(at: images) {
      let answer = try classifier.classify(path, top: top)
      results.append(RunOutput.json(path, answer))
      if !arguments.flag("--json") { terminal.write(RunOutput.text(path, answer)) }
    }
    if arguments.flag("--json") {
      terminal.write(JSON.object([("schema", "vitc.run/1"), ("images", .array(results))]).text)
    }
    return .done
  }
}

/// Files given as `[NAME=]PATH`, put in the order of the names.
private struct NamedFiles {
  /// A path for each name.
  let paths: [String?]

  init(_ texts: [String], names: [String], what: String, all: Bool) throws(VitError) {
    var paths = [String?](repeating: nil, count: names.count)
    for text in texts {
      var place: Int?
      var path = text
      for (index, name) in names.enumerated() where text.hasPrefix(name + "=") {
        place = index
        path = String(text.dropFirst(name.count + 1))
      }
      if place == nil, let equals = text.firstIndex(of: "="), !text[..<equals].contains("/") {
        throw usage(
          "the model has no \(what) '\(text[..<equals])'", code: "unknown-\(what)",
          help: "its \(what)s are \(names.map { "'\($0)'" }.joined(separator: ", "))")
      }
      guard let index = place ?? paths.firstIndex(where: { $0 == nil }) else {
        throw usage("the model has \(names.count) \(what)s, found \(texts.count)", code: "\(what)-count")
      }
      guard paths[index] == nil else {
        throw usage("\(what) '\(names[index])' is given twice", code: "\(what)-twice")
      }
      paths[index] = path
    }
    if all, let index = paths.firstIndex(where: { $0 == nil }) {
      throw usage(
        "\(what) '\(names[index])' is missing", code: "\(what)-missing",
        help: "give --\(what) \(names[index])=X.npy")
    }
    self.paths = paths
  }
}

/// What `run` prints.
private enum RunOutput {
  static func text(_ model: Model, _ outputs: [Tensor]) throws -> String {
    var text = ""
    for (output, tensor) in zip(model.graph.outputs, outputs) {
      let values = try tensor.doubles()
      let shown = values.prefix(8).map(\.short).joined(separator: " ")
      text += "\(output.name.escapedForDisplay)  \(tensor.type)  \(shown)\(values.count > 8 ? " …" : "")\n"
    }
    return text
  }

  static func json(_ model: Model, _ outputs: [Tensor]) -> JSON {
    let list = zip(model.graph.outputs, outputs).map { output, tensor -> JSON in
      .object([
        ("name", .string(output.name)), ("element", .string(tensor.element.rawValue)),
        ("shape", .array(tensor.shape.map(JSON.int))),
      ])
    }
    return .object([("schema", "vitc.run/1"), ("outputs", .array(list))])
  }

  static func text(_ path: String, _ answer: [Classifier.Class]) -> String {
    "\(path)\n"
      + answer.map { "  \($0.probability.fixed(4))  \($0.index)\($0.label.map { "  \($0)" } ?? "")\n" }
      .joined()
  }

  static func json(_ path: String, _ answer: [Classifier.Class]) -> JSON {
    let top = answer.map { found -> JSON in
      .object([
        ("class", .int(found.index)), ("label", found.label.map(JSON.string) ?? .null),
        ("probability", .number(found.probability)),
      ])
    }
    return .object([("file", .string(path)), ("top", .array(top))])
  }
}
