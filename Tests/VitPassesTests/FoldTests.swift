import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

struct FoldTests {
  private func model(_ build: (inout ModelBuilder, ValueID) throws -> ValueID) throws -> Graph {
    var model = ModelBuilder("model", seed: 4)
    let x = model.input([.symbol("batch"), 4, 6])
    return model.finish(try build(&model, x))
  }

  @Test("what does not depend on the input is computed once")
  func constants() throws {
    let graph = try model { model, x in
      let sum = try model.add("onnx.Add", [model.weight([4, 6]), model.weight([1, 6])])
      let moved = try model.transpose(try model.add("onnx.Tanh", [sum]), [1, 0])
      return try model.add("onnx.MatMul", [x, moved])
    }
    let folded = try apply("fold", to: graph)
    #expect(folded.operations == ["onnx.MatMul"])
    #expect(folded.tensors.names.count == 1)
    #expect(try outputDifference(folded, graph, [[2, 4, 6]]) < 1e-6)
  }

  @Test("arithmetic on shapes of an unknown batch becomes a constant with one place left open")
  func shapes() throws {
    let graph = try model { model, x in
      func extent(_ axis: Int) throws -> ValueID {
        let shape = try model.add("onnx.Shape", [x])
        return try model.add(
          "onnx.Gather", [shape, model.builder.integers([axis], shape: [])], [("axis", .int(0))])
      }
      func wide(_ value: ValueID) throws -> ValueID {
        try model.add("onnx.Unsqueeze", [value, model.integers([0])])
      }
      let half = try model.add("onnx.Div", [try extent(2), model.builder.integers([2], shape: [])])
      let rows = try model.add("onnx.Mul", [try extent(1), model.builder.integers([2], shape: [])])
      let target = try model.add(
        "onnx.Concat", [try wide(try extent(0)), try wide(rows), try wide(half)], [("axis", .int(0))])
      return try model.add("onnx.Reshape", [x, target])
    }
    let folded = try apply("fold", to: graph)
    #expect(folded.operations == ["onnx.Reshape"])
    let target = try #require(folded.nodes[0].operands[1])
    #expect(try folded.tensor(target)?.integers() == [-1, 8, 3])
    #expect(folded.type(folded.outputs[0].value).shape == [.symbol("batch"), 8, 3])
    #expect(try outputDifference(folded, graph, [[3, 4, 6]]) == 0)
  }

  @Test("a mask that keeps everything, or nothing, goes away")
  func masks() throws {
    for keep in [1.0, 0] {
      let graph = try model { model, x in
        let mask = model.builder.constant(
          [Double](repeating: keep, count: 24), shape: [4, 6], element: .bool, name: "mask")
        let other = try model.add("onnx.Tanh", [x])
        return try model.add("onnx.Where", [mask, x, other])
      }
      let folded = try apply("fold", to: graph)
      #expect(folded.operations == (keep == 1 ? [] : ["onnx.Tanh"]))
      #expect(try outputDifference(folded, graph, [[2, 4, 6]]) == 0)
    }
  }

  @Test("operations that change nothing go away, those that broadcast or reverse stay")
  func identities() throws {
    let nothing = try model { model, x in
      var y = try model.add("onnx.Identity", [x])
      y = try model.add("onnx.Add", [y, model.builder.constant([0, 0, 0, 0, 0, 0], shape: [6])])
      y = try model.add("onnx.Mul", [model.number(1), y])
      y = try model.add("onnx.Sub", [y, model.number(0)])
      y = try model.add("onnx.Div", [y, model.number(1)])
      y = try model.reshape(y, [0, 0, 0])
      return try model.add("onnx.Slice", [y, model.integers([0]), model.integers([99]), model.integers([1])])
    }
    let folded = try apply("fold", to: nothing)
    #expect(folded.operations.isEmpty)
    #expect(folded.outputs[0].value == folded.inputs[0])
    let something = try model { model, x in
      let wider = try model.add("onnx.Add", [x, model.builder.constant([0, 0], shape: [2, 1, 1, 1])])
      let first = try model.add(
        "onnx.Gather", [wider, model.builder.integers([0], shape: [])], [("axis", .int(0))])
      let last = try model.add("onnx.Sub", [model.number(0), first])
      return try model.add(
        "onnx.Slice",
        [last, model.integers([5]), model.integers([-99]), model.integers([2]), model.integers([-1])])
    }
    let kept = try apply("fold", to: something)
    #expect(kept.operations == ["onnx.Add", "onnx.Gather", "onnx.Sub", "onnx.Slice"])
    #expect(try outputDifference(kept, something, [[2, 4, 6]]) == 0)
  }

  @Test("a cast that rounds stays, one to the type that is there goes")
  func casts() throws {
    let graph = try model { model, x in
      let same = try model.add("onnx.Cast", [x], [("to", .int(1))])
      return try model.add("onnx.Cast", [same], [("to", .int(10))])
    }
    let folded = try apply("fold", to: graph)
    #expect(folded.operations == ["onnx.Cast"])
    #expect(try outputDifference(folded, graph, [[2, 4, 6]]) == 0)
  }

  @Test(
    "folding keeps the outputs of random graphs, and folding again changes nothing", arguments: UInt64(0)..<30
  )
  func randomGraphs(seed: UInt64) throws {
    var model = ModelBuilder("random", seed: seed)
    let x = model.input([.symbol("batch"), 4, 6])
    var values = [
      x, model.weight([4, 6], scale: 1), model.weight([1, 4, 6], scale: 1), model.number(0), model.number(1),
    ]
    for _ in 0..<12 {
      let (a, b) = (values[model.random.below(values.count)], values[model.random.below(values.count)])
      switch model.random.below(8) {
      case 0: values.append(try model.add("onnx.Add", [a, b]))
      case 1: values.append(try model.add("onnx.Mul", [a, b]))
      case 2: values.append(try model.add("onnx.Sub", [a, b]))
      case 3: values.append(try model.add("onnx.Tanh", [a]))
      case 4:
        let shape = try model.add("onnx.Shape", [a])
        values.append(try model.add("onnx.Reshape", [a, shape]))
      case 5:
        let kept = try model.add("onnx.GreaterOrEqual", [b, b])
        values.append(try model.add("onnx.Where", [kept, a, b]))
      case 6:
        let shape = try model.add("onnx.Shape", [x])
        let wide = try model.add("onnx.Expand", [a, shape])
        values.append(wide)
      default:
        values.append(try model.add("onnx.Sum", [a, b, a]))
      }
    }
    let outputs = values.suffix(3) + [values[model.random.below(values.count)]]
    model.builder.graph.outputs = outputs.enumerated().map { ("y\($0.offset)", $0.element) }
    let graph = model.builder.graph
    let folded = try apply("fold", to: graph)
    #expect(folded.outputs.map(\.name) == graph.outputs.map(\.name))
    #expect(folded.nodes.count <= graph.nodes.count)
    #expect(try outputDifference(folded, graph, [[3, 4, 6]]) < 1e-6)
    let again = try apply("fold", to: folded)
    #expect(again.operations == folded.operations)
  }

  @Test("dead code goes, what an output needs stays")
  func deadCode() throws {
    let graph = try model { model, x in
      try model.add("onnx.Tanh", [try model.add("onnx.Mul", [x, model.weight([6])])])
      return try model.add("onnx.Add", [x, model.weight([6])])
    }
    let context = TinyViT.context()
    var hybrid = Hybrid(graph)
    let results = try Pipeline("dce,dce").run(on: &hybrid, context: context)
    #expect(results.map(\.changes) == [2, 0])
    #expect(hybrid.graph.operations == ["onnx.Add"])
    #expect(hybrid.graph.tensors.names.count == 1)
  }
}
