/// The value of one attribute.
public enum Attribute: Hashable, Sendable {
  case int(Int)
  case float(Double)
  case string(String)
  case bool(Bool)
  case ints([Int])
  case floats([Double])
  case strings([String])

  /// What kind of value it is, in words.
  public var kind: String {
    switch self {
    case .int: "int"
    case .float: "float"
    case .string: "string"
    case .bool: "bool"
    case .ints: "ints"
    case .floats: "floats"
    case .strings: "strings"
    }
  }
}

/// Named attributes, held sorted by name, each name once.
public struct Attributes: Hashable, Sendable {
  /// The attributes, sorted by name.
  public private(set) var entries: [(name: String, value: Attribute)] = []

  /// No attributes.
  public init() {}

  /// The attributes listed; of two with one name the later counts.
  public init(_ entries: [(String, Attribute)]) {
    for (name, value) in entries { self[name] = value }
  }

  /// The attributes listed, no name twice, in time that does not grow with the square of their number.
  init(unique entries: [(String, Attribute)]) {
    self.entries = entries.sorted { $0.0 < $1.0 }.map { (name: $0.0, value: $0.1) }
  }

  /// The attribute of that name.
  public subscript(name: String) -> Attribute? {
    get {
      let index = position(of: name)
      return index < entries.count && entries[index].name == name ? entries[index].value : nil
    }
    set {
      let index = position(of: name)
      let found = index < entries.count && entries[index].name == name
      switch (found, newValue) {
      case (true, let value?): entries[index].value = value
      case (true, nil): entries.remove(at: index)
      case (false, let value?): entries.insert((name, value), at: index)
      case (false, nil): break
      }
    }
  }

  /// Whether there are none.
  public var isEmpty: Bool { entries.isEmpty }

  /// These attributes and those of `other`, which count where both have a name.
  public func merging(_ other: Attributes) -> Attributes {
    var result = self
    for (name, value) in other.entries { result[name] = value }
    return result
  }

  private func position(of name: String) -> Int {
    var (low, high) = (0, entries.count)
    while low < high {
      let middle = (low + high) / 2
      if entries[middle].name < name { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Whether both hold the same names and values.
  public static func == (a: Attributes, b: Attributes) -> Bool {
    a.entries.count == b.entries.count
      && zip(a.entries, b.entries).allSatisfy { $0.name == $1.name && $0.value == $1.value }
  }

  /// Hashes names and values in order.
  public func hash(into hasher: inout Hasher) {
    for (name, value) in entries {
      hasher.combine(name)
      hasher.combine(value)
    }
  }
}

/// Hands an operation its attributes, by name and type, and notices those that nobody took.
///
/// `opset` is the version of the operator set that an ONNX node was written for, where defaults and forms
/// depend on it; an operation keeps the meaning in its own attributes, so that the text needs no opset.
public struct AttributeReader {
  private let source: Attributes
  private var taken: Set<String> = []
  /// What was asked for, in order; kept only where somebody explains the operation.
  private(set) var asked: [Question]?

  /// An attribute that an operation asks for.
  struct Question {
    var name: String
    var kind: String
    /// The value where it is absent; `nil` where there is none.
    var fallback: String?
    var isRequired = false
  }
  /// The ONNX operator set, or `nil` when the attributes come from vitc's own text or code.
  public let opset: Int?

  /// A reader of `attributes`.
  public init(_ attributes: Attributes, opset: Int? = nil) {
    source = attributes
    self.opset = opset
  }

  /// A reader that keeps what it is asked for.
  init(recording attributes: Attributes) {
    self.init(attributes)
    asked = []
  }

  private mutating func note(
    _ name: String, _ kind: String, _ fallback: (() -> Attribute)? = nil, isRequired: Bool = false
  ) {
    guard let list = asked else { return }
    let question = Question(name: name, kind: kind, fallback: fallback?().text, isRequired: isRequired)
    if let place = list.firstIndex(where: { $0.name == name }) {
      if fallback != nil || isRequired { asked?[place] = question }
    } else {
      asked?.append(question)
    }
  }

  /// Whether the node was written for an operator set before `version`; false outside ONNX.
  public func isBefore(opset version: Int) -> Bool { opset.map { $0 < version } ?? false }

  /// Whether there is an attribute of that name.
  public func has(_ name: String) -> Bool { source[name] != nil }

  private mutating func take(_ name: String) -> Attribute? {
    taken.insert(name)
    return source[name]
  }

  private func mismatch(_ name: String, _ expected: String, _ found: Attribute) -> VitError {
    VitError("attribute '\(name)' has the type \(found.kind), expected \(expected)", code: "attribute-type")
  }

  private func missing(_ name: String, _ expected: String) -> VitError {
    VitError("attribute '\(name)' (\(expected)) is missing", code: "attribute-missing")
  }

  /// A whole number, or `nil` where the attribute is absent.
  public mutating func optionalInt(_ name: String) throws(VitError) -> Int? {
    note(name, "int")
    switch take(name) {
    case nil: return nil
    case .int(let value): return value
    case .some(let other): throw mismatch(name, "int", other)
    }
  }

  /// A whole number; an error where it is absent and there is no default.
  public mutating func int(_ name: String, default fallback: Int? = nil) throws(VitError) -> Int {
    note(name, "int", fallback.map { value in { .int(value) } }, isRequired: fallback == nil)
    if let value = try optionalInt(name) ?? fallback { return value }
    throw missing(name, "int")
  }

  /// A truth value, which ONNX writes as 0 or 1.
  public mutating func bool(_ name: String, default fallback: Bool) throws(VitError) -> Bool {
    note(name, "bool", { .bool(fallback) })
    switch take(name) {
    case nil: return fallback
    case .bool(let value): return value
    case .int(let value) where value == 0 || value == 1: return value == 1
    case .int(let value): throw VitError("attribute '\(name)' is \(value), expected 0 or 1")
    case .some(let other): throw mismatch(name, "bool", other)
    }
  }

  /// A number, or `nil` where the attribute is absent; a whole number counts.
  public mutating func optionalFloat(_ name: String) throws(VitError) -> Double? {
    note(name, "float")
    switch take(name) {
    case nil: return nil
    case .float(let value): return value
    case .int(let value): return Double(value)
    case .some(let other): throw mismatch(name, "float", other)
    }
  }

  /// A number; an error where it is absent and there is no default.
  public mutating func float(_ name: String, default fallback: Double? = nil) throws(VitError) -> Double {
    note(name, "float", fallback.map { value in { .float(value) } }, isRequired: fallback == nil)
    if let value = try optionalFloat(name) ?? fallback { return value }
    throw missing(name, "float")
  }

  /// A text, or `nil` where the attribute is absent.
  public mutating func optionalString(_ name: String) throws(VitError) -> String? {
    note(name, "string")
    switch take(name) {
    case nil: return nil
    case .string(let value): return value
    case .some(let other): throw mismatch(name, "string", other)
    }
  }

  /// A text; an error where it is absent and there is no default.
  public mutating func string(_ name: String, default fallback: String? = nil) throws(VitError) -> String {
    note(name, "string", fallback.map { value in { .string(value) } }, isRequired: fallback == nil)
    if let value = try optionalString(name) ?? fallback { return value }
    throw missing(name, "string")
  }

  /// One of the cases of `Choice`, written as its raw value.
  public mutating func choice<Choice: RawRepresentable & CaseIterable>(
    _ name: String, default fallback: Choice
  ) throws(VitError) -> Choice where Choice.RawValue == String {
    let choices = Choice.allCases.map { "'\($0.rawValue)'" }.joined(separator: ", ")
    note(name, choices, { .string(fallback.rawValue) })
    guard let text = try optionalString(name) else { return fallback }
    guard let value = Choice(rawValue: text) else {
      throw VitError("attribute '\(name)' is '\(text)', expected one of \(choices)")
    }
    return value
  }

  /// Whole numbers, or `nil` where the attribute is absent; an empty list counts, whatever its type.
  public mutating func optionalInts(_ name: String) throws(VitError) -> [Int]? {
    note(name, "ints")
    switch take(name) {
    case nil: return nil
    case .ints(let value): return value
    case .floats(let value) where value.isEmpty: return []
    case .strings(let value) where value.isEmpty: return []
    case .some(let other): throw mismatch(name, "ints", other)
    }
  }

  /// Whole numbers; an error where they are absent and there is no default.
  public mutating func ints(_ name: String, default fallback: [Int]? = nil) throws(VitError) -> [Int] {
    note(name, "ints", fallback.map { value in { .ints(value) } }, isRequired: fallback == nil)
    if let value = try optionalInts(name) ?? fallback { return value }
    throw missing(name, "ints")
  }

  /// One whole number or several; `nil` where the attribute is absent, or is `word`.
  public mutating func extents(_ name: String, or word: String) throws(VitError) -> [Int]? {
    note(name, "'\(word)', int or ints", { .string(word) })
    switch take(name) {
    case nil, .string(word)?: return nil
    case .int(let value): return [value]
    case .ints(let values): return values
    case .some(let other): throw mismatch(name, "'\(word)', int or ints", other)
    }
  }

  /// Numbers, or `nil` where the attribute is absent; whole numbers count.
  public mutating func optionalFloats(_ name: String) throws(VitError) -> [Double]? {
    note(name, "floats")
    switch take(name) {
    case nil: return nil
    case .floats(let value): return value
    case .ints(let value): return value.map(Double.init)
    case .strings(let value) where value.isEmpty: return []
    case .some(let other): throw mismatch(name, "floats", other)
    }
  }

  /// Texts, or `nil` where the attribute is absent; an empty list counts, whatever its type.
  public mutating func optionalStrings(_ name: String) throws(VitError) -> [String]? {
    note(name, "strings")
    switch take(name) {
    case nil: return nil
    case .strings(let value): return value
    case .ints(let value) where value.isEmpty: return []
    case .floats(let value) where value.isEmpty: return []
    case .some(let other): throw mismatch(name, "strings", other)
    }
  }

  /// Marks attributes as known that do not matter here.
  public mutating func ignore(_ names: String...) { for name in names { taken.insert(name) } }

  /// Throws where an attribute was never asked for.
  public func finish() throws(VitError) {
    for (name, _) in source.entries where !taken.contains(name) {
      throw VitError("unknown attribute '\(name)'", code: "attribute-unknown")
    }
  }
}
