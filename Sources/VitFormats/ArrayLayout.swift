internal import VitIR

/// How a file holds the elements of a tensor.
struct ArrayLayout {
  /// The type of the elements.
  var element: ElementType
  /// The extents.
  var shape: [Int]
  /// Whether the most significant byte of an element comes first.
  var isBigEndian = false
  /// Whether the first axis varies fastest.
  var isColumnMajor = false

  /// The number of bytes; throws where the extents cannot be those of a tensor.
  func byteCount() throws(VitError) -> Int {
    try TensorType(element, fixed: shape).validate()
    return shape.reduce(1, *) * element.size
  }

  /// The tensor whose elements are the bytes `range` of `storage`, which are as many as needed.
  ///
  /// They stay where they are if a tensor's memory looks just so; otherwise they are copied and rearranged.
  func tensor(_ range: Range<Int>, of storage: any TensorStorage) throws -> Tensor {
    let part = StorageRange(of: storage, range)
    let isInOrder = !isColumnMajor || shape.count(where: { $0 != 1 }) < 2
    if isInOrder, !isBigEndian || element.size == 1, element != .bool,
      range.lowerBound.isMultiple(of: element.size)
    {
      return try Tensor(element: element, shape: shape, storage: part)
    }
    return try part.withBytes { source in
      try Tensor(element, shape: shape) { target in
        if isInOrder { target.copyMemory(from: source) } else { transpose(source, into: target) }
        if isBigEndian { swapBytes(target) }
        if element == .bool { for index in target.indices where target[index] != 0 { target[index] = 1 } }
      }
    }
  }

  /// Copies elements from column-major to row-major order.
  private func transpose(_ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) {
    guard let from = source.baseAddress, let to = target.baseAddress else { return }
    let size = element.size
    var strides = [Int](repeating: size, count: shape.count)
    for axis in shape.indices.dropFirst() { strides[axis] = strides[axis - 1] * shape[axis - 1] }
    var index = [Int](repeating: 0, count: shape.count)
    var offset = 0
    for written in stride(from: 0, to: target.count, by: size) {
      (to + written).copyMemory(from: from + offset, byteCount: size)
      var axis = shape.count - 1
      while axis >= 0 {
        index[axis] += 1
        offset += strides[axis]
        if index[axis] < shape[axis] { break }
        offset -= strides[axis] * shape[axis]
        index[axis] = 0
        axis -= 1
      }
    }
  }

  /// Reverses the bytes of each element.
  private func swapBytes(_ bytes: UnsafeMutableRawBufferPointer) {
    func swap<Bits: FixedWidthInteger>(_ type: Bits.Type) {
      for offset in stride(from: 0, to: bytes.count, by: element.size) {
        let value = bytes.loadUnaligned(fromByteOffset: offset, as: Bits.self)
        bytes.storeBytes(of: value.byteSwapped, toByteOffset: offset, as: Bits.self)
      }
    }
    switch element.size {
    case 2: swap(UInt16.self)
    case 4: swap(UInt32.self)
    case 8: swap(UInt64.self)
    default: break
    }
  }
}
