internal import VitData
internal import VitFormats
public import VitIR
internal import VitOps
internal import VitPasses
internal import VitRuntime

/// How a model is written as ONNX.
public struct OnnxExport: Sendable {
  /// The version of the standard operators, from 13 to 24.
  public var opset = 17
  /// The type in which weights are written, `f32` or `f16`; they are computed in f32 either way.
  public var weights = ElementType.f32
  /// Whether constants go into a second file, whatever their size.
  public var isSplit = false

  /// The defaults.
  public init() {}

  /// The file beside `path` that holds the constants, where they are in one of their own.
  public static func dataPath(of path: String) -> String { OnnxWriter.dataPath(of: path) }

  /// Throws a usage error where the options make no sense.
  public func check() throws(VitError) {
    guard OnnxForm.versions.contains(opset) else {
      throw VitError(
        "opset \(opset) is not written, expected \(OnnxForm.versions.lowerBound) to \(OnnxForm.versions.upperBound)",
        kind: .usage, code: "option-value")
    }
    guard weights == .f32 || weights == .f16 else {
      throw VitError(
        "weights are written as f32 or f16, found \(weights.rawValue)", kind: .usage, code: "option-value")
    }
  }
}

extension Model {
  private static let preprocessingKey = "vitc.preprocessing"
  private static let labelsKey = "vitc.labels"

  /// What a file's metadata say of the model, as `writeONNX` writes it; what makes no sense is left out.
  static func card(from metadata: [(key: String, value: String)]) -> Card {
    var card = Card()
    for (key, value) in metadata {
      switch key {
      case preprocessingKey:
        let settings = value.split(separator: " ").compactMap { word -> (key: String, value: String)? in
          let parts = word.split(separator: "=", maxSplits: 1).map(String.init)
          return parts.count == 2 ? (parts[0], parts[1]) : nil
        }
        if (try? Preprocess(settings: settings)) != nil { card.preprocessing = settings }
      case labelsKey:
        guard case .list(let list)? = try? JSONValue(parsing: Array(value.utf8)) else { continue }
        let names = list.compactMap { if case .text(let name) = $0 { name } else { nil } }
        if names.count == list.count { card.labels = names }
      default: break
      }
    }
    return card
  }

  /// Throws where an operation of the model has no standard operator of that version, and cannot be written.
  public func checkONNX(_ export: OnnxExport = OnnxExport()) throws {
    var hybrid = Hybrid(graph)
    _ = try Lower(opset: export.opset).run(
      on: &hybrid, context: PassContext(pool: ThreadPool(threads: 1), registry: .vitc))
  }

  /// Writes the model as an ONNX file of standard operators; gives the files that were written: constants beyond what one file
  /// may hold are in a second beside it.
  ///
  /// The number of images stays open where it is open in the model; how images are prepared and what classes are called is in
  /// the file's metadata, `vitc.preprocessing` as in `--preprocess` and `vitc.labels` as a JSON list, from where it is read again. Throws where an operation has no
  /// standard operator of that version.
  @discardableResult
  public func writeONNX(
    to path: String, _ export: OnnxExport = OnnxExport(), threads: Int? = nil
  ) throws -> [String] {
    try export.check()
    let context = PassContext(pool: ThreadPool.shared(threads: threads), registry: .vitc)
    var hybrid = Hybrid(graph)
    try Pipeline([Lower(opset: export.opset), Fold(), DeadCode()]).run(on: &hybrid, context: context)
    var encoder = OnnxEncoder(hybrid.graph, export)
    var file = try encoder.file()
    let preprocessing = card.preprocessing.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
    if !preprocessing.isEmpty { file.metadata.append((Model.preprocessingKey, preprocessing)) }
    if let labels, !labels.isEmpty {
      file.metadata.append((Model.labelsKey, JSON.array(labels.map(JSON.string)).line))
    }
    return try OnnxWriter(file, to: path, splitting: export.isSplit).write()
  }
}

/// Makes of a graph of standard operators what a file says.
private struct OnnxEncoder {
  private let graph: Graph
  private let export: OnnxExport
  private var names: [ValueID: String] = [:]
  private var taken: Set<String>
  /// The names of nodes, no two of which may be the same.
  private var titles: Set<String> = []
  private var result: OnnxFile

  /// Constants of fewer elements stay f32: there is nothing to save.
  private static let least = 64
  /// The largest number in half precision: a constant that holds a larger one stays f32.
  private static let mostHalf = 65504.0

  init(_ graph: Graph, _ export: OnnxExport) {
    (self.graph, self.export) = (graph, export)
    taken = Set(graph.values.map(\.name))
    result = OnnxFile(
      opset: export.opset, name: graph.name.isEmpty ? "model" : graph.name, producer: "vitc",
      version: Version.current)
  }

  mutating func file() throws(VitError) -> OnnxFile {
    result.inputs = graph.inputs.map { (graph[$0].name, graph.type($0)) }
    var defined = Set(graph.inputs)
    nameOutputs()
    for node in graph.nodes {
      let form = try OnnxForm(node, in: graph, opset: export.opset)
      for case .value(let id?) in form.operands where defined.insert(id).inserted { try constant(id) }
      add(node, form)
      defined.formUnion(node.results)
    }
    for (name, value) in graph.outputs {
      if defined.insert(value).inserted { try constant(value) }
      if self.name(value) != name {
        result.nodes.append(
          OnnxFile.Node("Identity", name: title(name, value), inputs: [self.name(value)], outputs: [name]))
      }
      result.outputs.append((name, graph.type(value)))
    }
    return result
  }

  /// What a node computes that is an output has that output's name, if it has no other.
  private mutating func nameOutputs() {
    let computed = Set(graph.nodes.flatMap(\.results))
    for (name, value) in graph.outputs where computed.contains(value) && names[value] == nil {
      names[value] = name
      taken.insert(name)
    }
    let outputs = Set(graph.outputs.map(\.name))
    let inputs = Set(graph.inputs)
    for id in graph.values.indices.map(graph.valueID)
    where names[id] == nil && outputs.contains(graph[id].name) && !inputs.contains(id) {
      // An output has that name, and is another value.
      names[id] = fresh(graph[id].name)
    }
  }

  private func name(_ id: ValueID) -> String { names[id] ?? graph[id].name }

  private mutating func fresh(_ stem: String) -> String {
    var (name, number) = (stem, 1)
    while !taken.insert(name).inserted {
      number += 1
      name = "\(stem).\(number)"
    }
    return name
  }

  /// A constant of the graph, in the type in which it is computed, or read from half precision.
  private mutating func constant(_ id: ValueID) throws(VitError) {
    guard let tensor = graph.tensor(id), !tensor.isElided else {
      throw VitError("the elements of '\(graph[id].name)' are missing", code: "tensor-missing")
    }
    let element = graph.type(id).element
    guard export.weights == .f16, element == .f32, tensor.count >= OnnxEncoder.least,
      (try? tensor.doubles())?.allSatisfy({ abs($0) <= OnnxEncoder.mostHalf || !$0.isFinite }) ?? false
    else {
      result.initializers.append(OnnxFile.Initializer(name(id), tensor, as: element))
      return
    }
    let half = fresh(name(id) + ".f16")
    result.initializers.append(OnnxFile.Initializer(half, tensor, as: .f16))
    result.nodes.append(
      OnnxFile.Node(
        "Cast", name: title(name(id), id), inputs: [half], outputs: [name(id)],
        attributes: [("to", .int(ElementType.f32.onnx))]))
  }

  /// A name for a node that no other has.
  private mutating func title(_ wanted: String, _ result: ValueID?) -> String {
    var (title, number) = (wanted, 1)
    while !titles.insert(title).inserted {
      title = "\(wanted):\(result.map(name) ?? "")" + (number > 1 ? ".\(number)" : "")
      number += 1
    }
    return title
  }

  private mutating func add(_ node: Node, _ form: OnnxForm) {
    var inputs: [String] = []
    let title = self.title(node.location.node ?? form.type, node.results.first)
    for operand in form.operands {
      switch operand {
      case .value(let id): inputs.append(id.map(name) ?? "")
      case .constant(let tensor):
        let own = fresh("\(node.results.first.map(name) ?? form.type).operand")
        result.initializers.append(OnnxFile.Initializer(own, tensor, as: tensor.element))
        inputs.append(own)
      }
    }
    var outputs = node.results.map(name)
    var cast: OnnxFile.Node?
    if form.needsCast, let output = outputs.first, let id = node.results.first {
      outputs[0] = fresh(output + ".cast")
      cast = OnnxFile.Node(
        "Cast", name: self.title(output, id), inputs: [outputs[0]], outputs: [output],
        attributes: [("to", .int(graph.type(id).element.onnx))])
    }
    result.nodes.append(
      OnnxFile.Node(
        form.type, name: title, inputs: inputs, outputs: outputs, attributes: form.attributes,
        tensor: form.tensor))
    if let cast { result.nodes.append(cast) }
  }
}
