import Testing
import VitIR
import VitOps
import VitPasses

@Suite("Measuring the rest of a model")
struct CutMeasureTests {
  @Test("what differs in one place is measured from there as the whole is, in any order of places")
  func places() throws {
    let context = TinyViT.context(count: 90)
    let hybrid = try apply("swap{mixer=conv,layers=all,images=16}", to: TinyViT.model(layers: 4), context)
    let teacher = try #require(hybrid.teacher)
    let data = try #require(context.heldOut)
    let meter = try FidelityMeter(teacher: teacher.graph, data: data, context: context)
    let whole = try FidelityMeter(teacher: teacher.graph, data: data, context: context)
    var starts: Set<ValueID> = []
    let nodes = teacher.graph.nodes.indices.filter { teacher.graph.nodes[$0].operation is VitMLP }
    #expect(nodes.count == 4)
    for node in nodes + nodes.reversed() {
      let weight = try #require(teacher.graph.nodes[node].operands[3])
      var graph = teacher.graph
      let tensor = try #require(graph.tensor(weight))
      let numbers = try tensor.floats()
      graph.setTensor(Tensor(shape: tensor.shape, floats: numbers.map { 0.5 * $0 }), of: weight)
      let found = try meter.measure(graph, differingFrom: teacher, at: node)
      #expect(try found == whole.measure(graph))
      #expect(found.damage > 0)
      if let start = teacher.stream(before: node) { starts.insert(start) }
    }
    #expect(starts.count == 4)
    for layer in teacher.layers {
      let alone = try apply(
        "swap{mixer=conv,layers=[\(layer.index)],images=16}", to: TinyViT.model(layers: 4), context)
      let node = try #require(teacher.graph.place(defining: layer.core))
      #expect(try meter.measure(alone.graph, differingFrom: teacher, at: node) == whole.measure(alone.graph))
    }
    // Nothing is read from where the model was cut by what is measured as a whole.
    #expect(try meter.measure(hybrid.graph) == whole.measure(hybrid.graph))
    #expect(try meter.measure(teacher.graph, differingFrom: teacher, at: nil).damage == 0)
    #expect(try meter.measure(teacher.graph, differingFrom: teacher, at: 0).damage == 0)
  }
}
