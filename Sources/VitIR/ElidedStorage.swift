/// Storage of a tensor whose type is known and whose bytes are not there: what a text without tensors is read
/// into.
public final class ElidedStorage: TensorStorage {
  /// The number of bytes that there would be.
  public let byteCount: Int

  /// Storage for `byteCount` bytes that nobody has.
  public init(byteCount: Int) { self.byteCount = byteCount }

  /// Always throws.
  public func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
    throw VitError(
      "the values of a tensor are needed, but the model was read from a text without tensors",
      code: "tensor-elided",
      help: "write the model with its tensors: a '.vit' with its '.vit.tensors', or a '.vmod'")
  }
}

extension Tensor {
  /// A tensor without values; throws where the type is none that a tensor can have.
  public init(elided element: ElementType, shape: [Int]) throws(VitError) {
    try TensorType(element, fixed: shape).validate()
    let storage = ElidedStorage(byteCount: element.byteCount(of: shape))
    try self.init(element: element, shape: shape, storage: storage)
  }

  /// Whether its values were left out.
  public var isElided: Bool { storage is ElidedStorage }
}
