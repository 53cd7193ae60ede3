internal import Glibc
internal import Synchronization
internal import VitIR
internal import Vitc

/// Where vitc writes: results to standard output, progress to standard error, or all of it to a listener. May be used from any thread.
final class Terminal: Sendable {
  /// Whether a person is looking on.
  let isInteractive: Bool
  private let listener: Listener?
  private let state = Mutex(State())

  private struct State {
    var form = MessageForm.text
    /// What is told at the end.
    var collected: [Diagnostic] = []
    var isQuiet = false
    var pending: [UInt8] = []
    /// Where results go.
    var output: Int32 = 1
    var phase = Phase()
    /// What the user was told.
    var told: Set<Diagnostic> = []
  }

  /// Long work whose progress is shown.
  private struct Phase {
    var name = ""
    var started = ContinuousClock.now
    var first = 0
    var shown = -1
    var isOpen = false
  }

  /// Opens those of the three standard streams that are closed, lest a file takes the number of one and gets what is
  /// written there. Reading and writing fail as before.
  static func occupyStreams() {
    for descriptor in Int32(0)...2 where fcntl(descriptor, F_GETFD) < 0 {
      _ = open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY)
    }
  }

  /// The standard streams, or `listener` in their place.
  init(_ listener: Listener? = nil) {
    self.listener = listener
    isInteractive = listener == nil && isatty(2) == 1
  }

  /// Whether a listener is in place of the streams.
  var isHeard: Bool { listener != nil }

  /// Whether somebody wants the work to end.
  var isCancelled: Bool { listener?.progress.isCancelled() ?? Interrupts.isRequested }

  /// How messages are written.
  var form: MessageForm {
    get { state.withLock { $0.form } }
    set { state.withLock { $0.form = newValue } }
  }

  /// Says at the end, with the exit code, what is said then only.
  func finish(_ status: Int32) {
    let (form, collected) = state.withLock { ($0.form, $0.collected) }
    if form == .sarif { sendLine(Sarif.log(collected, status: status).line) }
  }

  /// Whether notes and progress are left out.
  var isQuiet: Bool {
    get { state.withLock { $0.isQuiet } }
    set { state.withLock { $0.isQuiet = newValue } }
  }

  /// Adds text to the results.
  func write(_ text: String) { state.withLock { $0.pending += text.utf8 } }

  /// Adds a line to the results.
  func print(_ line: String = "") { write(line + "\n") }

  /// Leaves standard output to a file that is the same (`-o /dev/stdout`): results go to standard error then.
  func yieldOutput(to path: String) {
    guard listener == nil else { return }
    var (file, output) = (stat(), stat())
    guard FileName.withBytes(of: path, { stat($0, &file) }) == 0, fstat(1, &output) == 0,
      file.st_dev == output.st_dev,
      file.st_ino == output.st_ino, file.st_mode & S_IFMT != S_IFCHR
    else { return }
    state.withLock { $0.output = 2 }
  }

  /// Hands the results over; throws where standard output cannot take them.
  func flush() throws(VitError) {
    let (bytes, output) = state.withLock { state in
      defer { state.pending = [] }
      return (state.pending, state.output)
    }
    if let listener {
      if !bytes.isEmpty { listener.output(bytes) }
      return
    }
    guard Terminal.send(bytes, to: output) else {
      throw VitError(
        "standard output cannot be written: \(String(cString: strerror(errno)))", kind: .environment,
        code: "unwritable-output")
    }
  }

  /// Says something that is no result.
  func say(_ line: String) {
    let note = Diagnostic(.note, line, code: "progress")
    if let listener { return listener.progress.report(note) }
    switch form {
    case .text: sendLine(line)
    case .json: sendLine(note.json.line)
    case .sarif: break
    }
  }

  /// Tells the user of an error, warning or note; of what was said already, no second time.
  func report(_ diagnostic: Diagnostic) {
    let isNew = state.withLock { state in
      !(state.isQuiet && diagnostic.severity == .note) && state.told.insert(diagnostic).inserted
    }
    guard isNew else { return }
    if let listener { return listener.progress.report(diagnostic) }
    switch form {
    case .text: sendLine(diagnostic.text)
    case .json: sendLine(diagnostic.json.line)
    case .sarif: state.withLock { $0.collected.append(diagnostic) }
    }
  }

  /// Shows how far long work is: on a terminal one line that changes, with the rate and the time left; elsewhere a line
  /// for each tenth.
  func advance(_ name: String, _ done: Int, _ total: Int, _ figure: String) {
    if let listener { return listener.progress.advance(name, done, total, figure) }
    let tail = figure.isEmpty ? "" : ", \(figure)"
    let line = state.withLock { state -> String? in
      guard !state.isQuiet else { return nil }
      if name != state.phase.name || done < state.phase.shown {
        Terminal.endLine(&state)
        state.phase = Phase(name: name, first: max(0, done - 1))
      }
      defer { state.phase.shown = done }
      guard isInteractive, state.form == .text else {
        let last = state.phase.shown >= 0 ? state.phase.shown * 10 / max(total, 1) : -1
        return done * 10 / max(total, 1) != last || done >= total ? "\(name): \(done)/\(total)\(tail)" : nil
      }
      let elapsed = state.phase.started.duration(to: .now) / .seconds(1)
      let steps = Double(done - state.phase.first)
      var line = "\(name): \(done)/\(total)\(tail)"
      if steps > 0, elapsed > 0.2 {
        let rate = steps / elapsed
        line += ", \(rate.fixed(rate < 10 ? 2 : 0))/s, \((Double(total - done) / rate).asTime) left"
      }
      _ = Terminal.send(Array("\r\u{1b}[K\(line)".utf8), to: 2)
      state.phase.isOpen = true
      if done >= total { Terminal.endLine(&state) }
      return nil
    }
    if let line { say(line) }
  }

  private func sendLine(_ text: String) {
    state.withLock { state in
      Terminal.endLine(&state)
      _ = Terminal.send(Array((text + "\n").utf8), to: 2)
    }
  }

  private static func endLine(_ state: inout State) {
    guard state.phase.isOpen else { return }
    state.phase.isOpen = false
    _ = send([10], to: 2)
  }

  private static func send(_ bytes: [UInt8], to descriptor: Int32) -> Bool {
    var done = 0
    while done < bytes.count {
      let wrote = bytes.withUnsafeBytes {
        Glibc.write(descriptor, $0.baseAddress.map { $0 + done }, bytes.count - done)
      }
      if wrote < 0, errno == EINTR { continue }
      guard wrote > 0 else { return false }
      done += wrote
    }
    return true
  }
}
