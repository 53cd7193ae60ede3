internal import CVitKernels
internal import Glibc
internal import Synchronization
public import VitIR
internal import VitSystem

/// A pool of POSIX threads, the caller's thread being worker 0.
///
/// Tasks are claimed one by one, so uneven ones even out. Idle workers spin for some hundreds of microseconds, which
/// covers the gaps between the kernels of one execution and what only one thread can do, then sleep. Calls of `run` from several threads take turns;
/// a call from inside a task runs inline.
public final class ThreadPool: WorkPool {
  private let crew: Crew
  private let threads: [pthread_t]

  /// A pool of `threads` workers in all, or of as many as the process may run on at once.
  ///
  /// Where the system gives fewer threads than asked for, the pool has fewer workers.
  public init(threads count: Int? = nil) {
    let asked = max(1, count ?? ThreadPool.availableCores)
    // Results are the same for any number of threads, so where address space is short there are fewer.
    let wanted = max(1, min(asked, SystemMemory.available.bytes / ThreadPool.threadBytes))
    let crew = Crew(capacity: wanted, spins: wanted <= ThreadPool.availableCores ? Crew.spins : 0)
    var started: [pthread_t] = []
    for worker in 1..<max(2, wanted) where worker < wanted {
      let seat = Unmanaged.passRetained(Seat(crew: crew, worker: worker))
      var thread = pthread_t()
      let code = pthread_create(
        &thread, nil,
        { argument in
          guard let argument else { return nil }
          let seat = Unmanaged<Seat>.fromOpaque(argument).takeRetainedValue()
          seat.crew.work(as: seat.worker)
          return nil
        }, seat.toOpaque())
      guard code == 0 else {
        seat.release()
        break
      }
      started.append(thread)
    }
    self.crew = crew
    self.threads = started
  }

  /// What a thread takes: its stack and its scratch.
  private static let threadBytes = 8 << 20 + WorkScratch.byteCount

  deinit {
    crew.stop()
    for thread in threads { pthread_join(thread, nil) }
  }

  /// The threads of the pool, the caller's included.
  public var workers: Int { threads.count + 1 }

  /// The scratch of `worker`.
  public func scratch(_ worker: Int) -> UnsafeMutableRawPointer { crew.scratch(worker) }

  /// Runs the tasks on all workers.
  public func run(tasks: Int, _ body: (Int, Int) -> Void) {
    guard tasks > 0 else { return }
    if let worker = crew.currentWorker {
      for task in 0..<tasks { body(task, worker) }
      return
    }
    crew.lead(tasks: tasks, alone: threads.isEmpty, body)
  }

  /// How many cores the process may use at once: its affinity mask, capped by the quota of its control groups.
  public static let availableCores: Int = {
    let quota = ControlGroup.cores().map { Int($0.rounded(.up)) }
    return max(1, min(Int(vk_affinity_cores()), quota ?? Int.max))
  }()
}

/// What a thread is told at its start.
private final class Seat: Sendable {
  let crew: Crew
  let worker: Int
  init(crew: Crew, worker: Int) {
    self.crew = crew
    self.worker = worker
  }
}

/// The state that workers share.
///
/// Unchecked because `body` and `total` are plain variables: they are written by the leader between two runs only.
/// A worker reads them after it has claimed a task, and the leader waits for every claimed task.
private final class Crew: @unchecked Sendable {
  /// How often an idle worker looks for work before it sleeps, with a pause of some 20 to 50 ns between: to be woken takes longer
  /// than most kernels run, and then finds what they wrote in another core's cache.
  static let spins = 12_000

  /// The generation of the run in the upper half, the tasks not yet claimed in the lower.
  private let ticket = Atomic<UInt64>(0)
  private let finished = Atomic<Int>(0)
  private let stopping = Atomic<Bool>(false)
  private let sleepers = Atomic<Int>(0)
  private let leaderSleeps = Atomic<Bool>(false)
  private var total = 0
  private var body: ((Int, Int) -> Void)?
  private let spins: Int
  private let turn: UnsafeMutablePointer<pthread_mutex_t>
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let wake: UnsafeMutablePointer<pthread_cond_t>
  private let done: UnsafeMutablePointer<pthread_cond_t>
  private var key = pthread_key_t()
  private let memory: UnsafeMutableRawPointer

  init(capacity: Int, spins: Int) {
    self.spins = spins
    turn = .allocate(capacity: 1)
    mutex = .allocate(capacity: 1)
    wake = .allocate(capacity: 1)
    done = .allocate(capacity: 1)
    pthread_mutex_init(turn, nil)
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(wake, nil)
    pthread_cond_init(done, nil)
    let code = pthread_key_create(&key, nil)
    precondition(code == 0, "no thread-local storage is left")
    memory = .allocate(byteCount: capacity * WorkScratch.byteCount, alignment: WorkScratch.alignment)
  }

  deinit {
    pthread_key_delete(key)
    pthread_cond_destroy(done)
    pthread_cond_destroy(wake)
    pthread_mutex_destroy(mutex)
    pthread_mutex_destroy(turn)
    done.deallocate()
    wake.deallocate()
    mutex.deallocate()
    turn.deallocate()
    memory.deallocate()
  }

  func scratch(_ worker: Int) -> UnsafeMutableRawPointer { memory + worker * WorkScratch.byteCount }

  /// The worker that this thread is inside a task of this pool.
  var currentWorker: Int? {
    pthread_getspecific(key).map { Int(bitPattern: $0) - 1 }
  }

  private func become(_ worker: Int?) {
    pthread_setspecific(key, worker.flatMap { UnsafeRawPointer(bitPattern: $0 + 1) })
  }

  /// Runs the tasks as worker 0 with the others' help, after other leaders' runs.
  func lead(tasks: Int, alone: Bool, _ body: (Int, Int) -> Void) {
    precondition(tasks <= Int(UInt32.max))
    pthread_mutex_lock(turn)
    become(0)
    if alone || tasks == 1 {
      for task in 0..<tasks { body(task, 0) }
    } else {
      withoutActuallyEscaping(body) { share(tasks: tasks, $0) }
    }
    become(nil)
    pthread_mutex_unlock(turn)
  }

  private func share(tasks: Int, _ body: @escaping (Int, Int) -> Void) {
    self.body = body
    total = tasks
    finished.store(0, ordering: .relaxed)
    let generation = (ticket.load(ordering: .relaxed) >> 32) &+ 1
    ticket.store(generation << 32 | UInt64(tasks), ordering: .sequentiallyConsistent)
    if sleepers.load(ordering: .sequentiallyConsistent) > 0 {
      pthread_mutex_lock(mutex)
      pthread_cond_broadcast(wake)
      pthread_mutex_unlock(mutex)
    }
    while perform(as: 0) {}
    var left = spins
    while finished.load(ordering: .acquiring) < tasks && left > 0 {
      vk_relax()
      left -= 1
    }
    if finished.load(ordering: .sequentiallyConsistent) < tasks {
      pthread_mutex_lock(mutex)
      leaderSleeps.store(true, ordering: .sequentiallyConsistent)
      while finished.load(ordering: .sequentiallyConsistent) < tasks { pthread_cond_wait(done, mutex) }
      leaderSleeps.store(false, ordering: .relaxed)
      pthread_mutex_unlock(mutex)
    }
    self.body = nil
  }

  /// Claims one task and runs it; false if none is left.
  private func perform(as worker: Int) -> Bool {
    var current = ticket.load(ordering: .acquiring)
    while true {
      guard UInt32(truncatingIfNeeded: current) > 0 else { return false }
      let (exchanged, original) = ticket.weakCompareExchange(
        expected: current, desired: current - 1, ordering: .acquiringAndReleasing)
      if exchanged { break }
      current = original
    }
    let count = total
    body?(count - Int(UInt32(truncatingIfNeeded: current)), worker)
    if finished.wrappingAdd(1, ordering: .sequentiallyConsistent).newValue == count,
      leaderSleeps.load(ordering: .sequentiallyConsistent)
    {
      pthread_mutex_lock(mutex)
      pthread_cond_signal(done)
      pthread_mutex_unlock(mutex)
    }
    return true
  }

  /// The life of a thread.
  func work(as worker: Int) {
    become(worker)
    while !stopping.load(ordering: .acquiring) {
      while perform(as: worker) {}
      var left = spins
      while idle && left > 0 {
        vk_relax()
        left -= 1
      }
      guard idle else { continue }
      pthread_mutex_lock(mutex)
      sleepers.wrappingAdd(1, ordering: .sequentiallyConsistent)
      while idle { pthread_cond_wait(wake, mutex) }
      sleepers.wrappingSubtract(1, ordering: .sequentiallyConsistent)
      pthread_mutex_unlock(mutex)
    }
    become(nil)
  }

  private var idle: Bool {
    UInt32(truncatingIfNeeded: ticket.load(ordering: .sequentiallyConsistent)) == 0
      && !stopping.load(ordering: .sequentiallyConsistent)
  }

  func stop() {
    pthread_mutex_lock(mutex)
    stopping.store(true, ordering: .sequentiallyConsistent)
    pthread_cond_broadcast(wake)
    pthread_mutex_unlock(mutex)
  }
}
