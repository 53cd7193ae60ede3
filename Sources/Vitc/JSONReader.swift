internal import VitIR

/// A document being read, which knows where in it it is.
struct JSONReader {
  /// What the document is, for messages.
  struct Subject {
    /// In a word.
    let name: String
    /// The code of what is wrong with it, and what helps.
    let code: String, help: String
  }

  private let json: JSON
  private let place: String
  private let subject: Subject

  /// A reader of a whole document.
  init(_ json: JSON, of subject: Subject) { self.init(json, "", subject) }

  private init(_ json: JSON, _ place: String, _ subject: Subject) {
    (self.json, self.place, self.subject) = (json, place, subject)
  }

  func bad(_ expected: String) -> VitError {
    VitError(
      "'\(place.isEmpty ? "the document" : place)' is no \(expected)", code: subject.code,
      help: subject.help)
  }

  func has(_ name: String) -> Bool { json[name].map { $0 != .null } ?? false }

  func member(_ name: String) throws(VitError) -> JSONReader {
    let inner = place.isEmpty ? name : "\(place).\(name)"
    guard let value = json[name] else {
      throw VitError(
        "the \(subject.name) has no '\(inner)'", code: subject.code, help: subject.help)
    }
    return JSONReader(value, inner, subject)
  }

  func members(_ name: String) throws(VitError) -> [(String, JSONReader)] {
    let member = try member(name)
    guard case .members(let members) = member.json else { throw member.bad("object") }
    return members.sorted { $0.key < $1.key }.map {
      ($0.key, JSONReader($0.value, "\(member.place).\($0.key)", subject))
    }
  }

  func list(_ name: String) throws(VitError) -> [JSONReader] {
    let member = try member(name)
    guard case .array(let elements) = member.json else { throw member.bad("list") }
    return elements.enumerated().map { JSONReader($0.element, "\(member.place)[\($0.offset)]", subject) }
  }

  func text() throws(VitError) -> String {
    guard case .string(let text) = json else { throw bad("text") }
    return text
  }

  func number() throws(VitError) -> Double {
    guard let number = json.number else { throw bad("number") }
    return number
  }

  func text(_ name: String) throws(VitError) -> String { try member(name).text() }
  func number(_ name: String) throws(VitError) -> Double { try member(name).number() }

  func whole(_ name: String) throws(VitError) -> Int {
    let member = try member(name)
    guard case .int(let value) = member.json, value >= 0 else { throw member.bad("whole number") }
    return value
  }

  func wholes(_ name: String) throws(VitError) -> [Int] {
    try list(name).map { element throws(VitError) in
      guard case .int(let value) = element.json else { throw element.bad("whole number") }
      return value
    }
  }

  /// Numbers, and names of what is none.
  func numbers(_ name: String) throws(VitError) -> [Double] {
    try list(name).map { element throws(VitError) in try element.real() }
  }

  func real() throws(VitError) -> Double {
    guard case .string(let name) = json else { return try number() }
    guard let value = ["nan": Double.nan, "inf": .infinity, "-inf": -.infinity][name] else {
      throw bad("number")
    }
    return value
  }
}
