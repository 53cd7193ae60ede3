/// The layout of whole numbers with scales: an `f32` scale for each group of elements of a row (an entry of all axes but the last), group by
/// group and row by row; then the elements, row by row. An element stands for its product with its group's scale.
///
/// In `q8` and `w8` a row is one group, of numbers in −127…127, a byte each. In `w4` 32 elements are one, the last of a row maybe
/// fewer, in −8…7: two share a byte, the first in the lower half, and each row begins a byte.
public struct QuantisedRows: Sendable {
  /// The number of rows.
  public let rows: Int
  /// The elements of a row.
  public let columns: Int
  /// The elements of a group.
  package let group: Int
  /// Whether elements have 4 bits, of 8.
  private let isHalf: Bool

  /// The rows of a tensor with that shape; `nil` for a type without scales.
  public init?(_ element: ElementType, shape: [Int]) {
    guard element.isQuantised else { return nil }
    rows = shape.dropLast().reduce(1, *)
    columns = shape.last ?? 1
    isHalf = element == .w4
    group = isHalf ? QuantisedRows.group : max(columns, 1)
  }

  /// The elements of a group in `w4`.
  package static let group = 32

  /// The groups of a row.
  package var groups: Int { isHalf ? columns / group + (columns % group == 0 ? 0 : 1) : 1 }
  /// Where the elements begin, in bytes.
  public var start: Int { 4 * rows * groups }
  /// The bytes of a row's elements.
  private var stride: Int { isHalf ? columns / 2 + columns % 2 : columns }
  /// All bytes.
  var byteCount: Int { start + rows * stride }

  /// The numbers that an element can be.
  package var range: ClosedRange<Float> { isHalf ? -8...7 : -127...127 }

  /// Writes the numbers that `source` stands for.
  func dequantise(_ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) {
    precondition(source.count >= byteCount && target.count >= 4 * rows * columns)
    guard let source = source.baseAddress, var target = target.baseAddress else { return }
    for row in 0..<rows {
      var elements = source + start + row * stride
      for index in 0..<groups {
        let scale = source.loadUnaligned(fromByteOffset: 4 * (row * groups + index), as: Float.self)
        let count = min(group, columns - index * group)
        if isHalf {
          for place in 0..<count {
            // The lower half of a byte first.
            let byte = elements.load(fromByteOffset: place / 2, as: UInt8.self)
            let whole = Int8(bitPattern: place % 2 == 0 ? byte << 4 : byte & 0xf0) >> 4
            target.storeBytes(of: Float(whole) * scale, toByteOffset: 4 * place, as: Float.self)
          }
        } else {
          for place in 0..<count {
            let whole = elements.load(fromByteOffset: place, as: Int8.self)
            target.storeBytes(of: Float(whole) * scale, toByteOffset: 4 * place, as: Float.self)
          }
        }
        elements += isHalf ? count / 2 : count
        target += 4 * count
      }
    }
  }

  /// Writes elements and scales.
  package func store(_ wholes: [Int8], scales: [Float], into target: UnsafeMutableRawBufferPointer) {
    precondition(wholes.count == rows * columns && scales.count == rows * groups)
    for (index, scale) in scales.enumerated() {
      target.storeBytes(of: scale, toByteOffset: 4 * index, as: Float.self)
    }
    for row in 0..<rows {
      let first = row * columns
      for place in 0..<stride {
        target[start + row * stride + place] =
          if isHalf {
            UInt8(bitPattern: wholes[first + 2 * place]) & 15
              | (2 * place + 1 < columns ? UInt8(bitPattern: wholes[first + 2 * place + 1]) << 4 : 0)
          } else {
            UInt8(bitPattern: wholes[first + place])
          }
      }
    }
  }

  /// Quantises rows; elements are rounded to nearest, halves to even. All numbers are finite.
  ///
  /// Of 8 bits the scale is the greatest magnitude by 127, rounded up to 8 bits of precision, which half as many bytes hold when they
  /// are compressed; of 4 it is that of least squares (`GroupScale`). A row whose scale would not be a normal number becomes zero.
  func quantise(_ source: [Float], into target: UnsafeMutableRawBufferPointer) {
    var wholes = [Int8](repeating: 0, count: source.count)
    var scales: [Float] = []
    for row in 0..<rows {
      for index in 0..<groups {
        let places = row * columns + index * group..<row * columns + min(columns, (index + 1) * group)
        let scale = scale(of: source[places])
        scales.append(scale)
        for place in places where scale != 0 { wholes[place] = nearest(source[place], scale) }
      }
    }
    store(wholes, scales: scales, into: target)
  }

  /// The element that stands for `value` best.
  package func nearest(_ value: Float, _ scale: Float) -> Int8 {
    Int8(min(max((value / scale).rounded(.toNearestOrEven), range.lowerBound), range.upperBound))
  }

  /// The scale of a group; where least squares find it, with weights of its elements.
  package func scale(of values: ArraySlice<Float>, weights: [Float]? = nil) -> Float {
    guard !isHalf else { return GroupScale.best(values, weights: weights) }
    let bits = (values.reduce(0) { max($0, $1.magnitude) } / 127).bitPattern
    let scale = Float(bitPattern: bits & 0xffff == 0 ? bits : (bits | 0xffff) &+ 1)
    return scale.isNormal ? scale : 0
  }
}

/// The numbers that whole ones with scales stand for, as `f32`: made each time they are asked for.
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
  /// This tensor with the numbers that its whole ones with scales stand for; any other as it is.
  public var dequantised: Tensor {
    guard let layout = QuantisedRows(element, shape: shape) else { return self }
    guard !isElided else {
      return Tensor(
        unchecked: .f32, shape: shape,
        storage: ElidedStorage(byteCount: ElementType.f32.byteCount(of: shape)))
    }
    return Tensor(unchecked: .f32, shape: shape, storage: DequantisedStorage(storage, layout))
  }

  /// This tensor of floats as whole numbers with scales, of such a type; `nil` where a number is not finite. Throws where it cannot
  /// be read.
  public func quantised(to element: ElementType = .q8) throws -> Tensor? {
    precondition(self.element.isFloat)
    guard let layout = QuantisedRows(element, shape: shape), try isFinite() else { return nil }
    let numbers = try floats()
    return try Tensor(element, shape: shape) { layout.quantise(numbers, into: $0) }
  }
}
