internal import Synchronization
public import VitIR

extension Dataset {
  /// The samples that can be read and prepared, in order; the others are warned of and counted.
  public func readable(
    _ preprocess: Preprocess, limit: Int = .max, seed: UInt64, pool: any WorkPool
  ) throws(VitError) -> [Int] {
    try readable(limit: limit, seed: seed, pool: pool) { sample in
      try withUnsafeTemporaryAllocation(of: Float.self, capacity: preprocess.count) { buffer in
        if let base = buffer.baseAddress { try preprocess.write(sample, to: base) }
      }
    }
  }

  /// The samples that can be read and are no trouble to `prepare`, in order; the others are warned of and counted.
  ///
  /// Samples that lie in files of their own are all read once, on `pool`, after a random choice of `limit` of them where
  /// there are more. Those of an array are alike: the first stands for all. Throws where none can be read.
  public func readable(
    limit: Int = .max, seed: UInt64, pool: any WorkPool, _ prepare: @Sendable (Sample) throws -> Void
  ) throws(VitError) -> [Int] {
    let candidates = isUniform ? Array(0..<count) : sample(count: limit, seed: seed)
    let checked = isUniform ? Array(candidates.prefix(1)) : candidates
    let failures = Mutex([VitError?](repeating: nil, count: checked.count))
    pool.run(tasks: checked.count) { task, _ in
      do {
        try prepare(try self.sample(at: checked[task]))
      } catch {
        let reason = error as? VitError ?? VitError("cannot be read: \(error)")
        failures.withLock { $0[task] = reason }
      }
    }
    let found = failures.withLock { $0 }
    let last = found.last { $0 != nil } ?? nil
    if let last, found.allSatisfy({ $0 != nil }) {
      throw VitError(
        "none of the \(candidates.count) samples of '\(name)' can be read; the last one: \(last.diagnostic.message)",
        code: "empty-data", location: last.diagnostic.location, help: last.diagnostic.help)
    }
    for (index, error) in zip(checked, found) { if let error { skip(index, because: error) } }
    return isUniform ? candidates : zip(checked, found).filter { $0.1 == nil }.map(\.0)
  }
}
