import Testing
import VitFormats
import VitIR
import VitTestSupport

/// Models made by `tools/fixtures/make_onnx_fixtures.py`, with the answers of ONNX Runtime.
@Suite struct OnnxFixtureTests {
  private func read(_ name: String) throws -> OnnxImport {
    try Zoo.read(path: Fixture.path("onnx/\(name).onnx"))
  }

  private func check(_ graph: Graph, _ name: String) throws {
    let results = try Zoo.run(graph, [try NPY.read(Fixture.path("onnx/\(name).input.npy"))])
    let wanted = try NPY.read(Fixture.path("onnx/\(name).output.npy"))
    #expect(try relativeDifference(results[0], wanted) < 2e-6)
  }

  @Test(
    "rare forms mean what ONNX Runtime takes them for",
    arguments: ["branch", "sequences", "functions", "constants", "opset11", "opset18", "standardised"])
  func form(_ name: String) throws { try check(try read(name).graph, name) }

  @Test("a model made for one image is opened for many where it does the same to each")
  func oneImage() throws {
    let model = try read("one_image")
    #expect(model.diagnostics.map(\.code) == ["batch-opened"])
    #expect(model.graph.type(model.graph.inputs[0]).shape[0] == .symbol("batch"))
    #expect(model.graph.type(model.graph.outputs[0].value).shape == [.symbol("batch"), 5])
    try check(model.graph, "one_image")
  }

  @Test(
    "a model in which images would mix stays one for a single image",
    arguments: ["mean", "softmax", "flip", "pick", "count", "quantise", "cumulate", "gram"])
  func mixing(_ name: String) throws {
    let model = try read("mixing_" + name)
    #expect(model.diagnostics.map(\.code) == ["batch-fixed"])
    #expect(model.graph.type(model.graph.inputs[0]).shape[0] == 1)
    try check(model.graph, "mixing_" + name)
  }
}
