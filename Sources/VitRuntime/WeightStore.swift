internal import Synchronization
public import VitIR

/// The constants of a graph in memory, in the types in which they are computed: each loaded once, when a plan first reads
/// it, and shared by all plans.
///
/// A tensor that lies in memory already in its computed type and aligned (a mapped file) is used where it
/// lies. One that is `trainable` gets memory of its own, which the trainer writes. One that plans only pack is never kept.
public final class WeightStore: Sendable {
  private struct Constant {
    let tensor: Tensor
    let element: ElementType
  }

  /// Memory, and what keeps it.
  struct Memory: @unchecked Sendable {
    // Trainable memory is written between runs only, other memory never once it is filled.
    let view: View
    let owner: any TensorStorage
  }

  private let constants: [String: Constant]
  private let base: WeightStore?
  private let trainable: Set<String>
  private let loaded: Mutex<[String: Memory]>

  /// A store of the constants that `graph` reads. What `base` has of them, the same tensor under the same name, is taken from
  /// there. Throws where the tensor of a trainable one is damaged.
  public init(_ graph: Graph, trainable: Set<String> = [], sharing base: WeightStore? = nil) throws {
    self.trainable = trainable
    self.base = base
    var constants: [String: Constant] = [:]
    var loaded: [String: Memory] = [:]
    for value in graph.values where value.isConstant {
      guard let tensor = graph.tensors[value.name] else { continue }
      let constant = Constant(tensor: tensor, element: value.type.element)
      constants[value.name] = constant
      if trainable.contains(value.name) {
        loaded[value.name] = try WeightStore.memory(of: constant, copying: true)
      }
    }
    self.constants = constants
    self.loaded = Mutex(loaded)
  }

  /// The memory of a constant that is loaded: one that is trainable, or that some plan reads.
  public func view(_ name: String) -> View? { loaded.withLock { $0[name]?.view } }

  /// The memory of a constant that is loaded as a tensor, shared and not copied: for when nobody trains it any more.
  public func tensor(_ name: String) -> Tensor? {
    guard let memory = loaded.withLock({ $0[name] }) else { return nil }
    return try? Tensor(element: memory.view.element, shape: memory.view.shape, storage: memory.owner)
  }

  /// Whether a trainer writes this constant.
  public func isTrainable(_ name: String) -> Bool { trainable.contains(name) }

  /// The memory of a constant, loaded for as long as the store lives; `nil` where the graph had no tensor for it. Throws
  /// where its source is damaged.
  func load(_ name: String) throws -> View? {
    try loaded.withLock { loaded in
      if let memory = loaded[name] { return memory.view }
      guard let constant = constants[name] else { return nil }
      if let base, base.has(constant, name) { return try base.load(name) }
      let memory = try WeightStore.memory(of: constant, copying: false)
      loaded[name] = memory
      return memory.view
    }
  }

  private func has(_ constant: Constant, _ name: String) -> Bool {
    guard !isTrainable(name), let own = constants[name] else { return false }
    return own.tensor.storage === constant.tensor.storage && own.element == constant.element
      && own.tensor.element == constant.tensor.element && own.tensor.shape == constant.tensor.shape
  }

  /// The memory of a constant for as long as the caller keeps it.
  func borrow(_ name: String) throws -> Memory? {
    if let memory = loaded.withLock({ $0[name] }) { return memory }
    return try constants[name].map { try WeightStore.memory(of: $0, copying: false) }
  }

  private static func memory(of constant: Constant, copying: Bool) throws -> Memory {
    let (tensor, element) = (constant.tensor, constant.element)
    if !copying, element == tensor.element, let bytes = tensor.storage.resident, let base = bytes.baseAddress,
      Int(bitPattern: base) % element.size == 0
    {
      return Memory(
        view: View(base: UnsafeMutableRawPointer(mutating: base), element: element, shape: tensor.shape),
        owner: tensor.storage)
    }
    let count = tensor.count
    let memory = try MemoryStorage(byteCount: max(count * element.size, 1)) { target in
      try tensor.storage.withBytes { source in
        if element == tensor.element {
          target.copyMemory(from: UnsafeRawBufferPointer(rebasing: source.prefix(count * element.size)))
        } else {
          convert(source, tensor.element, to: target, element, count: count)
        }
      }
    }
    guard let base = memory.resident?.baseAddress else { preconditionFailure("memory is resident") }
    return Memory(
      view: View(base: UnsafeMutableRawPointer(mutating: base), element: element, shape: tensor.shape),
      owner: memory)
  }

  private static func convert(
    _ source: UnsafeRawBufferPointer, _ from: ElementType, to target: UnsafeMutableRawBufferPointer,
    _ element: ElementType, count: Int
  ) {
    switch (from, element) {
    case (.f16, .f32):
      for index in 0..<count {
        let bits = source.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self)
        target.storeBytes(of: Float(half: bits), toByteOffset: index * 4, as: Float.self)
      }
    case (_, let element) where element.isInteger && from.isInteger:
      for index in 0..<count {
        // An unsigned 64-bit number beyond the range of i64 keeps its bits, as a cast would.
        let value =
          source.loadInteger(at: index, as: from)
          ?? Int(source.loadUnaligned(fromByteOffset: index * 8, as: Int64.self))
        target.storeBytes(of: Int64(value), toByteOffset: index * 8, as: Int64.self)
      }
    default:
      for index in 0..<count { target.store(source.loadNumber(at: index, as: from), at: index, as: element) }
    }
  }
}
