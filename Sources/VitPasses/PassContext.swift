public import VitIR
internal import VitRuntime

/// What a pass may use beside the graph: threads, data, seed, and ways to say how far it is.
public final class PassContext {
  /// Where kernels run.
  public let pool: any WorkPool
  /// The operations.
  public let registry: Registry
  /// The seed from which each pass draws its own stream, by its name.
  public let seed: UInt64
  /// The constants of the first graph that ran, in memory once for all passes; in a compile that is the teacher.
  private var shared: WeightStore?
  /// Samples that nothing is trained on: what decides which weights are kept.
  public var heldOut: (any SampleSource)?
  /// The samples that scoring and training use, or `nil` where none were given.
  public var data: (any SampleSource)?
  /// What the first output of the model means, where that is known; else it is decided when it is first asked for.
  public var outputs: OutputKind?
  /// Called with what a user should know.
  public var report: (Diagnostic) -> Void = { _ in }
  /// Called with the progress of long work: what, steps done, steps in all, and a figure worth showing.
  public var progress: (_ phase: String, _ done: Int, _ total: Int, _ figure: String) -> Void = {
    _, _, _, _ in
  }
  /// Whether the user wants to stop.
  public var isCancelled: @Sendable () -> Bool = { false }
  /// Whether training must come to its end with the best so far, for the time that it has is over.
  public var isLate: () -> Bool = { false }
  /// Where long work keeps what it needs to go on after a kill, or `nil`.
  public var checkpoint: (any CheckpointStore)?
  /// Where layers are that were distilled before, each in a step of its own.
  package var parts: [any CheckpointStore] = []
  /// The layer that alone is distilled, and where what comes of it is kept, where this is such a step.
  package var part: (layer: Int, store: any CheckpointStore)?
  /// The samples that were left out, for the teacher gives no numbers for them.
  var leftOut = LeftOutSamples()
  /// Whether passes only take the memory that they will need.
  private(set) var isRehearsal = false
  /// The place in its pipeline of the pass that runs.
  var place = 0

  /// A context.
  public init(pool: any WorkPool, registry: Registry, seed: UInt64 = 0, data: (any SampleSource)? = nil) {
    self.pool = pool
    self.registry = registry
    self.seed = seed
    self.data = data
  }

  /// A context whose work is told of and stopped by `progress`.
  public convenience init(pool: any WorkPool, registry: Registry, seed: UInt64, progress: Progress) {
    self.init(pool: pool, registry: registry, seed: seed)
    report = progress.report
    self.progress = progress.advance
    isCancelled = progress.isCancelled
  }

  /// A context that takes memory where this one would, and reports nothing.
  func forRehearsal() -> PassContext {
    let context = PassContext(pool: pool, registry: registry, seed: seed, data: data)
    context.heldOut = heldOut
    context.outputs = outputs
    context.isRehearsal = true
    return context
  }

  /// What the first output of a model means: decided once for a whole compile, from all its samples.
  func outputs(of graph: Graph, _ samples: any SampleSource) -> OutputKind {
    if let outputs { return outputs }
    let all = [data, heldOut].compactMap { $0 }
    let kind = OutputKind(graph, data: all.isEmpty ? [samples] : all, report)
    outputs = kind
    return kind
  }

  /// Throws where the user wants to stop.
  public func checkCancelled() throws(VitError) {
    if isCancelled() { throw VitError("interrupted", kind: .interrupted, code: "interrupted") }
  }

  /// The constants of `graph`, those that the first graph has too shared by all that run; `teacher` is the first where none
  /// has run yet.
  func weights(
    of graph: Graph, trainable: Set<String> = [], from teacher: Graph? = nil
  ) throws -> WeightStore {
    let base = try shared ?? WeightStore(teacher ?? graph)
    shared = base
    return try WeightStore(graph, trainable: trainable, sharing: base)
  }

  /// Says that a pass which works on replaced layers has found none.
  func nothingReplaced(for pass: String) -> PassResult {
    report(
      Diagnostic(
        .warning, "\(pass): no layer of the model is replaced, so there is nothing to do",
        code: "nothing-replaced", help: "put mixers in with 'swap' before"))
    return PassResult(notes: ["nothing to do"])
  }

  /// The key under which the running pass keeps its state: a pipeline may hold a pass twice.
  func checkpointKey(_ pass: String) -> String { "\(place).\(pass)" }

  /// The key under which a layer is kept that the running pass has distilled: what was put in, and how it is trained, decide what comes
  /// of it.
  func distilKey(_ mixer: MixerNode, _ distil: Distil) -> String {
    checkpointKey("\(mixer.layer.index).\(mixer.text).\(Pipeline.text(distil))")
  }

  /// What a step before has made of a layer that the running pass would distil; `nil` where none has.
  func distilled(_ mixer: MixerNode, by distil: Distil) throws -> DistilledLayer? {
    let key = distilKey(mixer, distil)
    for store in parts {
      guard let found = try DistilledLayer.load(mixer, from: store, key) else { continue }
      for name in found.leftOut { leftOut.add(name) }
      return found.layer
    }
    return nil
  }

  /// The random stream of a pass.
  public func random(_ label: String) -> SplitMix { SplitMix(seed: seed).split(label) }

  /// The data; throws a usage error that names who needs it where there is none.
  public func samples(for pass: String) throws(VitError) -> any SampleSource {
    if let data { return data }
    throw VitError("\(pass) needs data", kind: .usage, code: "data-missing", help: "give some with --data")
  }
}

/// Preprocessed samples, ready for the model's input.
public protocol SampleSource: Sendable {
  /// How many there are.
  var count: Int { get }
  /// The shape of one sample, as the model's input wants it without the batch axis.
  var shape: [Int] { get }
  /// The class of a sample, or `nil` where it has no label.
  func label(_ index: Int) -> Int?
  /// How many classes the data name; some may have no samples.
  var classCount: Int? { get }
  /// What a message calls a sample.
  func name(of index: Int) -> String
  /// Writes sample `index`; with a `variant`, an augmented version of it that the number decides.
  func read(_ index: Int, variant: UInt64?, into target: UnsafeMutableBufferPointer<Float>) throws
  /// The shapes of what a sample gives to the model's inputs after the first, in their order.
  var furtherShapes: [[Int]] { get }
  /// Writes what sample `index` gives to further input `input`, counted from 0.
  func readFurther(_ index: Int, input: Int, into target: UnsafeMutableBufferPointer<Float>) throws
}

extension SampleSource {
  /// None: samples are for models with one input.
  public var furtherShapes: [[Int]] { [] }

  /// Nothing.
  public func readFurther(_ index: Int, input: Int, into target: UnsafeMutableBufferPointer<Float>) throws {}

  /// The places of `images` samples, spread evenly over all; of all without a number.
  func spread(_ images: Int?) -> [Int] {
    guard let images, images < count else { return Array(0..<count) }
    return (0..<images).map { $0 * count / images }
  }

  /// None are named.
  public var classCount: Int? { nil }

  /// Its number.
  public func name(of index: Int) -> String { "sample \(index)" }
}

/// Keeps the state of long work by name.
public protocol CheckpointStore: AnyObject {
  /// Hands what was kept under `key` to `body`, which must read all of it; `nil` where there is nothing.
  func load<Result>(_ key: String, _ body: (inout StateReader) throws -> Result) throws -> Result?
  /// Keeps the `byteCount` bytes that `body` writes under `key`, replacing what was there, safe against a kill. Where they
  /// cannot be written, what was there stays, and the store says so.
  func save(
    _ byteCount: Int, _ key: String, _ body: (_ write: (UnsafeRawBufferPointer) throws -> Void) throws -> Void
  ) throws
}

extension PassContext {
  /// The pool for steps whose products are computed in `precision`; says so where the processor makes no difference.
  func pool(in precision: ProductPrecision) -> any WorkPool {
    guard precision == .bf16 else { return pool }
    if !Machine.isFasterInBrainFloats {
      report(
        Diagnostic(
          .note, "this processor is not faster in bfloat16: products are computed in f32", code: "no-bf16"))
    }
    return NarrowPool(pool)
  }
}

extension ProductPrecision {
  /// How a pass says that it is not the usual one.
  var option: [(name: String, value: String)] { self == .f32 ? [] : [("precision", rawValue)] }
}
