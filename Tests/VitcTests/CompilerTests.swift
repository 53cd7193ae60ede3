import FoundationEssentials
import Testing
import VitIR
import VitPasses
import VitTestSupport
import Vitc

@Suite("Compiling from code") struct CompilerTests {
  private func teacher() throws -> Model { try Model(contentsOf: Fixture.path("teacher/fashion-vit.onnx")) }

  /// A short compile of one layer, with a checkpoint.
  private func options(_ scratch: Scratch) -> CompilerOptions {
    var options = CompilerOptions()
    options.pipeline = Pipeline([
      Swap(mixer: "pointwise", layers: .listed([2])), Distil(steps: 2, batch: 2, solve: false),
    ])
    options.checkpoint = scratch.file("state.checkpoint")
    options.isReproducible = true
    return options
  }

  private func data(_ teacher: Model) throws -> Samples {
    try Samples("synthetic:6", for: teacher, purpose: .calibration, report: { _ in })
  }

  private func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

  @Test("the checkpoint goes when the output is in its place, and not where that could not be written")
  func checkpoint() throws {
    let scratch = try Scratch()
    let teacher = try teacher()
    var options = options(scratch)
    let state = scratch.file("state.checkpoint")
    let error = #expect(throws: VitError.self) {
      try Compiler(options).compile(teacher, data(teacher), to: scratch.file("no/such/folder/h.vmod"))
    }
    #expect(error?.kind == .environment)
    #expect(error?.diagnostic.help?.contains("--resume") == true)
    #expect(exists(state))
    options.resumes = true
    let result = try Compiler(options).compile(teacher, data(teacher), to: scratch.file("h.vmod"))
    #expect(!exists(state) && exists(scratch.file("h.vmod")))
    #expect(result.report.selected == [2] && result.report.hybrid.bytes != nil)
    let whole = try Compiler(self.options(scratch)).compile(teacher, data(teacher))
    // In memory the caller decides when it is kept.
    #expect(exists(state))
    let file = try Model(contentsOf: scratch.file("h.vmod"))
    #expect(try file.hybrid.firstDifference(from: whole.model.hybrid) == nil)
  }

  @Test("an image that vanishes on the way leaves what was trained so far") func vanished() throws {
    let scratch = try Scratch()
    for index in 0..<6 {
      try scratch.write(Fixture.bytes("formats/gray.png"), to: "images/\(index).png")
    }
    let teacher = try teacher()
    let data = try Samples(scratch.file("images"), for: teacher, purpose: .calibration, report: { _ in })
    var options = options(scratch)
    options.pipeline?.passes[1] = Distil(steps: 40, batch: 2, solve: false)
    let images = scratch.file("images")
    let progress = Progress(advance: { phase, done, _, _ in
      guard phase == "distil", done == 5 else { return }
      for index in 0..<6 { try? FileManager.default.removeItem(atPath: "\(images)/\(index).png") }
    })
    let error = #expect(throws: VitError.self) {
      try Compiler(options).compile(teacher, data, to: scratch.file("h.vmod"), progress: progress)
    }
    #expect(error?.diagnostic.help?.contains("state.checkpoint") == true, "\(error?.description ?? "")")
    #expect(exists(scratch.file("state.checkpoint")) && !exists(scratch.file("h.vmod")))
  }

  @Test("as many samples as there are cannot be held out", arguments: [0, 6, 7])
  func heldOut(count: Int) throws {
    let error = #expect(throws: VitError.self) { try data(teacher()).holdingOut(count, seed: 0) }
    #expect(error?.kind == .usage)
  }

  @Test("a step goes on from a file, whose teacher is known by its digest")
  func steps() throws {
    let scratch = try Scratch()
    let path = try scratch.write(Fixture.bytes("teacher/fashion-vit.onnx"), to: "t.onnx")
    try scratch.write(
      Fixture.bytes("teacher/fashion-vit.preprocessor_config.json"), to: "t.preprocessor_config.json")
    let teacher = try Model(contentsOf: path)
    let data = try data(teacher)
    let (training, heldOut) = try data.holdingOut(2, seed: 3)
    func run(_ passes: [any Pass], on model: Model, teacher: Model? = nil) throws -> Model {
      let result = try Pipeline(passes).run(
        on: model, training, heldOut: heldOut, teacher: teacher, seed: 3)
      try result.write(to: scratch.file("deep.vmod"))
      return try Model(contentsOf: scratch.file("deep.vmod"))
    }
    let swapped = try run([Swap(mixer: "pointwise", layers: .listed([2]))], on: teacher)
    // What lay beside the teacher went with it.
    #expect(swapped.preprocessing?.contains("size=28x28") == true)
    #expect(swapped.lineage.first { $0.key == "pipeline" }?.value.hasPrefix("swap{mixer=pointwise") == true)
    let distil: [any Pass] = [Distil(steps: 2, batch: 2, solve: false), Round()]
    let missing = #expect(throws: VitError.self) { try run(distil, on: swapped) }
    #expect(missing?.diagnostic.code == "teacher-missing")
    let wrong = #expect(throws: VitError.self) { try run(distil, on: swapped, teacher: swapped) }
    #expect(wrong?.diagnostic.code == "teacher-digest")
    let stepwise = try run(distil, on: swapped, teacher: teacher)
    var options = self.options(scratch)
    (options.seed, options.heldOut, options.checkpoint) = (3, 2, nil)
    let whole = try Compiler(options).compile(teacher, data, evaluation: heldOut)
    #expect(try whole.model.hybrid.firstDifference(from: stepwise.hybrid) == nil)
    let lineages = [whole.model, stepwise].map { $0.lineage.map { "\($0.key): \($0.value)" } }
    // What a compile held out and measured on is its own.
    let own = ["data: ", "evaluation: ", "held-out: ", "measured: "]
    let shared = lineages.map { $0.filter { entry in !own.contains { entry.hasPrefix($0) } } }
    #expect(shared[0] == shared[1])
  }
}
