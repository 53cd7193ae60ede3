public import VitIR

/// Another pool's threads, with products of `f32` matrices computed in bfloat16 where the processor is faster in it: for training,
/// whose steps forgive what that rounds away.
public final class NarrowPool: WorkPool {
  private let pool: any WorkPool

  /// The threads of `pool`.
  public init(_ pool: any WorkPool) { self.pool = pool }

  /// Those of the pool.
  public var workers: Int { pool.workers }
  /// Runs the tasks on the pool.
  public func run(tasks: Int, _ body: (_ task: Int, _ worker: Int) -> Void) {
    pool.run(tasks: tasks, body)
  }
  /// The pool's scratch of `worker`.
  public func scratch(_ worker: Int) -> UnsafeMutableRawPointer { pool.scratch(worker) }
  /// bfloat16.
  public var products: ProductPrecision { .bf16 }
}
