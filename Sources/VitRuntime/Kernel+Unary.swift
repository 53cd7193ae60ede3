internal import CVitKernels
public import VitIR

/// A function of one operand, applied to each element.
public enum UnaryKind: Sendable, Hashable {
  case identity, exp, log, sqrt, reciprocal, negate, abs, square, erf, tanh, sigmoid, silu, relu
  /// `x`, or `slope·x` below 0.
  case leakyRelu(slope: Double)
  /// `x·Φ(x)` by the error function, and its approximation by `tanh`.
  case gelu, geluTanh
  /// `x·σ(alpha·x)`; the usual `alpha` is 1.702.
  case quickGelu(alpha: Double)
  /// `alpha·x + beta`, clipped to [0, 1].
  case hardSigmoid(alpha: Double, beta: Double)
  /// `x·clip(x/6 + 1/2, 0, 1)`.
  case hardSwish
  /// `scale·x`, or `scale·alpha·(eˣ − 1)` below 0: ELU with scale 1, SELU with its own.
  case elu(alpha: Double, scale: Double)
  /// `x`, or `alpha·(e^(x/alpha) − 1)` below 0.
  case celu(alpha: Double)
  case softplus, softsign, mish
  /// `x` above the threshold, else 0.
  case thresholdedRelu(threshold: Double)
  /// `x` clipped to [`low`, `high`].
  case clip(low: Double, high: Double)
  /// `scale·x + offset`.
  case affine(scale: Double, offset: Double)
  case sin, cos, tan, floor, ceil
  /// To the nearest whole number, halves to the even one.
  case round
  case sign

  /// The C number of the kind, and its two parameters.
  var code: (kind: Int32, a: Double, b: Double) {
    func plain(_ kind: Int) -> (Int32, Double, Double) { (Int32(kind), 0, 0) }
    switch self {
    case .identity: return plain(VK_IDENTITY)
    case .exp: return plain(VK_EXP)
    case .log: return plain(VK_LOG)
    case .sqrt: return plain(VK_SQRT)
    case .reciprocal: return plain(VK_RECIPROCAL)
    case .negate: return plain(VK_NEGATE)
    case .abs: return plain(VK_ABS)
    case .square: return plain(VK_SQUARE)
    case .erf: return plain(VK_ERF)
    case .tanh: return plain(VK_TANH)
    case .sigmoid: return plain(VK_SIGMOID)
    case .silu: return plain(VK_SILU)
    case .relu: return plain(VK_RELU)
    case .leakyRelu(let slope): return (Int32(VK_LEAKY_RELU), slope, 0)
    case .gelu: return plain(VK_GELU)
    case .geluTanh: return plain(VK_GELU_TANH)
    case .quickGelu(let alpha): return (Int32(VK_QUICK_GELU), alpha, 0)
    case .hardSigmoid(let alpha, let beta): return (Int32(VK_HARD_SIGMOID), alpha, beta)
    case .hardSwish: return plain(VK_HARD_SWISH)
    case .elu(let alpha, let scale): return (Int32(VK_ELU), alpha, scale)
    case .celu(let alpha): return (Int32(VK_CELU), alpha, 0)
    case .softplus: return plain(VK_SOFTPLUS)
    case .softsign: return plain(VK_SOFTSIGN)
    case .mish: return plain(VK_MISH)
    case .thresholdedRelu(let threshold): return (Int32(VK_THRESHOLDED_RELU), threshold, 0)
    case .clip(let low, let high): return (Int32(VK_CLIP), low, high)
    case .affine(let scale, let offset): return (Int32(VK_AFFINE), scale, offset)
    case .sin: return plain(VK_SIN)
    case .cos: return plain(VK_COS)
    case .tan: return plain(VK_TAN)
    case .floor: return plain(VK_FLOOR)
    case .ceil: return plain(VK_CEIL)
    case .round: return plain(VK_ROUND)
    case .sign: return plain(VK_SIGN)
    }
  }
}

extension Kernel {
  /// `y ← f(x)` for each element; `y` may be `x`.
  public static func unary(_ kind: UnaryKind, _ x: View, into y: View, pool: any WorkPool) {
    precondition(x.count == y.count && x.element == y.element)
    let (type, code) = (real(x), kind.code)
    forRanges(x.count, grain: elementwiseGrain, pool: pool) { start, count in
      vk_unary(type, code.kind, code.a, code.b, count, x.at(start), y.at(start))
    }
  }

  /// `dx ← dx + dy·f′(x)`, given `y = f(x)`.
  ///
  /// At a kink the slope is the one on the side of smaller `x`, as PyTorch has it; `y` is read by `exp`, `sqrt`,
  /// `reciprocal`, `tanh`, `sigmoid` and `tan` only, so elsewhere `x` may stand for it.
  public static func unaryGradient(
    _ kind: UnaryKind, x: View, y: View, dy: View, adding dx: View, pool: any WorkPool
  ) {
    precondition(x.count == y.count && x.count == dy.count && x.count == dx.count)
    precondition(x.element == y.element && x.element == dy.element && x.element == dx.element)
    let (type, code) = (real(x), kind.code)
    forRanges(x.count, grain: elementwiseGrain, pool: pool) { start, count in
      vk_unary_gradient(
        type, code.kind, code.a, code.b, count, x.at(start), y.at(start), dy.at(start), dx.at(start))
    }
  }
}
