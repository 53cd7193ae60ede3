import FoundationEssentials
import Testing
import VitIR
import VitPasses
import VitTestSupport
import Vitc

/// The comparison with other runtimes is `tools/export_tests`; here a file is read again by vitc.
@Suite("Models written as ONNX")
struct ExportTests {
  private let scratch = try? Scratch()

  private func teacher() throws -> Model { try Model(contentsOf: Fixture.path("teacher/fashion-vit.onnx")) }

  private func fileBytes(_ path: String) throws -> [UInt8] {
    Array(try #require(FileManager.default.contents(atPath: path)))
  }

  private func file(_ name: String) throws -> String { try #require(scratch).file(name) }

  private func outputs(_ model: Model, batch: Int = 2) throws -> Tensor {
    try #require(try Zoo.run(model.graph, [Tensor.random([batch, 1, 28, 28], seed: 3)]).first)
  }

  /// Writes, and reads again without raising: what is written, and not what vitc makes of it.
  private func again(_ model: Model, _ export: OnnxExport) throws -> Model {
    let path = try file("\(export.opset).onnx")
    try model.writeONNX(to: path, export)
    return try Model(contentsOf: path, raising: false)
  }

  private func version(_ opset: Int) -> OnnxExport {
    var export = OnnxExport()
    export.opset = opset
    return export
  }

  @Test("a teacher comes back as it was, in every version, for any number of images", arguments: 13...24)
  func teacher(opset: Int) throws {
    let model = try teacher()
    let back = try again(model, version(opset))
    for batch in [1, 3] {
      #expect(try relativeDifference(outputs(back, batch: batch), outputs(model, batch: batch)) < 1e-5)
    }
    #expect(back.batchSymbol != nil && back.graph.nodes.allSatisfy { $0.name.hasPrefix("onnx.") })
    #expect(back.graph.outputs.map(\.name) == model.graph.outputs.map(\.name))
    #expect(back.graph.inputs.map { back.graph[$0].name } == model.graph.inputs.map { model.graph[$0].name })
  }

  @Test(
    "what stands in the place of attention computes the same",
    arguments: [
      "mixer=conv", "mixer=glr,width=0.5", "mixer=lstm", "mixer=lstm{form=full},order=forward", "mixer=ssd",
      "mixer=mamba,order=cross", "mixer=retention", "mixer=none", "mixer=pointwise,prefix=mixer",
      "mixer=static",
    ])
  func mixers(_ swap: String) throws {
    let model = try Pipeline("swap{\(swap),layers=[2,7]}").run(on: teacher())
    for opset in [13, 21] {
      #expect(try relativeDifference(outputs(again(model, version(opset))), outputs(model)) < 1e-4)
    }
  }

  @Test(
    "what was left out stays out",
    arguments: [
      "prune{mlp=0.5,images=8,allocate=uniform}", "prune{heads=[2,0,1,3,3,2,3,1],images=8}",
      "factorise{scores=0.5,values=0.5,images=8}", "factorise{maps=perceptrons,images=8}",
      "merge{counts=[0,0,8,8,4,4,4,0]},trim", "depth{layers=[1,4],map=linear,images=8}",
      "share{layers=[1,2],images=8}",
    ])
  func reductions(_ passes: String) throws {
    let model = try teacher()
    let data = try Samples("synthetic:8", for: model, purpose: .calibration) { _ in }
    let smaller = try Pipeline(passes).run(on: model, data)
    let back = try again(smaller, version(17))
    #expect(try relativeDifference(outputs(back), outputs(smaller)) < 1e-4)
    if !passes.contains("merge") { #expect(back.graph.parameterCount < model.graph.parameterCount) }
  }

  @Test("what ONNX Runtime's optimiser fused is taken apart", arguments: [13, 17, 24])
  func fused(opset: Int) throws {
    var builder = GraphBuilder(Graph(name: "fused"), registry: .vitc)
    let x = builder.graph.addInput(TensorType(.f32, [.batch, 3, 8]), name: "x")
    func vector(_ seed: UInt64) -> ValueID {
      builder.graph.addConstant(Tensor.random([8], seed: seed), name: "vector")
    }
    var y = try builder.add("com.microsoft.BiasGelu", [x, vector(1)])
    y = try builder.add(
      "com.microsoft.QuickGelu", [try builder.add("com.microsoft.FastGelu", [y, vector(2)])])
    y = try builder.add("com.microsoft.BiasAdd", [y, vector(3), x])
    y = try builder.add("com.microsoft.SkipLayerNormalization", [y, x, vector(4), vector(5), vector(6)])
    y = try builder.add("com.microsoft.SkipSimplifiedLayerNormalization", [y, x, vector(7)])
    builder.graph.outputs = [("y", try builder.add("com.microsoft.Gelu", [y]))]
    let model = Model(builder.graph)
    let input = [Tensor.random([2, 3, 8], seed: 9)]
    let wanted = try #require(try Zoo.run(model.graph, input).first)
    let found = try #require(try Zoo.run(again(model, version(opset)).graph, input).first)
    #expect(try relativeDifference(found, wanted) < 1e-5)
  }

  @Test("half precision takes half of the bytes, and another file weights that are asked to lie there")
  func forms() throws {
    let model = try Pipeline("round{weights=f16}").run(on: teacher())
    var half = version(17)
    half.weights = .f16
    let back = try again(model, half)
    // What is folded of rounded weights is rounded again.
    #expect(try relativeDifference(outputs(back), outputs(model)) < 2e-3)
    let whole = try again(model, version(18))
    #expect(back.byteCount < whole.byteCount * 6 / 10)

    var split = version(19)
    split.isSplit = true
    let path = try file("split.onnx")
    #expect(try model.writeONNX(to: path, split) == [path, OnnxExport.dataPath(of: path)])
    let apart = try Model(contentsOf: path, raising: false)
    #expect(apart.files.count == 2)
    #expect(try relativeDifference(outputs(apart), outputs(model)) < 1e-5)
  }

  @Test(
    "an input that is an output, a constant that is one, two outputs of one value, and numbers too large for half precision"
  )
  func corners() throws {
    var builder = GraphBuilder(Graph(name: "corners"), registry: .vitc)
    let x = builder.graph.addInput(TensorType(.f32, [2, 64]), name: "x")
    let large = builder.graph.addConstant(
      Tensor(.f32, shape: [64], values: (0..<64).map { 1e5 + Double($0) }), name: "large")
    let y = try builder.add("onnx.Add", [x, large])
    builder.graph.outputs = [("x", x), ("sum", y), ("again", y), ("numbers", large)]
    let model = Model(builder.graph)
    var half = version(17)
    half.weights = .f16
    let input = [Tensor.random([2, 64], seed: 5)]
    let back = try again(model, half)
    #expect(back.graph.outputs.map(\.name) == ["x", "sum", "again", "numbers"])
    for (found, wanted) in zip(try Zoo.run(back.graph, input), try Zoo.run(model.graph, input)) {
      #expect(try relativeDifference(found, wanted) < 1e-6)
    }
  }

  @Test("the same bytes for any number of threads, and every time")
  func bytes() throws {
    let model = try Pipeline("swap{mixer=conv,layers=[3]},merge{count=2}").run(on: teacher())
    let files = try [1, 3, 3].enumerated().map { index, threads in
      let path = try file("\(index).onnx")
      try model.writeONNX(to: path, threads: threads)
      return try fileBytes(path)
    }
    #expect(files[0] == files[1] && files[1] == files[2])
  }

  @Test("the metadata say how images are prepared and what classes are called")
  func metadata() throws {
    let data = try Samples("synthetic:4", for: teacher(), purpose: .calibration) { _ in }
    let model = try Pipeline("trim").run(on: teacher(), data)
    let path = try file("card.onnx")
    try model.writeONNX(to: path)
    let text = String(decoding: try fileBytes(path), as: UTF8.self)
    #expect(text.contains("vitc.preprocessing") && text.contains("size=28x28"))
    // Read again, they are what they were: where a file says so, nothing is guessed.
    let back = try Model(contentsOf: path)
    #expect(back.labels == model.labels)
    let again = try file("again.onnx")
    try back.writeONNX(to: again)
    #expect(String(decoding: try fileBytes(again), as: UTF8.self).contains("size=28x28"))
  }

  @Test("what has no standard operator is named, and nothing is written")
  func refused() throws {
    var builder = GraphBuilder(Graph(name: "odd"), registry: .vitc)
    let x = builder.graph.addInput(TensorType(.f32, [2, 8]), name: "x")
    let y = try builder.add(
      "com.microsoft.BiasSplitGelu", [x, builder.constant([Double](repeating: 0, count: 8), shape: [8])])
    builder.graph.outputs = [("y", try builder.add("onnx.Relu", [y]))]
    let path = try file("odd.onnx")
    #expect {
      try Model(builder.graph).writeONNX(to: path)
    } throws: { error in
      let diagnostic = (error as? VitError)?.diagnostic
      return diagnostic?.code == "operator-not-standard"
        && diagnostic?.message.contains("BiasSplitGelu") ?? false
    }
    #expect(throws: VitError.self) { try Model(contentsOf: path) }
    // What came later is refused with the version that has it.
    let merged = try Pipeline("merge{count=2}").run(on: teacher())
    #expect {
      try merged.writeONNX(to: path, version(14))
    } throws: { error in
      (error as? VitError)?.diagnostic.help?.contains("16") ?? false
    }
    for wrong in [12, 25] {
      #expect(throws: VitError.self) { try teacher().writeONNX(to: path, version(wrong)) }
    }
  }
}
