internal import VitData

/// A JSON document: what vitc writes for scripts.
public enum JSON: Hashable, Sendable {
  case null
  case bool(Bool)
  case int(Int)
  /// A number; one that is not finite is written as `null`.
  case number(Double)
  case string(String)
  case array([JSON])
  /// Members, written sorted by name.
  case members([String: JSON])

  /// An object.
  public static func object(_ members: [(String, JSON)]) -> JSON {
    .members(Dictionary(members, uniquingKeysWith: { _, last in last }))
  }

  /// The document that was read.
  init(_ value: JSONValue) {
    switch value {
    case .null: self = .null
    case .flag(let flag): self = .bool(flag)
    case .number(let number): self = Int(exactly: number).map(JSON.int) ?? .number(number)
    case .text(let text): self = .string(text)
    case .list(let elements): self = .array(elements.map(JSON.init))
    case .table(let members): self = .members(members.mapValues(JSON.init))
    }
  }

  /// The number, where it is one.
  public var number: Double? {
    switch self {
    case .int(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }

  /// A number that may be missing.
  public static func optional(_ value: Double?) -> JSON { value.map(JSON.number) ?? .null }

  /// The value of a member of an object.
  public subscript(name: String) -> JSON? {
    if case .members(let members) = self { members[name] } else { nil }
  }

  /// The document on one line.
  public var line: String { write(indent: nil) }

  /// The document over several lines, with a line break at the end.
  public var text: String { write(indent: 0) + "\n" }

  /// The same with a line for each list of numbers and each object that has one: what people compare line by line.
  public var review: String { write(indent: 0, inReview: true) + "\n" }

  /// Whether all elements are numbers; of none, no.
  private var isNumbers: Bool {
    guard case .array(let elements) = self, !elements.isEmpty else { return false }
    return elements.allSatisfy { element in
      if case .string(let text) = element { return ["nan", "inf", "-inf"].contains(text) }
      return element.number != nil
    }
  }

  /// Whether it is a list of numbers, or an object of such lists and plain values.
  private var isRecord: Bool {
    guard case .members(let members) = self else { return isNumbers }
    return members.values.contains(where: \.isNumbers)
      && members.values.allSatisfy {
        switch $0 {
        case .array, .members: $0.isNumbers
        default: true
        }
      }
  }

  private func write(indent: Int?, inReview: Bool = false) -> String {
    if inReview, indent != nil, isRecord { return write(indent: nil) }
    return switch self {
    case .null: "null"
    case .bool(let value): value ? "true" : "false"
    case .int(let value): String(value)
    case .number(let value): value.isFinite ? JSON.digits(value) : "null"
    case .string(let value): JSON.quoted(value)
    case .array(let elements): JSON.list(elements.map { ("", $0) }, "[", "]", indent, inReview)
    case .members(let members):
      JSON.list(
        members.sorted { $0.key < $1.key }.map {
          (JSON.quoted($0.key) + (indent == nil ? ":" : ": "), $0.value)
        }, "{",
        "}", indent, inReview)
    }
  }

  private static func list(
    _ entries: [(String, JSON)], _ open: String, _ close: String, _ indent: Int?, _ inReview: Bool
  ) -> String {
    guard let indent, !entries.isEmpty else {
      return open + entries.map { $0.0 + $0.1.write(indent: nil) }.joined(separator: ",") + close
    }
    let outer = "\n" + String(repeating: "  ", count: indent)
    return open + outer + "  "
      + entries.map { $0.0 + $0.1.write(indent: indent + 1, inReview: inReview) }.joined(
        separator: "," + outer + "  ") + outer
      + close
  }

  private static func digits(_ value: Double) -> String {
    value.rounded() == value && value.magnitude < 0x1p53 ? String(Int(value)) : value.description
  }

  private static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\t": result += "\\t"
      case let scalar where scalar.value < 0x20 || scalar.value == 0x7f:
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}
