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

  /// Writes samples into the inputs of a model, [batch, …] each, converted where elements are no f32.
  func read(_ samples: [(index: Int, variant: UInt64?)], into inputs: [View]) throws {
    for (place, view) in inputs.enumerated() {
      let shape = place == 0 ? data.shape : data.furtherShapes[place - 1]
      try write(samples.count, of: shape, into: view) { task, target in
        if place == 0 {
          try data.read(samples[task].index, variant: samples[task].variant, into: target)
        } else {
          try data.readFurther(samples[task].index, input: place - 1, into: target)
        }
      }
    }
  }

  /// Lets `body` write `count` parts of a view, each of `shape`, on all threads.
  private func write(
    _ count: Int, of shape: [Int], into view: View,
    _ body: @Sendable (Int, UnsafeMutableBufferPointer<Float>) throws -> Void
  ) throws {
    guard view.element == .f32 else {
      let floats = try Tensor(.f32, shape: view.shape) { buffer in
        guard let base = buffer.baseAddress else { return }
        try write(count, of: shape, into: View(base: base, element: .f32, shape: view.shape), body)
      }
      return try floats.copy(to: view)
    }
    let size = shape.reduce(1, *)
    precondition(view.count == count * size)
    let target = view.f32
    let failures = FailureBox()
    pool.run(tasks: count) { task, _ in
      do {
        try body(task, UnsafeMutableBufferPointer(start: target + task * size, count: size))
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
