internal import CVitKernels
public import VitIR

extension Kernel {
  /// `y ← (x − mean)/√(variance + epsilon)·gain + bias` over the last axis; `y` may be `x`.
  ///
  /// `gain` and `bias` are as wide as the last axis. `saving`, two elements for each row, takes the mean and the
  /// reciprocal deviation, which the gradient reads.
  public static func layerNorm(
    _ x: View, gain: View? = nil, bias: View? = nil, epsilon: Double, into y: View, saving: View? = nil,
    pool: any WorkPool
  ) {
    normalise(true, x, gain: gain, bias: bias, epsilon: epsilon, into: y, saving: saving, pool: pool)
  }

  /// `y ← x/√(mean square + epsilon)·gain` over the last axis; `saving` as in `layerNorm`, with a mean of 0.
  public static func rmsNorm(
    _ x: View, gain: View? = nil, bias: View? = nil, epsilon: Double, into y: View, saving: View? = nil,
    pool: any WorkPool
  ) {
    normalise(false, x, gain: gain, bias: bias, epsilon: epsilon, into: y, saving: saving, pool: pool)
  }

  private static func normalise(
    _ centred: Bool, _ x: View, gain: View?, bias: View?, epsilon: Double, into y: View, saving: View?,
    pool: any WorkPool
  ) {
    let width = x.shape.last ?? 1
    guard x.count > 0 else { return }
    precondition(y.count == x.count && y.element == x.element)
    precondition([gain, bias].allSatisfy { $0.map { $0.count == width && $0.element == x.element } ?? true })
    precondition(saving.map { $0.count == 2 * (x.count / width) && $0.element == x.element } ?? true)
    let type = real(x)
    forRanges(x.count / width, grain: rows(ofWidth: width), pool: pool) { row, count in
      vk_normalise(
        type, centred ? 1 : 0, count, width, epsilon, x.at(row * width), gain?.base, bias?.base,
        y.at(row * width), saving?.at(2 * row))
    }
  }

  /// Adds the gradients of `layerNorm` to `dx`, `dgain` and `dbias`, each of which may be absent.
  public static func layerNormGradient(
    _ x: View, gain: View? = nil, saved: View, dy: View, adding dx: View?, _ dgain: View?, _ dbias: View?,
    pool: any WorkPool
  ) {
    normaliseGradient(true, x, gain: gain, saved: saved, dy: dy, adding: dx, dgain, dbias, pool: pool)
  }

  /// Adds the gradients of `rmsNorm` to `dx`, `dgain` and `dbias`, each of which may be absent.
  public static func rmsNormGradient(
    _ x: View, gain: View? = nil, saved: View, dy: View, adding dx: View?, _ dgain: View?,
    _ dbias: View? = nil,
    pool: any WorkPool
  ) {
    normaliseGradient(false, x, gain: gain, saved: saved, dy: dy, adding: dx, dgain, dbias, pool: pool)
  }

  private static func normaliseGradient(
    _ centred: Bool, _ x: View, gain: View?, saved: View, dy: View, adding dx: View?, _ dgain: View?,
    _ dbias: View?, pool: any WorkPool
  ) {
    let width = x.shape.last ?? 1
    guard x.count > 0 else { return }
    let rowCount = x.count / width
    precondition(dy.count == x.count && saved.count == 2 * rowCount)
    precondition([saved, dy].allSatisfy { $0.element == x.element })
    precondition(dx.map { $0.count == x.count && $0.element == x.element } ?? true)
    precondition(
      [gain, dgain, dbias].allSatisfy { $0.map { $0.count == width && $0.element == x.element } ?? true })
    let type = real(x)
    if let dx {
      forRanges(rowCount, grain: rows(ofWidth: width), pool: pool) { row, count in
        let start = row * width
        vk_normalise_gradient(
          type, centred ? 1 : 0, count, width, x.at(start), gain?.base, saved.at(2 * row), dy.at(start),
          dx.at(start))
      }
    }
    if dgain != nil || dbias != nil {
      // Columns are summed over all rows by one task each: no partial sums, one order.
      let grain = rowCount * width <= elementwiseGrain ? width : 32
      let blocks = (width - 1) / grain + 1
      forRanges(blocks, grain: 1, pool: pool) { block, count in
        vk_normalise_gradient_parameters(
          type, rowCount, width, block * grain, min(width, (block + count) * grain), x.base, saved.base,
          dy.base, dgain?.base, dbias?.base)
      }
    }
  }
}
