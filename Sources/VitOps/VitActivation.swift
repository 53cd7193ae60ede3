internal import VitIR
internal import VitRuntime

/// The function applied to each element after a linear map.
public enum Activation: String, CaseIterable, Sendable {
  case none, gelu, relu, silu, tanh, sigmoid, mish
  case geluTanh = "gelu_tanh"
  case quickGelu = "quick_gelu"
  case hardSwish = "hard_swish"
  case hardSigmoid = "hard_sigmoid"

  /// The kernel's name for it.
  var kind: UnaryKind {
    switch self {
    case .none: .identity
    case .gelu: .gelu
    case .geluTanh: .geluTanh
    case .quickGelu: .quickGelu(alpha: 1.702)
    case .relu: .relu
    case .silu: .silu
    case .tanh: .tanh
    case .sigmoid: .sigmoid
    case .mish: .mish
    case .hardSwish: .hardSwish
    case .hardSigmoid: .hardSigmoid(alpha: 1.0 / 6, beta: 0.5)
    }
  }

  /// The function as ONNX operators.
  func lower(_ x: ValueID, into builder: inout GraphBuilder) throws(VitError) -> ValueID {
    switch self {
    case .none: return x
    case .gelu: return try builder.add("onnx.Gelu", [x])
    case .geluTanh: return try builder.add("onnx.Gelu", [x], [("approximate", .string("tanh"))])
    case .quickGelu:
      let factor = builder.constant([1.702], shape: [], element: builder.graph.type(x).element)
      let scaled = try builder.add("onnx.Mul", [x, factor])
      return try builder.add("onnx.Mul", [x, try builder.add("onnx.Sigmoid", [scaled])])
    case .silu: return try builder.add("onnx.Mul", [x, try builder.add("onnx.Sigmoid", [x])])
    case .relu: return try builder.add("onnx.Relu", [x])
    case .tanh: return try builder.add("onnx.Tanh", [x])
    case .sigmoid: return try builder.add("onnx.Sigmoid", [x])
    case .mish: return try builder.add("onnx.Mish", [x])
    case .hardSwish: return try builder.add("onnx.HardSwish", [x])
    case .hardSigmoid:
      return try builder.add("onnx.HardSigmoid", [x], [("alpha", .float(1.0 / 6)), ("beta", .float(0.5))])
    }
  }
}
