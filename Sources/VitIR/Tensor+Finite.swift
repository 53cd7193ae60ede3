extension Tensor {
  /// `NaN` or `infinity`, where a float tensor holds one; minus infinity does not count, for masks are made of it.
  public func nonFiniteNumber() throws -> String? {
    guard element.isFloat, !isElided else { return nil }
    func first<Bits: FixedWidthInteger>(
      _ bytes: UnsafeRawBufferPointer, _ infinity: Bits, _ sign: Bits
    ) -> String? {
      var sum: Bits = 0
      let size = MemoryLayout<Bits>.size
      // The greatest magnitude tells whether to look closer: a loop that vectorises.
      for index in 0..<count {
        sum = max(sum, bytes.loadUnaligned(fromByteOffset: index * size, as: Bits.self) & ~sign)
      }
      guard sum >= infinity else { return nil }
      if sum > infinity { return "NaN" }
      let isPositive = (0..<count).contains {
        bytes.loadUnaligned(fromByteOffset: $0 * size, as: Bits.self) == infinity
      }
      return isPositive ? "infinity" : nil
    }
    return try storage.withBytes { bytes in
      switch element {
      case .f64: first(bytes, 0x7ff0_0000_0000_0000 as UInt64, 1 << 63)
      case .f32: first(bytes, 0x7f80_0000 as UInt32, 1 << 31)
      case .f16: first(bytes, 0x7c00 as UInt16, 1 << 15)
      default: first(bytes, 0x7f80 as UInt16, 1 << 15)
      }
    }
  }
}
