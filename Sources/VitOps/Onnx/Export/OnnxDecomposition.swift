package import VitIR

/// Operators in terms of others that older versions of the standard have.
package enum OnnxDecomposition {
  /// What `node` gives, by operators that version `opset` has; `nil` where it stays as it is, or nothing is known that gives it.
  package static func results(
    of node: Node, opset: Int, into builder: inout GraphBuilder
  ) throws(VitError) -> [ValueID]? {
    guard node.results.count == 1, let x = node.operands.first ?? nil else { return nil }
    let type = builder.graph.type(x)
    if node.operation.attributes["coerce2d"] == .bool(true) { return try coerced(node, x, &builder) }
    func number(_ value: Double, _ builder: inout GraphBuilder) -> ValueID {
      builder.constant([value], shape: [], element: type.element)
    }
    switch node.operation {
    case let operation as OnnxGelu where opset < 20:
      return [try gelu(x, tanh: operation.attributes["approximate"] == .string("tanh"), number, &builder)]
    case is OnnxRowNormalization<LayerNormalizationFunction> where opset < 17:
      return [try normalised(node, x, centred: true, &builder)]
    case is OnnxRowNormalization<RMSNormalizationFunction> where opset < 23,
      is OnnxRowNormalization<SimplifiedLayerNormalizationFunction>:
      return [try normalised(node, x, centred: false, &builder)]
    case let operation as OnnxShape where opset < 15:
      return try extents(x, operation.attributes, &builder)
    case is OnnxHardSwish where opset < 14:
      let gate = try builder.add(
        "onnx.HardSigmoid", [x], [("alpha", .float(1.0 / 6)), ("beta", .float(0.5))])
      return [try builder.add("onnx.Mul", [x, gate])]
    case is OnnxMish where opset < 18:
      let gate = try builder.add("onnx.Tanh", [try builder.add("onnx.Softplus", [x])])
      return [try builder.add("onnx.Mul", [x, gate])]
    case let operation as OnnxSwish where opset < 24:
      var scaled = x
      if case .float(let alpha)? = operation.attributes["alpha"], alpha != 1 {
        scaled = try builder.add("onnx.Mul", [x, number(alpha, &builder)])
      }
      return [try builder.add("onnx.Mul", [x, try builder.add("onnx.Sigmoid", [scaled])])]
    default: return nil
    }
  }

  /// A softmax over all axes from one on, as one: that of rows.
  private static func coerced(
    _ node: Node, _ x: ValueID, _ builder: inout GraphBuilder
  ) throws(VitError) -> [ValueID]? {
    var attributes = node.operation.attributes
    var axis = 1
    if case .int(let value)? = attributes["axis"] { axis = value }
    let rank = builder.graph.type(x).rank
    guard axis != -1, axis != rank - 1 else { return nil }
    let shape = try builder.add("onnx.Shape", [x])
    let rows = try builder.add("onnx.Flatten", [x], [("axis", .int(axis))])
    attributes["axis"] = .int(-1)
    attributes["coerce2d"] = .bool(false)
    let operation = try builder.registry.make(node.name, attributes)
    return [try builder.add("onnx.Reshape", [try builder.add(operation, [rows])[0], shape])]
  }

  /// Some of a value's extents.
  private static func extents(
    _ x: ValueID, _ attributes: Attributes, _ builder: inout GraphBuilder
  ) throws(VitError) -> [ValueID]? {
    var (start, end) = (0, Int.max)
    if case .int(let value)? = attributes["start"] { start = value }
    if case .int(let value)? = attributes["end"] { end = value }
    guard start != 0 || end != .max else { return nil }
    let all = try builder.add("onnx.Shape", [x])
    return [try builder.add("onnx.Slice", [all, builder.integers([start]), builder.integers([end])])]
  }

  /// `x·Φ(x)`, or what the hyperbolic tangent makes of it.
  private static func gelu(
    _ x: ValueID, tanh: Bool, _ number: (Double, inout GraphBuilder) -> ValueID, _ builder: inout GraphBuilder
  ) throws(VitError) -> ValueID {
    var inner: ValueID
    if tanh {
      let cube = try builder.add("onnx.Mul", [try builder.add("onnx.Mul", [x, x]), x])
      let sum = try builder.add(
        "onnx.Add", [x, try builder.add("onnx.Mul", [cube, number(0.044715, &builder)])])
      let factor = number((2 / Double.pi).squareRoot(), &builder)
      inner = try builder.add("onnx.Tanh", [try builder.add("onnx.Mul", [sum, factor])])
    } else {
      inner = try builder.add(
        "onnx.Erf", [try builder.add("onnx.Mul", [x, number(0.5.squareRoot(), &builder)])])
    }
    inner = try builder.add("onnx.Add", [inner, number(1, &builder)])
    let half = try builder.add("onnx.Mul", [x, number(0.5, &builder)])
    return try builder.add("onnx.Mul", [half, inner])
  }

  /// Rows over the axes from `axis` on, brought to a mean square, or a variance, of one.
  private static func normalised(
    _ node: Node, _ x: ValueID, centred: Bool, _ builder: inout GraphBuilder
  ) throws(VitError) -> ValueID {
    let attributes = node.operation.attributes
    let type = builder.graph.type(x)
    var (axis, epsilon) = (-1, 1e-5)
    if case .int(let value)? = attributes["axis"] { axis = value }
    if case .float(let value)? = attributes["epsilon"] { epsilon = value }
    let first = axis < 0 ? axis + type.rank : axis
    guard first >= 0, first < type.rank else {
      throw VitError("the axis \(axis) is none of \(type)", code: "axis")
    }
    let axes: [(String, Attribute)] = [("axes", .ints(Array(first..<type.rank))), ("keepdims", .bool(true))]
    var rows = x
    if centred { rows = try builder.add("onnx.Sub", [x, try builder.add("onnx.ReduceMean", [x], axes)]) }
    let squares = try builder.add("onnx.ReduceMean", [try builder.add("onnx.Mul", [rows, rows])], axes)
    let floor = builder.constant([epsilon], shape: [], element: type.element)
    let deviation = try builder.add("onnx.Sqrt", [try builder.add("onnx.Add", [squares, floor])])
    var result = try builder.add("onnx.Div", [rows, deviation])
    if node.operands.count > 1, let gain = node.operands[1] {
      result = try builder.add("onnx.Mul", [result, gain])
    }
    if node.operands.count > 2, let bias = node.operands[2] {
      result = try builder.add("onnx.Add", [result, bias])
    }
    return result
  }
}
