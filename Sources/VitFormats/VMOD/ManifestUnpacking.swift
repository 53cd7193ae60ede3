internal import CVitFormats
internal import VitIR

extension Manifest {
  /// Reads the manifest of a file of `version`; throws where the bytes are no such message.
  init(unpacking bytes: [UInt8], version: UInt32) throws(VitError) {
    let message = try unpack(bytes, version, vitc__vmod__manifest__init, vitc__vmod__manifest__unpack)
    defer { vitc__vmod__manifest__free_unpacked(message, nil) }
    let manifest = message.pointee
    guard let graph = manifest.graph else { throw damaged("the manifest has no graph") }
    self.graph = try GraphRecord(graph.pointee)
    preprocessing = try entries(manifest.n_preprocessing, manifest.preprocessing, "preprocessing")
    for label in UnsafeBufferPointer(start: manifest.labels, count: manifest.n_labels) {
      labels.append(try decoded(label, "a label"))
    }
    lineage = try entries(manifest.n_lineage, manifest.lineage, "lineage")
    for probe in items(manifest.n_probes, manifest.probes) {
      probes.append(
        ProbeRecord(
          inputs: try tensorRecords(probe.n_inputs, probe.inputs),
          outputs: try tensorRecords(probe.n_outputs, probe.outputs), tolerance: probe.tolerance))
    }
    report = try decoded(manifest.report, "the report")
    for layer in items(manifest.n_layers, manifest.layers) { layers.append(try LayerRecord(layer)) }
    for unit in items(manifest.n_others, manifest.others) {
      others.append(
        AttentionLike(
          node: try decoded(unit.node, "the node of a unit"),
          reason: try decoded(unit.reason, "what was found of a unit")))
    }
  }

  /// Reads a table of tensors without a graph.
  static func tensors(unpacking bytes: [UInt8], version: UInt32) throws(VitError) -> [TensorRecord] {
    let message = try unpack(bytes, version, vitc__vmod__tensor_table__init, vitc__vmod__tensor_table__unpack)
    defer { vitc__vmod__tensor_table__free_unpacked(message, nil) }
    return try tensorRecords(message.pointee.n_tensors, message.pointee.tensors)
  }

  /// Reads the places of the frames.
  static func frames(unpacking bytes: [UInt8], version: UInt32) throws(VitError) -> [FrameRecord] {
    let message = try unpack(bytes, version, vitc__vmod__frame_table__init, vitc__vmod__frame_table__unpack)
    defer { vitc__vmod__frame_table__free_unpacked(message, nil) }
    var frames: [FrameRecord] = []
    for frame in items(message.pointee.n_frames, message.pointee.frames) {
      guard let encoding = FrameRecord.Encoding(rawValue: frame.encoding.rawValue) else {
        throw damaged("a frame has the unknown encoding \(frame.encoding.rawValue)")
      }
      guard let size = Int(exactly: frame.size) else { throw damaged("a frame has \(frame.size) bytes") }
      frames.append(FrameRecord(size: size, checksum: frame.checksum, encoding: encoding))
    }
    return frames
  }
}

private func damaged(_ message: String) -> VitError { VitError(message, code: "bad-manifest") }

/// Scans a message, then lets protobuf-c unpack it; the result must be freed.
private func unpack<Message>(
  _ bytes: [UInt8], _ version: UInt32, _ initialise: @escaping (UnsafeMutablePointer<Message>?) -> Void,
  _ unpack:
    @escaping (UnsafeMutablePointer<ProtobufCAllocator>?, Int, UnsafePointer<UInt8>?) -> UnsafeMutablePointer<
      Message
    >?
) throws(VitError) -> UnsafeMutablePointer<Message> {
  // Every message begins with its `ProtobufCMessage`, which leads to the descriptor.
  let empty = UnsafeMutablePointer<Message>.allocate(capacity: 1)
  defer { empty.deallocate() }
  initialise(empty)
  let base = UnsafeRawPointer(empty).load(as: ProtobufCMessage.self)
  guard let descriptor = base.descriptor else { preconditionFailure("a message without a descriptor") }
  try ManifestScan.check(bytes, descriptor, version: version)
  guard let message = bytes.withUnsafeBufferPointer({ unpack(nil, $0.count, $0.baseAddress) }) else {
    throw damaged("the manifest is no message of the kind that it should be")
  }
  return message
}

/// The messages of a list.
private func items<Message>(
  _ count: Int, _ list: UnsafeMutablePointer<UnsafeMutablePointer<Message>?>?
) -> some Sequence<Message> {
  UnsafeBufferPointer(start: list, count: count).lazy.compactMap { $0?.pointee }
}

private func decoded(_ data: ProtobufCBinaryData, _ what: String) throws(VitError) -> String {
  let bytes = UnsafeBufferPointer(start: data.data, count: data.len)
  guard let text = String(validating: bytes, as: UTF8.self) else { throw damaged("\(what) is no UTF-8") }
  return text
}

private func entries(
  _ count: Int, _ list: UnsafeMutablePointer<UnsafeMutablePointer<Vitc__Vmod__Entry>?>?, _ what: String
) throws(VitError) -> [(key: String, value: String)] {
  var entries: [(key: String, value: String)] = []
  var keys: Set<String> = []
  for entry in items(count, list) {
    let key = try decoded(entry.key, "a key of the \(what)")
    guard keys.insert(key).inserted else { throw damaged("the \(what) has the key '\(key)' twice") }
    entries.append((key, try decoded(entry.value, "the \(what) '\(key)'")))
  }
  return entries
}

private func tensorRecords(
  _ count: Int, _ list: UnsafeMutablePointer<UnsafeMutablePointer<Vitc__Vmod__Tensor>?>?
) throws(VitError) -> [TensorRecord] {
  var records: [TensorRecord] = []
  var names: Set<String> = []
  for tensor in items(count, list) {
    let name = try decoded(tensor.name, "the name of a tensor")
    guard names.insert(name).inserted else { throw damaged("there are two tensors '\(name)' in a list") }
    let digest = [UInt8](UnsafeBufferPointer(start: tensor.digest.data, count: tensor.digest.len))
    guard digest.count == Digest.byteCount else {
      throw damaged(
        "the digest of the tensor '\(name)' has \(digest.count) bytes, expected \(Digest.byteCount)")
    }
    records.append(
      TensorRecord(name: name, type: try decoded(tensor.type, "the type of '\(name)'"), digest: digest))
  }
  return records
}

extension GraphRecord {
  fileprivate init(_ graph: Vitc__Vmod__Graph) throws(VitError) {
    name = try decoded(graph.name, "the name of the graph")
    annotations = try Attributes(graph.n_annotations, graph.annotations)
    inputs = try ValueRecord.list(graph.n_inputs, graph.inputs)
    tensors = try tensorRecords(graph.n_tensors, graph.tensors)
    for node in items(graph.n_nodes, graph.nodes) {
      let operands = UnsafeBufferPointer(start: node.operands, count: node.n_operands)
      nodes.append(
        NodeRecord(
          operation: try decoded(node.operation, "the operation of a node"),
          attributes: try Attributes(node.n_attributes, node.attributes),
          operands: operands.map { $0 == 0 ? nil : Int($0) - 1 },
          results: try ValueRecord.list(node.n_results, node.results),
          origin: try decoded(node.origin, "the origin of a node")))
    }
    for output in items(graph.n_outputs, graph.outputs) {
      outputs.append((try decoded(output.name, "the name of an output"), Int(output.value)))
    }
  }
}

extension LayerRecord {
  fileprivate init(_ layer: Vitc__Vmod__Layer) throws(VitError) {
    func number(_ value: UInt64, _ what: String) throws(VitError) -> Int {
      guard let number = Int(exactly: value) else { throw damaged("a layer has \(value) \(what)") }
      return number
    }
    index = Int(layer.index)
    kind = try decoded(layer.kind, "the kind of a layer")
    heads = try number(layer.heads, "heads")
    node = try decoded(layer.node, "the node of a layer")
    guard layer.core > 0 else { throw damaged("layer \(layer.index) is around no value") }
    core = Int(layer.core) - 1
    input = layer.input == 0 ? nil : Int(layer.input) - 1
    output = layer.output == 0 ? nil : Int(layer.output) - 1
    parameters = try number(layer.parameters, "parameters")
    let reason = try decoded(layer.obstacle, "the obstacle of a layer")
    obstacle = reason.isEmpty ? nil : reason
    switch layer.choice {
    case VITC__VMOD__LAYER__CHOICE__UNDECIDED: choice = .undecided
    case VITC__VMOD__LAYER__CHOICE__KEPT: choice = .kept
    case VITC__VMOD__LAYER__CHOICE__SELECTED: choice = .selected
    case VITC__VMOD__LAYER__CHOICE__ON_TRIAL: choice = .onTrial
    default: throw damaged("layer \(layer.index) has the unknown choice \(layer.choice.rawValue)")
    }
    merges = try number(layer.merges, "merged patches")
    scores = try Attributes(layer.n_scores, layer.scores)
    candidates = []
    for candidate in items(layer.n_candidates, layer.candidates) {
      candidates.append(
        try Layer.Candidate(
          mixer: try decoded(candidate.mixer, "a mixer"),
          figures: try Attributes(candidate.n_figures, candidate.figures)))
    }
  }
}

extension ValueRecord {
  fileprivate static func list(
    _ count: Int, _ list: UnsafeMutablePointer<UnsafeMutablePointer<Vitc__Vmod__Value>?>?
  ) throws(VitError) -> [ValueRecord] {
    var records: [ValueRecord] = []
    for value in items(count, list) {
      let name = try decoded(value.name, "the name of a value")
      records.append(ValueRecord(name: name, type: try decoded(value.type, "the type of '\(name)'")))
    }
    return records
  }
}

extension Attributes {
  fileprivate init(
    _ count: Int, _ list: UnsafeMutablePointer<UnsafeMutablePointer<Vitc__Vmod__Attribute>?>?
  ) throws(VitError) {
    self.init()
    var last: String?
    for attribute in items(count, list) {
      let name = try decoded(attribute.name, "the name of an attribute")
      // In order, each name once: then the position of each is the last, and adding it takes no search.
      if let last, last >= name { throw damaged("the attributes '\(last)' and '\(name)' are not in order") }
      last = name
      self[name] = try Attribute(attribute, name)
    }
  }
}

extension Attribute {
  fileprivate init(_ message: Vitc__Vmod__Attribute, _ name: String) throws(VitError) {
    let ints = UnsafeBufferPointer(start: message.ints, count: message.n_ints).map(Int.init)
    let floats = [Double](UnsafeBufferPointer(start: message.floats, count: message.n_floats))
    var strings: [String] = []
    for string in UnsafeBufferPointer(start: message.strings, count: message.n_strings) {
      strings.append(try decoded(string, "the attribute '\(name)'"))
    }
    switch (message.kind, ints.count, floats.count, strings.count) {
    case (.int, 1, 0, 0): self = .int(ints[0])
    case (.float, 0, 1, 0): self = .float(floats[0])
    case (.string, 0, 0, 1): self = .string(strings[0])
    case (.bool, 1, 0, 0) where ints[0] == 0 || ints[0] == 1: self = .bool(ints[0] == 1)
    case (.ints, _, 0, 0): self = .ints(ints)
    case (.floats, 0, _, 0): self = .floats(floats)
    case (.strings, 0, 0, _): self = .strings(strings)
    default:
      throw damaged(
        "the attribute '\(name)' has values that its kind \(message.kind.rawValue) does not allow")
    }
  }
}
