import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime

/// Quantised graphs taken as floats.
struct DequantiseTests {
  /// A graph builder with quantised constants.
  private struct Quantised {
    var model = ModelBuilder("quantised", seed: 3)

    mutating func number(_ value: Double, _ element: ElementType = .f32) -> ValueID {
      model.builder.constant([value], shape: [], element: element)
    }

    /// Whole numbers of 8 bits.
    mutating func bytes(_ shape: [Int], _ element: ElementType = .i8) -> ValueID {
      let low = element == .i8 ? -128 : 0
      let values = (0..<shape.reduce(1, *)).map { _ in Double(low + Int(model.random.next() % 256)) }
      return model.builder.graph.addConstant(Tensor(element, shape: shape, values: values), name: "weight")
    }

    /// x → QuantizeLinear → DequantizeLinear.
    mutating func rounded(
      _ x: ValueID, scale: Double = 0.05, zero: Double = 0, _ element: ElementType = .i8
    ) throws -> ValueID {
      let (step, zero) = (number(scale), number(zero, element))
      return try model.add(
        "onnx.DequantizeLinear", [try model.add("onnx.QuantizeLinear", [x, step, zero]), step, zero])
    }
  }

  /// The graph dequantised: nothing in it is quantised, and its outputs are near those of the quantised one.
  private func floats(
    _ graph: Graph, _ shapes: [[Int]], within bound: Double, _ place: SourceLocation = #_sourceLocation
  ) throws -> Graph {
    let result = try apply("fold,dequantise", to: graph)
    for name in ["Quant", "Integer", "QLinear", "QGemm", "NBits", "QAttention"] {
      #expect(!result.operations.contains { $0.contains(name) }, sourceLocation: place)
    }
    #expect(try outputDifference(result, graph, shapes) < bound, sourceLocation: place)
    return result
  }

  @Test("a quantised weight and rounded activations become a linear map, with one scale or one a column")
  func pairs() throws {
    for perColumn in [false, true] {
      var q = Quantised()
      let x = q.model.input([.symbol("batch"), 5, 8])
      let scales =
        perColumn
        ? q.model.builder.constant((1...6).map { 0.001 * Double($0) }, shape: [6]) : q.number(0.004)
      let weight = try q.model.add(
        "onnx.DequantizeLinear", [q.bytes([8, 6]), scales], [("axis", .int(1))])
      let product = try q.model.add("onnx.MatMul", [try q.rounded(x), weight])
      let moved = try q.model.reshape(try q.rounded(product), [0, 0, 2, 3])
      let graph = q.model.finish(try q.rounded(moved))
      let result = try floats(graph, [[2, 5, 8]], within: 0.3)
      #expect(result.operations.sorted() == ["onnx.MatMul", "onnx.Reshape"])
      #expect(try apply("raise", to: result).operations.contains("vit.linear"))
    }
  }

  @Test("a range that ends at zero goes on cutting off what is below, unless nothing is")
  func rectifiers() throws {
    var q = Quantised()
    let x = q.model.input([.symbol("batch"), 5, 8])
    let graph = q.model.finish(try q.rounded(x, scale: 0.01, zero: -128))
    let result = try floats(graph, [[2, 5, 8]], within: 0.01)
    #expect(result.operations == ["onnx.Clip"])
    var p = Quantised()
    let y = p.model.input([.symbol("batch"), 5, 8])
    let weights = try p.model.add("onnx.Softmax", [y], [("axis", .int(-1))])
    let softened = p.model.finish(try p.rounded(weights, scale: 1.0 / 255, zero: 0, .u8))
    #expect(try floats(softened, [[2, 5, 8]], within: 0.01).operations == ["onnx.Softmax"])
  }

  @Test("moves between quantising and its undoing are moves of floats")
  func moves() throws {
    var q = Quantised()
    let x = q.model.input([.symbol("batch"), 5, 8])
    let (step, zero) = (q.number(0.05), q.number(3, .i8))
    let numbers = try q.model.add("onnx.QuantizeLinear", [x, step, zero])
    let turned = try q.model.transpose(try q.model.reshape(numbers, [0, 5, 2, 4]), [0, 2, 1, 3])
    let graph = q.model.finish(try q.model.add("onnx.DequantizeLinear", [turned, step, zero]))
    #expect(
      try floats(graph, [[2, 5, 8]], within: 0.05).operations == ["onnx.Reshape", "onnx.Transpose"])
  }

  @Test(
    "a narrower range between quantising and its undoing cuts off where zero is its end", arguments: [0, 3])
  func narrowed(zero: Double) throws {
    var q = Quantised()
    let x = q.model.input([.symbol("batch"), 5, 8])
    let (step, point) = (q.number(0.05), q.number(zero, .i8))
    let numbers = try q.model.add("onnx.QuantizeLinear", [x, step, point])
    let narrow = try q.model.add("onnx.Clip", [numbers, q.number(0, .i8), q.number(127, .i8)])
    let graph = q.model.finish(try q.model.add("onnx.DequantizeLinear", [narrow, step, point]))
    let result = try apply("fold,dequantise", to: graph)
    #expect(result.operations == (zero == 0 ? ["onnx.Clip"] : []))
    if zero == 0 { #expect(try outputDifference(result, graph, [[2, 5, 8]]) < 0.05) }
  }

  @Test("numbers that are undone with another scale, or read as they are, stay quantised")
  func others() throws {
    var q = Quantised()
    let x = q.model.input([.symbol("batch"), 5, 8])
    let numbers = try q.model.add("onnx.QuantizeLinear", [x, q.number(0.05), q.number(0, .i8)])
    let other = try q.model.add("onnx.DequantizeLinear", [numbers, q.number(0.1), q.number(0, .i8)])
    let graph = q.model.finish(other)
    #expect(try apply("fold,dequantise", to: graph).operations == graph.operations)
  }

  @Test("an activation quantised by its own range, and products of whole numbers, become a linear map")
  func dynamic() throws {
    for columns in [1, 6] {
      var q = Quantised()
      let x = q.model.input([.symbol("batch"), 5, 8])
      let ranged = try q.model.builder.add(
        q.model.builder.registry.make("onnx.DynamicQuantizeLinear"), [x], resultCount: 3)
      let scales = q.model.builder.constant(
        (1...columns).map { 0.002 * Double($0) }, shape: columns == 1 ? [] : [columns])
      let zero = q.number(2, .i8)
      let sum = try q.model.add("onnx.MatMulInteger", [ranged[0], q.bytes([8, 6]), ranged[2], zero])
      let float = try q.model.add("onnx.Cast", [sum], [("to", .int(1))])
      let factor = try q.model.add("onnx.Mul", [ranged[1], scales])
      let graph = q.model.finish(try q.model.add("onnx.Mul", [float, factor]))
      let result = try floats(graph, [[2, 5, 8]], within: 0.2)
      #expect(result.operations == ["onnx.MatMul"])
    }
  }

  @Test("what is quantised by its own range and read as it is stays as it is")
  func dynamicKept() throws {
    var q = Quantised()
    let x = q.model.input([.symbol("batch"), 5, 8])
    let ranged = try q.model.builder.add(
      q.model.builder.registry.make("onnx.DynamicQuantizeLinear"), [x], resultCount: 3)
    let graph = q.model.finish(
      try q.model.add("onnx.DequantizeLinear", [ranged[0], ranged[1], ranged[2]]), ranged[0])
    #expect(try apply("fold,dequantise", to: graph).operations == graph.operations)
  }

  @Test("operators of quantised numbers become those of floats")
  func operators() throws {
    var q = Quantised()
    let x = q.model.input([.symbol("batch"), 5, 8])
    let (step, zero) = (q.number(0.05), q.number(0, .i8))
    let (weightStep, weightZero) = (q.number(0.004), q.number(1, .i8))
    let numbers = try q.model.add("onnx.QuantizeLinear", [x, step, zero])
    let product = try q.model.add(
      "onnx.QLinearMatMul",
      [numbers, step, zero, q.bytes([8, 8]), weightStep, weightZero, step, zero])
    let sum = try q.model.add(
      "com.microsoft.QLinearAdd", [numbers, step, zero, product, step, zero, step, zero])
    let open = try q.model.add(
      "com.microsoft.QLinearSigmoid", [sum, step, zero, q.number(1.0 / 256), q.number(-128, .i8)])
    let graph = q.model.finish(
      try q.model.add("onnx.DequantizeLinear", [open, q.number(1.0 / 256), q.number(-128, .i8)]))
    let result = try floats(graph, [[2, 5, 8]], within: 0.05)
    #expect(result.operations == ["onnx.MatMul", "onnx.Add", "onnx.Sigmoid"])
  }

  @Test("weights in blocks of few bits become floats exactly", arguments: [2, 4, 8], [false, true])
  func blocks(bits: Int, zeros: Bool) throws {
    var q = Quantised()
    let x = q.model.input([.symbol("batch"), 5, 40])
    let (n, blocks) = (6, 3)
    let scales = q.model.weight([n * blocks], scale: 0.1)
    let points = zeros ? q.bytes([n * ((blocks * bits + 7) / 8)], .u8) : nil
    let product = try q.model.add(
      "com.microsoft.MatMulNBits",
      [x, q.bytes([n, blocks, 16 * bits / 8], .u8), scales, points],
      [("K", .int(40)), ("N", .int(n)), ("bits", .int(bits)), ("block_size", .int(16))])
    let result = try floats(q.model.finish(product), [[2, 5, 40]], within: 1e-3)
    #expect(result.operations == ["onnx.MatMul"])
  }

  @Test("a weight of few bits that two products share stays one")
  func sharedBlocks() throws {
    var q = Quantised()
    var x = q.model.input([.symbol("batch"), 5, 32])
    let (packed, scales) = (q.bytes([32, 2, 8], .u8), q.model.weight([64], scale: 0.1))
    for _ in 0..<2 {
      x = try q.model.add(
        "com.microsoft.MatMulNBits", [x, packed, scales],
        [("K", .int(32)), ("N", .int(32)), ("bits", .int(4)), ("block_size", .int(16))])
    }
    let result = try floats(q.model.finish(x), [[2, 5, 32]], within: 1e-2)
    #expect(result.operations == ["onnx.MatMul", "onnx.MatMul"])
    #expect(result.tensors.names.count == 1)
  }

  @Test("places of columns in blocks say which scale is theirs")
  func placedBlocks() throws {
    var q = Quantised()
    let x = q.model.input([.symbol("batch"), 5, 32])
    let (packed, scales) = (q.bytes([6, 2, 8], .u8), q.model.weight([12], scale: 0.1))
    let places = q.model.builder.constant((0..<32).map { Double($0 % 2) }, shape: [32], element: .i32)
    let product = try q.model.add(
      "com.microsoft.MatMulNBits", [x, packed, scales, nil, places],
      [("K", .int(32)), ("N", .int(6)), ("bits", .int(4)), ("block_size", .int(16))])
    let result = try floats(q.model.finish(product), [[2, 5, 32]], within: 1e-3)
    #expect(result.operations == ["onnx.MatMul"])
  }

  @Test("a constant that is quantised keeps its rounding")
  func roundedWeights() throws {
    var q = Quantised()
    let x = q.model.input([.symbol("batch"), 5, 8])
    let weight = try q.rounded(q.model.weight([8, 6]), scale: 0.2)
    let graph = q.model.finish(try q.model.add("onnx.MatMul", [x, weight]))
    #expect(try outputDifference(apply("dequantise", to: graph), graph, [[2, 5, 8]]) < 1e-6)
  }

  @Test("a graph without quantised numbers stays as it is")
  func plain() throws {
    let graph = try AttentionGraph.plain()
    #expect(try apply("dequantise", to: graph).operations == graph.operations)
  }
}
