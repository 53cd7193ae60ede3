internal import CVitKernels
public import VitIR

extension Kernel {
  /// `y ← softmax(scale·x + bias)` over the last axis; `y` may be `x`.
  ///
  /// `bias` has rows of the same width: as many as `x`, or one for all. A row whose sums are all −∞ becomes zeros
  /// where it is `guarded`, else NaN. `logSumExp`, one element for each row, takes log Σ exp.
  public static func softmax(
    _ x: View, scale: Double = 1, bias: View? = nil, guarded: Bool = true, into y: View,
    logSumExp: View? = nil, pool: any WorkPool
  ) {
    softmax(false, guarded, x, scale: scale, bias: bias, into: y, logSumExp: logSumExp, pool: pool)
  }

  /// `y ← log softmax(scale·x + bias)` over the last axis; otherwise as `softmax`. A guarded row of −∞ stays one.
  public static func logSoftmax(
    _ x: View, scale: Double = 1, bias: View? = nil, guarded: Bool = true, into y: View,
    logSumExp: View? = nil, pool: any WorkPool
  ) {
    softmax(true, guarded, x, scale: scale, bias: bias, into: y, logSumExp: logSumExp, pool: pool)
  }

  private static func softmax(
    _ logarithm: Bool, _ guarded: Bool, _ x: View, scale: Double, bias: View?, into y: View,
    logSumExp: View?, pool: any WorkPool
  ) {
    let width = x.shape.last ?? 1
    guard x.count > 0 else { return }
    let rowCount = x.count / width
    precondition(y.count == x.count && y.element == x.element)
    precondition(bias.map { ($0.count == x.count || $0.count == width) && $0.element == x.element } ?? true)
    precondition(logSumExp.map { $0.count == rowCount && $0.element == x.element } ?? true)
    let biasStride = bias?.count == x.count ? width : 0
    let type = real(x)
    forRanges(rowCount, grain: rows(ofWidth: width, grain: 8192), pool: pool) { row, count in
      vk_softmax(
        type, logarithm ? 1 : 0, guarded ? 1 : 0, count, width, scale, x.at(row * width), width,
        bias?.at(row * biasStride), biasStride, y.at(row * width), width, logSumExp?.at(row))
    }
  }

  /// `dx ← dx + scale·y·(dy − Σ y·dy)`: the gradient of `softmax` from its result `y`.
  public static func softmaxGradient(
    y: View, dy: View, scale: Double = 1, adding dx: View, pool: any WorkPool
  ) {
    softmaxGradient(false, y: y, dy: dy, scale: scale, adding: dx, pool: pool)
  }

  /// `dx ← dx + scale·(dy − exp(y)·Σ dy)`: the gradient of `logSoftmax` from its result `y`.
  public static func logSoftmaxGradient(
    y: View, dy: View, scale: Double = 1, adding dx: View, pool: any WorkPool
  ) {
    softmaxGradient(true, y: y, dy: dy, scale: scale, adding: dx, pool: pool)
  }

  private static func softmaxGradient(
    _ logarithm: Bool, y: View, dy: View, scale: Double, adding dx: View, pool: any WorkPool
  ) {
    let width = y.shape.last ?? 1
    guard y.count > 0 else { return }
    precondition(
      dy.count == y.count && dx.count == y.count && dy.element == y.element && dx.element == y.element)
    let type = real(y)
    forRanges(y.count / width, grain: rows(ofWidth: width), pool: pool) { row, count in
      let start = row * width
      vk_softmax_gradient(
        type, logarithm ? 1 : 0, count, width, scale, y.at(start), dy.at(start), dx.at(start))
    }
  }
}
