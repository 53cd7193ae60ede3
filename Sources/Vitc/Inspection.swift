internal import VitData
public import VitIR
internal import VitPasses
internal import VitRuntime

/// What a model is made of.
public struct Inspection: Sendable {
  /// One attention layer or mixer.
  public struct Layer: Sendable {
    /// Its number, from 0.
    public let index: Int
    /// See `VitIR.Layer.kind`.
    public let kind: String
    /// Its heads.
    public let heads: Int
    /// The node that it came from.
    public let node: String
    /// Its weights.
    public let parameters: Int
    /// Floating-point operations for one sample.
    public let flops: Int
    /// Why no mixer can stand in for it, or `nil`.
    public let obstacle: String?
    /// What `score` measured, by name.
    public let scores: Attributes
    /// What was decided about it.
    public let choice: VitIR.Layer.Choice
    /// How many patches are merged behind it.
    public let merges: Int
    /// The mixers that were tried in its place.
    public let candidates: [VitIR.Layer.Candidate]

    /// Whether it is attention, and no mixer.
    public var isAttention: Bool { kind == VitIR.Layer.attention }
  }

  /// What was inspected.
  public let model: Model
  /// The float form of a quantised model, whose layers are told of.
  private let floats: Model?
  /// How the model whose layers are told of comes from a quantised one; `nil` where nothing is quantised.
  public var quantisation: String? { floats?.diagnostics.first { $0.code == "dequantised" }?.message }
  /// The attention layers and mixers, in order.
  public let layers: [Layer]
  /// Units like attention that do not mix the tokens of one set, with the reason.
  public let others: [AttentionLike]
  /// The operations with how often they occur, sorted by name.
  public let operations: [(name: String, count: Int)]
  /// Weights.
  public let parameters: Int
  /// In which types weights are stored: how many numbers, and their bytes before they are compressed, the most bytes first.
  public let storage: [(element: ElementType, numbers: Int, bytes: Int)]
  /// Floating-point operations for one sample.
  public let flops: Int
  /// Where a pattern of raising nearly matched, one line each; only where asked for.
  public let misses: [String]

  /// Inspects a model; with `explaining` an ONNX model is raised once more to find out what was in the way.
  public init(_ model: Model, explaining: Bool = false) throws {
    let pool = SerialPool()
    self.model = model
    floats = try model.inFloats()
    let hybrid = floats?.hybrid ?? model.hybrid
    let shapes = try model.inputShapes()
    let samples = BatchForm(model.graph).count ?? 1
    let own = try ModelCost(hybrid.graph, inputShapes: shapes, samples: samples, pool: pool)
    layers = hybrid.layers.map { layer in
      Layer(
        index: layer.index, kind: layer.kind, heads: layer.heads, node: layer.node,
        parameters: layer.parameters,
        flops: own.layer(layer, of: hybrid.graph).flops, obstacle: layer.obstacle,
        scores: layer.scores, choice: layer.choice, merges: layer.merges, candidates: layer.candidates)
    }
    others = hybrid.others
    let graph = model.graph
    let cost = floats == nil ? own : try ModelCost(graph, inputShapes: shapes, samples: samples, pool: pool)
    var counts: [String: Int] = [:]
    for node in graph.nodes { counts[node.name, default: 0] += 1 }
    operations = counts.map { ($0.key, $0.value) }.sorted { $0.name < $1.name }
    parameters = cost.total.parameters
    storage = Inspection.storage(graph)
    flops = cost.total.flops
    guard explaining, model.format == .onnx, let path = model.path else {
      misses = []
      return
    }
    var raw = try Model(
      contentsOf: path, raising: false, inputShapes: model.inputShapes, threads: 1
    ).hybrid
    try Pipeline([Dequantise(), Fold()]).run(on: &raw, context: PassContext(pool: pool, registry: .vitc))
    func text(_ pass: String, _ location: Location, _ reason: String) -> String {
      "\(pass): \(location.node.map { "node '\($0)': " } ?? "")\(reason)"
    }
    let quantised = raw.graph.quantisedNodes.map {
      text(Dequantise.name, $0.location, "'\($0.name)' has no form on floats here and stays")
    }
    misses =
      try quantised
      + Raise.apply(to: &raw.graph, registry: .vitc).misses.map { text($0.pattern, $0.location, $0.reason) }
  }

  private static func storage(_ graph: Graph) -> [(element: ElementType, numbers: Int, bytes: Int)] {
    var sums: [ElementType: (numbers: Int, bytes: Int)] = [:]
    for (id, _) in graph.parameters() {
      guard let tensor = graph.tensor(id), tensor.element != .i64, tensor.element != .bool else { continue }
      sums[tensor.element, default: (0, 0)].numbers += tensor.count
      sums[tensor.element, default: (0, 0)].bytes += tensor.storage.byteCount
    }
    return sums.map { ($0.key, $0.value.numbers, $0.value.bytes) }
      .sorted { ($1.bytes, $0.element.rawValue) < ($0.bytes, $1.element.rawValue) }
  }

  /// The whole as JSON, in the form of `schemas/inspect.schema.json`.
  public var json: JSON {
    func value(_ name: String, _ type: TensorType) -> JSON {
      .object([
        ("name", .string(name)), ("element", .string(type.element.rawValue)),
        ("shape", .array(type.shape.map { $0.fixedValue.map(JSON.int) ?? .string($0.description) })),
      ])
    }
    let graph = model.graph
    return .object([
      ("schema", "vitc.inspect/1"), ("name", .string(graph.name)), ("format", .string(model.format.rawValue)),
      ("bytes", .int(model.byteCount)), ("parameters", .int(parameters)), ("flops", .int(flops)),
      (
        "storage",
        .array(
          storage.map {
            .object([
              ("element", .string($0.element.rawValue)), ("numbers", .int($0.numbers)),
              ("bytes", .int($0.bytes)),
            ])
          })
      ),
      ("inputs", .array(graph.inputs.map { value(graph[$0].name, graph.type($0)) })),
      ("outputs", .array(graph.outputs.map { value($0.name, graph.type($0.value)) })),
      ("operations", .object(operations.map { ($0.name, .int($0.count)) })),
      ("layers", .array(layers.map(\.json))),
      (
        "others",
        .array(others.map { .object([("node", .string($0.node)), ("reason", .string($0.reason))]) })
      ),
      ("quantisation", quantisation.map(JSON.string) ?? .null),
      ("notes", .object(graph.annotations.entries.map { ($0.name, JSON($0.value)) })),
      ("explanations", .array(misses.map(JSON.string))),
      ("lineage", .object(model.lineage.map { ($0.key, .string($0.value)) })),
      ("measurements", model.report ?? .null),
      ("preprocessing", model.preprocessing.map(JSON.string) ?? .null),
      ("labels", .array((model.labels ?? []).map(JSON.string))),
    ])
  }
}

extension Inspection.Layer {
  var json: JSON {
    .object([
      ("index", .int(index)), ("kind", .string(kind)), ("heads", .int(heads)), ("node", .string(node)),
      ("parameters", .int(parameters)), ("flops", .int(flops)), ("replaceable", .bool(obstacle == nil)),
      ("reason", obstacle.map(JSON.string) ?? .null), ("choice", .string(choice.rawValue)),
      ("merges", .int(merges)),
      ("scores", .object(scores.entries.map { ($0.name, JSON($0.value)) })),
      (
        "candidates",
        .array(
          candidates.map { candidate in
            .object(
              [("mixer", .string(candidate.mixer))]
                + candidate.figures.entries.map { ($0.name, JSON($0.value)) })
          })
      ),
    ])
  }
}

extension JSON: ExpressibleByStringLiteral {
  /// A string.
  public init(stringLiteral value: String) { self = .string(value) }

  /// The value of an attribute.
  public init(_ attribute: Attribute) {
    switch attribute {
    case .int(let value): self = .int(value)
    case .float(let value): self = .number(value)
    case .string(let value): self = .string(value)
    case .bool(let value): self = .bool(value)
    case .ints(let values): self = .array(values.map(JSON.int))
    case .floats(let values): self = .array(values.map(JSON.number))
    case .strings(let values): self = .array(values.map(JSON.string))
    }
  }
}
