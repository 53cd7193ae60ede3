import Testing
import VitIR
import VitOps
import VitTestSupport

@Suite("what is said of operations")
struct OperationGuideTests {
  static let names = Registry.standard.operations.map { $0.name }

  private func guide(_ name: String) throws -> OperationGuide {
    try OperationGuide(try #require(Registry.standard[name]), registry: .standard)
  }

  @Test("each names its operands, and its example reads back and runs", arguments: names)
  func example(_ name: String) throws {
    let guide = try guide(name)
    #expect(!guide.operands.isEmpty)
    #expect(guide.operands.allSatisfy { $0.type == nil || !$0.name.hasPrefix("input ") }, "\(guide.operands)")
    var options = TextOptions()
    options.inlineFloats = .max
    let text = try guide.graph.text(options)
    let again = try Graph(text: text, registry: .standard)
    #expect(try again.text(options) == text)
    let inputs = guide.graph.inputs.enumerated().map { index, id -> Tensor in
      let type = guide.graph.type(id)
      guard type.element.isFloat else {
        return Tensor(type.element, shape: type.extents, values: [Double](repeating: 0, count: type.count))
      }
      return .random(type.extents, seed: UInt64(index))
    }
    let outputs = try Zoo.run(guide.graph, inputs)
    #expect(outputs.map(\.type.shape) == guide.graph.outputs.map { guide.graph.type($0.value).shape })
  }

  @Test("operands, results and attributes are those of the definition")
  func entries() throws {
    let lstm = try guide("onnx.LSTM")
    #expect(
      lstm.operands.map(\.name) == ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"])
    #expect(lstm.operands.map(\.isOptional) == [false, false, false] + [Bool](repeating: true, count: 5))
    #expect(lstm.results == 3)
    let direction = try #require(lstm.attributes.first { $0.name == "direction" })
    #expect(direction.fallback == "\"forward\"" && direction.kind == "'forward', 'reverse', 'bidirectional'")
    #expect(lstm.attributes.first { $0.name == "clip" }?.fallback == nil)
    let lrn = try guide("onnx.LRN")
    #expect(lrn.attributes.map(\.name) == ["alpha", "beta", "bias", "size"])
    #expect(lrn.attributes.map(\.fallback) == ["0.0001", "0.75", "1.0", nil])
    #expect(lrn.attributes.map(\.isRequired) == [false, false, false, true])
  }
}
