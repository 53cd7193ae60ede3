public import VitIR

/// How long work talks to whoever started it, and is stopped. Every closure may be called from any thread.
public struct Progress: Sendable {
  /// Called with what a user should know: warnings and notes.
  public var report: @Sendable (Diagnostic) -> Void
  /// Called with how far the work is: what, steps done, steps in all, a figure worth showing.
  public var advance: @Sendable (_ phase: String, _ done: Int, _ total: Int, _ figure: String) -> Void
  /// Asked now and then whether to stop.
  public var isCancelled: @Sendable () -> Bool

  /// Progress that nobody hears, unless closures are given.
  public init(
    report: @escaping @Sendable (Diagnostic) -> Void = { _ in },
    advance: @escaping @Sendable (String, Int, Int, String) -> Void = { _, _, _, _ in },
    isCancelled: @escaping @Sendable () -> Bool = { false }
  ) {
    self.report = report
    self.advance = advance
    self.isCancelled = isCancelled
  }
}
