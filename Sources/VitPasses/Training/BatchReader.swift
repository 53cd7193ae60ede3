internal import Synchronization
internal import VitIR

/// Which samples make up a step: a new shuffle for each pass over the data, decided by the seed alone, so
/// that a run that was stopped goes on as if it had not been.
struct SampleOrder {
  private let random: SplitMix
  private let count: Int
  private var epoch = -1
  private var order: [Int] = []

  init(count: Int, random: SplitMix) {
    self.count = count
    self.random = random
  }

  /// The samples of step `step`, each with the number that decides its augmentation.
  mutating func batch(_ step: Int, size: Int) -> [(index: Int, variant: UInt64)] {
    (step * size..<(step + 1) * size).map { position in
      let wanted = position / count
      if wanted != epoch {
        epoch = wanted
        var stream = random.split(wanted)
        order = stream.shuffled(Array(0..<count))
      }
      var variant = random.split("variant").split(position)
      return (order[position % count], variant.next())
    }
  }
}

/// Fills the inputs of an executor with samples, on all threads.
struct BatchReader {
  let data: any SampleSource
  let pool: any WorkPool

  /// Writes samples into `view`, [batch, …], converted where its elements are no f32.
  func read(_ samples: [(index: Int, variant: UInt64?)], into view: View) throws {
    guard view.element == .f32 else {
      let floats = try Tensor(.f32, shape: view.shape) { buffer in
        guard let base = buffer.baseAddress else { return }
        try read(samples, into: View(base: base, element: .f32, shape: view.shape))
      }
      return try floats.copy(to: view)
    }
    let size = data.shape.reduce(1, *)
    precondition(view.count == samples.count * size)
    let target = view.f32
    let failures = FailureBox()
    pool.run(tasks: samples.count) { task, _ in
      do {
        try data.read(
          samples[task].index, variant: samples[task].variant,
          into: UnsafeMutableBufferPointer(start: target + task * size, count: size))
      } catch { failures.note(error, at: task) }
    }
    try failures.throwFirst()
  }
}

/// The errors of parallel tasks; of several the one of the first task is thrown, whichever came first in
/// time.
private final class FailureBox: Sendable {
  private let first = Mutex<(task: Int, error: any Error)?>(nil)

  func note(_ error: any Error, at task: Int) {
    first.withLock { current in
      if let found = current, found.task <= task { return }
      current = (task, error)
    }
  }

  func throwFirst() throws {
    if let found = first.withLock({ $0 }) { throw found.error }
  }
}
