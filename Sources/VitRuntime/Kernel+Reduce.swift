internal import CVitKernels
public import VitIR

/// What a reduction computes.
public enum ReductionKind: Int32, Sendable, CaseIterable {
  case sum, mean
  /// NaN wins.
  case max, min
  case product, sumOfSquares, l1, l2, logSumExp
}

extension Kernel {
  /// `y ← ` the reduction of `x` over `axes`, or `y + ` it where `adding`; `y` has the other axes, in order, and
  /// may have ones in place of the reduced. No axes: the elements themselves, reduced alone.
  ///
  /// A sum over nothing is 0, a product 1, a maximum −∞, a mean NaN.
  public static func reduce(
    _ kind: ReductionKind, _ x: View, axes: [Int], into y: View, adding: Bool = false, pool: any WorkPool
  ) {
    precondition(x.element == y.element && axes.allSatisfy { (0..<x.rank).contains($0) })
    var strides = [Int](repeating: 0, count: x.rank)
    var step = 1
    for axis in (0..<x.rank).reversed() where !axes.contains(axis) {
      strides[axis] = step
      step *= x.shape[axis]
    }
    precondition(y.count == step)
    guard y.count > 0 else { return }
    guard x.count > 0 else { return empty(kind, y, adding) }
    reduce(kind, x, resultStrides: strides, into: y, adding: adding, pool: pool)
  }

  /// `y ← y + ` the sum of `x` over the axes along which `y` was broadcast to it (last axes align).
  public static func reduceSum(_ x: View, toShapeOf y: View, pool: any WorkPool) {
    precondition(x.element == y.element && y.rank <= x.rank)
    let lead = [Int](repeating: 0, count: x.rank - y.rank)
    precondition(zip(y.shape.reversed(), x.shape.reversed()).allSatisfy { $0 == $1 || $0 == 1 })
    guard x.count > 0 else { return }
    reduce(
      .sum, x, resultStrides: lead + zip(y.strides, y.shape).map { $1 == 1 ? 0 : $0 }, into: y, adding: true,
      pool: pool)
  }

  private static func reduce(
    _ kind: ReductionKind, _ x: View, resultStrides: [Int], into y: View, adding: Bool, pool: any WorkPool
  ) {
    let type = real(x)
    let walk = vk_walk_make(Int32(x.rank), x.shape, resultStrides, x.strides, nil, nil)
    forParts(of: walk, grain: elementwiseGrain, pool: pool) { part in
      vk_reduce(
        type, kind.rawValue, adding ? 1 : 0, &part.walk, y.at(part.offset.0), x.at(part.offset.1))
    }
  }

  private static func empty(_ kind: ReductionKind, _ y: View, _ adding: Bool) {
    let value: Double =
      switch kind {
      case .sum, .sumOfSquares, .l1, .l2: 0
      case .product: 1
      case .max, .logSumExp: -.infinity
      case .min: .infinity
      case .mean: .nan
      }
    for index in 0..<y.count {
      if y.element == .f64 {
        y.f64[index] = (adding ? y.f64[index] : 0) + value
      } else {
        y.f32[index] = (adding ? y.f32[index] : 0) + Float(value)
      }
    }
  }
}
