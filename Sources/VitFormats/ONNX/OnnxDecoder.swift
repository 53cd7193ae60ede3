internal import VitIR

/// Decodes the messages of an ONNX file.
struct OnnxDecoder {
  /// The most graphs that may lie within one another.
  static let maximumNesting = 32

  let tensors: TensorDecoder
  private(set) var model = OnnxModel()
  /// A text that was no UTF-8, as it was repaired.
  private(set) var repaired: String?
  private var nesting = 0

  init(tensors: TensorDecoder) { self.tensors = tensors }

  private mutating func string(_ bytes: UnsafeRawBufferPointer) -> String {
    let text = decodedText(bytes)
    if repaired == nil, !isText(bytes) { repaired = text }
    return text
  }

  private mutating func name(_ bytes: UnsafeRawBufferPointer) -> NameID { model.names.id(string(bytes)) }

  /// Decodes a ModelProto.
  ///
  /// An error before anything has shown that this is a model says so: any file may start with a byte that could be a tag.
  mutating func decodeModel(_ reader: WireReader) throws(VitError) {
    var reader = reader
    var isModel = false
    do throws(VitError) {
      while try reader.next() {
        switch reader.field {
        case 1:
          model.irVersion = try reader.int("ir_version")
          isModel = isModel || (0...1000).contains(model.irVersion)
        case 7:
          guard model.graph == nil else { throw VitError("the model has two graphs", code: "bad-model") }
          let message = try reader.message("graph", "GraphProto")
          model.graph = try graph(message)
          isModel = true
        case 8:
          let (domain, version) = try opset(reader.message("opset_import", "OperatorSetIdProto"))
          model.opsets.add(domain, version)
          isModel = true
        case 25: model.functions.append(try function(reader.message("functions", "FunctionProto")))
        case 2, 3, 4, 6: _ = try reader.range("a text")
        case 5: _ = try reader.int("model_version")
        case 14:
          model.metadata.append(try tensors.entry(reader.message("metadata_props", "StringStringEntryProto")))
        case 20, 26: _ = try reader.range("a message")
        default:
          guard isModel else { throw VitError("ModelProto has no field \(reader.field)", code: "bad-wire") }
          try reader.skip()
        }
      }
    } catch {
      guard !isModel else { throw error }
      throw VitError("not an ONNX model: \(error.diagnostic.message)", code: "not-onnx")
    }
  }

  private mutating func opset(_ reader: WireReader) throws(VitError) -> (domain: String, version: Int) {
    var reader = reader
    var (domain, version) = ("", 0)
    while try reader.next() {
      switch reader.field {
      case 1: domain = string(try reader.bytes("domain"))
      case 2: version = try reader.int("version")
      default: try reader.skip()
      }
    }
    return (domain, version)
  }

  private mutating func graph(_ reader: WireReader) throws(VitError) -> OnnxGraph {
    nesting += 1
    defer { nesting -= 1 }
    guard nesting <= Self.maximumNesting else {
      throw VitError(
        "offset \(reader.position): graphs nest more than \(Self.maximumNesting) deep", code: "too-deep")
    }
    var reader = reader
    var graph = OnnxGraph()
    while try reader.next() {
      switch reader.field {
      case 1: graph.nodes.append(try node(reader.message("node", "NodeProto"), index: graph.nodes.count))
      case 2: graph.name = string(try reader.bytes("name"))
      case 5: graph.initializers.append(try tensors.decode(reader.message("initializer", "TensorProto")))
      case 11: graph.inputs.append(try value(reader.message("input", "ValueInfoProto")))
      case 12: graph.outputs.append(try value(reader.message("output", "ValueInfoProto")))
      case 15:
        graph.initializers.append(
          try tensors.decodeSparse(reader.message("sparse_initializer", "SparseTensorProto")))
      case 10, 13, 14, 16: _ = try reader.range("a message")
      default: try reader.skip()
      }
    }
    return graph
  }

  private mutating func node(_ reader: WireReader, index: Int) throws(VitError) -> OnnxNode {
    let start = reader.position
    var reader = reader
    var node = OnnxNode()
    while try reader.next() {
      switch reader.field {
      case 1: node.inputs.append(name(try reader.bytes("input")))
      case 2: node.outputs.append(name(try reader.bytes("output")))
      case 3: node.name = string(try reader.bytes("name"))
      case 4: node.type = string(try reader.bytes("op_type"))
      case 5: node.attributes.append(try attribute(reader.message("attribute", "AttributeProto")))
      case 7: node.domain = OnnxOpsets.canonical(string(try reader.bytes("domain")))
      case 8: node.overload = string(try reader.bytes("overload"))
      default: try reader.skip()
      }
    }
    while node.outputs.last == NameTable.absent { node.outputs.removeLast() }
    guard !node.type.isEmpty else {
      throw VitError("offset \(start): node \(index) has no op_type", code: "bad-node")
    }
    if node.name.isEmpty { node.name = "#\(index)(\(node.type))" }
    guard !node.outputs.isEmpty else {
      throw VitError(
        "\(node.type) has no output", code: "bad-node", location: Location(node: node.name))
    }
    return node
  }

  private mutating func attribute(_ reader: WireReader) throws(VitError) -> OnnxAttribute {
    let start = reader.position
    var reader = reader
    var attribute = OnnxAttribute()
    var type = 0
    var reference: String?
    var (float, int, string) = (Float(0), 0, "")
    var floats: [Float] = []
    var (ints, strings): ([Int], [String]) = ([], [])
    var tensor: OnnxTensor?
    var graph: OnnxGraph?
    /// The type that the field found last would have, for files that leave the type out.
    var implied = 0
    while try reader.next() {
      switch reader.field {
      case 1: attribute.name = self.string(try reader.bytes("name"))
      case 2: (float, implied) = (try reader.float("f"), 1)
      case 3: (int, implied) = (try reader.int("i"), 2)
      case 4: (string, implied) = (self.string(try reader.bytes("s")), 3)
      case 5: (tensor, implied) = (try tensors.decode(reader.message("t", "TensorProto")), 4)
      case 6: (graph, implied) = (try self.graph(reader.message("g", "GraphProto")), 5)
      case 7:
        try reader.floats("floats", into: &floats)
        implied = 6
      case 8:
        try reader.ints("ints", into: &ints, limit: 1 << 24)
        implied = 7
      case 9:
        strings.append(self.string(try reader.bytes("strings")))
        implied = 8
      case 20: type = try reader.int("type")
      case 21: reference = self.string(try reader.bytes("ref_attr_name"))
      case 22:
        (tensor, implied) = (
          try tensors.decodeSparse(reader.message("sparse_tensor", "SparseTensorProto")), 11
        )
      default: try reader.skip()
      }
    }
    guard !attribute.name.isEmpty else {
      throw VitError("offset \(start): an attribute has no name", code: "bad-attribute")
    }
    if let reference, !reference.isEmpty {
      attribute.value = .reference(reference)
      return attribute
    }
    switch type == 0 ? implied : type {
    case 1: attribute.value = .plain(.float(number(float)))
    case 2: attribute.value = .plain(.int(int))
    case 3: attribute.value = .plain(.string(string))
    case 4, 11: attribute.value = tensor.map { .tensor($0) } ?? .other("a tensor that is missing")
    case 5: attribute.value = graph.map { .graph($0) } ?? .other("a graph that is missing")
    case 6: attribute.value = .plain(.floats(floats.map(number)))
    case 7: attribute.value = .plain(.ints(ints))
    case 8: attribute.value = .plain(.strings(strings))
    case 9: attribute.value = .other("a list of tensors")
    case 10: attribute.value = .other("a list of graphs")
    case 12: attribute.value = .other("a list of sparse tensors")
    case 13, 14: attribute.value = .other("a type")
    default: attribute.value = .other("a value of the unknown type \(type)")
    }
    return attribute
  }

  /// The shortest decimal that stands for this float: what was meant, and the same number once it is a float again.
  private func number(_ value: Float) -> Double { Double(value.description) ?? Double(value) }

  private mutating func value(_ reader: WireReader) throws(VitError) -> OnnxValue {
    var reader = reader
    var value = OnnxValue()
    while try reader.next() {
      switch reader.field {
      case 1: value.name = name(try reader.bytes("name"))
      case 2: try type(reader.message("type", "TypeProto"), into: &value)
      default: try reader.skip()
      }
    }
    return value
  }

  private mutating func type(_ reader: WireReader, into value: inout OnnxValue) throws(VitError) {
    var reader = reader
    value.kind = "value of no type"
    while try reader.next() {
      switch reader.field {
      case 1:
        value.kind = "tensor"
        try tensorType(reader.message("tensor_type", "TypeProto.Tensor"), into: &value)
      case 4: value.kind = "sequence"
      case 5: value.kind = "map"
      case 8: value.kind = "sparse tensor"
      case 9: value.kind = "optional"
      default: break
      }
      if reader.field != 1 { try reader.skip() }
    }
  }

  private mutating func tensorType(_ reader: WireReader, into value: inout OnnxValue) throws(VitError) {
    var reader = reader
    while try reader.next() {
      switch reader.field {
      case 1: value.element = try reader.int("elem_type")
      case 2:
        var shape: [OnnxValue.Extent] = []
        var dims = try reader.message("shape", "TensorShapeProto")
        while try dims.next() {
          guard dims.field == 1 else {
            try dims.skip()
            continue
          }
          shape.append(try extent(dims.message("dim", "TensorShapeProto.Dimension")))
          guard shape.count <= TensorDecoder.maximumRank else {
            throw VitError(
              "offset \(reader.position): a shape has more than \(TensorDecoder.maximumRank) axes")
          }
        }
        value.shape = shape
      default: try reader.skip()
      }
    }
  }

  private mutating func extent(_ reader: WireReader) throws(VitError) -> OnnxValue.Extent {
    var reader = reader
    var extent = OnnxValue.Extent.unknown
    while try reader.next() {
      switch reader.field {
      case 1:
        let number = try reader.int("dim_value")
        // Beside a name, zero says that nothing is known.
        if case .named = extent, number <= 0 { continue }
        extent = .fixed(number)
      case 2:
        let name = string(try reader.bytes("dim_param"))
        if !name.isEmpty { extent = .named(name) }
      default: try reader.skip()
      }
    }
    return extent
  }

  private mutating func function(_ reader: WireReader) throws(VitError) -> OnnxFunction {
    let start = reader.position
    var reader = reader
    var function = OnnxFunction()
    while try reader.next() {
      switch reader.field {
      case 1: function.name = string(try reader.bytes("name"))
      case 4: function.inputs.append(name(try reader.bytes("input")))
      case 5: function.outputs.append(name(try reader.bytes("output")))
      case 6: function.attributes.append(OnnxAttribute(name: string(try reader.bytes("attribute"))))
      case 7:
        function.nodes.append(try node(reader.message("node", "NodeProto"), index: function.nodes.count))
      case 9:
        let (domain, version) = try opset(reader.message("opset_import", "OperatorSetIdProto"))
        function.opsets.add(domain, version)
      case 10: function.domain = OnnxOpsets.canonical(string(try reader.bytes("domain")))
      case 11: function.attributes.append(try attribute(reader.message("attribute_proto", "AttributeProto")))
      case 13: function.overload = string(try reader.bytes("overload"))
      default: try reader.skip()
      }
    }
    guard !function.name.isEmpty else {
      throw VitError("offset \(start): a function has no name", code: "bad-function")
    }
    return function
  }
}
