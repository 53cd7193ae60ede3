internal import CVitFormats
internal import VitIR

extension Manifest {
  /// The manifest as a protocol buffer; the same manifest gives the same bytes.
  func packed() -> [UInt8] {
    let arena = PackArena()
    var message = Vitc__Vmod__Manifest()
    vitc__vmod__manifest__init(&message)
    message.graph = arena.list([arena.graph(graph)])
    (message.n_preprocessing, message.preprocessing) = arena.entries(preprocessing)
    (message.n_labels, message.labels) = (labels.count, arena.list(labels.map(arena.bytes)))
    (message.n_lineage, message.lineage) = arena.entries(lineage)
    let probes = probes.map { probe in
      var message = Vitc__Vmod__Probe()
      vitc__vmod__probe__init(&message)
      (message.n_inputs, message.inputs) = arena.tensors(probe.inputs)
      (message.n_outputs, message.outputs) = arena.tensors(probe.outputs)
      message.tolerance = probe.tolerance
      return message
    }
    (message.n_probes, message.probes) = (probes.count, arena.messages(probes))
    message.report = arena.bytes(report)
    let layers = layers.map(arena.layer)
    (message.n_layers, message.layers) = (layers.count, arena.messages(layers))
    let others = others.map(arena.other)
    (message.n_others, message.others) = (others.count, arena.messages(others))
    return [UInt8](unsafeUninitializedCapacity: vitc__vmod__manifest__get_packed_size(&message)) {
      $1 = vitc__vmod__manifest__pack(&message, $0.baseAddress)
    }
  }

  /// A table of tensors without a graph as a protocol buffer.
  static func packed(tensors: [TensorRecord]) -> [UInt8] {
    let arena = PackArena()
    var message = Vitc__Vmod__TensorTable()
    vitc__vmod__tensor_table__init(&message)
    (message.n_tensors, message.tensors) = arena.tensors(tensors)
    return [UInt8](unsafeUninitializedCapacity: vitc__vmod__tensor_table__get_packed_size(&message)) {
      $1 = vitc__vmod__tensor_table__pack(&message, $0.baseAddress)
    }
  }

  /// The places of the frames as a protocol buffer.
  static func packed(frames: [FrameRecord]) -> [UInt8] {
    let arena = PackArena()
    var message = Vitc__Vmod__FrameTable()
    vitc__vmod__frame_table__init(&message)
    let frames = frames.map { frame in
      var message = Vitc__Vmod__Frame()
      vitc__vmod__frame__init(&message)
      message.size = UInt64(frame.size)
      message.checksum = frame.checksum
      message.encoding = Vitc__Vmod__Frame__Encoding(rawValue: frame.encoding.rawValue)
      return message
    }
    (message.n_frames, message.frames) = (frames.count, arena.messages(frames))
    return [UInt8](unsafeUninitializedCapacity: vitc__vmod__frame_table__get_packed_size(&message)) {
      $1 = vitc__vmod__frame_table__pack(&message, $0.baseAddress)
    }
  }
}

private typealias List<Message> = (Int, UnsafeMutablePointer<UnsafeMutablePointer<Message>?>?)

extension PackArena {
  fileprivate func graph(_ graph: GraphRecord) -> Vitc__Vmod__Graph {
    var message = Vitc__Vmod__Graph()
    vitc__vmod__graph__init(&message)
    message.name = bytes(graph.name)
    (message.n_annotations, message.annotations) = attributes(graph.annotations)
    (message.n_inputs, message.inputs) = values(graph.inputs)
    (message.n_tensors, message.tensors) = tensors(graph.tensors)
    let nodes = graph.nodes.map(node)
    (message.n_nodes, message.nodes) = (nodes.count, messages(nodes))
    let outputs = graph.outputs.map { output in
      var message = Vitc__Vmod__Output()
      vitc__vmod__output__init(&message)
      message.name = bytes(output.name)
      message.value = UInt32(output.value)
      return message
    }
    (message.n_outputs, message.outputs) = (outputs.count, messages(outputs))
    return message
  }

  private func node(_ node: NodeRecord) -> Vitc__Vmod__Node {
    var message = Vitc__Vmod__Node()
    vitc__vmod__node__init(&message)
    message.operation = bytes(node.operation)
    (message.n_attributes, message.attributes) = attributes(node.attributes)
    message.n_operands = node.operands.count
    message.operands = list(node.operands.map { $0.map { UInt32($0 + 1) } ?? 0 })
    (message.n_results, message.results) = values(node.results)
    message.origin = bytes(node.origin)
    return message
  }

  fileprivate func layer(_ layer: LayerRecord) -> Vitc__Vmod__Layer {
    var message = Vitc__Vmod__Layer()
    vitc__vmod__layer__init(&message)
    message.index = UInt32(layer.index)
    message.kind = bytes(layer.kind)
    message.heads = UInt64(layer.heads)
    message.node = bytes(layer.node)
    message.core = UInt32(layer.core + 1)
    message.input = layer.input.map { UInt32($0 + 1) } ?? 0
    message.output = layer.output.map { UInt32($0 + 1) } ?? 0
    message.parameters = UInt64(layer.parameters)
    message.obstacle = bytes(layer.obstacle ?? "")
    message.choice =
      switch layer.choice {
      case .undecided: VITC__VMOD__LAYER__CHOICE__UNDECIDED
      case .kept: VITC__VMOD__LAYER__CHOICE__KEPT
      case .selected: VITC__VMOD__LAYER__CHOICE__SELECTED
      case .onTrial: VITC__VMOD__LAYER__CHOICE__ON_TRIAL
      }
    message.merges = UInt64(max(0, layer.merges))
    (message.n_scores, message.scores) = attributes(layer.scores)
    let candidates = layer.candidates.map { candidate in
      var message = Vitc__Vmod__Candidate()
      vitc__vmod__candidate__init(&message)
      message.mixer = bytes(candidate.mixer)
      (message.n_figures, message.figures) = attributes(candidate.figures)
      return message
    }
    (message.n_candidates, message.candidates) = (candidates.count, messages(candidates))
    return message
  }

  fileprivate func other(_ unit: AttentionLike) -> Vitc__Vmod__AttentionLike {
    var message = Vitc__Vmod__AttentionLike()
    vitc__vmod__attention_like__init(&message)
    message.node = bytes(unit.node)
    message.reason = bytes(unit.reason)
    return message
  }

  fileprivate func entries(_ entries: [(key: String, value: String)]) -> List<Vitc__Vmod__Entry> {
    let entries = entries.map { entry in
      var message = Vitc__Vmod__Entry()
      vitc__vmod__entry__init(&message)
      message.key = bytes(entry.key)
      message.value = bytes(entry.value)
      return message
    }
    return (entries.count, messages(entries))
  }

  private func values(_ values: [ValueRecord]) -> List<Vitc__Vmod__Value> {
    let values = values.map { value in
      var message = Vitc__Vmod__Value()
      vitc__vmod__value__init(&message)
      message.name = bytes(value.name)
      message.type = bytes(value.type)
      return message
    }
    return (values.count, messages(values))
  }

  fileprivate func tensors(_ tensors: [TensorRecord]) -> List<Vitc__Vmod__Tensor> {
    let tensors = tensors.map { tensor in
      var message = Vitc__Vmod__Tensor()
      vitc__vmod__tensor__init(&message)
      message.name = bytes(tensor.name)
      message.type = bytes(tensor.type)
      message.digest = bytes(tensor.digest)
      return message
    }
    return (tensors.count, messages(tensors))
  }

  private func attributes(_ attributes: Attributes) -> List<Vitc__Vmod__Attribute> {
    let attributes = attributes.entries.map { attribute($0.name, $0.value) }
    return (attributes.count, messages(attributes))
  }

  private func attribute(_ name: String, _ value: Attribute) -> Vitc__Vmod__Attribute {
    var message = Vitc__Vmod__Attribute()
    vitc__vmod__attribute__init(&message)
    message.name = bytes(name)
    let (ints, floats, strings): ([Int], [Double], [String])
    switch value {
    case .int(let value): (message.kind, ints, floats, strings) = (.int, [value], [], [])
    case .float(let value): (message.kind, ints, floats, strings) = (.float, [], [value], [])
    case .string(let value): (message.kind, ints, floats, strings) = (.string, [], [], [value])
    case .bool(let value): (message.kind, ints, floats, strings) = (.bool, [value ? 1 : 0], [], [])
    case .ints(let values): (message.kind, ints, floats, strings) = (.ints, values, [], [])
    case .floats(let values): (message.kind, ints, floats, strings) = (.floats, [], values, [])
    case .strings(let values): (message.kind, ints, floats, strings) = (.strings, [], [], values)
    }
    (message.n_ints, message.ints) = (ints.count, list(ints.map(Int64.init)))
    (message.n_floats, message.floats) = (floats.count, list(floats))
    (message.n_strings, message.strings) = (strings.count, list(strings.map(bytes)))
    return message
  }
}

extension Vitc__Vmod__Attribute__Kind {
  static var int: Self { VITC__VMOD__ATTRIBUTE__KIND__INT }
  static var float: Self { VITC__VMOD__ATTRIBUTE__KIND__FLOAT }
  static var string: Self { VITC__VMOD__ATTRIBUTE__KIND__STRING }
  static var bool: Self { VITC__VMOD__ATTRIBUTE__KIND__BOOL }
  static var ints: Self { VITC__VMOD__ATTRIBUTE__KIND__INTS }
  static var floats: Self { VITC__VMOD__ATTRIBUTE__KIND__FLOATS }
  static var strings: Self { VITC__VMOD__ATTRIBUTE__KIND__STRINGS }
}
