internal import Glibc
internal import Synchronization

/// What SIGINT and SIGTERM do: the first asks long work to stop, the second ends the process at once.
enum Interrupts {
  private static let count = Atomic<Int>(0)

  /// Whether somebody has asked.
  static var isRequested: Bool { count.load(ordering: .relaxed) > 0 }

  /// Sets the handlers.
  static func install() {
    // The atomic is made here, for a handler must not be the first to touch it.
    count.store(0, ordering: .relaxed)
    // Who starts vitc from a thread that blocks signals hands that down.
    var signals = sigset_t()
    sigemptyset(&signals)
    for number in [SIGINT, SIGTERM] { sigaddset(&signals, number) }
    pthread_sigmask(SIG_UNBLOCK, &signals, nil)
    for number in [SIGINT, SIGTERM] {
      signal(number) { _ in
        if Interrupts.count.add(1, ordering: .relaxed).oldValue > 0 { _exit(130) }
      }
    }
  }
}
