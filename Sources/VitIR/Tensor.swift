package import VitSystem

/// Where a tensor's bytes are: memory, a range of a mapped file, a compressed frame. Loaded when asked for.
public protocol TensorStorage: AnyObject, Sendable {
  /// The number of bytes.
  var byteCount: Int { get }
  /// The bytes, where they lie in memory as long as this object lives; else `nil`.
  var resident: UnsafeRawBufferPointer? { get }
  /// Lends the bytes, little-endian and row-major, for the time of the call. May decompress; throws where a
  /// lazily read source turns out to be damaged.
  func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result
  /// Gives memory back that can be filled again from a file when it is next looked at. Default: nothing can.
  func release()
}

extension TensorStorage {
  /// There is nothing to give back.
  public func release() {}
  /// Not in memory.
  public var resident: UnsafeRawBufferPointer? { nil }
}

/// Bytes in memory, aligned to 64 bytes. Large ones are pages of their own, which go back to the system with this object.
public final class MemoryStorage: TensorStorage, @unchecked Sendable {
  // Written in `init`, before anybody else can see it; after that only by who made it to write in it.
  /// The first byte.
  package let base: UnsafeMutableRawPointer
  /// The number of bytes.
  public let byteCount: Int
  /// What the buffer is, unless it is small.
  private let pages: Pages?

  /// The size from which bytes get pages of their own.
  private static let pagedSize = 1 << 17

  /// Memory of `byteCount` bytes, filled by `fill` (which gets it zeroed). Throws what `fill` throws, and where the memory
  /// does not fit.
  public init(byteCount: Int, fill: (UnsafeMutableRawBufferPointer) throws -> Void) throws {
    if byteCount >= MemoryStorage.pagedSize {
      let pages = try Pages.forTensor(byteCount)
      base = pages.base
      self.pages = pages
    } else {
      base = MemoryStorage.small(byteCount)
      pages = nil
    }
    self.byteCount = byteCount
    // Where this throws, `deinit` frees the memory: all stored properties are set.
    try fill(buffer)
  }

  /// Memory for numbers that lie in an array already.
  init(likeArray byteCount: Int, fill: (UnsafeMutableRawBufferPointer) -> Void) {
    base = MemoryStorage.small(byteCount)
    pages = nil
    self.byteCount = byteCount
    fill(buffer)
  }

  private static func small(_ byteCount: Int) -> UnsafeMutableRawPointer {
    let base = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 64)
    base.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
    return base
  }

  deinit { if pages == nil { base.deallocate() } }

  private var buffer: UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(start: base, count: byteCount)
  }

  /// The bytes.
  public var resident: UnsafeRawBufferPointer? { UnsafeRawBufferPointer(buffer) }

  /// Lends the bytes.
  public func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
    try body(UnsafeRawBufferPointer(buffer))
  }
}

extension Pages {
  /// Pages for a tensor.
  fileprivate static func forTensor(_ byteCount: Int) throws(VitError) -> Pages {
    do { return try Pages(byteCount: byteCount) } catch { throw VitError(error, for: "a tensor") }
  }
}

extension VitError {
  /// Memory that does not fit: `what` needs it.
  package init(_ failure: OutOfMemory, for what: String) {
    self.init(
      "\(what) needs \(failure.text)", kind: .environment, code: "memory",
      help: "use a smaller batch or model, or raise the limit")
  }
}

/// A constant tensor: what it is, and bytes that may not have been read yet.
public struct Tensor: Sendable {
  /// The type of the elements, as stored.
  public let element: ElementType
  /// The extents.
  public let shape: [Int]
  /// The bytes.
  public let storage: any TensorStorage

  /// A tensor; throws unless `storage` has just the bytes that the shape needs.
  public init(element: ElementType, shape: [Int], storage: any TensorStorage) throws(VitError) {
    try TensorType(element, fixed: shape).validate()
    let needed = element.byteCount(of: shape)
    guard storage.byteCount == needed else {
      throw VitError(
        "the data have \(storage.byteCount) bytes, but \(element.rawValue)\(shape) needs \(needed)")
    }
    self.element = element
    self.shape = shape
    self.storage = storage
  }

  /// A tensor of numbers in memory, converted to `element`; there are as many as the shape has elements.
  public init(_ element: ElementType = .f32, shape: [Int], values: [Double]) {
    precondition(values.count == shape.reduce(1, *))
    self.init(likeArray: element, shape: shape) { buffer in
      if let rows = QuantisedRows(element, shape: shape) {
        return rows.quantise(values.map(Float.init), into: buffer)
      }
      for (index, value) in values.enumerated() { buffer.store(value, at: index, as: element) }
    }
  }

  /// A tensor of 64-bit integers in memory.
  public init(shape: [Int], integers: [Int]) {
    precondition(integers.count == shape.reduce(1, *))
    self.init(likeArray: .i64, shape: shape) { buffer in
      for (index, value) in integers.enumerated() {
        buffer.storeBytes(of: Int64(value), toByteOffset: index * 8, as: Int64.self)
      }
    }
  }

  /// A tensor of 32-bit floats in memory.
  public init(shape: [Int], floats: [Float]) {
    precondition(floats.count == shape.reduce(1, *))
    self.init(likeArray: .f32, shape: shape) { buffer in
      floats.withUnsafeBytes { buffer.copyMemory(from: $0) }
    }
  }

  /// A tensor of numbers that lie in an array already.
  package init(
    likeArray element: ElementType, shape: [Int], fill: (UnsafeMutableRawBufferPointer) -> Void
  ) {
    self.init(
      unchecked: element, shape: shape,
      storage: MemoryStorage(likeArray: element.byteCount(of: shape), fill: fill))
  }

  /// A tensor in memory whose bytes `fill` writes. Throws what `fill` throws, and where the memory does not fit.
  public init(
    _ element: ElementType, shape: [Int], fill: (UnsafeMutableRawBufferPointer) throws -> Void
  ) throws {
    self.element = element
    self.shape = shape
    self.storage = try MemoryStorage(byteCount: element.byteCount(of: shape), fill: fill)
  }

  /// A copy of what a view holds. Throws where the memory does not fit.
  public init(copying view: View) throws {
    try self.init(view.element, shape: view.shape) { buffer in
      buffer.copyMemory(from: UnsafeRawBufferPointer(start: view.base, count: view.byteCount))
    }
  }

  /// Its type.
  public var type: TensorType { TensorType(element, fixed: shape) }

  /// The number of elements.
  public var count: Int { shape.reduce(1, *) }

  /// The elements as numbers, whatever their type. For small tensors: 8 bytes an element.
  public func doubles() throws -> [Double] {
    guard !element.isQuantised else { return try dequantised.doubles() }
    return try storage.withBytes { bytes in
      (0..<count).map { bytes.loadNumber(at: $0, as: element) }
    }
  }

  /// The elements as 32-bit floats, whatever their type.
  public func floats() throws -> [Float] {
    guard !element.isQuantised else { return try dequantised.floats() }
    return try storage.withBytes { bytes in
      [Float](unsafeUninitializedCapacity: count) { target, initialized in
        if let from = bytes.baseAddress, let to = target.baseAddress {
          Conversion.copy(count, from: from, element, to: to, .f32)
        }
        initialized = count
      }
    }
  }

  /// The elements as whole numbers, or `nil` where the type is a float one or a number does not fit.
  public func integers() throws -> [Int]? {
    guard !element.isFloat else { return nil }
    return try storage.withBytes { bytes in
      var result: [Int] = []
      result.reserveCapacity(count)
      for index in 0..<count {
        guard let value = bytes.loadInteger(at: index, as: element) else { return nil }
        result.append(value)
      }
      return result
    }
  }

  /// The same elements with other extents of the same product.
  public func reshaped(_ shape: [Int]) -> Tensor {
    precondition(shape.reduce(1, *) == count)
    guard !element.isQuantised else { return dequantised.reshaped(shape) }
    return Tensor(unchecked: element, shape: shape, storage: storage)
  }

  init(unchecked element: ElementType, shape: [Int], storage: any TensorStorage) {
    self.element = element
    self.shape = shape
    self.storage = storage
  }
}

extension Tensor {
  /// Writes the elements into a view of as many, converted where both types are floats or both whole numbers.
  public func copy(to view: View) throws {
    precondition(view.count == count)
    guard !element.isQuantised else { return try dequantised.copy(to: view) }
    try storage.withBytes { view.convert(from: $0, element) }
  }
}

extension UnsafeRawBufferPointer {
  /// Element `index` as a number.
  public func loadNumber(at index: Int, as element: ElementType) -> Double {
    let offset = index * element.size
    switch element {
    case .f64: return loadUnaligned(fromByteOffset: offset, as: Double.self)
    case .f32: return Double(loadUnaligned(fromByteOffset: offset, as: Float.self))
    case .f16: return Double(Float(half: loadUnaligned(fromByteOffset: offset, as: UInt16.self)))
    case .bf16:
      let bits = UInt32(loadUnaligned(fromByteOffset: offset, as: UInt16.self)) << 16
      return Double(Float(bitPattern: bits))
    case .u64: return Double(loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    case .q8, .w8, .w4: preconditionFailure("whole numbers with scales are dequantised first")
    default: return Double(loadInteger(at: index, as: element) ?? 0)
    }
  }

  /// Element `index` as a whole number, or `nil` for a float or one that does not fit.
  public func loadInteger(at index: Int, as element: ElementType) -> Int? {
    let offset = index * element.size
    switch element {
    case .i64: return Int(exactly: loadUnaligned(fromByteOffset: offset, as: Int64.self))
    case .i32: return Int(loadUnaligned(fromByteOffset: offset, as: Int32.self))
    case .i16: return Int(loadUnaligned(fromByteOffset: offset, as: Int16.self))
    case .i8: return Int(loadUnaligned(fromByteOffset: offset, as: Int8.self))
    case .u64: return Int(exactly: loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    case .u32: return Int(loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    case .u16: return Int(loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    case .u8, .bool: return Int(self[offset])
    case .f64, .f32, .f16, .bf16, .q8, .w8, .w4: return nil
    }
  }
}

extension UnsafeMutableRawBufferPointer {
  /// Stores a number as element `index`, rounded to nearest even, saturated to the limits of a whole-number
  /// type.
  public func store(_ value: Double, at index: Int, as element: ElementType) {
    func whole<T: FixedWidthInteger>(_ type: T.Type) -> T {
      if value.isNaN { return 0 }
      return T(exactly: value.rounded(.toNearestOrEven)) ?? (value < 0 ? T.min : T.max)
    }
    let offset = index * element.size
    switch element {
    case .q8, .w8, .w4: preconditionFailure("whole numbers with scales are quantised together")
    case .f64: storeBytes(of: value, toByteOffset: offset, as: Double.self)
    case .f32: storeBytes(of: Float(value), toByteOffset: offset, as: Float.self)
    case .f16: storeBytes(of: Float(value).halfBits, toByteOffset: offset, as: UInt16.self)
    case .bf16: storeBytes(of: Float(value).brainBits, toByteOffset: offset, as: UInt16.self)
    case .i64: storeBytes(of: whole(Int64.self), toByteOffset: offset, as: Int64.self)
    case .i32: storeBytes(of: whole(Int32.self), toByteOffset: offset, as: Int32.self)
    case .i16: storeBytes(of: whole(Int16.self), toByteOffset: offset, as: Int16.self)
    case .i8: storeBytes(of: whole(Int8.self), toByteOffset: offset, as: Int8.self)
    case .u64: storeBytes(of: whole(UInt64.self), toByteOffset: offset, as: UInt64.self)
    case .u32: storeBytes(of: whole(UInt32.self), toByteOffset: offset, as: UInt32.self)
    case .u16: storeBytes(of: whole(UInt16.self), toByteOffset: offset, as: UInt16.self)
    case .u8: storeBytes(of: whole(UInt8.self), toByteOffset: offset, as: UInt8.self)
    case .bool: storeBytes(of: value != 0 ? 1 : 0, toByteOffset: offset, as: UInt8.self)
    }
  }
}

extension Float {
  /// The number that 16 bits of IEEE 754 half precision stand for.
  public init(half bits: UInt16) {
    let sign = UInt32(bits & 0x8000) << 16
    let exponent = UInt32(bits >> 10) & 0x1f
    let fraction = UInt32(bits & 0x3ff)
    switch exponent {
    case 0: self = Float(sign: sign == 0 ? .plus : .minus, exponent: -24, significand: Float(fraction))
    case 31: self = Float(bitPattern: sign | 0x7f80_0000 | fraction << 13)
    default: self = Float(bitPattern: sign | (exponent + 112) << 23 | fraction << 13)
    }
  }

  /// The nearest half-precision number, ties to even; what is too large becomes infinite.
  public var halfBits: UInt16 {
    let bits = bitPattern
    let sign = UInt16(truncatingIfNeeded: bits >> 16) & 0x8000
    let magnitude = bits & 0x7fff_ffff
    if magnitude > 0x7f80_0000 { return sign | 0x7e00 }
    if magnitude >= 0x477f_f000 { return sign | 0x7c00 }
    if magnitude < 0x3880_0000 {
      // Subnormal halves are the multiples of 2⁻²⁴; the scaling is exact.
      let scaled = Float(bitPattern: magnitude) * 0x1p24
      return sign | UInt16(scaled.rounded(.toNearestOrEven))
    }
    let rounded = magnitude &- 0x3800_0000 &+ 0xfff &+ (magnitude >> 13 & 1)
    return sign | UInt16(truncatingIfNeeded: rounded >> 13)
  }

  /// The nearest bfloat16 number, ties to even.
  public var brainBits: UInt16 {
    if isNaN { return UInt16(truncatingIfNeeded: bitPattern >> 16) | 0x40 }
    return UInt16(truncatingIfNeeded: (bitPattern &+ 0x7fff &+ (bitPattern >> 16 & 1)) >> 16)
  }
}
