internal import Glibc
internal import VitIR
internal import Vitc

/// The command line.
public enum Tool {
  /// Runs vitc on the `count` arguments of its process, of which the first is its name; returns the exit code.
  ///
  /// Names of files among them are bytes, which need not be UTF-8.
  public static func run(_ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>, count: Int) -> Int32
  {
    run(
      (0..<count).dropFirst().compactMap { place in
        arguments[place].map { FileName.text(of: UnsafeRawBufferPointer(start: $0, count: strlen($0))) }
      })
  }

  /// Runs vitc on the words behind its name; returns the exit code.
  public static func run(_ words: [String]) -> Int32 {
    Terminal.occupyStreams()
    let terminal = Terminal()
    let status = status(of: words, terminal)
    terminal.finish(status)
    return status
  }

  private static func status(of words: [String], _ terminal: Terminal) -> Int32 {
    do {
      let outcome = try start(words, terminal)
      try terminal.flush()
      return outcome == .done ? 0 : FailureKind.check.rawValue
    } catch let error as VitError {
      // What was found out before the failure is still worth having.
      try? terminal.flush()
      terminal.report(error.diagnostic)
      return error.kind.rawValue
    } catch {
      terminal.report(Diagnostic(.error, "\(error)", code: "internal"))
      return FailureKind.environment.rawValue
    }
  }

  /// Runs vitc on the words behind its name inside of another program: what it would write goes to `listener`, and no signal is handled.
  /// False where a check found what it looks for. Throws what would end the process. May be called from several threads at
  /// once.
  public static func call(_ words: [String], listener: Listener) throws -> Bool {
    let terminal = Terminal(listener)
    do {
      let outcome = try start(words, terminal)
      try terminal.flush()
      return outcome == .done
    } catch {
      try? terminal.flush()
      throw error
    }
  }

  private static func start(_ given: [String], _ terminal: Terminal) throws -> Outcome {
    terminal.form = MessageForm(saidIn: given)
    let words = try ResponseFile.expand(given)
    guard let name = words.first else {
      terminal.write(Help.overview)
      throw usage("no command given")
    }
    if ["--version", "--help", "-h"].contains(name) {
      guard words.count == 1 else { throw usage("\(name) stands alone, found '\(words[1])'") }
      terminal.write(name == "--version" ? "vitc \(Version.current)\n" : Help.overview)
      return .done
    }
    guard let command = Command.all.first(where: { $0.name == name }) else {
      throw Arguments.unknown(
        name, among: Command.all.map(\.name), what: name.hasPrefix("-") ? "option" : "command", help: nil)
    }
    let arguments = try Arguments(Array(words.dropFirst()), of: command)
    terminal.form =
      try arguments.choice("--diagnostics", of: MessageForm.allCases.map(\.rawValue))
      .flatMap(MessageForm.init) ?? .text
    terminal.isQuiet = arguments.flag("--quiet")
    if arguments.flag("--help") {
      terminal.write(Help.text(command))
      return .done
    }
    if !terminal.isHeard { Interrupts.install(terminal) }
    try ProcessMemory.check()
    if arguments.takes("--memory-limit"), let limit = try arguments.memoryLimit() {
      guard !terminal.isHeard else {
        throw usage(
          "--memory-limit is for all of a process, which here is another program's", code: "option-conflict",
          help: "limit the process itself (ulimit, control groups)")
      }
      ProcessMemory.setLimit(limit)
    }
    let keepsEqual = arguments.takes("--restat") && arguments.flag("--restat")
    do { return try TextFile.keepingEqual(keepsEqual) { try command.run(arguments, terminal) } } catch let
      error as VitError
      where error.kind == .input
    {
      // An error that names no file is about the model.
      throw error.at(Location(file: arguments.operands.first))
    }
  }
}
