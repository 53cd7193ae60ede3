internal import Synchronization

extension ThreadPool {
  /// The pool of so many workers that all share who ask for as many, for as long as one of them has it: sessions of a process do not multiply
  /// its threads. Their runs take turns, kernel by kernel.
  ///
  /// A pool of one worker is the caller's own, so that callers on different threads run side by side.
  public static func shared(threads count: Int? = nil) -> ThreadPool {
    let count = max(1, count ?? availableCores)
    guard count > 1 else { return ThreadPool(threads: 1) }
    return pools.withLock { pools in
      if let pool = pools[count]?.pool { return pool }
      let pool = ThreadPool(threads: count)
      pools = pools.filter { $0.value.pool != nil }
      pools[count] = Holder(pool: pool)
      return pool
    }
  }

  private static let pools = Mutex<[Int: Holder]>([:])

  private struct Holder: Sendable {
    weak let pool: ThreadPool?
  }
}
