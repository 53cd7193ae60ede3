internal import VitIR

/// Scratch for the tasks of a kernel: what each worker of the pool has, or memory of its own where that is too small.
struct TaskScratch {
  private let pool: any WorkPool
  private let own: View?
  private let arena: Arena?

  /// The memory that a plan has to give a kernel whose tasks need `byteCount` bytes each: `nil` where the workers' suffices.
  static func type(_ byteCount: Int, workers: Int) -> TensorType? {
    guard byteCount > WorkScratch.byteCount else { return nil }
    return TensorType(.u8, fixed: [workers, ArenaLayout.rounded(byteCount)])
  }

  /// Scratch of `byteCount` bytes for each task; `own` is memory of `type`.
  init(_ byteCount: Int, _ own: View?, _ pool: any WorkPool) {
    let type = TaskScratch.type(byteCount, workers: pool.workers)
    precondition(type.map { $0.count <= own?.count ?? 0 } ?? true, "the plan has no scratch for this")
    self.init(type == nil ? nil : own, nil, pool)
  }

  /// Scratch of `byteCount` bytes for each task, made for it where it has to be. Throws where it does not fit.
  init(ofOwn byteCount: Int, _ pool: any WorkPool) throws(VitError) {
    guard let type = TaskScratch.type(byteCount, workers: pool.workers) else {
      self.init(nil, nil, pool)
      return
    }
    let arena = try Arena(byteCount: type.count, for: "packing a weight")
    self.init(arena.view(type, at: 0), arena, pool)
  }

  private init(_ own: View?, _ arena: Arena?, _ pool: any WorkPool) {
    (self.own, self.arena, self.pool) = (own, arena, pool)
  }

  /// The memory of the task that `worker` runs.
  subscript(worker: Int) -> UnsafeMutableRawPointer {
    own.map { $0.at(worker * $0.shape[1]) } ?? pool.scratch(worker)
  }
}
