internal import CVitKernels
public import VitIR

extension Kernel {
  /// `to[permutation] ← from`: axis `i` of `to` is axis `permutation[i]` of `from`. Any element type.
  public static func transpose(_ from: View, permutation: [Int], into to: View, pool: any WorkPool) {
    precondition(permutation.count == from.rank && permutation.sorted() == Array(0..<from.rank))
    precondition(to.shape == permutation.map { from.shape[$0] })
    let strides = from.strides
    copy(
      shape: to.shape, from: from, strides: permutation.map { strides[$0] }, to: to, toStrides: to.strides,
      pool: pool)
  }

  /// Copies a block of extents `shape` between strided places, in elements from the first of each view.
  ///
  /// Stride 0 repeats in `from`; strides may be negative. Elements of `to` must differ. Any element type, up to 16
  /// axes.
  public static func copy(
    shape: [Int], from: View, offset: Int = 0, strides: [Int], to: View, toOffset: Int = 0,
    toStrides: [Int], pool: any WorkPool
  ) {
    precondition(from.element.size == to.element.size && shape.count <= Int(VK_AXES))
    precondition(strides.count == shape.count && toStrides.count == shape.count)
    guard shape.allSatisfy({ $0 > 0 }) else { return }
    let walk = vk_walk_make(Int32(shape.count), shape, toStrides, strides, nil, nil)
    forParts(of: walk, grain: 4 * elementwiseGrain, pool: pool) { part in
      vk_copy(
        to.element.size, &part.walk, to.at(toOffset + part.offset.0), from.at(offset + part.offset.1))
    }
  }

  /// Copies `part` into `whole` from index `start` of `axis` on: one operand of a concatenation.
  public static func insert(_ part: View, into whole: View, axis: Int, at start: Int, pool: any WorkPool) {
    precondition(part.rank == whole.rank && start >= 0 && start + part.shape[axis] <= whole.shape[axis])
    copy(
      shape: part.shape, from: part, strides: part.strides, to: whole, toOffset: start * whole.strides[axis],
      toStrides: whole.strides, pool: pool)
  }

  /// Repeats `from` to the shape of `to` (last axes align). Any element type.
  public static func broadcast(_ from: View, into to: View, pool: any WorkPool) {
    precondition(from.rank <= to.rank)
    let lead = [Int](repeating: 0, count: to.rank - from.rank)
    let strides = lead + zip(from.strides, from.shape).map { $1 == 1 ? 0 : $0 }
    precondition(zip(from.shape.reversed(), to.shape.reversed()).allSatisfy { $0 == $1 || $0 == 1 })
    copy(shape: to.shape, from: from, strides: strides, to: to, toStrides: to.strides, pool: pool)
  }
}
