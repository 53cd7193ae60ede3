internal import VitData
internal import VitFormats
internal import VitIR

extension Golden {
  /// The name of the form.
  static let schema = "vitc.golden/1"
  /// What names of this form and of later versions begin with.
  static let anySchema = "vitc.golden/"

  /// The golden in a file; throws for one that is missing, or no golden.
  public init(contentsOf path: String) throws {
    let document = try JSONValue.read(path)
    do throws(VitError) { try self.init(JSON(document)) } catch { throw error.at(Location(file: path)) }
  }

  /// Writes the golden, which appears whole or not at all.
  public func write(to path: String) throws { try TextFile.write(json.review, to: path) }

  /// The golden of a document; throws where it is none.
  init(_ json: JSON) throws(VitError) {
    let reader = JSONReader(json, of: .golden)
    let schema = try reader.text("schema")
    guard schema == Golden.schema else {
      throw VitError("expected a golden ('\(Golden.schema)'), found '\(schema)'", code: "golden-schema")
    }
    self.init(model: try reader.text("model"))
    bytes = try reader.whole("bytes")
    digest = try reader.text("digest")
    for (key, value) in try reader.members("lineage") { lineage[key] = try value.text() }
    interface = try reader.list("interface").map { value throws(VitError) in try value.text() }
    parameters = try reader.whole("parameters")
    flops = try reader.whole("flops")
    layers = try reader.list("layers").map { value throws(VitError) in try value.text() }
    operations = try reader.list("operations").map { entry throws(VitError) in
      Operation(
        operation: try entry.text("operation"), node: try entry.text("node"),
        reads: try entry.text("reads").split(separator: " ").map(String.init),
        layer: entry.has("layer") ? try entry.whole("layer") : nil,
        value: entry.has("sums") ? try entry.sketch() : nil)
    }
    for (name, entry) in try reader.members("tensors") {
      tensors[name] = Tensor(
        type: try entry.text("type"), node: entry.has("node") ? try entry.text("node") : nil,
        digest: try entry.text("digest"), contents: try entry.sketch())
    }
    outputs = try reader.list("outputs").map { entry throws(VitError) in
      let shape = try entry.wholes("shape")
      let values = try entry.numbers("values")
      guard values.count == Output.expected(shape) else {
        throw try entry.member("values").bad("list of as many numbers as an output of \(shape) has")
      }
      return Output(
        name: try entry.text("name"), shape: shape, values: values, largest: try entry.number("largest"))
    }
    let named = outputs.map { "output \($0.name) " }
    let wanted = interface.filter { $0.hasPrefix("output ") }
    guard named.count == wanted.count, zip(wanted, named).allSatisfy({ $0.hasPrefix($1) }) else {
      throw VitError(
        "'outputs' are not those that 'interface' names", code: "golden-value",
        help: JSONReader.Subject.golden.help)
    }
    if reader.has("scores") {
      let entry = try reader.member("scores")
      var figures: [String: Double] = [:]
      for (name, value) in try entry.members("figures") { figures[name] = try value.number() }
      scores = Scores(
        data: try entry.text("data"), digest: try entry.text("digest"),
        teacher: entry.has("teacher") ? try entry.text("teacher") : nil, images: try entry.whole("images"),
        figures: figures)
    }
    for (name, value) in try reader.members("budgets") {
      guard Budgets.all.contains(where: { $0.name == name }) else {
        throw VitError(
          "'budgets' has '\(name)', which is no limit", code: "golden-value",
          help: "limits are \(Budgets.all.map(\.name).joined(separator: ", "))")
      }
      budgets.limits[name] = try value.number()
    }
    let tolerances = try reader.member("tolerance")
    tolerance.outputs = try tolerances.number("outputs")
    tolerance.points = try tolerances.number("points")
    tolerance.divergence = try tolerances.number("divergence")
    let allowed = try reader.text("allow")
    guard let allowance = Allowance(rawValue: allowed) else {
      throw VitError(
        "'allow' is '\(allowed)', expected \(Allowance.allCases.map(\.rawValue).joined(separator: ", "))",
        code: "golden-value")
    }
    self.allowance = allowance
  }

  /// The golden as a document.
  var json: JSON {
    .object([
      ("schema", .string(Golden.schema)), ("model", .string(model)), ("bytes", .int(bytes)),
      ("digest", .string(digest)), ("lineage", .members(lineage.mapValues(JSON.string))),
      ("interface", .array(interface.map(JSON.string))), ("parameters", .int(parameters)),
      ("flops", .int(flops)), ("layers", .array(layers.map(JSON.string))),
      (
        "operations",
        .array(
          operations.map { entry in
            .object(
              [
                ("operation", .string(entry.operation)), ("node", .string(entry.node)),
                ("reads", .string(entry.reads.joined(separator: " "))),
              ]
                + (entry.layer.map { [("layer", .int($0))] } ?? []) + (entry.value?.members ?? []))
          })
      ),
      (
        "tensors",
        .members(
          tensors.mapValues {
            .object(
              [("type", .string($0.type)), ("digest", .string($0.digest))]
                + ($0.node.map { [("node", .string($0))] } ?? []) + $0.contents.members)
          })
      ),
      (
        "outputs",
        .array(
          outputs.map {
            .object(
              [
                ("name", .string($0.name)), ("shape", .array($0.shape.map(JSON.int))),
                ("values", .array($0.values.map(JSON.real))), ("largest", .real($0.largest)),
              ])
          })
      ),
      ("scores", scores?.json ?? .null),
      ("budgets", .members(budgets.limits.mapValues(JSON.number))),
      (
        "tolerance",
        .object([
          ("outputs", .number(tolerance.outputs)), ("points", .number(tolerance.points)),
          ("divergence", .number(tolerance.divergence)),
        ])
      ), ("allow", .string(allowance.rawValue)),
    ])
  }
}

extension JSON {
  /// A number, or the name of what is none.
  fileprivate static func real(_ value: Double) -> JSON {
    value.isFinite ? .number(value) : .string(value.isNaN ? "nan" : value < 0 ? "-inf" : "inf")
  }
}

extension Golden.Output {
  /// How many numbers an output of that shape has here; `nil` for a shape that there cannot be.
  fileprivate static func expected(_ shape: [Int]) -> Int? {
    var count = 1
    for extent in shape {
      let (product, overflow) = count.multipliedReportingOverflow(by: extent)
      guard extent >= 0, !overflow, product < 1 << 40 else { return nil }
      count = product
    }
    let run = run(of: count)
    return (count + run - 1) / run
  }
}

extension Golden.Scores {
  fileprivate var json: JSON {
    .object([
      ("data", .string(data)), ("digest", .string(digest)), ("teacher", teacher.map(JSON.string) ?? .null),
      ("images", .int(images)), ("figures", .members(figures.mapValues(JSON.number))),
    ])
  }
}

extension Sketch {
  fileprivate var members: [(String, JSON)] {
    [("size", .real(size)), ("sums", .array(sums.map(JSON.real)))]
  }
}

extension JSONReader.Subject {
  /// A golden.
  fileprivate static let golden = JSONReader.Subject(
    name: "golden", code: "golden-value",
    help: "take it from version control, or remove it and record it with 'vitc golden init'")
}

extension JSONReader {
  func sketch() throws(VitError) -> Sketch {
    let size = try member("size").real()
    guard let sketch = Sketch(size: size, sums: try numbers("sums")) else {
      throw try member("sums").bad("list of \(Sketch.count) numbers")
    }
    return sketch
  }
}
