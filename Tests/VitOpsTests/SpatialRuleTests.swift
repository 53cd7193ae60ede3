import Testing
import VitIR
import VitOps
import VitTestSupport

/// What the rules say of operand types.
private func results(
  _ name: String, _ attributes: [(String, Attribute)], _ types: [TensorType?], _ values: [KnownValue?] = []
) throws -> [TensorType] {
  let operation = try Registry.standard.make(name, Attributes(attributes))
  let types = try operation.resultTypes(Operands(types, values: values))
  for type in types { try type.validate() }
  return types
}

private func image(_ shape: Dimension...) -> TensorType { TensorType(.f32, shape) }
private func numbers(_ values: Double...) -> KnownValue {
  .tensor(Tensor(.f32, shape: [values.count], values: values))
}
private func sizes(_ values: Dimension...) -> KnownValue { .integers(shape: [values.count], values) }
private let batch = Dimension.symbol("batch")
private let height = Dimension.symbol("height")

@Suite("Rules of convolutions, pools, resampling, quantisation")
struct SpatialRuleTests {
  @Test("convolutions keep symbols")
  func symbols() throws {
    let weight = image(192, 3, 16, 16)
    let patches = try results(
      "onnx.Conv", [("strides", .ints([16, 16]))], [image(batch, 3, 224, height * 16), weight])
    #expect(patches == [image(batch, 192, 14, height)])
    let same = try results(
      "onnx.Conv", [("pads", .ints([1, 1, 1, 1]))], [image(batch, 3, height, 8), image(4, 3, 3, 3)])
    #expect(same == [image(batch, 4, height, 8)])
    let up = try results(
      "onnx.ConvTranspose", [("strides", .ints([2, 2]))], [image(batch, 3, height, 8), image(3, 4, 2, 2)])
    #expect(up == [image(batch, 4, height * 2, 16)])
    let half = try results(
      "onnx.MaxPool", [("kernel_shape", .ints([2, 2])), ("strides", .ints([2, 2]))],
      [image(batch, 3, height * 2, 8)])
    #expect(half == [image(batch, 3, height, 4)])
  }

  @Test("resize follows symbols, scales and sizes")
  func resize() throws {
    let empty = TensorType(.f32, fixed: [0])
    let x = image(batch, 3, height, 8)
    let scaled = try results(
      "onnx.Resize", [], [x, empty, TensorType(.f32, fixed: [4])], [nil, nil, numbers(1, 1, 2, 0.5)])
    #expect(scaled == [image(batch, 3, height * 2, 4)])
    let sized = try results(
      "onnx.Resize", [], [x, nil, nil, TensorType(.i64, fixed: [4])],
      [nil, nil, nil, sizes(batch, 3, height * 3, 5)])
    #expect(sized == [image(batch, 3, height * 3, 5)])
  }

  @Test("what cannot be is refused")
  func refusals() {
    let x = image(1, 3, 8, 8)
    let f4 = TensorType(.f32, fixed: [4])
    let i4 = TensorType(.i64, fixed: [4])
    let kernel = ("kernel_shape", Attribute.ints([3, 3]))
    let bytes = TensorType(.u8, fixed: [4, 4])
    let one = TensorType(.f32, [])
    let cases: [(String, [(String, Attribute)], [TensorType?], [KnownValue?])] = [
      ("onnx.Conv", [("group", .int(2))], [x, image(4, 1, 3, 3)], []),
      ("onnx.Conv", [("group", .int(0))], [x, image(4, 3, 3, 3)], []),
      ("onnx.Conv", [], [x, image(4, 3, 9, 9)], []),
      ("onnx.Conv", [], [x, image(4, 3, 3)], []),
      ("onnx.Conv", [], [image(1, 3), image(4, 3)], []),
      ("onnx.Conv", [("strides", .ints([0, 1]))], [x, image(4, 3, 3, 3)], []),
      ("onnx.Conv", [("pads", .ints([1, 1]))], [x, image(4, 3, 3, 3)], []),
      ("onnx.Conv", [("pads", .ints([-1, 0, 0, 0]))], [x, image(4, 3, 3, 3)], []),
      ("onnx.Conv", [("dilations", .ints([1 << 31, 1]))], [x, image(4, 3, 3, 3)], []),
      ("onnx.Conv", [("kernel_shape", .ints([5, 5]))], [x, image(4, 3, 3, 3)], []),
      ("onnx.Conv", [], [x, image(4, 3, 3, 3), TensorType(.f32, fixed: [5])], []),
      ("onnx.Conv", [], [x, TensorType(.f64, fixed: [4, 3, 3, 3])], []),
      ("onnx.ConvTranspose", [("output_shape", .ints([1 << 31, 1 << 31]))], [x, image(3, 4, 3, 3)], []),
      ("onnx.ConvTranspose", [("pads", .ints([9, 9, 9, 9]))], [x, image(3, 4, 3, 3)], []),
      ("onnx.MaxPool", [], [x], []),
      ("onnx.MaxPool", [kernel, ("pads", .ints([3, 0, 0, 0]))], [x], []),
      ("onnx.AveragePool", [kernel], [image(1, 3, 2, 2)], []),
      ("onnx.Resize", [], [x, nil, f4], [nil, nil, numbers(1, 1, 1e9, 1e9)]),
      (
        "onnx.Resize", [], [x, nil, nil, i4], [nil, nil, nil, sizes(1, 3, .fixed(1 << 20), .fixed(1 << 20))]
      ),
      ("onnx.Resize", [], [x, nil, f4], [nil, nil, numbers(1, 1, 0, -1)]),
      ("onnx.Resize", [], [x, nil, f4], [nil, nil, numbers(1, 1, .nan, .infinity)]),
      ("onnx.Resize", [], [x, nil, f4], []),
      ("onnx.Resize", [], [x], []),
      ("onnx.GridSample", [], [x, image(1, 4, 4, 3)], []),
      ("onnx.QuantizeLinear", [("axis", .int(2))], [image(4, 4), TensorType(.f32, fixed: [4])], []),
      ("onnx.QuantizeLinear", [("block_size", .int(3))], [image(4, 4), image(4, 4)], []),
      ("onnx.QuantizeLinear", [], [image(4, 4), one, TensorType(.i64, [])], []),
      ("onnx.DequantizeLinear", [], [image(4, 4), one], []),
      ("onnx.DequantizeLinear", [], [bytes, one, TensorType(.i8, [])], []),
      ("onnx.MatMulInteger", [], [bytes, TensorType(.u8, fixed: [5, 4])], []),
      ("onnx.MatMulInteger", [], [bytes, bytes, TensorType(.u8, fixed: [3])], []),
      ("com.microsoft.QAttention", [("num_heads", .int(0))], [], []),
      (
        "com.microsoft.MatMulNBits", [("K", .int(64)), ("N", .int(4)), ("block_size", .int(32))],
        [image(2, 64), bytes, f4], []
      ),
    ]
    for (name, attributes, types, values) in cases {
      #expect(throws: VitError.self, "\(name) \(attributes) \(types.map { "\($0, default: "-")" })") {
        try results(name, attributes, types, values)
      }
    }
  }

  @Test("nearest neighbours of operator set 10 lower to a current resize")
  func lowersOld() throws {
    var builder = GraphBuilder(Graph(name: "g"), registry: .standard)
    let x = builder.graph.addInput(image(batch, 3, 8, 8), name: "x")
    let scales = builder.constant([1, 1, 2, 2], shape: [4])
    let old = try Registry.standard.make(
      "onnx.Upsample", Attributes([("mode", .string("nearest"))]), opset: 9)
    let y = try old.lower(into: &builder, operands: [x, scales], resultCount: 1)
    #expect(builder.graph.type(y[0]) == image(batch, 3, 16, 16))
    #expect(builder.graph.nodes[0].name == "onnx.Resize")
    #expect(builder.graph.nodes[0].operation.attributes["nearest_mode"] == .string("floor"))
  }
}
