internal import Synchronization
public import VitIR

/// The constants of a graph in memory, in the types in which they are computed, and the forms that kernels read in their place:
/// each made once, when a plan first reads it, and shared by all plans.
///
/// A tensor that lies in memory already in its computed type and aligned (a mapped file) is used where it
/// lies. One that is `trainable` gets memory of its own, which the trainer writes. One that plans only pack is never kept.
public final class WeightStore: Sendable {
  private struct Constant {
    let tensor: Tensor
    let element: ElementType
  }

  /// Memory, and what keeps it.
  private struct Memory: @unchecked Sendable {
    // Trainable memory is written between runs only, other memory never once it is filled.
    let view: View
    let owner: any TensorStorage
  }

  /// Which form of which constants.
  private struct Form: Hashable {
    let names: [String]
    let form: String
  }

  private struct Contents {
    var constants: [String: Memory] = [:]
    var packed: [Form: Memory] = [:]
    var byteCount = 0
  }

  private let constants: [String: Constant]
  private let base: WeightStore?
  private let trainable: Set<String>
  private let contents: Mutex<Contents>

  /// A store of the constants that `graph` reads. What `base` has of them, the same tensor under the same name, is taken from
  /// there. Throws where the tensor of a trainable one is damaged.
  public init(_ graph: Graph, trainable: Set<String> = [], sharing base: WeightStore? = nil) throws {
    self.trainable = trainable
    self.base = base
    var constants: [String: Constant] = [:]
    var contents = Contents()
    for value in graph.values where value.isConstant {
      guard let tensor = graph.tensors[value.name] else { continue }
      let constant = Constant(tensor: tensor, element: value.type.element)
      constants[value.name] = constant
      if trainable.contains(value.name) {
        contents.constants[value.name] = try WeightStore.memory(of: constant, copying: true)
        contents.byteCount += tensor.count * value.type.element.size
      }
    }
    self.constants = constants
    self.contents = Mutex(contents)
  }

  /// The memory of a constant that is loaded: one that is trainable, or that some plan reads.
  public func view(_ name: String) -> View? { contents.withLock { $0.constants[name]?.view } }

  /// The memory of a constant that is loaded as a tensor, shared and not copied: for when nobody trains it any more.
  public func tensor(_ name: String) -> Tensor? {
    guard let memory = contents.withLock({ $0.constants[name] }) else { return nil }
    return try? Tensor(element: memory.view.element, shape: memory.view.shape, storage: memory.owner)
  }

  /// Whether a trainer writes this constant.
  public func isTrainable(_ name: String) -> Bool { trainable.contains(name) }

  /// The bytes that constants and packed forms take beside the files that they come from, those of a shared store left out.
  public var byteCount: Int { contents.withLock { $0.byteCount } }

  /// The memory of a constant, loaded for as long as the store lives; `nil` where the graph had no tensor for it. Throws
  /// where its source is damaged.
  func load(_ name: String) throws -> View? {
    try contents.withLock { contents in
      if let memory = contents.constants[name] { return memory.view }
      guard let constant = constants[name] else { return nil }
      if let base, base.has(constant, name) { return try base.load(name) }
      let memory = try WeightStore.memory(of: constant, copying: false)
      contents.constants[name] = memory
      if memory.owner !== constant.tensor.storage { contents.byteCount += memory.view.byteCount }
      return memory.view
    }
  }

  /// A packed form of constants that nobody trains, made for as long as the store lives; `nil` where the graph had no tensor
  /// for one of them. Throws where a source is damaged, or memory does not suffice.
  func packed(_ packing: Packing, of names: [String], pool: any WorkPool) throws -> View? {
    try contents.withLock { contents in
      let form = Form(names: names, form: packing.form)
      if let memory = contents.packed[form] { return memory.view }
      let sources = names.compactMap { constants[$0] }
      guard sources.count == names.count else { return nil }
      if let base, zip(names, sources).allSatisfy({ base.has($1, $0) }) {
        return try base.packed(packing, of: names, pool: pool)
      }
      let memory = try WeightStore.newMemory(packing.type.element, packing.type.extents) { target in
        let tensors = sources.map { packing.isNarrow ? $0.tensor : $0.tensor.dequantised }
        try WeightStore.lend(tensors[...]) { try packing.pack($0, target, pool) }
      }
      contents.packed[form] = memory
      contents.byteCount += memory.view.byteCount
      return memory.view
    }
  }

  /// Lends constants as they are stored.
  private static func lend(
    _ tensors: ArraySlice<Tensor>, _ views: [View] = [], _ body: ([View]) throws -> Void
  ) throws {
    guard let tensor = tensors.first else { return try body(views) }
    try tensor.storage.withBytes { bytes in
      // A tensor without elements may have no memory; nobody reads it then.
      guard let base = bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 64) else { return }
      let view = View(
        base: UnsafeMutableRawPointer(mutating: base), element: tensor.element, shape: tensor.shape)
      try lend(tensors.dropFirst(), views + [view], body)
    }
  }

  private func has(_ constant: Constant, _ name: String) -> Bool {
    guard !isTrainable(name), let own = constants[name] else { return false }
    return own.tensor.storage === constant.tensor.storage && own.element == constant.element
      && own.tensor.element == constant.tensor.element && own.tensor.shape == constant.tensor.shape
  }

  private static func memory(of constant: Constant, copying: Bool) throws -> Memory {
    let (tensor, element) = (constant.tensor.dequantised, constant.element)
    if !copying, element == tensor.element, let bytes = tensor.storage.resident, let base = bytes.baseAddress,
      Int(bitPattern: base) % element.size == 0
    {
      return Memory(
        view: View(base: UnsafeMutableRawPointer(mutating: base), element: element, shape: tensor.shape),
        owner: tensor.storage)
    }
    return try newMemory(element, tensor.shape) { view in
      try tensor.storage.withBytes { view.convert(from: $0, tensor.element) }
    }
  }

  /// Memory of its own for a tensor, which `fill` writes.
  private static func newMemory(
    _ element: ElementType, _ shape: [Int], fill: (View) throws -> Void
  ) throws -> Memory {
    let memory = try MemoryStorage(byteCount: max(shape.reduce(1, *) * element.size, 1)) { _ in }
    let view = View(base: memory.base, element: element, shape: shape)
    try fill(view)
    return Memory(view: view, owner: memory)
  }
}
