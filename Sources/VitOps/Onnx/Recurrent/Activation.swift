internal import Glibc
internal import VitIR

/// A function that a recurrent operator applies to its gates or cells, with its parameters.
enum RecurrentActivation: Hashable, Sendable {
  case relu, tanh, sigmoid, softsign, softplus
  case affine(Double, Double)
  case leakyRelu(Double)
  case thresholdedRelu(Double)
  case scaledTanh(Double, Double)
  case hardSigmoid(Double, Double)
  case elu(Double)

  /// The function of that name, in any case of letters; takes its parameters from the front of `alphas` and
  /// `betas`, or the defaults.
  init(_ name: String, _ alphas: inout ArraySlice<Double>, _ betas: inout ArraySlice<Double>) throws(VitError)
  {
    func alpha(_ fallback: Double) -> Double { alphas.popFirst() ?? fallback }
    func beta(_ fallback: Double) -> Double { betas.popFirst() ?? fallback }
    switch name.lowercased() {
    case "relu": self = .relu
    case "tanh": self = .tanh
    case "sigmoid": self = .sigmoid
    case "softsign": self = .softsign
    case "softplus": self = .softplus
    case "affine": self = .affine(alpha(1), beta(0))
    case "leakyrelu": self = .leakyRelu(alpha(0.01))
    case "thresholdedrelu": self = .thresholdedRelu(alpha(1))
    case "scaledtanh": self = .scaledTanh(alpha(1), beta(1))
    case "hardsigmoid": self = .hardSigmoid(alpha(0.2), beta(0.5))
    case "elu": self = .elu(alpha(1))
    default: throw VitError("unknown activation '\(name)' of a recurrent operator", code: "attribute-value")
    }
  }

  /// The name, and the parameters that it takes.
  var canonical: (name: String, alpha: Double?, beta: Double?) {
    switch self {
    case .relu: ("Relu", nil, nil)
    case .tanh: ("Tanh", nil, nil)
    case .sigmoid: ("Sigmoid", nil, nil)
    case .softsign: ("Softsign", nil, nil)
    case .softplus: ("Softplus", nil, nil)
    case .affine(let alpha, let beta): ("Affine", alpha, beta)
    case .leakyRelu(let alpha): ("LeakyRelu", alpha, nil)
    case .thresholdedRelu(let alpha): ("ThresholdedRelu", alpha, nil)
    case .scaledTanh(let alpha, let beta): ("ScaledTanh", alpha, beta)
    case .hardSigmoid(let alpha, let beta): ("HardSigmoid", alpha, beta)
    case .elu(let alpha): ("Elu", alpha, nil)
    }
  }

  /// The function's value.
  func apply(_ x: Double) -> Double {
    switch self {
    case .relu: max(x, 0)
    case .tanh: Glibc.tanh(x)
    case .sigmoid: 1 / (1 + exp(-x))
    case .softsign: x / (1 + abs(x))
    case .softplus: max(x, 0) + log1p(exp(-abs(x)))
    case .affine(let alpha, let beta): alpha * x + beta
    case .leakyRelu(let alpha): x < 0 ? alpha * x : x
    case .thresholdedRelu(let alpha): x > alpha ? x : 0
    case .scaledTanh(let alpha, let beta): alpha * Glibc.tanh(beta * x)
    case .hardSigmoid(let alpha, let beta): min(max(alpha * x + beta, 0), 1)
    case .elu(let alpha): x < 0 ? alpha * expm1(x) : x
    }
  }
}
