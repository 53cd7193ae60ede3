internal import VitIR

/// Whole numbers of a few bits, several to a byte, the first in its lowest bits; they are read as bytes.
struct ElementPacking {
  let bits: Int
  let isSigned: Bool

  /// The type that they are read as.
  var element: ElementType { isSigned ? .i8 : .u8 }

  /// The bytes that `count` of them take.
  func bytes(for count: Int) -> Int { count / (8 / bits) + (count % (8 / bits) == 0 ? 0 : 1) }

  /// Each number in a byte of its own.
  func unpacked(_ packed: any TensorStorage, count: Int) throws(VitError) -> any TensorStorage {
    let perByte = 8 / bits
    let mask = UInt8(1 << bits - 1)
    let sign = isSigned ? UInt8(1 << (bits - 1)) : 0
    do {
      return try packed.withBytes { bytes in
        try MemoryStorage(byteCount: count) { buffer in
          for index in 0..<count {
            let value = bytes[index / perByte] >> UInt8(index % perByte * bits) & mask
            // The sign bit counts negative.
            buffer[index] = (value ^ sign) &- sign
          }
        }
      }
    } catch {
      throw (error as? VitError) ?? VitError("\(error)", kind: .environment)
    }
  }
}

extension OnnxElement {
  /// How a type of less than a byte lies in memory, or `nil` for any other.
  static func packing(_ code: Int) -> ElementPacking? {
    switch code {
    case 21: ElementPacking(bits: 4, isSigned: false)
    case 22: ElementPacking(bits: 4, isSigned: true)
    case 25: ElementPacking(bits: 2, isSigned: false)
    case 26: ElementPacking(bits: 2, isSigned: true)
    default: nil
    }
  }
}
