import Testing
import VitIR
import VitOps
import VitTestSupport

/// What the rules say of operand types, some of them symbolic.
private func results(
  _ name: String, _ attributes: [(String, Attribute)] = [], _ types: [TensorType?],
  _ values: [KnownValue?] = [],
  count: Int = 1, opset: Int? = nil
) throws -> [TensorType] {
  let operation = try Registry.standard.make(name, Attributes(attributes), opset: opset)
  let types = try operation.resultTypes(Operands(types, values: values, resultCount: count))
  for type in types { try type.validate() }
  return types
}

private func integers(_ values: Dimension...) -> KnownValue { .integers(shape: [values.count], values) }
private let batch = Dimension.symbol("batch")
private let height = Dimension.symbol("height")

@Suite("Rules of movement")
struct MovementRuleTests {
  private func i64(_ count: Int) -> TensorType { TensorType(.i64, fixed: [count]) }

  @Test("reshape solves an extent over symbols")
  func reshapeSymbols() throws {
    let tokens = TensorType(.f32, [batch, 197, 192])
    let shape = try results("onnx.Reshape", [], [tokens, i64(4)], [nil, integers(batch, -1, 3, 64)])
    #expect(shape == [TensorType(.f32, [batch, 197, 3, 64])])
    let rows = try results("onnx.Reshape", [], [tokens, i64(2)], [nil, integers(-1, 192)])
    #expect(rows == [TensorType(.f32, [batch * 197, 192])])
    let open = try results("onnx.Reshape", [], [tokens, i64(3)], [nil, integers(0, -1, 96)])
    #expect(open == [TensorType(.f32, [batch, 394, 96])])
  }

  @Test("reshape refuses counts that cannot agree, for any value of a symbol")
  func reshapeRefuses() {
    let tokens = TensorType(.f32, [batch, 197, 192])
    for wanted in [
      integers(batch, 196, 192), integers(-1, -1), integers(0, 0, 0, 0), integers(batch, 7, 1000),
    ] {
      #expect(throws: VitError.self) {
        try results("onnx.Reshape", [], [tokens, i64(wanted.shape[0])], [nil, wanted])
      }
    }
    #expect(throws: VitError.self) { try results("onnx.Reshape", [], [tokens, i64(2)]) }
  }

  @Test("slices clamp, also along symbolic axes")
  func slices() throws {
    let tokens = TensorType(.f32, [batch, height + 1, 8])
    func slice(_ start: Dimension, _ end: Dimension, axis: Dimension = 1, step: Dimension = 1) throws -> Shape
    {
      try results(
        "onnx.Slice", [], [tokens, i64(1), i64(1), i64(1), i64(1)],
        [nil, integers(start), integers(end), integers(axis), integers(step)])[0].shape
    }
    #expect(try slice(1, .fixed(Int.max)) == [batch, height, 8])
    #expect(try slice(0, -1) == [batch, height, 8])
    #expect(try slice(-1, .fixed(Int.max)) == [batch, 1, 8])
    #expect(try slice(0, height + 1) == [batch, height + 1, 8])
    #expect(try slice(0, height) == [batch, height, 8])
    #expect(try slice(0, .fixed(Int.max), step: 2) == [batch, (height + 2).floorDivided(by: 2), 8])
    #expect(try slice(0, 100, axis: 2, step: .fixed(Int.max)) == [batch, height + 1, 1])
    #expect(
      try slice(.fixed(Int.max), .fixed(Int.min), axis: 2, step: .fixed(Int.min)) == [batch, height + 1, 1])
    #expect(throws: VitError.self) { try slice(0, 1, step: 0) }
    #expect(throws: VitError.self) { try slice(0, 1, axis: 3) }
  }

  @Test("shape arithmetic carries symbols")
  func shapeArithmetic() throws {
    var builder = GraphBuilder(Graph(name: "g"), registry: .standard)
    let x = builder.graph.addInput(TensorType(.f32, [batch, 3, height, 224]), name: "x")
    let shape = try builder.add("onnx.Shape", [x])
    let first = try builder.add(
      "onnx.Gather", [shape, builder.integers([0], shape: [])], [("axis", .int(0))])
    let row = try builder.add("onnx.Unsqueeze", [first, builder.integers([0])])
    let wanted = try builder.add("onnx.Concat", [row, builder.integers([1, 192])], [("axis", .int(0))])
    #expect(builder.known(wanted)?.dimensions == [batch, 1, 192])
    let token = builder.constant([Double](repeating: 0, count: 192), shape: [1, 1, 192])
    let class0 = try builder.add("onnx.Expand", [token, wanted])
    #expect(builder.graph.type(class0).shape == [batch, 1, 192])
    let tail = try builder.add("onnx.Slice", [shape, builder.integers([-2]), builder.integers([Int.max])])
    #expect(builder.known(tail)?.dimensions == [height, 224])
    let cast = try builder.add("onnx.Cast", [tail], [("to", .int(6))])
    #expect(builder.known(cast)?.dimensions == [height, 224])
    let fill = try builder.add(
      "onnx.ConstantOfShape", [builder.integers([4])], [("element", .int(7)), ("value", .int(-1))])
    #expect(builder.known(fill)?.integers == [-1, -1, -1, -1])
    let count = try builder.add("onnx.Size", [x])
    #expect(builder.known(count)?.dimensions == [batch * height * 672])
  }

  @Test("what a file may ask for and no tensor can be is refused")
  func refusals() {
    let matrix = TensorType(.f32, fixed: [3, 4])
    let cases: [(String, [(String, Attribute)], [TensorType?], [KnownValue?])] = [
      ("onnx.Transpose", [("perm", .ints([0, 0]))], [matrix], []),
      ("onnx.Transpose", [("perm", .ints([0]))], [matrix], []),
      ("onnx.Concat", [("axis", .int(2))], [matrix, matrix], []),
      ("onnx.Concat", [("axis", .int(0))], [matrix, TensorType(.f32, fixed: [3, 5])], []),
      ("onnx.Concat", [("axis", .int(0))], [matrix, TensorType(.i64, fixed: [3, 4])], []),
      ("onnx.Concat", [("axis", .int(0))], [], []),
      ("onnx.Gather", [], [matrix, i64(1)], [nil, integers(3)]),
      ("onnx.Gather", [], [matrix, i64(1)], [nil, integers(-4)]),
      ("onnx.Gather", [], [matrix, matrix], []),
      ("onnx.Gather", [], [TensorType(.f32, fixed: [0, 4]), i64(1)], []),
      ("onnx.Squeeze", [], [matrix, i64(1)], [nil, integers(0)]),
      ("onnx.Unsqueeze", [], [matrix, i64(2)], [nil, integers(1, 1)]),
      ("onnx.Unsqueeze", [], [matrix], []),
      ("onnx.Split", [("split", .ints([2, 2]))], [matrix], []),
      ("onnx.Expand", [], [matrix, i64(3)], [nil, integers(.fixed(1 << 20), 3, .fixed(1 << 20))]),
      ("onnx.Expand", [], [matrix, i64(2)], [nil, integers(.fixed(1 << 40), 3)]),
      ("onnx.Expand", [], [matrix, i64(2)], [nil, integers(-3, 4)]),
      ("onnx.Tile", [], [matrix, i64(2)], [nil, integers(.fixed(1 << 40), .fixed(1 << 40))]),
      ("onnx.ConstantOfShape", [], [i64(2)], [integers(.fixed(1 << 31), .fixed(1 << 31))]),
      ("onnx.ConstantOfShape", [], [i64(2)], [integers(-1, 2)]),
      ("onnx.ConstantOfShape", [], [i64(2)], []),
      ("onnx.Pad", [], [matrix, i64(4)], [nil, integers(0, -3, 0, -2)]),
      ("onnx.Pad", [], [matrix, i64(4)], [nil, integers(.fixed(1 << 41), 0, 0, 0)]),
      ("onnx.Pad", [("mode", .string("reflect"))], [matrix, i64(4)], [nil, integers(3, 0, 0, 0)]),
      ("onnx.TopK", [], [matrix, i64(1)], [nil, integers(5)]),
      ("onnx.NonZero", [], [matrix], []),
      ("onnx.DepthToSpace", [("blocksize", .int(2))], [TensorType(.f32, fixed: [1, 6, 2, 2])], []),
      ("onnx.DepthToSpace", [("blocksize", .int(1 << 40))], [TensorType(.f32, fixed: [1, 6, 2, 2])], []),
      ("onnx.Where", [], [matrix, matrix, matrix], []),
      ("onnx.Range", [], [i64(1), i64(1), i64(1)], [integers(0), integers(.fixed(1 << 50)), integers(1)]),
      ("onnx.Range", [], [i64(1), i64(1), i64(1)], [integers(0), integers(4), integers(0)]),
      ("onnx.GatherND", [], [matrix, TensorType(.i64, fixed: [2, 3])], []),
      ("onnx.ScatterND", [], [matrix, TensorType(.i64, fixed: [2, 1]), matrix], []),
    ]
    for (name, attributes, types, values) in cases {
      #expect(throws: VitError.self, "\(name) \(types.map { "\($0, default: "-")" })") {
        try results(name, attributes, types, values)
      }
    }
  }

  @Test("axes in an attribute become an operand in current models")
  func lowersAxes() throws {
    var builder = GraphBuilder(Graph(name: "g"), registry: .standard)
    let x = builder.graph.addInput(TensorType(.f32, [batch, 1, 4]), name: "x")
    let old = try Registry.standard.make("onnx.Squeeze", Attributes([("axes", .ints([1]))]), opset: 11)
    let y = try old.lower(into: &builder, operands: [x], resultCount: 1)
    #expect(builder.graph.type(y[0]).shape == [batch, 4])
    #expect(builder.graph.nodes[0].operation.attributes.isEmpty)
    #expect(builder.graph.nodes[0].operands.count == 2)
  }
}
