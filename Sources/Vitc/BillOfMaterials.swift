internal import VitFormats
internal import VitIR
internal import VitPasses

extension Model {
  /// What the model is and was made of, as a bill of materials (CycloneDX 1.6, ECMA-424): a machine-learning model with its card, its teacher as
  /// what it descends from, vitc as the tool. No time and no number of its own is in it: the same file gives the same text.
  ///
  /// Throws where the model's file cannot be read.
  public func billOfMaterials() throws -> JSON {
    let tool: JSON = .object([
      ("type", "application"), ("name", "vitc"),
      ("version", .string(lineage("version") ?? Version.current)),
    ])
    return .object([
      ("$schema", "http://cyclonedx.org/schema/bom-1.6.schema.json"), ("bomFormat", "CycloneDX"),
      ("specVersion", "1.6"), ("version", .int(1)),
      (
        "metadata",
        .object([
          ("tools", .object([("components", .array([tool]))])), ("component", try component()),
        ])
      ),
    ])
  }

  private func lineage(_ key: String) -> String? { lineage.first { $0.key == key }?.value }

  private func component() throws -> JSON {
    var members: [(String, JSON)] = [
      ("type", "machine-learning-model"), ("bom-ref", "model"), ("name", .string(name)),
      ("modelCard", modelCard()),
    ]
    if let path { members.append(("hashes", Model.hashes(try Digest(ofFile: path).description))) }
    let ancestors = [("teacher", "teacher"), ("backbone", "backbone")].compactMap { key, name in
      lineage(key).map { digest in
        JSON.object([
          ("type", "machine-learning-model"), ("bom-ref", .string(name)), ("name", .string(name)),
          ("hashes", Model.hashes(digest)),
        ])
      }
    }
    if !ancestors.isEmpty { members.append(("pedigree", .object([("ancestors", .array(ancestors))]))) }
    let properties =
      lineage.filter { !["teacher", "backbone", "data", "version"].contains($0.key) }
      + [("parameters", "\(graph.parameterCount)")]
    members.append(("properties", Model.properties(properties)))
    return .object(members)
  }

  /// The file's name without folders; of what no file holds the graph's.
  private var name: String {
    guard let path, let last = path.split(separator: "/").last else { return graph.name }
    return String(last).escapedForDisplay
  }

  private func modelCard() -> JSON {
    let replaced = hybrid.layers.filter { $0.kind != "attention" }
    let kinds = replaced.map { "layer \($0.index) \($0.kind)" }.joined(separator: ", ")
    func formats(_ types: [(String, TensorType)]) -> JSON {
      .array(types.map { .object([("format", .string("\($0.0.escapedForDisplay): \($0.1)"))]) })
    }
    var parameters: [(String, JSON)] = [
      ("architectureFamily", "vision transformer"),
      (
        "modelArchitecture",
        .string(
          "\(hybrid.layers.count) attention layers"
            + (replaced.isEmpty ? "" : ", of which others stand in for \(replaced.count): \(kinds)"))
      ), ("inputs", formats(graph.inputs.map { (graph[$0].name, graph.type($0)) })),
      ("outputs", formats(graph.outputs.map { ($0.name, graph.type($0.value)) })),
    ]
    if labels != nil { parameters.append(("task", "image classification")) }
    if let data = lineage("data") {
      let contents = JSON.object([("properties", Model.properties([("digest", data)]))])
      parameters.append(
        (
          "datasets",
          .array([.object([("type", "dataset"), ("name", "calibration images"), ("contents", contents)])])
        ))
    }
    var members: [(String, JSON)] = [("modelParameters", .object(parameters))]
    let metrics = metrics
    if !metrics.isEmpty {
      members.append(("quantitativeAnalysis", .object([("performanceMetrics", .array(metrics))])))
    }
    return .object(members)
  }

  /// What its compile measured on images.
  private var metrics: [JSON] {
    guard let fidelity = report?["fidelity"] else { return [] }
    let images = fidelity["images"]?.number.flatMap(Int.init(exactly:)).map { "\($0) images" }
    return [
      ("accuracy", "accuracy"), ("agreement with the teacher", "agreement"), ("KL from the teacher", "kl"),
    ].compactMap { type, key in
      guard let value = fidelity[key]?.number else { return nil }
      var members: [(String, JSON)] = [("type", .string(type)), ("value", .string("\(value)"))]
      if let images { members.append(("slice", .string(images))) }
      if key == "kl", let error = fidelity["kl_error"]?.number {
        let bounds = [("lowerBound", value - 1.96 * error), ("upperBound", value + 1.96 * error)]
        members.append(("confidenceInterval", .object(bounds.map { ($0.0, .string("\($0.1)")) })))
      }
      return .object(members)
    }
  }

  private static func hashes(_ digest: String) -> JSON {
    .array([.object([("alg", "SHA-256"), ("content", .string(digest))])])
  }

  private static func properties(_ entries: [(key: String, value: String)]) -> JSON {
    .array(
      entries.map {
        .object([("name", .string("vitc:\($0.key)")), ("value", .string($0.value.escapedForDisplay))])
      })
  }
}
