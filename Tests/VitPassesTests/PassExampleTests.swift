import Testing
import VitIR
import VitOps
import VitPasses

@Suite("examples of passes")
struct PassExampleTests {
  @Test(
    "each standard pass has one that names it, reads and runs",
    arguments: Pipeline.standardPasses.map { $0.name })
  func example(_ name: String) throws {
    let pass = try #require(Pipeline.standardPasses.first { $0.name == name })
    let pipeline = try Pipeline(pass.example)
    #expect(pipeline.passes.contains { type(of: $0).name == name })
    let free = """
      graph "free" (%x: f32[batch, 3, height, width]) -> (y = %y) {
        %y = onnx.Relu(%x) : f32[batch, 3, height, width]
      }
      """
    let hybrid =
      name == FixSize.name ? Hybrid(try Graph(text: free, registry: .standard)) : try TinyViT.model()
    _ = try apply(pass.example, to: hybrid, TinyViT.context(labelled: name == Head.name))
  }
}
