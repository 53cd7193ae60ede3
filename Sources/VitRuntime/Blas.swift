internal import CVitKernels
internal import Synchronization
public import VitIR

/// OpenBLAS, which computes the products in double, and all products at the base level. Loaded when first needed, for
/// loading takes time and address space that most runs have no use for.
public enum Blas {
  // How many threads it has room for; 0 where it is not loaded.
  private static let callers = Atomic<Int>(0)
  private static let turn = Mutex<Void>(())

  /// Loads it, with room for products on all workers of `pool`. Throws where it is missing or does not fit.
  ///
  /// Whoever is about to compute products that it serves calls this before the work starts: kernels cannot fail.
  public static func require(on pool: any WorkPool) throws(VitError) {
    guard callers.load(ordering: .acquiring) < pool.workers else { return }
    let failure: VitError? = turn.withLock { _ in
      if let reason = vk_blas_load() {
        return VitError(
          "OpenBLAS cannot be loaded: \(String(cString: reason))", kind: .environment, code: "blas",
          help: "on Debian: apt install libopenblas0")
      }
      guard vk_blas_reserve(Int32(clamping: pool.workers)) != 0 else {
        return VitError(
          "OpenBLAS needs \(128 * pool.workers) MiB of address space, more than the limit leaves",
          kind: .environment, code: "memory", help: "raise the limit ('ulimit -v'), or use fewer threads")
      }
      callers.store(max(pool.workers, callers.load(ordering: .relaxed)), ordering: .releasing)
      return nil
    }
    if let failure { throw failure }
  }

  /// The same where a plan on values of these types may need it. A product of vectors does not, since we compute sums
  /// ourselves; in training its gradients do.
  static func require(
    for types: some Sequence<TensorType>, training: Bool, on pool: any WorkPool
  ) throws(VitError) {
    let isBase = vk_level() == VK_BASE
    let least = training ? 1 : 2
    if types.contains(where: { $0.rank >= least && ($0.element == .f64 || isBase && $0.element == .f32) }) {
      try require(on: pool)
    }
  }

  /// Loads it for a product that is about to run outside a plan, where nobody has before. It cannot fail: whoever makes
  /// plans, or computes products without one, has to `require` it.
  static func demand(_ type: vk_real, _ pool: any WorkPool) {
    guard type == VK_F64 || vk_level() == VK_BASE, callers.load(ordering: .acquiring) < pool.workers else {
      return
    }
    do { try require(on: pool) } catch { preconditionFailure("products without OpenBLAS: \(error)") }
  }
}
