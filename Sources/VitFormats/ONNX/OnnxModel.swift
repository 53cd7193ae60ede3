internal import VitIR

/// A name of the file, as a number: files repeat each name many times.
typealias NameID = Int32

/// The names of a file, each held once.
struct NameTable {
  /// The absent name, which ONNX writes as an empty text.
  static let absent: NameID = 0
  private(set) var texts = [""]
  private var ids: [String: NameID] = ["": absent]

  /// The number of a name.
  mutating func id(_ text: String) -> NameID {
    if let id = ids[text] { return id }
    let id = NameID(texts.count)
    texts.append(text)
    ids[text] = id
    return id
  }

  /// The number of a name that the file has, or `nil`.
  func find(_ text: String) -> NameID? { ids[text] }

  subscript(id: NameID) -> String { texts[Int(id)] }
}

/// What a file says, decoded and not yet believed: the messages of `schemas/onnx.proto` as far as they matter.
struct OnnxModel {
  var irVersion = 0
  var opsets: OnnxOpsets = OnnxOpsets()
  var graph: OnnxGraph?
  var functions: [OnnxFunction] = []
  var names = NameTable()
  /// What is said of the model beside, by key.
  var metadata: [(key: String, value: String)] = []
}

/// The versions of the operator sets that nodes are written for.
struct OnnxOpsets {
  private var entries: [(domain: String, version: Int)] = []

  /// The domain of the standard operators has two names.
  static func canonical(_ domain: String) -> String { domain == "ai.onnx" ? "" : domain }

  /// Of two versions of one domain the higher counts.
  mutating func add(_ domain: String, _ version: Int) {
    let domain = OnnxOpsets.canonical(domain)
    if let index = entries.firstIndex(where: { $0.domain == domain }) {
      entries[index].version = max(entries[index].version, version)
    } else {
      entries.append((domain, version))
    }
  }

  var isEmpty: Bool { entries.isEmpty }

  subscript(domain: String) -> Int? { entries.first { $0.domain == domain }?.version }

  /// These versions, and those of `other` for domains that these leave out.
  func filled(from other: OnnxOpsets) -> OnnxOpsets {
    var result = self
    for entry in other.entries where self[entry.domain] == nil { result.entries.append(entry) }
    return result
  }

  /// The versions of the standard operators that vitc reads.
  static let supported = 11...28

  /// Throws where the version of the standard operators is none that vitc reads.
  func check() throws(VitError) {
    guard let version = self[""], !OnnxOpsets.supported.contains(version) else { return }
    let range = "\(OnnxOpsets.supported.lowerBound) to \(OnnxOpsets.supported.upperBound)"
    throw VitError(
      "opset \(version) is not supported, expected \(range)", code: "opset",
      help: "export the model with an opset from \(range)")
  }
}

/// GraphProto: the main graph, or one that an attribute holds.
struct OnnxGraph {
  var name = ""
  var nodes: [OnnxNode] = []
  var initializers: [OnnxTensor] = []
  var inputs: [OnnxValue] = []
  var outputs: [OnnxValue] = []
}

/// NodeProto.
struct OnnxNode {
  var name = ""
  var type = ""
  var domain = ""
  var overload = ""
  var inputs: [NameID] = []
  var outputs: [NameID] = []
  var attributes: [OnnxAttribute] = []

  func attribute(_ name: String) -> OnnxAttribute? { attributes.first { $0.name == name } }
}

/// AttributeProto.
struct OnnxAttribute {
  enum Value {
    case plain(Attribute)
    case tensor(OnnxTensor)
    indirect case graph(OnnxGraph)
    /// The attribute of the enclosing function whose value this one takes.
    case reference(String)
    /// What vitc has no use for: lists of graphs, types, sparse tensors.
    case other(String)
  }

  var name = ""
  var value = Value.other("nothing")
}

/// ValueInfoProto: an input or output, and what is said of its type.
struct OnnxValue {
  enum Extent {
    case fixed(Int)
    case named(String)
    case unknown
  }

  var name = NameTable.absent
  /// What kind of value it is, where it is no tensor.
  var kind = "tensor"
  var element = 0
  /// The extents, or `nil` where not even the rank is known.
  var shape: [Extent]?
}

/// TensorProto: a tensor, or why it cannot be had.
struct OnnxTensor {
  var name = ""
  /// ONNX's number for the type in which the file holds the elements.
  var code = 0
  var content: Result<Tensor, VitError>
}

/// FunctionProto.
struct OnnxFunction {
  var domain = ""
  var name = ""
  var overload = ""
  var inputs: [NameID] = []
  var outputs: [NameID] = []
  /// The attributes that calls may give, in the order declared, with the values that some have by default.
  var attributes: [OnnxAttribute] = []
  var nodes: [OnnxNode] = []
  var opsets = OnnxOpsets()
}

/// The element types of ONNX by number.
enum OnnxElement {
  /// The type, or `nil` where vitc has none for it.
  static func type(_ code: Int) -> ElementType? {
    switch code {
    case 1: .f32
    case 2: .u8
    case 3: .i8
    case 4: .u16
    case 5: .i16
    case 6: .i32
    case 7: .i64
    case 9: .bool
    case 10: .f16
    case 11: .f64
    case 12: .u32
    case 13: .u64
    case 16: .bf16
    default: nil
    }
  }

  /// The number of a type.
  static func code(_ element: ElementType) -> Int? { (1...16).first { type($0) == element } }

  /// Whether the type has no sign and is computed in a wider one that has: its bits are not those of the file.
  static func isWidenedUnsigned(_ code: Int) -> Bool { [4, 12, 13].contains(code) }

  /// The name that ONNX gives a type that vitc has none for.
  static func name(_ code: Int) -> String {
    let names = [
      0: "undefined", 8: "string", 14: "complex64", 15: "complex128", 17: "float8e4m3fn",
      18: "float8e4m3fnuz",
      19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4", 23: "float4e2m1", 24: "float8e8m0",
      25: "uint2", 26: "int2",
    ]
    return names[code] ?? type(code)?.rawValue ?? "number \(code)"
  }
}
