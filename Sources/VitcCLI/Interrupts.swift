internal import Glibc
internal import Synchronization
internal import VitIR
internal import Vitc

/// What SIGINT and SIGTERM do: they end the process, which takes its temporary files with it; but work that keeps what it
/// has done is asked to stop by the first and ended by the second.
enum Interrupts {
  private static let count = Atomic<Int>(0)
  private static let isDeferred = Atomic<Bool>(false)
  /// What is said at the end: the address of a C string, for a handler may not allocate.
  private static let farewell = Atomic<UInt>(0)

  /// Whether somebody has asked.
  static var isRequested: Bool { count.load(ordering: .relaxed) > 0 }

  /// Sets the handlers.
  static func install(_ terminal: Terminal) {
    let diagnostic = Diagnostic(.error, "interrupted", code: "interrupted")
    let line = terminal.form.farewell(diagnostic)
    // All that the handler touches is made here, for it must not be the first.
    farewell.store(UInt(bitPattern: strdup(line + "\n")), ordering: .relaxed)
    count.store(0, ordering: .relaxed)
    isDeferred.store(false, ordering: .relaxed)
    TextFile.abandonAll()
    // Who starts vitc from a thread that blocks signals hands that down.
    var signals = sigset_t()
    sigemptyset(&signals)
    for number in [SIGINT, SIGTERM] { sigaddset(&signals, number) }
    pthread_sigmask(SIG_UNBLOCK, &signals, nil)
    for number in [SIGINT, SIGTERM] { signal(number) { _ in Interrupts.receive() } }
    // A file that grows beyond the limit of the process is an error like a full disk.
    signal(SIGXFSZ, SIG_IGN)
  }

  /// Runs work that looks at `isRequested` now and then, and stops with what it has done kept.
  static func deferring<Result>(_ work: () throws -> Result) rethrows -> Result {
    isDeferred.store(true, ordering: .relaxed)
    defer { isDeferred.store(false, ordering: .relaxed) }
    return try work()
  }

  private static func receive() {
    let earlier = count.add(1, ordering: .relaxed).oldValue
    if earlier == 0, isDeferred.load(ordering: .relaxed) { return }
    TextFile.abandonAll()
    if let line = UnsafePointer<CChar>(bitPattern: farewell.load(ordering: .relaxed)) {
      write(2, line, strlen(line))
    }
    _exit(130)
  }
}
