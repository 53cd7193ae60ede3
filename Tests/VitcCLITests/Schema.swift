import Foundation
import Testing
import VitTestSupport

/// A JSON Schema of `schemas/`: the part of the language that they use.
struct Schema {
  private let root: [String: Any]

  /// The schema `schemas/NAME.schema.json`.
  init(_ name: String) throws {
    let path = Fixture.path("../schemas/\(name).schema.json")
    let value = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: path)))
    root = try #require(value as? [String: Any])
  }

  /// What is wrong with a document, a line each.
  func problems(_ document: String) throws -> [String] {
    let value = try JSONSerialization.jsonObject(with: Data(document.utf8), options: [.fragmentsAllowed])
    return problems(value, root, "$")
  }

  private func problems(_ value: Any, _ schema: [String: Any], _ path: String) -> [String] {
    if let constant = schema["const"] as? String {
      return value as? String == constant ? [] : ["\(path) is not '\(constant)'"]
    }
    if let choices = schema["enum"] as? [String] {
      return (value as? String).map(choices.contains) ?? false ? [] : ["\(path) is none of \(choices)"]
    }
    let types = (schema["type"] as? [String]) ?? (schema["type"] as? String).map { [$0] } ?? []
    guard types.isEmpty || types.contains(where: { Schema.matches(value, $0) }) else {
      return ["\(path) is \(value), expected \(types)"]
    }
    var found: [String] = []
    if let members = value as? [String: Any] {
      let properties = schema["properties"] as? [String: Any] ?? [:]
      for key in schema["required"] as? [String] ?? [] where members[key] == nil {
        found.append("\(path).\(key) is missing")
      }
      for (key, member) in members {
        if let inner = (properties[key] ?? schema["additionalProperties"]) as? [String: Any] {
          found += problems(member, inner, "\(path).\(key)")
        } else if properties[key] == nil, schema["additionalProperties"] as? Bool == false {
          found.append("\(path).\(key) is not in the schema")
        }
      }
    }
    if let elements = value as? [Any], let inner = schema["items"] as? [String: Any] {
      for (index, element) in elements.enumerated() { found += problems(element, inner, "\(path)[\(index)]") }
    }
    return found
  }

  private static func matches(_ value: Any, _ type: String) -> Bool {
    let number = value as? NSNumber
    let isBool = number.map { String(cString: $0.objCType) == "c" } ?? false
    switch type {
    case "object": return value is [String: Any]
    case "array": return value is [Any]
    case "string": return value is String
    case "null": return value is NSNull
    case "boolean": return isBool
    case "integer": return !isBool && number.map { $0.doubleValue.rounded() == $0.doubleValue } ?? false
    default: return !isBool && number != nil
    }
  }
}
