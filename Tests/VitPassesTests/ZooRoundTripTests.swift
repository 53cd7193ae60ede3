import Testing
import VitFormats
import VitIR
import VitOps
import VitRuntime
import VitTestSupport

@Suite(.enabled(if: Zoo.isThere, "VITC_ZOO names no folder of models"))
struct ZooRoundTripTests {
  @Test("a model is the same graph after text, text without tensors and .vmod", arguments: Zoo.models)
  func roundTrip(_ model: Zoo.Model) throws {
    guard let graph = try? Zoo.read("open/" + model.file).graph else { return }
    let folder = ConstantFolder(pool: SerialPool())
    let fold: GraphBuilder.Fold = { node, operands, results throws(VitError) in
      try folder.fold(node, operands, results)
    }
    try Verifier.verify(graph, registry: .standard, fold: fold)
    let scratch = try Scratch()
    try VitText.write(Hybrid(graph), to: scratch.file("x.vit"))
    let text = try VitText.read(path: scratch.file("x.vit"), registry: .standard, fold: fold)
    #expect(try graph.firstDifference(from: text.graph) == nil)
    try VitText.write(Hybrid(graph), to: scratch.file("e.vit"), elidingTensors: true)
    let elided = try VitText.read(path: scratch.file("e.vit"), registry: .standard, fold: fold)
    #expect(try graph.firstDifference(from: elided.graph, comparingValues: false) == nil)
    try VModWriter.write(VModFile(Hybrid(graph)), to: scratch.file("x.vmod"))
    let file = try VModReader.read(path: scratch.file("x.vmod"), registry: .standard, fold: fold)
    #expect(try graph.firstDifference(from: file.graph) == nil)
  }
}
