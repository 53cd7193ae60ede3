import Testing
import VitIR
import VitOps
import VitPasses

@Suite("Output maps of their own for the first tokens")
struct OwnPrefixTests {
  @Test(
    "given afterwards, they are what swap gives",
    arguments: ["conv", "glr", "static{fit=mean}", "pointwise", "ssd"])
  func same(_ mixer: String) throws {
    let teacher = try TinyViT.model()
    let context = TinyViT.context(count: 16)
    let shared = try apply(
      "swap{mixer=\(mixer),layers=all,prefix=attend{rank=4,own=false}}", to: teacher, context)
    let given = try apply("own-prefix{layers=all}", to: shared, context)
    let swapped = try apply(
      "swap{mixer=\(mixer),layers=all,prefix=attend{rank=4,own=true}}", to: teacher, context)
    #expect(given.graph.operations == swapped.graph.operations)
    #expect(given.layers.map(\.parameters) == swapped.layers.map(\.parameters))
    let meter = try FidelityMeter(
      teacher: swapped.graph, data: context.samples(for: "test"), context: context)
    #expect(try meter.measure(given.graph).damage == 0)
    if given.graph.parameterCount > shared.graph.parameterCount {
      #expect(
        given.layers.map { $0.candidates.map(\.mixer) } == swapped.layers.map { $0.candidates.map(\.mixer) })
      // A second time there is nothing to give.
      let again = try apply("own-prefix", to: given, context)
      #expect(try again.weightBytes() == given.weightBytes())
    }
  }

  @Test("only the layers that are listed get one; a layer that is no mixer is an error")
  func listed() throws {
    let shared = try apply("swap{mixer=conv,layers=[0],prefix=attend}", to: try TinyViT.model())
    let given = try apply("own-prefix{layers=[0]}", to: shared)
    #expect(given.graph.parameterCount > shared.graph.parameterCount)
    #expect {
      try apply("own-prefix{layers=[1]}", to: shared)
    } throws: { ($0 as? VitError)?.diagnostic.code == "layer-unknown" }
    let teacher = try TinyViT.model()
    #expect(try apply("own-prefix", to: teacher).graph.firstDifference(from: teacher.graph) == nil)
  }
}
