internal import VitIR
internal import VitPasses
internal import Vitc

extension Command {
  /// `vitc score`.
  static let score = Command(
    "score", "measures how sparse the attention of each layer and head is",
    operands: [("TEACHER", "an .onnx, .vmod or textual IR file")],
    options: [
      Option.data, Option("--images", "N", "images to look at (default: as in 'vitc help pass score')"),
      Option.json("score"),
      Option("-o", "OUT", "writes the model with the scores noted in it (.vit or .vmod)"),
      Option.preprocess, Option.inputShape, Option.seed, Option.threads, Option.memoryLimit,
    ] + Option.dependencies,
    notes: [
      "Indices (Mixers.md §1): normalised entropy, Gini, Hoyer, top mass and mean attention distance of the attention maps; "
        + "beside them dependence, how much the maps differ from image to image, cosine, how far a layer turns the residual "
        + "stream, conv, what the best fixed taps miss of what the maps make of the values, and drop, the damage of leaving the layer out."
    ]
  ) { arguments, terminal in
    let threads = try arguments.threads()
    let seed = try arguments.seed()
    let images = try arguments.integer("--images", in: 1...Int.max)
    try arguments.checkPreprocessing()
    var files = FileUse()
    let out = try arguments.modelOutput(&files)
    let depfile = try arguments.depfile(for: out?.path, &files)
    try files.reads([arguments.operands[0]])
    try files.readsData(arguments.text("--data"))
    let loaded = try terminal.fitted(
      terminal.load(
        arguments.operands[0], inputShapes: arguments.texts("--input-shape"), threads: threads, &files),
      arguments)
    let floats = try loaded.inFloats(threads: threads)
    for note in floats?.diagnostics ?? [] where note.code == "dequantised" { terminal.report(note) }
    let model = floats ?? loaded
    let data =
      try arguments.samples(
        "--data", for: model, limit: max(images ?? 0, 1024), seed: seed, terminal: terminal, &files)
      ?? Samples.synthetic(for: model, seed: seed) { terminal.report($0) }
    let pipeline = try Pipeline("score" + (images.map { "{images=\($0)}" } ?? ""))
    let scored = try pipeline.run(on: model, data, seed: seed, threads: threads, progress: terminal.progress)
    let layers = try Inspection(scored).layers
    guard !layers.isEmpty else {
      throw VitError(
        "the model has no attention layers", code: "no-attention",
        location: Location(file: arguments.operands[0]),
        help: "'vitc inspect --explain' tells what was nearly recognised")
    }
    if let out { try scored.write(to: out.path, as: out.isText ? .text : .vmod) }
    try depfile?.write(files, terminal)
    if arguments.flag("--json") {
      terminal.write(ScoreTable.json(layers, images: data.count).text)
    } else {
      terminal.write(ScoreTable.text(layers.map { (index: $0.index, scores: ScoreTable.scores($0)) }))
    }
    return .done
  }
}

/// The scores of layers as a table and as JSON.
enum ScoreTable {
  /// The columns: heading, and the name among the scores.
  private static let columns = [
    ("entropy", "entropy"), ("gini", "gini"), ("hoyer", "hoyer"), ("top-mass", "top_mass"),
    ("distance", "distance"),
    ("dependence", "dependence"), ("cosine", "cosine"), ("conv", "conv"),
    ("drop", "drop"),
  ]

  /// The figures of a layer.
  static func scores(_ layer: Inspection.Layer) -> [String: Double] {
    var result: [String: Double] = [:]
    for (name, value) in layer.scores.entries {
      if case .float(let number) = value { result[name] = number }
    }
    return result
  }

  /// A row for each layer; a column that no layer has a figure for is left out. `more` are further columns.
  static func text(_ layers: [(index: Int, scores: [String: Double])], more: [(String, String)] = [])
    -> String
  {
    let shown = (columns + more).filter { column in layers.contains { $0.scores[column.1] != nil } }
    var table = Table(["layer"] + shown.map(\.0), left: [])
    for layer in layers {
      table.add(
        ["\(layer.index)"] + shown.map { column in layer.scores[column.1].map { $0.fixed(4) } ?? "-" })
    }
    return table.text
  }

  /// The document of `score`.
  static func json(_ layers: [Inspection.Layer], images: Int) -> JSON {
    .object([
      ("schema", "vitc.score/1"),
      (
        "layers",
        .array(
          layers.map { layer in
            var members: [(String, JSON)] = [
              ("index", .int(layer.index)), ("node", .string(layer.node)), ("heads", .int(layer.heads)),
            ]
            for (_, key) in columns {
              guard case .float(let value)? = layer.scores[key] else { continue }
              members.append((key, .number(value)))
              if case .floats(let heads)? = layer.scores["\(key).heads"] {
                members.append(("\(key)_heads", .array(heads.map(JSON.number))))
              }
            }
            return .object(members)
          })
      ),
    ])
  }
}
