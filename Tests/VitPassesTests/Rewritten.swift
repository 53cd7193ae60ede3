import Testing
import VitFormats
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

extension Graph {
  /// The graph in terms of ONNX operators, as each operation says.
  func lowered() throws -> Graph {
    var builder = GraphBuilder(Graph(name: name), registry: .standard)
    var places: [ValueID: ValueID] = [:]
    for id in inputs { places[id] = builder.graph.addInput(type(id), name: self[id].name) }
    func place(_ id: ValueID) throws -> ValueID {
      if let found = places[id] { return found }
      let tensor = try #require(self.tensor(id))
      let found = builder.graph.addConstant(tensor, name: self[id].name)
      places[id] = found
      return found
    }
    for node in nodes {
      let operands = try node.operands.map { try $0.map(place) }
      let results = try node.operation.lower(
        into: &builder, operands: operands, resultCount: node.results.count)
      for (id, result) in zip(node.results, results) { places[id] = result }
    }
    builder.graph.outputs = try outputs.map { ($0.name, try place($0.value)) }
    return builder.graph
  }
}

/// Expects that a model is the same after text and `.vmod`, and computes the same in terms of ONNX operators.
func expectWhole(
  _ hybrid: Hybrid, _ shapes: [[Int]], sourceLocation: SourceLocation = #_sourceLocation
) throws {
  let folder = ConstantFolder(pool: SerialPool())
  let fold: GraphBuilder.Fold = { node, operands, results throws(VitError) in
    try folder.fold(node, operands, results)
  }
  let scratch = try Scratch()
  try VitText.write(hybrid, to: scratch.file("x.vit"))
  let text = try VitText.read(path: scratch.file("x.vit"), registry: .standard, fold: fold)
  #expect(try hybrid.firstDifference(from: text) == nil, sourceLocation: sourceLocation)
  try VModWriter.write(VModFile(hybrid), to: scratch.file("x.vmod"))
  let file = try VModReader.read(path: scratch.file("x.vmod"), registry: .standard, fold: fold)
  #expect(try hybrid.firstDifference(from: file.hybrid) == nil, sourceLocation: sourceLocation)
  let lowered = try hybrid.graph.lowered()
  #expect(lowered.operations.allSatisfy { $0.hasPrefix("onnx.") }, sourceLocation: sourceLocation)
  #expect(try outputDifference(hybrid.graph, lowered, shapes) < 1e-5, sourceLocation: sourceLocation)
}
