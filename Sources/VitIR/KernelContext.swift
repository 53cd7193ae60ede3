/// Runs the parts of a kernel, on one thread or several.
///
/// How work is cut into tasks depends on shapes alone, never on `workers`: that is what makes results the same
/// to the bit for every number of threads.
public protocol WorkPool: AnyObject, Sendable {
  /// How many threads may run tasks at once, the caller's included.
  var workers: Int { get }
  /// Calls `body(task, worker)` for each task in `0..<tasks`, in any order, on any thread; returns when all are done.
  ///
  /// `worker` is in `0..<workers` and no two tasks that run at once share it: it picks a worker's own scratch. A
  /// call from inside a task runs its tasks on the caller's thread, with the caller's worker number.
  func run(tasks: Int, _ body: (_ task: Int, _ worker: Int) -> Void)
  /// Memory of `WorkScratch.byteCount` bytes, aligned to `WorkScratch.alignment`, for the task that `worker` runs.
  ///
  /// Its contents do not outlast the task, and a kernel called from inside the task may overwrite them.
  func scratch(_ worker: Int) -> UnsafeMutableRawPointer
  /// What products of `f32` matrices are computed in: `f32`, unless a pool says otherwise.
  var products: ProductPrecision { get }
}

extension WorkPool {
  /// `f32`.
  public var products: ProductPrecision { .f32 }
}

/// What products of `f32` matrices are computed in; sums are `f32` in any case.
public enum ProductPrecision: String, CaseIterable, Sendable {
  /// As they are.
  case f32
  /// Rounded to bfloat16 on the way, on machines that are faster in it.
  case bf16
}

/// The scratch memory that every worker of a pool has.
public enum WorkScratch {
  /// Bytes for each worker.
  public static let byteCount = 4 << 20
  /// The alignment of its first byte.
  public static let alignment = 64
}

/// A pool without threads of its own: runs tasks in order on the caller's. Used by one thread at a time.
public final class SerialPool: WorkPool {
  private let memory: View

  /// A serial pool.
  public init() {
    memory = View(
      base: .allocate(byteCount: WorkScratch.byteCount, alignment: WorkScratch.alignment),
      element: .u8, shape: [WorkScratch.byteCount])
  }
  deinit { memory.base.deallocate() }
  /// One.
  public var workers: Int { 1 }
  /// Runs the tasks in order.
  public func run(tasks: Int, _ body: (Int, Int) -> Void) {
    for task in 0..<tasks { body(task, 0) }
  }
  /// The scratch of the one worker.
  public func scratch(_ worker: Int) -> UnsafeMutableRawPointer { memory.base }
}

/// What an execution is for.
public struct ExecutionMode: Sendable, Hashable {
  /// Whether a reverse pass may follow, so that `saved` must be filled.
  public var training: Bool
  /// The pool's workers, for scratch that each of them needs its own of.
  public var workers: Int

  /// A mode.
  public init(training: Bool, workers: Int) {
    self.training = training
    self.workers = workers
  }
}

/// What is done to the first result while it is in cache: `result·scale + residual`.
public struct Epilogue: Sendable {
  /// One factor for each entry of the last axis.
  public var scale: View?
  /// Laid out as the result, whose memory it is only where it is read nowhere else.
  public var residual: View?

  /// An epilogue; without arguments, none.
  public init(scale: View? = nil, residual: View? = nil) {
    self.scale = scale
    self.residual = residual
  }
}

/// Everything a kernel may touch: its operands, results, memory and pool. Made once per plan.
///
/// In `vjp`, `inputs`, `outputs` and `saved` hold what they held after `forward`.
public struct KernelContext: Sendable {
  /// The operands; `nil` for an optional one that the node does not have.
  public let inputs: [View?]
  /// The results.
  public let outputs: [View]
  /// Memory of `savedTypes`, kept from `forward` to `vjp`; empty in inference.
  public let saved: [View]
  /// Memory of `scratchTypes`; its contents do not outlast the call.
  public let scratch: [View]
  /// What `packings` asked for; empty in training.
  public let prepared: [View]
  /// What is done to the first result on top; nothing, unless the operation `takesEpilogue`.
  public let epilogue: Epilogue
  /// Where parallel work runs.
  public let pool: any WorkPool

  /// A context.
  public init(
    inputs: [View?], outputs: [View], saved: [View] = [], scratch: [View] = [], prepared: [View] = [],
    epilogue: Epilogue = Epilogue(), pool: any WorkPool
  ) {
    self.prepared = prepared
    self.epilogue = epilogue
    self.inputs = inputs
    self.outputs = outputs
    self.saved = saved
    self.scratch = scratch
    self.pool = pool
  }

  /// Operand `index`, which the type rule has made sure of.
  public func input(_ index: Int) -> View {
    guard let view = optionalInput(index) else { preconditionFailure("operand \(index) is absent") }
    return view
  }

  /// Operand `index`, or `nil` where the node has none.
  public func optionalInput(_ index: Int) -> View? { index < inputs.count ? inputs[index] : nil }

  /// The first result.
  public var output: View { outputs[0] }
}
