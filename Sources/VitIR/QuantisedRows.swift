/// The layout of `q8`: an `f32` scale for each row of the last axis, then the elements, whole numbers in −127…127. An element
/// stands for the product of the two.
public struct QuantisedRows: Sendable {
  /// The number of rows.
  public let rows: Int
  /// The elements of a row.
  public let columns: Int

  /// The rows of a tensor with that shape.
  public init(shape: [Int]) {
    rows = shape.dropLast().reduce(1, *)
    columns = shape.last ?? 1
  }

  /// Where the elements begin, in bytes.
  public var start: Int { 4 * rows }

  /// Writes the numbers that `rows` stand for.
  func dequantise(_ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) {
    for row in 0..<rows {
      let scale = source.loadUnaligned(fromByteOffset: 4 * row, as: Float.self)
      let first = row * columns
      for index in first..<first + columns {
        let whole = Int8(bitPattern: source[start + index])
        target.storeBytes(of: Float(whole) * scale, toByteOffset: 4 * index, as: Float.self)
      }
    }
  }

  /// Quantises rows: the scale is the greatest magnitude by 127, rounded up to 8 bits of precision, which half as many bytes hold
  /// when they are compressed; elements are rounded to nearest, halves to even.
  ///
  /// All numbers are finite. A row whose scale would not be a normal number becomes zero.
  func quantise(_ source: [Float], into target: UnsafeMutableRawBufferPointer) {
    for row in 0..<rows {
      let part = source[row * columns..<(row + 1) * columns]
      let greatest = part.reduce(0) { max($0, $1.magnitude) }
      let bits = (greatest / 127).bitPattern
      var scale = Float(bitPattern: bits & 0xffff == 0 ? bits : (bits | 0xffff) &+ 1)
      if !scale.isNormal { scale = 0 }
      target.storeBytes(of: scale, toByteOffset: 4 * row, as: Float.self)
      for (index, value) in part.enumerated() {
        let whole = scale > 0 ? (value / scale).rounded(.toNearestOrEven) : 0
        target[start + row * columns + index] = UInt8(bitPattern: Int8(max(-127, min(127, whole))))
      }
    }
  }
}

/// The numbers that rows of 8 bits stand for, as `f32`: made each time they are asked for.
private final class DequantisedStorage: TensorStorage {
  private let source: any TensorStorage
  private let layout: QuantisedRows

  init(_ source: any TensorStorage, _ layout: QuantisedRows) {
    self.source = source
    self.layout = layout
  }

  var byteCount: Int { layout.rows * layout.columns * 4 }

  func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
    let copy = try MemoryStorage(byteCount: byteCount) { target in
      try source.withBytes { layout.dequantise($0, into: target) }
    }
    return try copy.withBytes(body)
  }

  func release() { source.release() }
}

extension Tensor {
  /// This tensor with the numbers that its rows of 8 bits stand for; any other as it is.
  public var dequantised: Tensor {
    guard element == .q8, !isElided else {
      return element == .q8
        ? Tensor(
          unchecked: .f32, shape: shape,
          storage: ElidedStorage(byteCount: ElementType.f32.byteCount(of: shape))
        ) : self
    }
    return Tensor(
      unchecked: .f32, shape: shape, storage: DequantisedStorage(storage, QuantisedRows(shape: shape)))
  }

  /// This tensor of floats in rows of 8 bits; `nil` where a number is not finite. Throws where it cannot be read.
  public func quantised() throws -> Tensor? {
    precondition(element.isFloat)
    guard try isFinite() else { return nil }
    let numbers = try floats()
    return try Tensor(.q8, shape: shape) { QuantisedRows(shape: shape).quantise(numbers, into: $0) }
  }
}
