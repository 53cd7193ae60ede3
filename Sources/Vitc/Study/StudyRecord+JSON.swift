internal import VitIR
internal import VitPasses

extension StudyRecord {
  /// The record as an object, its fields by name.
  var json: JSON {
    .object(
      fields.map { field in
        switch field.value {
        case .text(let text): (field.name, .string(text))
        case .number(let number): (field.name, .optional(number))
        case .integers(let numbers): (field.name, .array(numbers.map(JSON.int)))
        }
      })
  }

  /// The record of an object; throws for a field that is none.
  init(_ json: JSON) throws(VitError) {
    guard case .members(let members) = json, case .string? = members["record"] else {
      throw VitError("an entry of 'records' is no record", code: "study-file", help: StudyFolder.help)
    }
    var fields: [Field] = []
    for (name, value) in members.sorted(by: { $0.key < $1.key }) {
      switch value {
      case .string(let text): fields.append(Field(name, .text(text)))
      case .null: fields.append(Field(name, .number(nil)))
      case .int(let number): fields.append(Field(name, .number(Double(number))))
      case .number(let number): fields.append(Field(name, .number(number)))
      case .array(let elements):
        fields.append(
          Field(
            name,
            .integers(
              try elements.map { element throws(VitError) in
                guard case .int(let number) = element else {
                  throw VitError(
                    "'\(name)' of a record is no list of layers", code: "study-file", help: StudyFolder.help)
                }
                return number
              })))
      case .bool, .members:
        throw VitError("'\(name)' of a record has another form", code: "study-file", help: StudyFolder.help)
      }
    }
    self.init(fields)
  }

  /// Records as a table of comma-separated values: a column for each name, that of what kind they are first.
  static func table(_ records: [StudyRecord]) -> String {
    let all = Set(records.flatMap { $0.fields.map(\.name) }).sorted()
    let names = all.filter { $0 == "record" } + all.filter { $0 != "record" }
    let rows = records.map { record in
      names.map { name in
        switch record[name] {
        case .text(let text)?:
          text.contains { ",\"\n\r".contains($0) } ? "\"\(text.replacing("\"", with: "\"\""))\"" : text
        case .number(let number?)?: number.isFinite ? JSON.number(number).line : ""
        case .integers(let numbers)?: numbers.map(String.init).joined(separator: " ")
        case .number(nil)?, nil: ""
        }
      }.joined(separator: ",")
    }
    return ([names.joined(separator: ",")] + rows).joined(separator: "\n") + "\n"
  }
}
