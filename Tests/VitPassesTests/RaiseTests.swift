import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

struct RaiseTests {
  /// A function of x [batch, 4, 6], raised, its outputs compared.
  private func raised(
    _ shape: [Int] = [4, 6], _ build: (inout ModelBuilder, ValueID) throws -> ValueID
  ) throws -> Graph {
    var model = ModelBuilder("model", seed: 8)
    let x = model.input([.symbol("batch")] + shape.map(Dimension.fixed))
    let graph = model.finish(try build(&model, x))
    let result = try apply("fold,raise,dce", to: graph)
    #expect(try outputDifference(result, graph, [[2] + shape]) < 1e-5)
    return result
  }

  /// How exporters spell activations.
  enum Chain: String, CaseIterable, Sendable {
    case gelu, geluHalfFirst, geluMultiplied, tanhGelu, tanhGeluFactored, silu, quickGelu
    var operation: String {
      switch self {
      case .gelu, .geluHalfFirst, .geluMultiplied, .tanhGelu, .tanhGeluFactored: "onnx.Gelu"
      case .silu, .quickGelu: "com.microsoft.QuickGelu"
      }
    }
    var activation: String {
      switch self {
      case .gelu, .geluHalfFirst, .geluMultiplied: "gelu"
      case .tanhGelu, .tanhGeluFactored: "gelu_tanh"
      case .silu: "silu"
      case .quickGelu: "quick_gelu"
      }
    }
  }

  private func activate(_ model: inout ModelBuilder, _ x: ValueID, _ chain: Chain) throws -> ValueID {
    let root = (2 / Double.pi).squareRoot()
    switch chain {
    case .gelu, .geluHalfFirst, .geluMultiplied:
      let inner =
        chain == .geluMultiplied
        ? try model.add("onnx.Mul", [x, model.number(0.5.squareRoot())])
        : try model.add("onnx.Div", [x, model.number(2.0.squareRoot())])
      let gate = try model.add("onnx.Add", [try model.add("onnx.Erf", [inner]), model.number(1)])
      if chain == .geluHalfFirst {
        return try model.add("onnx.Mul", [try model.add("onnx.Mul", [x, model.number(0.5)]), gate])
      }
      return try model.add("onnx.Mul", [try model.add("onnx.Mul", [x, gate]), model.number(0.5)])
    case .tanhGelu:
      let cube = try model.add("onnx.Pow", [x, model.number(3)])
      let sum = try model.add("onnx.Add", [x, try model.add("onnx.Mul", [cube, model.number(0.044715)])])
      let tanh = try model.add("onnx.Tanh", [try model.add("onnx.Mul", [sum, model.number(root)])])
      let gate = try model.add("onnx.Add", [tanh, model.number(1)])
      return try model.add("onnx.Mul", [try model.add("onnx.Mul", [x, model.number(0.5)]), gate])
    case .tanhGeluFactored:
      let square = try model.add("onnx.Mul", [x, x])
      let inner = try model.add(
        "onnx.Add", [model.number(1), try model.add("onnx.Mul", [square, model.number(0.044715)])])
      let scaled = try model.add("onnx.Mul", [try model.add("onnx.Mul", [x, model.number(root)]), inner])
      let gate = try model.add("onnx.Add", [model.number(1), try model.add("onnx.Tanh", [scaled])])
      return try model.add("onnx.Mul", [model.number(0.5), try model.add("onnx.Mul", [gate, x])])
    case .silu: return try model.add("onnx.Mul", [x, try model.add("onnx.Sigmoid", [x])])
    case .quickGelu:
      let gate = try model.add("onnx.Sigmoid", [try model.add("onnx.Mul", [x, model.number(1.702)])])
      return try model.add("onnx.Mul", [gate, x])
    }
  }

  @Test("the chains that spell an activation become one operation", arguments: Chain.allCases)
  func activations(_ chain: Chain) throws {
    let graph = try raised { try activate(&$0, $1, chain) }
    #expect(graph.operations == [chain.operation])
  }

  @Test("two linear maps around an activation become a perceptron", arguments: Chain.allCases)
  func perceptron(_ chain: Chain) throws {
    let graph = try raised { model, x in
      try model.linear(try activate(&model, try model.linear(x, 6, 9), chain), 9, 6)
    }
    #expect(graph.operations == ["vit.mlp"])
    #expect(graph.nodes[0].operation.attributes["activation"] == .string(chain.activation))
  }

  @Test("what only resembles an activation is left alone")
  func noActivations() throws {
    let doubled = try raised { model, x in
      let gate = try model.add("onnx.Add", [try model.add("onnx.Erf", [x]), model.number(1)])
      return try model.add("onnx.Mul", [try model.add("onnx.Mul", [x, gate]), model.number(0.5)])
    }
    #expect(doubled.count("onnx.Gelu") == 0)
    let other = try raised { model, x in
      try model.add("onnx.Mul", [try model.linear(x, 6, 6), try model.add("onnx.Sigmoid", [x])])
    }
    #expect(other.count("com.microsoft.QuickGelu") == 0)
  }

  /// `(x − mean)/√(variance + ε)·gain + bias`, step by step.
  private func norm(
    _ model: inout ModelBuilder, _ x: ValueID, squareByPower: Bool, gain: [Int] = [6], bias: [Int] = [6]
  ) throws -> ValueID {
    let axis: [(String, Attribute)] = [("axes", .ints([-1])), ("keepdims", .int(1))]
    func mean(_ value: ValueID) throws -> ValueID { try model.add("onnx.ReduceMean", [value], axis) }
    let centred = try model.add("onnx.Sub", [x, try mean(x)])
    let square =
      squareByPower
      ? try model.add("onnx.Pow", [centred, model.number(2)]) : try model.add("onnx.Mul", [centred, centred])
    let root = try model.add(
      "onnx.Sqrt", [try model.add("onnx.Add", [try mean(square), model.number(1e-3)])])
    let normal = try model.add("onnx.Div", [centred, root])
    let scaled = try model.add("onnx.Mul", [normal, model.weight(gain, name: "gain", scale: 1)])
    return try model.add("onnx.Add", [scaled, model.weight(bias, name: "shift", scale: 1)])
  }

  @Test("the chain that spells layer normalisation becomes one operation", arguments: [true, false])
  func layerNorm(squareByPower: Bool) throws {
    let graph = try raised { try norm(&$0, $1, squareByPower: squareByPower) }
    #expect(graph.operations == ["vit.layer_norm"])
    #expect(graph.nodes[0].operation.attributes["epsilon"] == .float(Double(Float(1e-3))))
  }

  @Test("a gain for each token, where there are as many tokens as channels, is no gain for each channel")
  func gainOfTokens() throws {
    let graph = try raised([6, 6]) { try norm(&$0, $1, squareByPower: true, gain: [6, 1]) }
    #expect(graph.count("vit.layer_norm") == 0)
  }

  @Test("the operator of layer normalisation, with its bias or without")
  func layerNormOperator() throws {
    for hasBias in [true, false] {
      let graph = try raised { model, x in
        let bias = hasBias ? model.weight([6]) : nil
        return try model.add(
          "onnx.LayerNormalization", [x, model.weight([6], scale: 1), bias], [("epsilon", .float(1e-4))])
      }
      #expect(graph.operations == ["vit.layer_norm"])
    }
    let allAxes = try raised { model, x in
      try model.add("onnx.LayerNormalization", [x, model.weight([4, 6], scale: 1)], [("axis", .int(1))])
    }
    #expect(allAxes.operations == ["onnx.LayerNormalization"])
  }

  @Test("a product with a constant and its bias become a linear map, whichever side they stand on")
  func linear() throws {
    let graph = try raised { model, x in
      let product = try model.add("onnx.MatMul", [x, model.weight([6, 3])])
      return try model.add("onnx.Add", [model.weight([1, 1, 3]), product])
    }
    #expect(graph.operations == ["vit.linear"])
    #expect(graph.nodes[0].operands.count == 3)
  }

  @Test("a Gemm becomes a linear map unless its bias counts rows; its factors go into weight and bias")
  func gemm() throws {
    func gemm(_ bias: [Int], _ attributes: [(String, Attribute)] = []) throws -> Graph {
      var model = ModelBuilder("gemm", seed: 2)
      let x = model.input([3, 6])
      let graph = model.finish(
        try model.add("onnx.Gemm", [x, model.weight([6, 3]), model.weight(bias, scale: 1)], attributes))
      let result = try apply("fold,raise", to: graph)
      #expect(try outputDifference(result, graph, [[3, 6]]) < 1e-5)
      return result
    }
    #expect(try gemm([3]).operations == ["vit.linear"])
    #expect(try gemm([1, 3]).operations == ["vit.linear"])
    #expect(try gemm([3, 1]).operations == ["onnx.Gemm"])
    #expect(try gemm([3], [("alpha", .float(2)), ("beta", .float(-3))]).operations == ["vit.linear"])
  }

  @Test("a residual becomes an addition, a vector of the width a scale")
  func residuals() throws {
    let graph = try raised { model, x in
      let inner = try model.linear(x, 6, 6)
      let scaled = try model.add("onnx.Mul", [model.weight([1, 6], name: "gamma", scale: 1), inner])
      return try model.add("onnx.Add", [x, scaled])
    }
    #expect(graph.operations == ["vit.linear", "vit.scale", "vit.add"])
  }

  @Test("a convolution in steps of its kernel, flattened, becomes a patch embedding; another does not")
  func patches() throws {
    func embedding(_ model: inout ModelBuilder, _ x: ValueID, stride: Int) throws -> ValueID {
      let map = try model.add(
        "onnx.Conv", [x, model.weight([5, 3, 4, 4], scale: 0.2), model.weight([5])],
        [("strides", .ints([stride, stride])), ("kernel_shape", .ints([4, 4]))])
      return try model.transpose(try model.reshape(map, [0, 5, -1]), [0, 2, 1])
    }
    #expect(
      try raised([3, 8, 12]) { try embedding(&$0, $1, stride: 4) }.operations == ["vit.patch_embed"])
    #expect(try raised([3, 8, 12]) { try embedding(&$0, $1, stride: 2) }.count("vit.patch_embed") == 0)
  }

  @Test("moves that end where they began go away")
  func moves() throws {
    let graph = try raised { model, x in
      let apart = try model.transpose(try model.reshape(x, [0, 4, 2, 3]), [0, 2, 1, 3])
      let back = try model.reshape(try model.transpose(apart, [0, 2, 1, 3]), [0, 4, 6])
      return try model.add("onnx.Tanh", [back])
    }
    #expect(graph.operations == ["onnx.Tanh"])
  }

  @Test("a transpose of what counts the same tokens along two axes stays")
  func scoresTransposed() throws {
    let graph = try raised { model, x in
      let scores = try model.add("onnx.MatMul", [x, try model.transpose(x, [0, 2, 1])])
      let weights = try model.add("onnx.Softmax", [scores], [("axis", .int(-1))])
      return try model.add("onnx.Tanh", [try model.transpose(weights, [0, 2, 1])])
    }
    #expect(graph.count("onnx.Transpose") == 2)
  }

  @Test("raising stops after as many rewrites as are wanted, and each leaves the outputs as they were")
  func limited() throws {
    let graph = try apply("fold", to: try AttentionGraph.packed(.headRoleColumn))
    var whole = graph
    let total = try Raise.apply(to: &whole, registry: .standard).result.changes
    #expect(total > 3)
    let shapes = graph.inputs.map { graph.type($0).shape.map { $0.fixedValue ?? 2 } }
    for limit in 0...total + 1 {
      var hybrid = Hybrid(graph)
      let passes = try Pipeline("raise{max-rewrites=\(limit)},dce")
      let results = try passes.run(on: &hybrid, context: TinyViT.context())
      #expect(results[0].changes == min(limit, total))
      try Verifier.verify(hybrid.graph, registry: .standard)
      #expect(try outputDifference(hybrid.graph, graph, shapes) < 1e-5)
      if limit == 0 { #expect(hybrid.graph.operations == graph.operations) }
      if limit >= total { #expect(hybrid.graph.operations == (try apply("dce", to: whole)).operations) }
    }
  }

  @Test("raising what is raised changes nothing")
  func isIdempotent() throws {
    var graph = try apply("fold,raise,dce", to: try AttentionGraph.packed(.headRoleColumn))
    let text = graph.operations
    #expect(try Raise.apply(to: &graph, registry: .standard).result.changes == 0)
    #expect(graph.operations == text)
  }
}
