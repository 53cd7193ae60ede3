internal import VitData
internal import VitIR

/// A compile's report as it was written, for those who show it.
struct ReportDocument {
  /// One layer.
  struct Layer {
    let index: Int
    let kind: String
    let isSelected: Bool
    /// What stands there, and the attention that it replaced, as far as they are known: parameters and operations.
    let cost, attention: (parameters: Double, flops: Double)?
    /// What was found out, by name.
    let scores: [String: Double]
    /// The errors of mixers that mix no contents.
    let floors: [String: Double]
  }

  /// The report itself.
  let json: JSON
  /// Its layers, in order.
  let layers: [Layer]

  /// The name of the form.
  static let schema = "vitc.report/1"

  /// The report in a file; throws for a file that is missing, or no report of this form.
  init(contentsOf path: String) throws {
    let document = try JSONValue.read(path)
    do throws(VitError) { try self.init(JSON(document)) } catch { throw error.at(Location(file: path)) }
  }

  /// The report of a document; throws where it is none of this form.
  init(_ json: JSON) throws(VitError) {
    guard case .string(let schema)? = json["schema"] else {
      throw ReportDocument.bad("expected a report ('\(ReportDocument.schema)'), found no 'schema'")
    }
    guard schema == ReportDocument.schema else {
      let isReport = schema.hasPrefix("vitc.report/")
      throw ReportDocument.bad(
        "expected a report ('\(ReportDocument.schema)'), found '\(schema)'",
        help: isReport ? "a newer vitc wrote it, and can show it" : nil)
    }
    self.json = json
    for (object, members) in [
      ("teacher", ["parameters", "flops"]), ("hybrid", ["parameters", "flops"]), ("fidelity", ["images"]),
    ] {
      for member in members where json[object]?[member]?.number == nil {
        throw ReportDocument.bad("the report has no number '\(object).\(member)'")
      }
    }
    guard case .array(let layers)? = json["layers"] else {
      throw ReportDocument.bad("the report has no list 'layers'")
    }
    guard layers.count <= ReportDocument.mostLayers else {
      throw ReportDocument.bad(
        "the report has \(layers.count) layers, expected at most \(ReportDocument.mostLayers)")
    }
    var found: [Layer] = []
    for (place, layer) in layers.enumerated() {
      guard case .int(let index)? = layer["index"], case .string(let kind)? = layer["kind"] else {
        throw ReportDocument.bad("layer \(place) of the report has no 'index' or no 'kind'")
      }
      func cost(_ name: String) -> (Double, Double)? {
        guard let parameters = layer[name]?["parameters"]?.number, let flops = layer[name]?["flops"]?.number
        else { return nil }
        return (parameters, flops)
      }
      found.append(
        Layer(
          index: index, kind: kind, isSelected: layer["selected"] == .bool(true), cost: cost("cost"),
          attention: cost("attention"), scores: ReportDocument.numbers(layer["scores"]),
          floors: ReportDocument.numbers(layer["floors"])))
    }
    self.layers = found
  }

  /// The most layers, and the most numbers of one, that a page shows.
  private static let (mostLayers, mostNumbers) = (1024, 32)

  private static func bad(_ message: String, help: String? = nil) -> VitError {
    VitError(
      message, code: "report-schema", help: help ?? "give what 'vitc compile --report FILE.json' wrote")
  }

  private static func numbers(_ json: JSON?) -> [String: Double] {
    guard case .members(let members)? = json else { return [:] }
    let known = members.compactMapValues(\.number).sorted { $0.key < $1.key }.prefix(mostNumbers)
    return Dictionary(uniqueKeysWithValues: known.map { ($0.key, $0.value) })
  }

  /// The number at a path; `nil` where there is none.
  func number(_ path: String...) -> Double? {
    path.reduce(Optional(json)) { $0?[$1] }?.number
  }

  /// The text of a member.
  func text(_ name: String) -> String? {
    if case .string(let text)? = json[name] { text } else { nil }
  }

  /// The elements of a list.
  func list(_ name: String) -> [JSON] {
    if case .array(let elements)? = json[name] { elements } else { [] }
  }
}

extension JSON {
  /// The text of a member.
  func text(_ name: String) -> String? {
    if case .string(let text)? = self[name] { text } else { nil }
  }

  /// The elements of a list in it.
  func list(_ name: String) -> [JSON] {
    if case .array(let elements)? = self[name] { elements } else { [] }
  }
}
