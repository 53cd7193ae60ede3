/// The Static Analysis Results Interchange Format, version 2.1.0 (OASIS), which code scanning and editors read.
public enum Sarif {
  /// A log of one run of vitc: what may be told, in words, and what is; with `status`, the exit code, as an invocation.
  public static func log(rules: [(name: String, summary: String)], results: [JSON], status: Int32? = nil)
    -> JSON
  {
    let driver = JSON.object([
      ("name", "vitc"), ("version", .string(Version.current)),
      (
        "rules",
        .array(
          rules.map { rule in
            let summary = JSON.object([("text", .string(rule.summary))])
            return .object([("id", .string(rule.name)), ("shortDescription", summary)])
          })
      ),
    ])
    var run: [(String, JSON)] = [
      ("tool", .object([("driver", driver)])), ("results", .array(results)),
    ]
    if let status {
      let invocation = JSON.object([
        ("executionSuccessful", .bool(status < 2)), ("exitCode", .int(Int(status))),
      ])
      run.append(("invocations", .array([invocation])))
    }
    return .object([
      ("$schema", "https://json.schemastore.org/sarif-2.1.0.json"), ("version", "2.1.0"),
      ("runs", .array([.object(run)])),
    ])
  }

  /// Something told, by the name of its rule; `level` is error, warning or note. In a file, at a line and column there, and of a `part` of what that
  /// holds: a node, a layer.
  public static func result(
    _ rule: String, level: String, text: String, file: String?, line: Int? = nil, column: Int? = nil,
    part: String? = nil
  ) -> JSON {
    var place: [(String, JSON)] = []
    if let file {
      var physical: [(String, JSON)] = [
        ("artifactLocation", .object([("uri", .string(reference(to: file)))]))
      ]
      if let line {
        let column = column.map { [("startColumn", JSON.int($0))] } ?? []
        physical.append(("region", .object([("startLine", .int(line))] + column)))
      }
      place.append(("physicalLocation", .object(physical)))
    }
    if let part {
      place.append(("logicalLocations", .array([.object([("fullyQualifiedName", .string(part))])])))
    }
    return .object(
      [
        ("ruleId", .string(rule)), ("level", .string(level)),
        ("message", .object([("text", .string(text))])),
      ] + (place.isEmpty ? [] : [("locations", .array([.object(place)]))]))
  }

  /// A path as a URI reference (RFC 3986), relative where the path is.
  static func reference(to path: String) -> String {
    var result = ""
    for byte in path.utf8 {
      let scalar = Unicode.Scalar(byte)
      switch scalar {
      case "a"..."z", "A"..."Z", "0"..."9", "-", ".", "_", "~", "/": result.unicodeScalars.append(scalar)
      default:
        let digits = String(byte, radix: 16, uppercase: true)
        result += "%" + (digits.count < 2 ? "0" : "") + digits
      }
    }
    // A first part with a colon would be a scheme; it is written as %3A already.
    if result.isEmpty { return "." }
    return result.hasPrefix("/") ? "file:///" + result.drop { $0 == "/" } : result
  }
}
