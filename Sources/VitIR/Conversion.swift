/// Elements in memory, as elements of another type.
public enum Conversion {
  /// Writes `count` elements of the type `element`, at any address, to `target` as elements of another type.
  ///
  /// Floats are rounded to nearest even. Whole numbers keep their lower bits in 64 bits, as a cast would: a `u64` beyond the
  /// range of `i64` becomes negative. Everything else goes by way of a number in double and is cut to what its type holds.
  public static func copy(
    _ count: Int, from source: UnsafeRawPointer, _ element: ElementType, to target: UnsafeMutableRawPointer,
    _ targetElement: ElementType
  ) {
    let from = UnsafeRawBufferPointer(start: source, count: count * element.size)
    let to = UnsafeMutableRawBufferPointer(start: target, count: count * targetElement.size)
    switch (element, targetElement) {
    case _ where element == targetElement: to.copyMemory(from: from)
    case (.f16, .f32):
      for index in 0..<count {
        let bits = from.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self)
        to.storeBytes(of: Float(half: bits), toByteOffset: index * 4, as: Float.self)
      }
    case (.bf16, .f32):
      for index in 0..<count {
        let bits = UInt32(from.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self)) << 16
        to.storeBytes(of: Float(bitPattern: bits), toByteOffset: index * 4, as: Float.self)
      }
    case (_, .i64) where element.isInteger:
      for index in 0..<count {
        let value =
          from.loadInteger(at: index, as: element)
          ?? Int(from.loadUnaligned(fromByteOffset: index * 8, as: Int64.self))
        to.storeBytes(of: Int64(value), toByteOffset: index * 8, as: Int64.self)
      }
    default:
      for index in 0..<count {
        to.store(from.loadNumber(at: index, as: element), at: index, as: targetElement)
      }
    }
  }
}

extension View {
  /// Writes elements of another type into this view, which has as many.
  public func convert(from source: UnsafeRawBufferPointer, _ element: ElementType) {
    precondition(source.count >= count * element.size)
    guard let first = source.baseAddress else { return }
    Conversion.copy(count, from: first, element, to: base, self.element)
  }
}
