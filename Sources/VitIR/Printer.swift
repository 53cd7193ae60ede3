/// What the textual IR shows.
public struct TextOptions: Sendable {
  /// The version of the textual form that this vitc writes; it reads those from 1 to it.
  public static let currentVersion = 2
  /// The version that the text names in its first line; `nil` for none, as in a text that goes into no file.
  public var version: Int?
  /// Whether a node is followed by the name of the node that it came from.
  public var locations = true
  /// Whether what is known of the model as a whole is shown.
  public var annotations = true
  /// Whether the layers are shown, and what was found out and decided about them.
  public var layers = true
  /// The digest of the file that holds the tensors, where there is one.
  public var tensorsDigest: String?
  /// Up to how many elements whole numbers and truth values are written out: axes, shapes, pads, which types
  /// depend on.
  public var inlineIntegers = 64
  /// Up to how many elements floats are written out: scales, exponents, sizes.
  public var inlineFloats = 8

  /// All is shown, and large tensors by type alone.
  public init(tensorsDigest: String? = nil) { self.tensorsDigest = tensorsDigest }

  /// Whether the values of a tensor of that type stand in the text.
  public func inlines(_ tensor: Tensor) -> Bool {
    tensor.count <= (tensor.element.isFloat ? inlineFloats : inlineIntegers) && !tensor.isElided
      && !tensor.element.isQuantised
  }
}

extension Graph {
  /// The graph as text, which `Graph(text:)` reads back: one line for each tensor and node.
  ///
  /// ```
  /// graph "tiny" (%x: f32[batch, 4]) -> (y = %sum) {
  ///   tensor @bias : f32[4]
  ///   %sum = vit.add(%x, @bias) : f32[batch, 4] at "head/Add"
  /// }
  /// ```
  /// Only files and lines are left out: the text has its own. Throws where a small tensor cannot be read.
  public func text(_ options: TextOptions = TextOptions()) throws -> String {
    var printer = Printer(graph: self, options: options)
    return try printer.print()
  }
}

/// Writes a graph as text.
private struct Printer {
  let graph: Graph
  let options: TextOptions
  var text = ""

  init(graph: Graph, options: TextOptions) {
    self.graph = graph
    self.options = options
  }

  mutating func print() throws -> String {
    let inputs = graph.inputs.map { "\(graph.reference($0)): \(graph.type($0))" }.joined(separator: ", ")
    let outputs = graph.outputs.map { "\($0.name.asWord) = \(graph.reference($0.value))" }
      .joined(separator: ", ")
    text = options.version.map { "version \($0)\n" } ?? ""
    text += "graph \(graph.name.quoted)\(noted(graph.annotations)) (\(inputs)) -> (\(outputs)) {\n"
    if let digest = options.tensorsDigest { text += "  tensors \(digest.quoted)\n" }
    for name in graph.tensors.names {
      guard let tensor = graph.tensors[name] else { continue }
      text += "  tensor @\(name.asName) : \(tensor.type)\(try values(tensor))\n"
    }
    for node in graph.nodes { text += "  \(line(node))\n" }
    return text + "}\n"
  }

  private func noted(_ annotations: Attributes) -> String {
    options.annotations && !annotations.isEmpty ? " \(annotations.text)" : ""
  }

  private func values(_ tensor: Tensor) throws -> String {
    guard options.inlines(tensor) else { return "" }
    let literals: [String] = try tensor.storage.withBytes { bytes in
      let words = (0..<tensor.count).map { bytes.word(at: $0, as: tensor.element) }
      // A number that its word does not give back, as a NaN with a payload, is left to the tensors' file.
      return tensor.count == words.indices.filter { bytes.reads(words[$0], at: $0, as: tensor.element) }.count
        ? words : []
    }
    return literals.count == tensor.count ? " = [\(literals.joined(separator: ", "))]" : ""
  }

  private func line(_ node: Node) -> String {
    let results = node.results.map(graph.reference).joined(separator: ", ")
    let operands = node.operands.map { $0.map(graph.reference) ?? "_" }.joined(separator: ", ")
    var line = node.results.isEmpty ? "" : "\(results) = "
    line += "\(node.name)(\(operands))"
    let attributes = node.operation.attributes
    if !attributes.isEmpty { line += " \(attributes.text)" }
    if !node.results.isEmpty {
      line += " : " + node.results.map { graph.type($0).description }.joined(separator: ", ")
    }
    if options.locations, let name = node.location.node { line += " at \(name.quoted)" }
    return line
  }
}

extension Graph {
  /// How a value is named in text.
  func reference(_ id: ValueID) -> String {
    let value = self[id]
    return (value.isConstant ? "@" : "%") + value.name.asName
  }
}

extension String {
  /// The text in quotes.
  var quoted: String { "\"\(escapedForText)\"" }

  /// The name as it stands behind `%` or `@`: bare, or in quotes where it holds anything unusual.
  var asName: String { !isEmpty && utf8.allSatisfy(\.isNamePart) ? self : quoted }

  /// The name as it stands alone: a word, or in quotes.
  var asWord: String {
    utf8.first?.isLetter == true && utf8.allSatisfy(\.isWordPart) ? self : quoted
  }
}

extension Attributes {
  /// The attributes as they stand in the textual IR: `{epsilon = 1e-06, mode = "nearest"}`.
  public var text: String {
    "{" + entries.map { "\($0.name.asWord) = \($0.value.text)" }.joined(separator: ", ") + "}"
  }
}

extension Attribute {
  /// The value as it stands in the textual IR; floats are told by a point, an exponent, `inf` or `nan`.
  public var text: String {
    func list<T>(_ kind: String, _ values: [T], _ text: (T) -> String) -> String {
      (values.isEmpty ? kind : "") + "[" + values.map(text).joined(separator: ", ") + "]"
    }
    switch self {
    case .int(let value): return String(value)
    case .float(let value): return value.word
    case .string(let value): return value.quoted
    case .bool(let value): return value ? "true" : "false"
    case .ints(let values): return list("", values) { String($0) }
    case .floats(let values): return list("floats", values, \.word)
    case .strings(let values): return list("strings", values, \.quoted)
    }
  }
}

extension BinaryFloatingPoint where Self: CustomStringConvertible {
  /// The shortest text that reads as this number again; every NaN is `nan`.
  fileprivate var word: String { isNaN ? "nan" : description }
}

extension UnsafeRawBufferPointer {
  /// Element `index` as text.
  fileprivate func word(at index: Int, as element: ElementType) -> String {
    switch element {
    case .bool: self[index] == 0 ? "false" : "true"
    case .f64: loadNumber(at: index, as: element).word
    case .f32, .f16, .bf16, .q8, .w8, .w4: Float(loadNumber(at: index, as: element)).word
    case .u64: String(loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
    default: String(loadInteger(at: index, as: element) ?? 0)
    }
  }

  /// Whether `word` reads as the bytes of element `index`.
  fileprivate func reads(_ word: String, at index: Int, as element: ElementType) -> Bool {
    let range = index * element.size..<(index + 1) * element.size
    var copy = [UInt8](repeating: 0, count: element.size)
    let stored = copy.withUnsafeMutableBytes { $0.store(word: word, at: 0, as: element) }
    return stored && copy.elementsEqual(self[range])
  }
}

extension UnsafeMutableRawBufferPointer {
  /// Stores the number that `word` stands for as element `index`; false where there is none or it does not
  /// fit.
  func store(word: String, at index: Int, as element: ElementType) -> Bool {
    let offset = index * element.size
    func whole<T: FixedWidthInteger>(_ type: T.Type) -> Bool {
      guard let value = T(word) else { return false }
      storeBytes(of: value, toByteOffset: offset, as: T.self)
      return true
    }
    switch element {
    case .q8, .w8, .w4: return false
    case .bool:
      guard word == "true" || word == "false" else { return false }
      storeBytes(of: word == "true" ? 1 : 0, toByteOffset: offset, as: UInt8.self)
    case .f64:
      guard let value = Double(word) else { return false }
      storeBytes(of: value, toByteOffset: offset, as: Double.self)
    case .f32, .f16, .bf16:
      guard let value = Float(word) else { return false }
      switch element {
      case .f32: storeBytes(of: value, toByteOffset: offset, as: Float.self)
      case .f16: storeBytes(of: value.halfBits, toByteOffset: offset, as: UInt16.self)
      default: storeBytes(of: value.brainBits, toByteOffset: offset, as: UInt16.self)
      }
    case .i64: return whole(Int64.self)
    case .i32: return whole(Int32.self)
    case .i16: return whole(Int16.self)
    case .i8: return whole(Int8.self)
    case .u64: return whole(UInt64.self)
    case .u32: return whole(UInt32.self)
    case .u16: return whole(UInt16.self)
    case .u8: return whole(UInt8.self)
    }
    return true
  }
}
