import Testing
import VitIR
import VitOps
import VitTestSupport

/// The result types of an operation by name.
private func types(
  _ name: String, _ attributes: [(String, Attribute)] = [], _ operands: [TensorType?],
  values: [KnownValue?] = [],
  results: Int = 1, opset: Int? = nil
) throws -> [TensorType] {
  let operation = try Registry.standard.make(name, Attributes(attributes), opset: opset)
  return try operation.resultTypes(Operands(operands, values: values, resultCount: results))
}

private func types(_ name: String, _ operands: [TensorType?], results: Int = 1) throws -> [TensorType] {
  try types(name, [], operands, results: results)
}

private func f32(_ shape: Dimension...) -> TensorType { TensorType(.f32, shape) }
private func i64(_ shape: Dimension...) -> TensorType { TensorType(.i64, shape) }
private let batch = Dimension.symbol("batch")

@Suite("Rules of computing operators")
struct ComputeRuleTests {
  @Test("symbols pass through products, sums and norms")
  func symbolsPass() throws {
    #expect(try types("onnx.MatMul", [f32(batch, 197, 64), f32(64, 10)]) == [f32(batch, 197, 10)])
    #expect(try types("onnx.MatMul", [f32(batch, 4, 7, 8), f32(batch, 4, 8, 7)]) == [f32(batch, 4, 7, 7)])
    #expect(try types("onnx.MatMul", [f32(8), f32(batch, 8, 3)]) == [f32(batch, 3)])
    #expect(try types("onnx.Add", [f32(batch, 197, 64), f32(1, 197, 64)]) == [f32(batch, 197, 64)])
    #expect(
      try types(
        "onnx.Einsum", [("equation", .string("bhid,bhjd->bhij"))], [f32(batch, 4, 7, 8), f32(batch, 4, 9, 8)])
        == [f32(batch, 4, 7, 9)])
    #expect(
      try types("onnx.ReduceMean", [("axes", .ints([1])), ("keepdims", .int(0))], [f32(batch, 197, 64)])
        == [f32(batch, 64)])
    #expect(
      try types("onnx.LayerNormalization", [f32(batch, 197, 64), f32(64), f32(64)], results: 3)
        == [f32(batch, 197, 64), f32(batch, 197, 1), f32(batch, 197, 1)])
    #expect(
      try types(
        "onnx.Attention", [("q_num_heads", .int(4)), ("kv_num_heads", .int(2))],
        [f32(batch, 7, 32), f32(batch, 9, 16), f32(batch, 9, 16)]) == [f32(batch, 7, 32)])
    #expect(
      try types(
        "com.microsoft.Attention", [("num_heads", .int(4))], [f32(batch, 7, 32), f32(32, 96), f32(96)])
        == [f32(batch, 7, 32)])
  }

  struct Refused: Sendable, CustomStringConvertible {
    var name: String
    var attributes: [(String, Attribute)] = []
    var operands: [TensorType?]
    var values: [KnownValue?] = []
    var results = 1
    var opset: Int?
    var description: String { "\(name) \(attributes) \(operands)" }
  }

  static let refused: [Refused] = [
    Refused(name: "onnx.Add", operands: [f32(2, 3)]),
    Refused(name: "onnx.Add", operands: [f32(2, 3), nil]),
    Refused(name: "onnx.Add", operands: [f32(2, 3), f32(3), f32(3)]),
    Refused(name: "onnx.Add", operands: [f32(2, 3), f32(2, 4)]),
    Refused(name: "onnx.Add", operands: [f32(2, 3), i64(3)]),
    Refused(name: "onnx.Add", operands: [f32(2, 3), f32(3)], results: 2),
    Refused(name: "onnx.Add", operands: [f32(batch, 3), f32(2, 3)]),
    Refused(name: "onnx.And", operands: [f32(2), f32(2)]),
    Refused(name: "onnx.Sqrt", operands: [i64(2)]),
    Refused(name: "onnx.Exp", operands: []),
    Refused(name: "onnx.Relu", operands: [TensorType(.bool, [2])]),
    Refused(name: "onnx.Relu", operands: [TensorType(.f32, [Dimension](repeating: 1, count: 17))]),
    Refused(name: "onnx.Elu", attributes: [("beta", .float(1))], operands: [f32(2)]),
    Refused(name: "onnx.Gelu", attributes: [("approximate", .string("erf"))], operands: [f32(2)]),
    Refused(name: "onnx.PRelu", operands: [f32(3), f32(2, 3)]),
    Refused(name: "onnx.Mod", operands: [f32(3), f32(3)]),
    Refused(name: "onnx.Clip", operands: [f32(3), f32(2)]),
    Refused(name: "onnx.Max", operands: []),
    Refused(name: "onnx.Max", operands: [f32(2), nil]),
    Refused(name: "onnx.Softmax", attributes: [("axis", .int(2))], operands: [f32(2, 3)]),
    Refused(name: "onnx.Softmax", attributes: [("axis", .int(-3))], operands: [f32(2, 3)]),
    Refused(name: "onnx.ReduceSum", attributes: [("axes", .ints([3]))], operands: [f32(2, 3)]),
    Refused(name: "onnx.ReduceSum", operands: [f32(2, 3), i64(1)]),
    Refused(
      name: "onnx.ReduceSum", operands: [f32(2, 3), i64(1)], values: [nil, .integers(shape: [1], [batch])]),
    Refused(name: "onnx.ArgMax", operands: [f32(0, 3)]),
    Refused(name: "onnx.CumSum", operands: [f32(2, 3), i64()]),
    Refused(name: "onnx.CumSum", operands: [f32(2, 3), i64()], values: [nil, .integers(shape: [], [2])]),
    Refused(name: "onnx.LayerNormalization", operands: [f32(2, 3), f32(2)]),
    Refused(name: "onnx.LayerNormalization", operands: [f32(2, 3), f32(3), f32(4)]),
    Refused(name: "onnx.LayerNormalization", operands: [f32(2, 3), f32(3)], results: 4),
    Refused(name: "onnx.BatchNormalization", operands: [f32(2, 3), f32(3), f32(3), f32(3), f32(2)]),
    Refused(
      name: "onnx.BatchNormalization", attributes: [("training_mode", .int(1))],
      operands: [f32(2, 3), f32(3), f32(3), f32(3), f32(3)]),
    Refused(name: "onnx.GroupNormalization", operands: [f32(2, 4, 3), f32(4), f32(4)]),
    Refused(
      name: "onnx.GroupNormalization", attributes: [("num_groups", .int(3))],
      operands: [f32(2, 4, 3), f32(4), f32(4)]),
    Refused(
      name: "onnx.GroupNormalization", attributes: [("num_groups", .int(0))],
      operands: [f32(2, 4, 3), f32(4), f32(4)]),
    Refused(name: "onnx.LRN", attributes: [("size", .int(0))], operands: [f32(2, 4, 3)]),
    Refused(name: "onnx.LpNormalization", attributes: [("p", .int(3))], operands: [f32(2, 4)]),
    Refused(name: "onnx.MatMul", operands: [f32(2, 3), f32(4, 5)]),
    Refused(name: "onnx.MatMul", operands: [f32(), f32(4, 5)]),
    Refused(name: "onnx.MatMul", operands: [f32(2, 3, 4), f32(3, 4, 5)]),
    Refused(name: "onnx.MatMul", operands: [f32(batch, 3), f32(batch, 5)]),
    Refused(name: "onnx.Gemm", operands: [f32(2, 3, 4), f32(4, 5)]),
    Refused(name: "onnx.Gemm", operands: [f32(2, 3), f32(3, 5), f32(4)]),
    Refused(name: "onnx.Gemm", operands: [f32(2, 3), f32(3, 5), f32(1, 2, 5)]),
    Refused(name: "onnx.Gemm", attributes: [("transA", .int(2))], operands: [f32(2, 3), f32(3, 5)]),
    Refused(name: "onnx.Einsum", operands: [f32(2, 3)]),
    Refused(name: "onnx.Einsum", attributes: [("equation", .string("ij,jk"))], operands: [f32(2, 3)]),
    Refused(name: "onnx.Einsum", attributes: [("equation", .string("ij->ik"))], operands: [f32(2, 3)]),
    Refused(name: "onnx.Einsum", attributes: [("equation", .string("ij->ii"))], operands: [f32(2, 3)]),
    Refused(name: "onnx.Einsum", attributes: [("equation", .string("i..j"))], operands: [f32(2, 3)]),
    Refused(name: "onnx.Einsum", attributes: [("equation", .string("i...j..."))], operands: [f32(2, 3)]),
    Refused(name: "onnx.Einsum", attributes: [("equation", .string("i1"))], operands: [f32(2, 3)]),
    Refused(name: "onnx.Einsum", attributes: [("equation", .string("ij-"))], operands: [f32(2, 3)]),
    Refused(name: "onnx.Einsum", attributes: [("equation", .string("ii"))], operands: [f32(2, 3)]),
    Refused(
      name: "onnx.Einsum", attributes: [("equation", .string("ij,jk"))], operands: [f32(2, 3), f32(4, 2)]),
    Refused(name: "onnx.Attention", operands: [f32(2, 3, 16), f32(2, 3, 16), f32(2, 3, 16)]),
    Refused(
      name: "onnx.Attention", attributes: [("q_num_heads", .int(3)), ("kv_num_heads", .int(2))],
      operands: [f32(2, 3, 12), f32(2, 3, 8), f32(2, 3, 8)]),
    Refused(
      name: "onnx.Attention", attributes: [("q_num_heads", .int(0)), ("kv_num_heads", .int(2))],
      operands: [f32(2, 3, 12), f32(2, 3, 8), f32(2, 3, 8)]),
    Refused(
      name: "onnx.Attention", operands: [f32(2, 4, 3, 8), f32(2, 4, 5, 8), f32(2, 4, 5, 8), f32(3, 6)]),
    Refused(
      name: "onnx.Attention",
      operands: [f32(2, 4, 3, 8), f32(2, 4, 5, 8), f32(2, 4, 5, 8), nil, f32(2, 4, 1, 8)]),
    Refused(
      name: "onnx.Attention", attributes: [("qk_matmul_output_mode", .int(4))],
      operands: [f32(2, 4, 3, 8), f32(2, 4, 5, 8), f32(2, 4, 5, 8)]),
    Refused(name: "onnx.RotaryEmbedding", operands: [f32(2, 4, 3, 8), f32(5, 4), f32(5, 4)]),
    Refused(name: "onnx.RotaryEmbedding", operands: [f32(2, 4, 3, 8), f32(5, 3), f32(5, 3), i64(2, 3)]),
    Refused(name: "onnx.RotaryEmbedding", operands: [f32(2, 3, 8), f32(5, 4), f32(5, 4), i64(2, 3)]),
    Refused(name: "com.microsoft.BiasGelu", operands: [f32(2, 3)]),
    Refused(name: "com.microsoft.BiasGelu", operands: [f32(2, 3), f32(2)]),
    Refused(
      name: "com.microsoft.FusedGemm", attributes: [("activation", .string("Sin"))],
      operands: [f32(2, 3), f32(3, 4)]),
    Refused(
      name: "com.microsoft.FusedMatMul", attributes: [("transA", .int(1))], operands: [f32(3), f32(3, 4)]),
    Refused(name: "com.microsoft.SkipLayerNormalization", operands: [f32(2, 3, 4), f32(3, 3, 4), f32(4)]),
    Refused(name: "com.microsoft.SkipLayerNormalization", operands: [f32(2, 3, 4), f32(2, 3, 4), f32(3)]),
    Refused(name: "com.microsoft.Attention", operands: [f32(2, 3, 6), f32(6, 24), f32(24)]),
    Refused(
      name: "com.microsoft.Attention", attributes: [("num_heads", .int(5))],
      operands: [f32(2, 3, 6), f32(6, 24), f32(24)]),
    Refused(
      name: "com.microsoft.Attention",
      attributes: [("num_heads", .int(2)), ("qkv_hidden_sizes", .ints([Int.max, Int.max, 26]))],
      operands: [f32(2, 3, 6), f32(6, 24), f32(24)]),
    Refused(
      name: "com.microsoft.Attention", attributes: [("num_heads", .int(2)), ("do_rotary", .int(1))],
      operands: [f32(2, 3, 6), f32(6, 24), f32(24)]),
    Refused(
      name: "com.microsoft.Attention", attributes: [("num_heads", .int(2))],
      operands: [f32(2, 3, 6), f32(6, 24), f32(24), TensorType(.i32, [5])]),
    Refused(
      name: "com.microsoft.MultiHeadAttention", attributes: [("num_heads", .int(2))], operands: [f32(2, 3, 8)]
    ),
    Refused(
      name: "com.microsoft.MultiHeadAttention", attributes: [("num_heads", .int(2))],
      operands: [f32(2, 3, 8), f32(2, 5, 8), f32(2, 4, 8)]),
    Refused(
      name: "com.microsoft.GroupNorm", attributes: [("groups", .int(3))],
      operands: [f32(1, 2, 2, 4), f32(4), f32(4)]),
    Refused(name: "com.microsoft.BiasSplitGelu", operands: [f32(1, 2, 5), f32(5)]),
  ]

  @Test("what does not fit is refused with an error", arguments: refused)
  func refuses(_ refused: Refused) {
    #expect(throws: VitError.self) {
      try types(
        refused.name, refused.attributes, refused.operands, values: refused.values, results: refused.results,
        opset: refused.opset)
    }
  }

  @Test("dropout that drops is refused, with its flag or without knowing it")
  func dropoutInTraining() throws {
    let mode = TensorType(.bool, [])
    #expect(throws: VitError.self) {
      try types("onnx.Dropout", [], [f32(2), nil, mode], values: [nil, nil, .integers(shape: [], [1])])
    }
    #expect(throws: VitError.self) { try types("onnx.Dropout", [], [f32(2), nil, mode]) }
    #expect(
      try types("onnx.Dropout", [], [f32(2), nil, mode], values: [nil, nil, .integers(shape: [], [0])]) == [
        f32(2)
      ])
  }

  @Test("arithmetic on sizes keeps their symbols")
  func knownArithmetic() throws {
    func known(_ name: String, _ a: [Dimension], _ b: [Dimension]?, _ attributes: [(String, Attribute)] = [])
      throws -> [Dimension]?
    {
      let operation = try Registry.standard.make(name, Attributes(attributes))
      let lists = [a] + (b.map { [$0] } ?? [])
      let operands = Operands(
        lists.map { i64(.fixed($0.count)) }, values: lists.map { .integers(shape: [$0.count], $0) })
      let results = try operation.resultTypes(operands)
      guard let value = operation.knownResults(operands, results).first else { return nil }
      return value?.dimensions
    }
    let height = Dimension.symbol("height")
    #expect(try known("onnx.Add", [batch, 3], [2]) == [batch + 2, 5])
    #expect(try known("onnx.Sub", [batch], [batch]) == [0])
    #expect(try known("onnx.Mul", [batch, 3], [height, 2]) == [batch * height, 6])
    #expect(try known("onnx.Div", [height], [14]) == [height.floorDivided(by: 14)])
    #expect(try known("onnx.Div", [-7], [2]) == [-3])
    #expect(try known("onnx.Div", [height - 3], [2]) == nil)
    #expect(try known("onnx.Mod", [-7, 7], [3]) == [2, 1])
    #expect(try known("onnx.Mod", [height * 4], [4]) == [0])
    #expect(try known("onnx.Neg", [batch], nil) == [0 - batch])
    #expect(try known("onnx.Abs", [-3, batch], nil) == [3, batch])
    #expect(try known("onnx.Max", [batch], [1]) == [batch])
    #expect(try known("onnx.Min", [batch], [height]) == nil)
    #expect(try known("onnx.Equal", [batch, -1], [batch, batch]) == [1, 0])
    #expect(try known("onnx.Less", [batch], [batch + 1]) == [1])
    #expect(try known("onnx.GreaterOrEqual", [batch], [height]) == nil)
    #expect(try known("onnx.ReduceProd", [batch, 3, 4], nil, [("keepdims", .int(0))]) == [batch * 12])
    #expect(try known("onnx.ReduceSumSquare", [5], nil) == nil)
    #expect(try known("onnx.Clip", [batch], nil, [("min", .int(1))]) == [batch])
  }
}
