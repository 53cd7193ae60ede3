extension Tensor {
  /// `NaN` or `infinity`, where a float tensor holds one; minus infinity does not count, for masks are made of it.
  public func nonFiniteNumber() throws -> String? {
    guard element.isFloat, !isElided else { return nil }
    guard !element.isQuantised else { return try dequantised.nonFiniteNumber() }
    func first<Bits: FixedWidthInteger>(_ bytes: UnsafeRawBufferPointer, _ infinity: Bits) -> String? {
      let greatest = greatestMagnitude(bytes, as: Bits.self)
      guard greatest >= infinity else { return nil }
      if greatest > infinity { return "NaN" }
      let isPositive = (0..<count).contains {
        bytes.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Bits>.size, as: Bits.self) == infinity
      }
      return isPositive ? "infinity" : nil
    }
    return try storage.withBytes { bytes in
      switch element {
      case .f64: first(bytes, InfinityBits.f64)
      case .f32: first(bytes, InfinityBits.f32)
      case .f16: first(bytes, InfinityBits.f16)
      default: first(bytes, InfinityBits.bf16)
      }
    }
  }
}

extension Tensor {
  /// Whether all elements are numbers: no NaN and no infinity.
  public func isFinite() throws -> Bool {
    let tensor = dequantised
    return try tensor.storage.withBytes { areFinite($0, tensor.element) }
  }
}

extension View {
  /// Whether all elements are numbers: no NaN and no infinity.
  public var isFinite: Bool { areFinite(UnsafeRawBufferPointer(start: base, count: byteCount), element) }
}

private func areFinite(_ bytes: UnsafeRawBufferPointer, _ element: ElementType) -> Bool {
  switch element {
  case .f64: greatestMagnitude(bytes) < InfinityBits.f64
  case .f32: greatestMagnitude(bytes) < InfinityBits.f32
  case .f16: greatestMagnitude(bytes) < InfinityBits.f16
  case .bf16: greatestMagnitude(bytes) < InfinityBits.bf16
  default: true
  }
}

/// Infinity in the formats of IEEE 754 and in bfloat16: of the bits without the sign, those of NaNs are greater and those of
/// numbers less.
private enum InfinityBits {
  static let f64: UInt64 = 0x7ff0_0000_0000_0000
  static let f32: UInt32 = 0x7f80_0000
  static let f16: UInt16 = 0x7c00
  static let bf16: UInt16 = 0x7f80
}

/// The greatest of all floats without their signs, as bits: a loop that vectorises.
private func greatestMagnitude<Bits: FixedWidthInteger>(
  _ bytes: UnsafeRawBufferPointer, as type: Bits.Type = Bits.self
) -> Bits {
  let size = MemoryLayout<Bits>.size
  let sign: Bits = 1 << (Bits.bitWidth - 1)
  var greatest: Bits = 0
  for index in 0..<bytes.count / size {
    greatest = max(greatest, bytes.loadUnaligned(fromByteOffset: index * size, as: Bits.self) & ~sign)
  }
  return greatest
}
