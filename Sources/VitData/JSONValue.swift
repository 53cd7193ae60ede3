internal import FoundationEssentials
internal import VitFormats
internal import VitIR

/// Any JSON value, for files whose keys are optional and of several types.
package enum JSONValue: Decodable {
  case null
  case flag(Bool)
  case number(Double)
  case text(String)
  case list([JSONValue])
  case table([String: JSONValue])

  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let flag = try? container.decode(Bool.self) {
      self = .flag(flag)
    } else if let number = try? container.decode(Double.self) {
      self = .number(number)
    } else if let text = try? container.decode(String.self) {
      self = .text(text)
    } else if let list = try? container.decode([JSONValue].self) {
      self = .list(list)
    } else {
      self = .table(try container.decode([String: JSONValue].self))
    }
  }

  /// The value in the file at `path`, of at most 16 MB.
  package static func read(_ path: String) throws -> JSONValue {
    do { return try JSONValue(parsing: MappedFile.contents(of: path, limit: 1 << 24)) } catch let error
      as VitError
    {
      throw error.at(Location(file: path))
    }
  }

  /// The value that a text holds.
  package init(parsing bytes: [UInt8]) throws {
    // The depth is bounded here, before a decoder recurses.
    var depth = 0
    var isText = false
    var isEscaped = false
    for byte in bytes {
      if isText {
        if isEscaped {
          isEscaped = false
        } else if byte == UInt8(ascii: "\\") {
          isEscaped = true
        } else if byte == UInt8(ascii: "\"") {
          isText = false
        }
        continue
      }
      switch Unicode.Scalar(byte) {
      case "\"": isText = true
      case "[", "{": depth += 1
      case "]", "}": depth -= 1
      default: break
      }
      if depth > 32 {
        throw VitError("the JSON is nested too deeply", code: "json")
      }
    }
    do { self = try JSONDecoder().decode(JSONValue.self, from: Data(bytes)) } catch {
      throw VitError("expected JSON, found something else", code: "json")
    }
  }

  /// The member `key` of a table, unless it is null.
  subscript(key: String) -> JSONValue? {
    guard case .table(let members) = self, let value = members[key] else { return nil }
    if case .null = value { return nil }
    return value
  }

  var flag: Bool? { if case .flag(let value) = self { value } else { nil } }
  var number: Double? { if case .number(let value) = self { value } else { nil } }
  var whole: Int? { number.flatMap { Int(exactly: $0) } }
  var text: String? { if case .text(let value) = self { value } else { nil } }
  var list: [JSONValue]? { if case .list(let value) = self { value } else { nil } }

  /// The numbers of a list, or the one number.
  var numbers: [Double]? {
    if let number { return [number] }
    guard let list else { return nil }
    let numbers = list.compactMap(\.number)
    return numbers.count == list.count && !numbers.isEmpty ? numbers : nil
  }

  /// The strings of a list.
  var texts: [String]? {
    guard let list else { return nil }
    let texts = list.compactMap(\.text)
    return texts.count == list.count ? texts : nil
  }
}
