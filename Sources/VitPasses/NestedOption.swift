internal import VitIR

/// An option's value that has options of its own: `ssd{state=64}`.
struct NestedOption {
  /// The word before the braces.
  let name: String
  /// What is in them: numbers, truth values, lists of whole numbers, else words.
  let attributes: Attributes

  /// A value that is known.
  init(_ name: String, _ attributes: Attributes = Attributes()) {
    self.name = name
    self.attributes = attributes
  }

  /// Reads a value; throws a usage error where braces or options are malformed, or an option is given twice.
  init(_ text: String) throws(VitError) {
    let (name, options) = try Pipeline.parse(text)
    self.init(name, Attributes(options.map { ($0.name, NestedOption.attribute($0.value)) }))
  }

  private static func attribute(_ text: String) -> Attribute {
    if let value = Int(text) { return .int(value) }
    if let value = Double(text), value.isFinite { return .float(value) }
    if let value = Bool(text) { return .bool(value) }
    if text.hasPrefix("["), text.hasSuffix("]") {
      let numbers = text.dropFirst().dropLast().split(separator: ",").map { Int($0.trimmed) }
      if !numbers.isEmpty, numbers.allSatisfy({ $0 != nil }) { return .ints(numbers.compactMap { $0 }) }
    }
    return .string(text)
  }
}

extension NestedOption: CustomStringConvertible {
  /// The text that gives this value again.
  var description: String {
    guard !attributes.isEmpty else { return name }
    let options = attributes.entries.map { "\($0.name)=\(NestedOption.text($0.value))" }
    return "\(name){\(options.joined(separator: ","))}"
  }

  private static func text(_ value: Attribute) -> String {
    switch value {
    case .int(let value): "\(value)"
    case .float(let value): "\(value)"
    case .ints(let values): "[\(values.map(String.init).joined(separator: ","))]"
    case .string(let text): text
    default: value == .bool(true) ? "true" : "false"
    }
  }
}
