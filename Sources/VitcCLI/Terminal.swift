internal import Glibc
internal import VitIR
internal import Vitc

/// Where vitc writes: results to standard output, talk to standard error.
///
/// Used by one thread at a time.
final class Terminal {
  /// Whether messages are written as JSON, one object a line.
  var writesJSON = false
  /// Whether a person is looking on.
  let isInteractive: Bool
  private var pending: [UInt8] = []
  private var phase = Phase()

  private struct Phase {
    var name = ""
    var started = ContinuousClock.now
    var first = 0
    var shown = -1
    var isOpen = false
  }

  init() { isInteractive = isatty(2) == 1 }

  /// Adds text to the results.
  func write(_ text: String) { pending += text.utf8 }

  /// Adds a line to the results.
  func print(_ line: String = "") { write(line + "\n") }

  /// Hands the results over; throws where standard output cannot take them.
  func flush() throws(VitError) {
    defer { pending = [] }
    guard Terminal.write(pending, to: 1) else {
      throw VitError(
        "standard output cannot be written: \(String(cString: strerror(errno)))", kind: .environment,
        code: "unwritable-output")
    }
  }

  /// Says something that is no result.
  func say(_ line: String) {
    if writesJSON {
      report(Diagnostic(.note, line, code: "talk"))
    } else {
      endLine()
      _ = Terminal.write(Array((line + "\n").utf8), to: 2)
    }
  }

  /// Tells the user of an error, warning or note.
  func report(_ diagnostic: Diagnostic) {
    endLine()
    let text = writesJSON ? diagnostic.json.line : diagnostic.text
    _ = Terminal.write(Array((text + "\n").utf8), to: 2)
  }

  /// Shows how far long work is: on a terminal one line that changes, with the rate and the time left; elsewhere a line
  /// for each tenth.
  func progress(_ name: String, _ done: Int, _ total: Int, _ figure: String) {
    if name != phase.name || done < phase.shown {
      endLine()
      phase = Phase(name: name, first: done)
    }
    let tail = figure.isEmpty ? "" : ", \(figure)"
    if isInteractive && !writesJSON {
      let elapsed = phase.started.duration(to: .now) / .seconds(1)
      let steps = Double(done - phase.first)
      var line = "\(name): \(done)/\(total)\(tail)"
      if steps > 0, elapsed > 0.2 {
        let rate = steps / elapsed
        line += ", \(rate.fixed(rate < 10 ? 2 : 0))/s, \((Double(total - done) / rate).asTime) left"
      }
      _ = Terminal.write(Array("\r\u{1b}[K\(line)".utf8), to: 2)
      phase.isOpen = true
      if done >= total { endLine() }
    } else {
      let tenth = total > 0 ? done * 10 / total : 10
      let last = total > 0 && phase.shown >= 0 ? phase.shown * 10 / total : -1
      if tenth != last || done >= total { say("\(name): \(done)/\(total)\(tail)") }
    }
    phase.shown = done
  }

  private func endLine() {
    guard phase.isOpen else { return }
    phase.isOpen = false
    _ = Terminal.write([10], to: 2)
  }

  private static func write(_ bytes: [UInt8], to descriptor: Int32) -> Bool {
    var done = 0
    while done < bytes.count {
      let wrote = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress.map { $0 + done }, bytes.count - done) }
      if wrote < 0, errno == EINTR { continue }
      guard wrote > 0 else { return false }
      done += wrote
    }
    return true
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
