public import VitIR

/// The constants of a graph in memory, in the types in which they are computed: loaded once, shared by all
/// plans.
///
/// A tensor that lies in memory already in its computed type and aligned (a mapped file) is used where it
/// lies. One that is `trainable` gets memory of its own, which the trainer writes.
public final class WeightStore: @unchecked Sendable {
  // Filled in `init`, after which the dictionary does not change. Trainable memory is written between runs
  // only.
  private var views: [String: View] = [:]
  private var owners: [any TensorStorage] = []
  private let trainable: Set<String>

  /// Loads the constants that `graph` reads; throws where a tensor is missing or its source damaged.
  public init(_ graph: Graph, trainable: Set<String> = []) throws {
    self.trainable = trainable
    for value in graph.values where value.isConstant {
      guard let tensor = graph.tensors[value.name] else { continue }
      views[value.name] = try load(tensor, as: value.type.element, copying: trainable.contains(value.name))
    }
  }

  /// The memory of a constant, or `nil` where the graph had no tensor for it.
  public func view(_ name: String) -> View? { views[name] }

  /// Whether a trainer writes this constant.
  public func isTrainable(_ name: String) -> Bool { trainable.contains(name) }

  private func load(_ tensor: Tensor, as element: ElementType, copying: Bool) throws -> View {
    if !copying, element == tensor.element, let bytes = tensor.storage.resident, let base = bytes.baseAddress,
      Int(bitPattern: base) % element.size == 0
    {
      owners.append(tensor.storage)
      return View(base: UnsafeMutableRawPointer(mutating: base), element: element, shape: tensor.shape)
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
    owners.append(memory)
    guard let base = memory.resident?.baseAddress else { preconditionFailure("memory is resident") }
    return View(base: UnsafeMutableRawPointer(mutating: base), element: element, shape: tensor.shape)
  }

  private func convert(
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
