/// Where something is: a file, a node of its graph, a line of its text.
public struct Location: Hashable, Sendable {
  /// The file as the user named it.
  public var file: String?
  /// The node's name in the file it came from.
  public var node: String?
  /// Line and column, from 1, in a textual file.
  public var line: Int?
  /// See `line`.
  public var column: Int?

  /// A location of which any part may be unknown.
  public init(file: String? = nil, node: String? = nil, line: Int? = nil, column: Int? = nil) {
    self.file = file
    self.node = node
    self.line = line
    self.column = column
  }

  /// This location with what it lacks taken from `other`.
  public func filled(from other: Location) -> Location {
    Location(
      file: file ?? other.file, node: node ?? other.node, line: line ?? other.line,
      column: column ?? other.column)
  }
}

/// What a diagnostic means for the process; decides its exit code.
public enum FailureKind: Int32, Sendable {
  /// A check failed: a difference, a failed verify, a missed budget.
  case check = 1
  /// Wrong usage: flags, option values.
  case usage = 2
  /// An input is missing, malformed or unsupported.
  case input = 3
  /// Anything else: cannot write, disk full, a bug.
  case environment = 4
  /// Interrupted by the user.
  case interrupted = 130
}

/// One message to the user: where, what was expected and found, what helps.
public struct Diagnostic: Hashable, Sendable {
  /// How bad it is.
  public enum Severity: String, Sendable { case error, warning, note }
  /// How bad it is.
  public var severity: Severity
  /// A stable identifier in kebab case, for scripts; the wording may change, this does not.
  public var code: String
  /// What was expected and what was found: lower case, no full stop.
  public var message: String
  /// Where.
  public var location: Location
  /// What the user can do about it.
  public var help: String?

  /// A diagnostic.
  public init(
    _ severity: Severity, _ message: String, code: String, location: Location = Location(),
    help: String? = nil
  ) {
    self.severity = severity
    self.code = code
    self.message = message
    self.location = location
    self.help = help
  }

  /// The diagnostic as text: `file:line:column: error: node 'x': message`, control characters escaped, and a
  /// second line `help: …` where there is help.
  public var text: String {
    var prefix = ""
    if let file = location.file {
      prefix += file.escapedForDisplay
      if let line = location.line {
        prefix += ":\(line)"
        if let column = location.column { prefix += ":\(column)" }
      }
      prefix += ": "
    }
    let node = location.node.map { "node '\($0.escapedForDisplay)': " } ?? ""
    let tail = help.map { "\nhelp: \($0.escapedForDisplay)" } ?? ""
    return "\(severity.rawValue): \(prefix)\(node)\(message.escapedForDisplay)\(tail)"
  }
}

/// The error that vitc throws: a diagnostic and what it means for the process.
public struct VitError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What it means for the process.
  public var kind: FailureKind
  /// What is told to the user.
  public var diagnostic: Diagnostic

  /// An error; by default about an input.
  public init(
    _ message: String, kind: FailureKind = .input, code: String = "invalid-input",
    location: Location = Location(), help: String? = nil
  ) {
    self.kind = kind
    self.diagnostic = Diagnostic(.error, message, code: code, location: location, help: help)
  }

  /// What some other code threw: the error itself where it is one of vitc's.
  public init(_ error: any Error) {
    self = (error as? VitError) ?? VitError("\(error)", kind: .environment)
  }

  /// The same error, its unknown parts of the location filled in.
  public func at(_ location: Location) -> VitError {
    var copy = self
    copy.diagnostic.location = diagnostic.location.filled(from: location)
    return copy
  }

  /// The message with its location.
  public var description: String { diagnostic.text }
}

extension String {
  /// The text with control characters, and bytes that are no UTF-8, written as escapes.
  public var escapedForDisplay: String {
    guard unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7f }) else {
      return FileName.shown(self)
    }
    var result = ""
    for scalar in unicodeScalars {
      switch scalar {
      case "\n": result += "\\n"
      case "\t": result += "\\t"
      case "\r": result += "\\r"
      case let scalar where scalar.value < 0x20 || scalar.value == 0x7f:
        let digits = String(scalar.value, radix: 16)
        result += "\\u{\(digits)}"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return FileName.shown(result)
  }
}
