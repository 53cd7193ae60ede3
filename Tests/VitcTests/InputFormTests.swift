import Testing
import VitFormats
import VitIR
import VitPasses
import VitTestSupport
import Vitc

/// Models made by `tools/fixtures/make_input_fixtures.py`, with the answers of ONNX Runtime.
@Suite("Forms of inputs") struct InputFormTests {
  private func path(_ name: String) -> String { Fixture.path("inputs/\(name)") }

  private func model(_ name: String, _ shapes: [String] = []) throws -> Model {
    try Model(contentsOf: path("\(name).onnx"), inputShapes: shapes)
  }

  private func check(_ model: Model, _ name: String) throws {
    let inputs = try model.graph.inputs.indices.map { index in
      try NPY.read(path("\(name).input\(index > 0 ? ".\(index)" : "").npy"))
    }
    let results = try Session(model).run(inputs)
    #expect(try relativeDifference(results[0], NPY.read(path("\(name).output.npy"))) < 1e-5)
  }

  /// A short compile, whose hybrid carries inputs with what it gives for them.
  private func compile(_ model: Model, _ data: Samples) throws -> Model {
    var options = CompilerOptions()
    (options.distilSteps, options.fineTuneSteps, options.batch) = (1, 1, 6)
    options.mixer = "pointwise"
    options.select = .first
    let hybrid = try Compiler(options).compile(model, data).model
    #expect(hybrid.hybrid.replaced.count == 1)
    #expect(try Verification.run(hybrid).allSatisfy(\.holds))
    return hybrid
  }

  private func samples(_ name: String, _ model: Model) throws -> Samples {
    try Samples(name, for: model, purpose: .calibration, report: { _ in })
  }

  @Test(
    "a batch that is fixed at four is opened where the model does the same to each image",
    arguments: ["fixed4", "fixed4_tables", "fixed4_windows"])
  func opened(_ name: String) throws {
    let model = try model(name)
    #expect(model.diagnostics.map(\.code) == ["batch-opened"])
    #expect(model.graph.type(model.graph.inputs[0]).shape[0] == .batch)
    try check(model, name)
  }

  @Test(
    "where images mix, or something is not the same for each, they run four at a time",
    arguments: [("fixed4_mixing", "works across images"), ("fixed4_apart", "not one for all")])
  func parts(_ name: String, _ reason: String) throws {
    let model = try model(name)
    #expect(model.diagnostics.map(\.code) == ["batch-fixed"])
    #expect(model.diagnostics[0].message.contains(reason))
    #expect(model.diagnostics[0].message.contains("4 at a time"))
    try check(model, name)
    let data = try samples("synthetic:10", model)
    let hybrid = try compile(model, data)
    #expect(hybrid.graph.type(hybrid.graph.inputs[0]).shape[0] == 4)
    let fidelity = try Evaluation.fidelity(of: hybrid, against: model, on: data)
    #expect(fidelity.images == 10 && fidelity.nonFinite == 0)
    #expect(try Evaluation.benchmark([model], batch: 6, seconds: 0)[0].runs == 2)
  }

  @Test("an output without a row for each image is refused for another number of images") func noRows() throws
  {
    var builder = GraphBuilder(Graph(name: "sum"), registry: .standard)
    let x = builder.graph.addInput(TensorType(.f32, fixed: [4, 1, 2, 2]), name: "x")
    let axes = builder.integers([0])
    let sum = try builder.add("onnx.ReduceSum", [x, axes], [("keepdims", .int(0))])
    builder.graph.outputs = [("y", sum)]
    let session = try Session(Model(builder.graph))
    let four = Tensor(.f32, shape: [4, 1, 2, 2], values: Array(repeating: 1, count: 16))
    #expect(try session.run([four])[0].doubles() == [4, 4, 4, 4])
    let three = Tensor(.f32, shape: [3, 1, 2, 2], values: Array(repeating: 1, count: 12))
    let error = #expect(throws: VitError.self) { try session.run([three]) }
    #expect(error?.diagnostic.message.contains("fixed at 4") == true)
  }

  @Test(
    "a free batch may be spelled in many ways",
    arguments: ["minus_one", "absent", "other_output", "zero_and_name"])
  func spelled(_ name: String) throws {
    let model = try model(name)
    #expect(model.diagnostics.isEmpty)
    #expect(model.graph.type(model.graph.inputs[0]).shape[0] == .batch)
    try check(model, name)
  }

  @Test("a model that was made for some images and calls their number free is opened", arguments: [1, 4])
  func renamed(_ count: Int) throws {
    let model = try model("renamed\(count)")
    #expect(model.diagnostics.map(\.code) == ["batch-opened"])
    #expect(model.diagnostics[0].message.contains("fixed at \(count) inside"))
    try check(model, "renamed\(count)")
  }

  @Test("inputs that call one batch by two names count the same images") func twoNames() throws {
    let model = try model("two_names")
    #expect(model.diagnostics.map(\.code) == ["same-batch"])
    try check(model, "two_names")
    let images = Tensor(.f32, shape: [2, 3, 16, 16], values: Array(repeating: 0, count: 2 * 768))
    let extra = Tensor(.f32, shape: [3, 4], values: Array(repeating: 0, count: 12))
    let error = #expect(throws: VitError.self) { try Session(model).run([images, extra]) }
    #expect(error?.diagnostic.message.contains("'extra' has the shape [batch, 4], found [3, 4]") == true)
  }

  @Test("a model with a further input compiles on archives that hold it, and on what is made up")
  func further() throws {
    let model = try model("two_names")
    for name in [path("two_names.npz"), "synthetic:8"] {
      let data = try samples(name, model)
      #expect(data.furtherShapes == [[4]])
      _ = try compile(model, data)
    }
    let error = #expect(throws: VitError.self) { try samples(path("two_names.input.npy"), model) }
    #expect(error?.diagnostic.message == "the model has 2 inputs, and the data say nothing of 'extra'")
    #expect(error?.diagnostic.help?.contains(".npz") == true)
  }

  @Test("a further input is read sample by sample: accuracy is that of the model's own outputs")
  func furtherAccuracy() throws {
    let model = try model("two_names")
    let archive = try NPZ(path("two_names.npz"))
    let inputs = [try archive.tensor("images"), try archive.tensor("extra")]
    let logits = try Session(model).run(inputs)[0].doubles()
    let labels = try #require(try archive.tensor("labels").integers())
    let right = labels.indices.filter { sample in
      let row = logits[sample * 5..<(sample + 1) * 5]
      return row.firstIndex(of: row.max() ?? 0) == sample * 5 + labels[sample]
    }.count
    let evaluation = try Evaluation.fidelity(of: model, on: samples(path("two_names.npz"), model))
    #expect(evaluation.accuracy == Double(right) / 8)
  }

  @Test("an input without a shape is an image where a convolution reads it, and has the shape that is given")
  func noShape() throws {
    let derived = try model("no_shape")
    #expect(derived.diagnostics.map(\.code) == ["derived-shape", "fixed-extent"])
    try check(derived, "no_shape")
    #expect(derived.refitted(to: [[2, 3, 16, 16]]) == nil && derived.refitted(to: [[2, 3, 20, 20]]) == nil)
    let given = try model("no_shape", ["image=batch,3,16,16"])
    #expect(given.diagnostics.isEmpty)
    try check(given, "no_shape")
    let error = #expect(throws: VitError.self) { try model("no_shape", ["image=batch,3,16"]) }
    #expect(error?.diagnostic.message.contains("axes, --input-shape") == false)
  }

  @Test(
    "a shape that makes no sense is refused",
    arguments: [
      ("image", "names no input"), ("image=2,0,3,4", "extent 0"), ("image=2,x!,3,4", "'x!'"),
      ("other=1,3,16,16", "no input 'other'"), ("image=batch,3,16", "4 axes"),
      ("image=batch,1,16,16", "fixed at 3"),
    ])
  func badShape(_ text: String, _ part: String) throws {
    let error = #expect(throws: VitError.self) { try model("minus_one", [text]) }
    #expect(error?.kind == .usage)
    #expect(error?.diagnostic.message.contains(part) == true, "\(error?.diagnostic.message ?? "")")
  }

  @Test(
    "sizes that work for a skip connection run, others are told apart", arguments: ["skip_add", "skip_join"])
  func freeSize(_ name: String) throws {
    let model = try model(name)
    #expect(model.diagnostics.isEmpty)
    try check(model, name)
    let odd = Tensor(.f32, shape: [1, 3, 17, 24], values: Array(repeating: 0, count: 3 * 17 * 24))
    let error = #expect(throws: VitError.self) { try Session(model).run([odd]) }
    #expect(error?.diagnostic.location.node != nil)
    #expect(
      error?.diagnostic.message.contains("17") == true && error?.diagnostic.message.contains("18") == true)
    // The data say the size, where nothing else does.
    let data = try samples(path("\(name).input.npy"), model)
    #expect(data.shape == [3, 16, 24])
    let hybrid = try compile(model, data)
    #expect(hybrid.graph.type(hybrid.graph.inputs[0]).shape.dropFirst() == [3, 16, 24])
    let sized = try Samples(
      "synthetic:4", for: model, purpose: .calibration, settings: [("size", "8x16")], report: { _ in })
    #expect(sized.shape == [3, 8, 16])
  }

  @Test(
    "a model that works for some sizes alone is read anew for the size that is said, or that the data have")
  func someSizes() throws {
    let model = try model("some_sizes")
    #expect(model.diagnostics.map(\.code) == ["fixed-extent"])
    let input = path("some_sizes.input.npy")
    try check(try #require(model.refitted(to: [[2, 3, 44, 40]])), "some_sizes")
    let fitted = try #require(model.refitted(toData: input))
    try check(fitted, "some_sizes")
    #expect(try samples(input, fitted).shape == [3, 44, 40])
    let said = try #require(model.refitted(toData: input, settings: [("size", "32x16")]))
    #expect(try said.inputShapes() == [[1, 3, 32, 16]])
    // Neither what it is fixed at nor a size without a patch changes anything.
    #expect(
      model.refitted(toData: nil) == nil && model.refitted(toData: nil, settings: [("size", "2x2")]) == nil)
  }

  @Test(
    "bytes, channels at the end, tokens, video and single images are compiled as they are",
    arguments: [
      ("bytes_last", [16, 16, 3]), ("channels_last", [24, 16, 3]), ("tokens", [12, 8]),
      ("video", [4, 3, 8, 8]),
    ])
  func layout(_ name: String, _ shape: [Int]) throws {
    let model = try model(name)
    try check(model, name)
    // Made up for a free size, they would be large.
    let isFree = model.graph.type(model.graph.inputs[0]).shape.dropFirst().contains { !$0.isFixed }
    for source in (isFree ? [] : ["synthetic:5"]) + [path("\(name).input.npy")] {
      let data = try samples(source, model)
      if source != "synthetic:5" { #expect(data.shape == shape) }
      let hybrid = try compile(model, data)
      #expect(try Evaluation.fidelity(of: hybrid, against: model, on: data).nonFinite == 0)
    }
  }

  @Test("a model of one image without an axis that counts them runs one at a time") func single() throws {
    let model = try model("single")
    #expect(model.diagnostics.map(\.code) == ["batch-absent"])
    try check(model, "single")
    let data = try samples("synthetic:5", model)
    #expect(data.shape == [3, 16, 16])
    let fidelity = try Evaluation.fidelity(of: try compile(model, data), against: model, on: data)
    #expect(fidelity.images == 5 && fidelity.agreement != nil)
    try check(try self.model("single_tokens"), "single_tokens")
  }
}
