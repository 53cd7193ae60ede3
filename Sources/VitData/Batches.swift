internal import Synchronization
public import VitIR

/// What a batch holds.
public struct Batch: Sendable {
  /// The data set's number of the sample in each row.
  public var samples: [Int]
  /// The number of rows that are filled.
  public var count: Int { samples.count }
}

/// Goes through samples of a data set, batch by batch.
///
/// What comes depends on the data, the seed and the position alone, never on the number of threads. Samples that
/// cannot be read are left out: the next ones move up.
public struct Batches {
  /// In which order samples come.
  public enum Order: Sendable {
    /// Once, as they are numbered; the last batch may be smaller.
    case once
    /// For ever, shuffled anew in each epoch; every batch is full.
    case shuffled(seed: UInt64)
  }

  /// The samples to go through.
  public let samples: [Int]
  /// How many samples have been drawn, unreadable ones included: setting it to what it was resumes there.
  public var position = 0
  private let dataset: Dataset
  private let preprocess: Preprocess
  private let order: Order
  private let augment: Augment?
  private var epoch: (number: Int, samples: [Int])?
  private var isAnyReadable = false
  private var lastFailure: VitError?

  /// A pass over `samples` of `dataset`, or over all of them. Only shuffled samples are augmented.
  public init(
    _ dataset: Dataset, _ preprocess: Preprocess, samples: [Int]? = nil, order: Order = .once,
    augment: Augment? = nil
  ) {
    let samples = samples ?? Array(0..<dataset.count)
    precondition(!samples.isEmpty && samples.allSatisfy { 0 <= $0 && $0 < dataset.count })
    self.dataset = dataset
    self.preprocess = preprocess
    self.samples = samples
    self.order = order
    self.augment = augment
  }

  /// Fills the rows of `view`, `[rows, channels, height, width]` in `f32`, with the next samples, read on `pool`.
  ///
  /// Returns `nil` at the end of a pass. Throws where not one of the samples can be read.
  public mutating func next(into view: View, pool: any WorkPool) throws(VitError) -> Batch? {
    precondition(view.rank == 4 && view.element == .f32)
    precondition(Array(view.shape.dropFirst()) == [preprocess.channels, preprocess.height, preprocess.width])
    var batch = Batch(samples: [])
    while batch.count < view.shape[0] {
      let drawn = draw(view.shape[0] - batch.count)
      if drawn.isEmpty { break }
      let first = batch.count
      let failures = read(drawn, into: view.slice(first..<first + drawn.count), pool)
      for (row, item) in drawn.enumerated() {
        if let error = failures[row] {
          dataset.skip(item.sample, because: error)
          lastFailure = error
          continue
        }
        let isMoved = batch.count < first + row
        if isMoved { view.slice(batch.count).copy(from: view.slice(first + row)) }
        batch.samples.append(item.sample)
        isAnyReadable = true
      }
    }
    if let lastFailure, !isAnyReadable, batch.samples.isEmpty {
      throw VitError(
        "none of the \(samples.count) samples of '\(dataset.name)' can be read; the last one: "
          + lastFailure.diagnostic.message, code: "empty-data", location: lastFailure.diagnostic.location,
        help: lastFailure.diagnostic.help)
    }
    return batch.samples.isEmpty ? nil : batch
  }

  /// At most `count` samples with their positions, from the present position on; those known to be unreadable are
  /// passed over. Empty at the end of a pass, and where all samples are unreadable.
  private mutating func draw(_ count: Int) -> [(sample: Int, position: Int)] {
    var drawn: [(sample: Int, position: Int)] = []
    // Two epochs in a row without a readable sample have none.
    var misses = 0
    while drawn.count < count, misses <= 2 * samples.count, let sample = sample(at: position) {
      if dataset.isUnreadable(sample) {
        misses += 1
      } else {
        drawn.append((sample, position))
        misses = 0
      }
      position += 1
    }
    return drawn
  }

  /// The sample at a position; `nil` behind the end of a pass.
  private mutating func sample(at position: Int) -> Int? {
    guard case .shuffled(let seed) = order else { return position < samples.count ? samples[position] : nil }
    let number = position / samples.count
    if epoch?.number != number {
      var random = SplitMix(seed: seed).split("epoch").split(number)
      epoch = (number, random.shuffled(samples))
    }
    return epoch?.samples[position % samples.count]
  }

  /// Reads a sample into each row; returns why that failed, for each row.
  private func read(
    _ drawn: [(sample: Int, position: Int)], into view: View, _ pool: any WorkPool
  ) -> [VitError?] {
    let failures = Mutex([VitError?](repeating: nil, count: drawn.count))
    pool.run(tasks: drawn.count) { row, _ in
      let planes = view.slice(row).f32
      do {
        try preprocess.write(try dataset.sample(at: drawn[row].sample), to: planes)
      } catch {
        let reason = error as? VitError ?? VitError("cannot be read: \(error)")
        failures.withLock { $0[row] = reason }
        return
      }
      if let augment, case .shuffled(let seed) = order {
        augment.apply(
          to: planes, channels: preprocess.channels, height: preprocess.height, width: preprocess.width,
          SplitMix(seed: seed).split("augment").split(drawn[row].position))
      }
    }
    return failures.withLock { $0 }
  }
}

extension Dataset {
  /// The numbers of `count` samples picked at random, or of all where there are fewer; ascending.
  public func sample(count: Int, seed: UInt64) -> [Int] {
    guard count < self.count else { return Array(0..<self.count) }
    var random = SplitMix(seed: seed).split("sample")
    return random.shuffled(Array(0..<self.count)).prefix(count).sorted()
  }

  /// Divides `samples` at random into those to train on and `count` to judge by; both ascending.
  public static func holdOut(
    _ count: Int, of samples: [Int], seed: UInt64
  ) -> (training: [Int], heldOut: [Int]) {
    precondition(count >= 0 && count <= samples.count)
    var random = SplitMix(seed: seed).split("held-out")
    let shuffled = random.shuffled(samples)
    return (shuffled.dropFirst(count).sorted(), shuffled.prefix(count).sorted())
  }
}
