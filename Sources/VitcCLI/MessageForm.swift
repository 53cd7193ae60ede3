internal import VitIR
internal import Vitc

/// How messages are written to standard error.
enum MessageForm: String, CaseIterable {
  /// For people.
  case text
  /// One object a line (`schemas/diagnostic.schema.json`).
  case json
  /// One document at the end (SARIF 2.1.0), which code scanning and editors read.
  case sarif

  /// What `--diagnostics` says among words that nobody has looked at yet: an error in them is told so, too.
  init(saidIn words: [String]) {
    let apart = Array(zip(words, words.dropFirst())).last { $0.0 == "--diagnostics" }?.1
    let joined = words.last { $0.hasPrefix("--diagnostics=") }?.dropFirst("--diagnostics=".count)
    self = (apart ?? joined.map(String.init)).flatMap(MessageForm.init) ?? .text
  }

  /// The last that is said of work that a signal ended.
  func farewell(_ diagnostic: Diagnostic) -> String {
    switch self {
    case .text: diagnostic.text
    case .json: diagnostic.json.line
    case .sarif: Sarif.log([diagnostic], status: FailureKind.interrupted.rawValue).line
    }
  }
}

extension Diagnostic {
  /// The message as JSON, in the form of `schemas/diagnostic.schema.json`.
  var json: JSON {
    var members: [(String, JSON)] = [
      ("severity", .string(severity.rawValue)), ("code", .string(code)), ("message", .string(message)),
    ]
    if let file = location.file { members.append(("file", .string(file))) }
    if let node = location.node { members.append(("node", .string(node))) }
    if let line = location.line { members.append(("line", .int(line))) }
    if let column = location.column { members.append(("column", .int(column))) }
    if let help { members.append(("help", .string(help))) }
    return .object(members)
  }
}

/// Messages in the Static Analysis Results Interchange Format, version 2.1.0 (OASIS).
enum Sarif {
  /// The log of one run of vitc that ended with that exit code.
  static func log(_ diagnostics: [Diagnostic], status: Int32) -> JSON {
    let codes = Set(diagnostics.map(\.code)).sorted()
    let driver: [(String, JSON)] = [
      ("name", .string("vitc")), ("version", .string(Version.current)),
      ("rules", .array(codes.map { .object([("id", .string($0))]) })),
    ]
    let run: [(String, JSON)] = [
      ("tool", .object([("driver", .object(driver))])),
      (
        "invocations",
        .array([
          .object([("executionSuccessful", .bool(status < 2)), ("exitCode", .int(Int(status)))])
        ])
      ),
      ("columnKind", .string("unicodeCodePoints")),
      (
        "results",
        .array(
          diagnostics.map { diagnostic in
            result(diagnostic, rule: codes.firstIndex(of: diagnostic.code) ?? 0)
          })
      ),
    ]
    return .object([
      ("$schema", .string("https://json.schemastore.org/sarif-2.1.0.json")), ("version", .string("2.1.0")),
      ("runs", .array([.object(run)])),
    ])
  }

  private static func result(_ diagnostic: Diagnostic, rule: Int) -> JSON {
    // SARIF's words for the three severities are the same.
    let help = diagnostic.help.map { "\nhelp: \($0)" } ?? ""
    var members: [(String, JSON)] = [
      ("ruleId", .string(diagnostic.code)), ("ruleIndex", .int(rule)),
      ("level", .string(diagnostic.severity.rawValue)),
      ("message", .object([("text", .string(diagnostic.message + help))])),
    ]
    if let place = place(diagnostic.location) { members.append(("locations", .array([place]))) }
    return .object(members)
  }

  private static func place(_ location: Location) -> JSON? {
    var members: [(String, JSON)] = []
    if let file = location.file {
      var physical: [(String, JSON)] = [("artifactLocation", .object([("uri", .string(uri(file)))]))]
      if let line = location.line {
        let column = location.column.map { [("startColumn", JSON.int($0))] } ?? []
        physical.append(("region", .object([("startLine", .int(line))] + column)))
      }
      members.append(("physicalLocation", .object(physical)))
    }
    if let node = location.node {
      members.append(
        (
          "logicalLocations",
          .array([.object([("fullyQualifiedName", .string(node)), ("kind", .string("object"))])])
        ))
    }
    return members.isEmpty ? nil : .object(members)
  }

  /// A path as a URI (RFC 3986): relative where it is.
  static func uri(_ path: String) -> String {
    var text = path.hasPrefix("/") ? "file://" : ""
    FileName.withBytes(of: path) { bytes in
      var next = bytes
      while next.pointee != 0 {
        let byte = UInt8(bitPattern: next.pointee)
        let character = Unicode.Scalar(byte)
        let isPlain =
          character.isASCII
          && (Character(character).isLetter || Character(character).isNumber
            || "-._~/".unicodeScalars.contains(character))
        let digits = String(byte, radix: 16, uppercase: true)
        text += isPlain ? String(Character(character)) : "%" + (digits.count < 2 ? "0" : "") + digits
        next += 1
      }
    }
    return text
  }
}
