internal import VitIR

/// The loss of a training from its first step to its last: the mean of each of a few stretches.
///
/// It is kept in checkpoints, so that a training which goes on after an interruption draws the curve of one that was not.
public struct LossCurve: Hashable, Sendable {
  /// The pass that trained.
  public let pass: String
  /// The layer whose mixer was trained; `nil` for the whole.
  public let layer: Int?
  /// The steps that were planned.
  public let steps: Int
  private var sums: [Double]
  private var counts: [Int]

  /// The most stretches.
  private static let stretches = 40

  /// A curve without any step.
  init(pass: String, layer: Int? = nil, steps: Int) {
    (self.pass, self.layer, self.steps) = (pass, layer, steps)
    let count = max(1, min(LossCurve.stretches, steps))
    sums = [Double](repeating: 0, count: count)
    counts = [Int](repeating: 0, count: count)
  }

  /// Adds the loss of a step, from 0.
  mutating func add(_ loss: Double, at step: Int) {
    guard (0..<steps).contains(step) else { return }
    let stretch = step * sums.count / steps
    sums[stretch] += loss
    counts[stretch] += 1
  }

  /// Forgets what was added: the training begins again.
  mutating func clear() {
    for place in sums.indices { (sums[place], counts[place]) = (0, 0) }
  }

  /// For each stretch that has steps its last step, counted from 1, and its mean loss; those whose loss is no number are left out.
  public var points: [(step: Int, loss: Double)] {
    sums.indices.compactMap { place in
      let mean = sums[place] / Double(counts[place])
      guard counts[place] > 0, mean.isFinite else { return nil }
      // The first step of a stretch is the least of those that fall into it.
      let first = (place * steps + sums.count - 1) / sums.count
      return (first + counts[place], mean)
    }
  }

  /// The bytes of its state.
  var stateByteCount: Int { 16 * sums.count }

  /// Writes what was added.
  func write(to write: (UnsafeRawBufferPointer) throws -> Void) throws {
    for (sum, count) in zip(sums, counts) {
      try withUnsafeBytes(of: sum.bitPattern.littleEndian, write)
      try withUnsafeBytes(of: Int64(count).littleEndian, write)
    }
  }

  /// Takes up what was written by a curve of as many steps; throws where that is damaged.
  mutating func restore(from reader: inout StateReader) throws {
    for place in sums.indices {
      sums[place] = Double(bitPattern: try reader.bits())
      counts[place] = try reader.integer(in: 0...steps, "the steps of a loss")
    }
  }
}
