import VitIR
import VitTestSupport

extension OpProblem {
  /// A function of each element, on numbers of `range`.
  private static func function(
    _ name: String, _ range: ClosedRange<Double> = -2...2,
    _ attributes: KeyValuePairs<String, Attribute> = [:]
  ) -> OpProblem {
    let list = attributes.map { ($0.key, $0.value) }
    return OpProblem("onnx." + name) { draw in
      Problem(inputs: [draw.uniform(draw.shape, range)], attributes: list, results: 1)
    }
  }

  /// Functions of one operand.
  static let unary: [OpProblem] =
    ["Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "HardSwish", "Mish", "Neg", "Relu", "Round", "Sigmoid"]
    .map { function($0) }
    + ["Sign", "Sin", "Softplus", "Softsign", "Tanh", "Asinh", "Atan", "Cosh", "Sinh"].map { function($0) }
    + [
      function("Log", 0.2...3), function("Sqrt", 0.2...3), function("Reciprocal", 0.3...3),
      function("Tan", -1.2...1.2), function("Acos", -0.9...0.9), function("Asin", -0.9...0.9),
      function("Atanh", -0.9...0.9), function("Acosh", 1.2...4),
      function("Celu", ["alpha": .float(0.7)]), function("Elu", ["alpha": .float(0.7)]),
      function("Selu"), function("LeakyRelu", ["alpha": .float(0.2)]),
      function("HardSigmoid", ["alpha": .float(0.3)]), function("ThresholdedRelu", ["alpha": .float(0.4)]),
      function("Swish", ["alpha": .float(1.3)]),
      OpProblem("onnx.Gelu") { draw in
        .of(draw.normal(draw.shape), attributes: ["approximate": .string(draw.pick(["none", "tanh"]))])
      },
      OpProblem("onnx.Clip") { draw in .of(draw.normal(draw.shape), .scalar(-0.6), .scalar(0.8)) },
      OpProblem("onnx.Dropout") { draw in .of(draw.normal(draw.shape), results: 2) },
      OpProblem("onnx.Not") { draw in .of(draw.bools(draw.shape)) },
      OpProblem("onnx.BitwiseNot") { draw in .of(draw.whole(draw.shape, -9...9, draw.pick([.i32, .i64]))) },
      OpProblem("onnx.IsInf") { draw in .of(withSpecialNumbers(&draw)) },
      OpProblem("onnx.IsNaN") { draw in .of(withSpecialNumbers(&draw)) },
    ]

  private static func function(_ name: String, _ attributes: KeyValuePairs<String, Attribute>) -> OpProblem {
    function(name, -2...2, attributes)
  }

  private static func withSpecialNumbers(_ draw: inout Draw) -> Tensor {
    let choices = [0.5, .infinity, -.infinity, .nan]
    let count = draw.shape.reduce(1, *)
    return Tensor(.f32, shape: draw.shape, values: (0..<count).map { _ in draw.pick(choices) })
  }

  /// A function of two operands, of which the second may be smaller.
  private static func function2(
    _ name: String, _ make: @escaping @Sendable (inout Draw, [Int]) -> Tensor
  ) -> OpProblem {
    OpProblem("onnx." + name) { draw in
      let (x, y) = (make(&draw, draw.shape), make(&draw, draw.broadcasting(to: draw.shape)))
      return name == "PRelu" || draw.flip() ? .of(x, y) : .of(y, x)
    }
  }

  /// A function of one to three operands.
  private static func variadic(_ name: String) -> OpProblem {
    OpProblem("onnx." + name) { draw in
      var inputs: [Tensor?] = [draw.normal(draw.shape)]
      for _ in 0..<draw.below(3) { inputs.append(draw.normal(draw.broadcasting(to: draw.shape))) }
      return Problem(inputs: inputs, attributes: [], results: 1)
    }
  }

  /// Functions of several operands.
  static let binary: [OpProblem] =
    ["Add", "Mul", "Sub", "PRelu"].map { function2($0) { $0.normal($1) } }
    + ["And", "Or", "Xor"].map { function2($0) { $0.bools($1) } }
    + ["BitwiseAnd", "BitwiseOr", "BitwiseXor"].map { function2($0) { $0.whole($1, -20...20, .i32) } }
    + ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"].map {
      function2($0) { $0.whole($1, -2...2, .f32) }
    }
    + ["Max", "Mean", "Min", "Sum"].map(variadic)
    + [
      function2("Div") { $0.uniform($1, 0.5...3) },
      function2("Pow") { $0.uniform($1, 0.5...2) },
      OpProblem("onnx.Mod") { draw in
        if draw.flip() { return .of(draw.whole(draw.shape, -20...20), .list([7])) }
        return .of(draw.normal(draw.shape), draw.uniform([], 0.5...1), attributes: ["fmod": .int(1)])
      },
    ]
}
