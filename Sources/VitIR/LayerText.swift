extension Hybrid {
  /// The hybrid as text, which `Hybrid(text:)` reads back: the graph, and behind it the layers.
  ///
  /// ```
  /// layers {
  ///   layer 0 attention %attended(%normal) -> %attended {choice = "kept", heads = 3, parameters = 37248}
  ///     scores {drop = 0.25} candidate "glr{width=24,heads=6,order=bidirectional}" {error = 0.5} at "blocks.0/attn"
  ///   other "pool/attn" "its queries are learned: attention pooling"
  /// }
  /// ```
  /// A layer stands on one line. Throws where a small tensor cannot be read.
  public func text(_ options: TextOptions = TextOptions()) throws -> String {
    let text = try graph.text(options)
    let lines = options.layers ? layerLines : []
    return lines.isEmpty ? text : text + "layers {\n" + lines.map { "  \($0)\n" }.joined() + "}\n"
  }

  /// The lines of the section of layers.
  var layerLines: [String] {
    layers.map { line($0) } + others.map { "other \($0.node.quoted) \($0.reason.quoted)" }
  }

  private func line(_ layer: Layer) -> String {
    func reference(_ id: ValueID?) -> String { id.map(graph.reference) ?? "_" }
    var facts = Attributes([("heads", .int(layer.heads)), ("parameters", .int(layer.parameters))])
    if layer.choice != .undecided { facts["choice"] = .string(layer.choice.rawValue) }
    if layer.merges > 0 { facts["merges"] = .int(layer.merges) }
    if let obstacle = layer.obstacle { facts["obstacle"] = .string(obstacle) }
    var line = "layer \(layer.index) \(layer.kind.asWord) \(reference(layer.core))(\(reference(layer.input)))"
    line += " -> \(reference(layer.output)) \(facts.text)"
    if !layer.scores.isEmpty { line += " scores \(layer.scores.text)" }
    for candidate in layer.candidates {
      line += " candidate \(candidate.mixer.quoted) \(candidate.figures.text)"
    }
    return line + " at \(layer.node.quoted)"
  }
}

extension Layer.Candidate {
  /// What is known of the candidate, by name.
  public var figures: Attributes {
    var figures = Attributes()
    if let error { figures["error"] = .float(error) }
    if let prefixError { figures["error_prefix"] = .float(prefixError) }
    if let patchError { figures["error_patches"] = .float(patchError) }
    if let determination { figures["r2"] = .float(determination) }
    if let damage { figures["damage"] = .float(damage) }
    if let divergence {
      figures["diverged_at"] = .int(divergence.step)
      figures["diverged_rate"] = .float(divergence.rate)
    }
    return figures
  }

  /// A candidate with what is known of it by name; throws for a name or a type that no candidate has.
  public init(mixer: String, figures: Attributes) throws(VitError) {
    self.init(mixer: mixer)
    var reader = AttributeReader(figures)
    error = try reader.optionalFloat("error")
    prefixError = try reader.optionalFloat("error_prefix")
    patchError = try reader.optionalFloat("error_patches")
    determination = try reader.optionalFloat("r2")
    damage = try reader.optionalFloat("damage")
    let (step, rate) = (
      try reader.optionalInt("diverged_at"), try reader.optionalFloat("diverged_rate")
    )
    if let step, let rate { divergence = Layer.Divergence(step: step, rate: rate) }
    try reader.finish()
  }
}

extension Layer {
  /// Reads what stands in braces behind a layer's values.
  mutating func read(_ facts: Attributes) throws(VitError) {
    var reader = AttributeReader(facts)
    heads = try reader.int("heads")
    parameters = try reader.int("parameters")
    obstacle = try reader.optionalString("obstacle")
    if let text = try reader.optionalString("choice") {
      guard let value = Choice(rawValue: text) else {
        throw VitError(
          "a layer's choice cannot be '\(text)' (expected one of "
            + "\(Choice.allCases.map(\.rawValue).joined(separator: ", ")))", code: "attribute-value")
      }
      choice = value
    }
    merges = try reader.optionalInt("merges") ?? 0
    guard merges >= 0 else {
      throw VitError("a layer cannot merge \(merges) patches", code: "attribute-value")
    }
    try reader.finish()
  }
}
