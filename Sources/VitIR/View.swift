/// A dense row-major tensor in memory that somebody else owns: what kernels read and write.
///
/// The contract of `@unchecked Sendable`: whoever hands a view to several threads gives them disjoint ranges to
/// write, and keeps the memory alive until they are done. A view of zero elements has a valid base.
public struct View: @unchecked Sendable {
  /// The first element, aligned to 64 bytes where the runtime allocated it.
  public let base: UnsafeMutableRawPointer
  /// The type of the elements.
  public let element: ElementType
  /// The extents, or `nil` for a plain run of elements: kernels cut such runs all the time, and an array would be memory.
  @usableFromInline let extents: [Int]?
  /// The number of elements.
  public let count: Int

  /// The extents, outermost first; empty for a scalar.
  @inlinable public var shape: [Int] { extents ?? [count] }

  /// A view of memory that holds `shape`'s elements in row-major order.
  public init(base: UnsafeMutableRawPointer, element: ElementType, shape: [Int]) {
    self.base = base
    self.element = element
    self.extents = shape
    self.count = shape.reduce(1, *)
  }

  /// A view of `count` elements.
  public init(base: UnsafeMutableRawPointer, element: ElementType, count: Int) {
    self.base = base
    self.element = element
    self.extents = nil
    self.count = count
  }

  /// The number of axes.
  @inlinable public var rank: Int { extents?.count ?? 1 }

  /// The bytes that the elements take.
  @inlinable public var byteCount: Int { count * element.size }

  /// The elements as `T`; that `T` is the type of the elements is the caller's to know.
  @inlinable public func pointer<T>(as type: T.Type = T.self) -> UnsafeMutablePointer<T> {
    base.assumingMemoryBound(to: T.self)
  }

  /// The elements as 32-bit floats; the view must be `f32`.
  @inlinable public var f32: UnsafeMutablePointer<Float> {
    precondition(element == .f32)
    return base.assumingMemoryBound(to: Float.self)
  }

  /// The elements as 64-bit floats; the view must be `f64`.
  @inlinable public var f64: UnsafeMutablePointer<Double> {
    precondition(element == .f64)
    return base.assumingMemoryBound(to: Double.self)
  }

  /// The elements as 64-bit integers; the view must be `i64`.
  @inlinable public var i64: UnsafeMutablePointer<Int64> {
    precondition(element == .i64)
    return base.assumingMemoryBound(to: Int64.self)
  }

  /// The same memory with other extents of the same product.
  public func reshaped(_ shape: [Int]) -> View {
    let view = View(base: base, element: element, shape: shape)
    precondition(view.count == count)
    return view
  }

  /// `count` elements from element `start` on.
  public func part(_ start: Int, of count: Int) -> View {
    View(base: base + start * element.size, element: element, count: count)
  }

  /// Entry `index` of the outermost axis.
  public func slice(_ index: Int) -> View {
    let inner = Array(shape.dropFirst())
    let view = View(base: base, element: element, shape: inner)
    return View(base: base + index * view.byteCount, element: element, shape: inner)
  }

  /// Entries `range` of the outermost axis.
  public func slice(_ range: Range<Int>) -> View {
    let stride = shape.first == 0 ? 0 : byteCount / (shape.first ?? 1)
    return View(
      base: base + range.lowerBound * stride, element: element, shape: [range.count] + shape.dropFirst())
  }

  /// Row-major strides, in elements.
  public var strides: [Int] {
    var result = [Int](repeating: 1, count: shape.count)
    for axis in stride(from: shape.count - 2, through: 0, by: -1) {
      result[axis] = result[axis + 1] * shape[axis + 1]
    }
    return result
  }

  /// Sets every byte to zero.
  public func zero() { base.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount) }

  /// Copies the bytes of `other`, which has the same element type and count.
  public func copy(from other: View) {
    precondition(other.element == element && other.count == count)
    base.copyMemory(from: other.base, byteCount: byteCount)
  }
}
