internal import Glibc
internal import Synchronization
import Testing
internal import VitIR
internal import VitRuntime

@Suite struct ThreadPoolTests {
  /// Counts for each task, in memory that threads may write at once.
  private final class Counts: Sendable {
    let counts: Mutex<[Int]>
    init(_ tasks: Int) { counts = Mutex([Int](repeating: 0, count: tasks)) }
    func add(_ task: Int) { counts.withLock { $0[task] += 1 } }
    var values: [Int] { counts.withLock { $0 } }
  }

  @Test("every task runs exactly once, whatever the number of tasks and workers")
  func once() {
    for threads in 1...4 {
      let pool = ThreadPool(threads: threads)
      #expect(pool.workers == threads)
      for tasks in [0, 1, 2, 3, 7, 100] {
        let counts = Counts(tasks)
        pool.run(tasks: tasks) { task, worker in
          #expect((0..<threads).contains(worker))
          counts.add(task)
        }
        #expect(counts.values == [Int](repeating: 1, count: tasks))
      }
    }
  }

  @Test("many short runs in a row lose no task")
  func shortRuns() {
    let pool = ThreadPool(threads: 3)
    let sum = Atomic<Int>(0)
    for _ in 0..<3000 {
      pool.run(tasks: 4) { task, _ in sum.wrappingAdd(task, ordering: .relaxed) }
    }
    #expect(sum.load(ordering: .relaxed) == 18000)
  }

  @Test("workers that fell asleep wake for the next run")
  func wakes() {
    let pool = ThreadPool(threads: 2)
    let sum = Atomic<Int>(0)
    for _ in 0..<20 {
      usleep(2000)
      pool.run(tasks: 64) { _, _ in sum.wrappingAdd(1, ordering: .relaxed) }
    }
    #expect(sum.load(ordering: .relaxed) == 1280)
  }

  @Test("no two tasks that run at once share a worker, and a nested run keeps its worker")
  func workerNumbers() {
    let pool = ThreadPool(threads: 4)
    let busy = Mutex([Bool](repeating: false, count: 4))
    pool.run(tasks: 200) { _, worker in
      #expect(
        busy.withLock { flags in
          defer { flags[worker] = true }; return !flags[worker]
        })
      pool.run(tasks: 3) { _, inner in #expect(inner == worker) }
      usleep(50)
      busy.withLock { $0[worker] = false }
    }
  }

  @Test("runs from several threads take turns and lose nothing")
  func severalLeaders() async {
    let pool = ThreadPool(threads: 2)
    let counts = Counts(5)
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<4 {
        group.addTask { for _ in 0..<200 { pool.run(tasks: 5) { task, _ in counts.add(task) } } }
      }
    }
    #expect(counts.values == [Int](repeating: 800, count: 5))
  }

  @Test("scratch memory is aligned, of the promised size and each worker's own")
  func scratch() {
    let pool = ThreadPool(threads: 2)
    let (a, b) = (pool.scratch(0), pool.scratch(1))
    #expect(
      Int(bitPattern: a) % WorkScratch.alignment == 0 && Int(bitPattern: b) % WorkScratch.alignment == 0)
    #expect(abs(b - a) >= WorkScratch.byteCount)
    for memory in [a, b] { memory.storeBytes(of: 1, toByteOffset: WorkScratch.byteCount - 1, as: UInt8.self) }
  }

  @Test("who asks for as many threads shares them, while somebody has them; one thread is the caller's own")
  func shared() {
    // A number that nothing else in the tests asks for.
    let count = 7
    func address(_ pool: ThreadPool) -> ObjectIdentifier { ObjectIdentifier(pool) }
    let first = ThreadPool.shared(threads: count)
    #expect(address(ThreadPool.shared(threads: count)) == address(first) && first.workers <= count)
    #expect(address(ThreadPool.shared(threads: count - 1)) != address(first))
    let (one, other) = (ThreadPool.shared(threads: 1), ThreadPool.shared(threads: 1))
    #expect(address(one) != address(other) && one.workers == 1)
    #expect(ThreadPool.shared().workers <= max(1, ThreadPool.availableCores))
    weak var gone: ThreadPool?
    do {
      let pool = ThreadPool.shared(threads: count + 4)
      gone = pool
      #expect(gone != nil && pool.workers >= 1)
    }
    #expect(gone == nil)
    let again = ThreadPool.shared(threads: count + 4)
    let counts = Counts(9)
    again.run(tasks: 9) { task, _ in counts.add(task) }
    #expect(counts.values == [Int](repeating: 1, count: 9))
  }

  @Test("there is a core to run on") func cores() { #expect(ThreadPool.availableCores >= 1) }
}
