extension ElementType {
  /// Whether products with weights that are stored so are computed in fewer bits than `f32` has.
  public var isNarrow: Bool { self == .q8 || self == .bf16 }

  /// Whether what is stored so stands for floats that passes work on.
  fileprivate var standsForFloats: Bool { isNarrow || isQuantised }
}

extension Graph {
  /// Whether there are weights with which products are computed in fewer bits than `f32` has.
  public var hasNarrowWeights: Bool { tensors.names.contains { tensors[$0]?.element.isNarrow ?? false } }

  /// Whether there are weights that stand for floats: those, and others that are stored in fewer bits.
  public var hasWeightsInFewerBits: Bool {
    tensors.names.contains { tensors[$0]?.element.standsForFloats ?? false }
  }

  /// Takes such weights for the floats that they stand for.
  public mutating func widenWeights() {
    for (index, value) in values.enumerated() where value.isConstant {
      guard let tensor = tensors[value.name], tensor.element.standsForFloats else { continue }
      setTensor(tensor.widened, of: valueID(index))
    }
  }
}

extension Tensor {
  /// This tensor as `f32`, where it is whole numbers with scales or bfloat16; any other as it is.
  fileprivate var widened: Tensor {
    guard element == .bf16 else { return dequantised }
    let byteCount = ElementType.f32.byteCount(of: shape)
    return Tensor(
      unchecked: .f32, shape: shape,
      storage: isElided ? ElidedStorage(byteCount: byteCount) : WidenedStorage(storage, count: count))
  }
}

/// The floats that bfloat16 numbers are, made anew whenever they are read.
private final class WidenedStorage: TensorStorage {
  private let source: any TensorStorage
  private let count: Int

  init(_ source: any TensorStorage, count: Int) { (self.source, self.count) = (source, count) }

  var byteCount: Int { 4 * count }

  func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
    let copy = try MemoryStorage(byteCount: byteCount) { target in
      try source.withBytes { bytes in
        if let from = bytes.baseAddress, let to = target.baseAddress {
          Conversion.copy(count, from: from, .bf16, to: to, .f32)
        }
      }
    }
    return try copy.withBytes(body)
  }

  func release() { source.release() }
}
