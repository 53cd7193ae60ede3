import Testing
import VitFormats
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

@Suite("A compile in steps") struct StepTests {
  /// What a model is after it was written to a file and read.
  private func reread(_ hybrid: Hybrid) throws -> Hybrid {
    let scratch = try Scratch()
    try VModWriter.write(VModFile(hybrid), to: scratch.file("step.vmod"))
    return try VModReader.read(path: scratch.file("step.vmod"), registry: .standard).hybrid
  }

  @Test(
    "every pass alone, from file to file with the teacher beside it, gives what one pipeline gives",
    arguments: [
      [
        "score{images=6}", "swap{layers=all}", "distil{steps=6,batch=8}", "select{by=damage,count=2}",
        "restore", "fine-tune{steps=10,batch=8}", "round{weights=f16}",
      ],
      ["score{images=6}", "select{by=entropy,count=1}", "swap{mixer=lstm}", "distil{steps=4,batch=8}"],
      [
        "swap{layers=[0]}", "distil{steps=3,batch=8}", "swap{mixer=pointwise,layers=[2]}",
        "distil{steps=3,batch=8}", "fine-tune{steps=4,batch=8,rate=0.001}", "round{weights=bf16}",
      ],
    ])
  func separable(passes: [String]) throws {
    let model = try TinyViT.model(layers: 3)
    let whole = try apply(passes.joined(separator: ","), to: model, TinyViT.context(labelled: true))
    var hybrid = try reread(model)
    for pass in passes {
      hybrid.teacher = hybrid.replaced.isEmpty ? nil : Teacher(try reread(model))
      hybrid = try reread(try apply(pass, to: hybrid, TinyViT.context(labelled: true)))
    }
    #expect(try whole.firstDifference(from: hybrid) == nil)
  }

  @Test(
    "a full lstm has the teacher's heads in every order", arguments: ["forward", "bidirectional", "cross"])
  func fullHeads(order: String) throws {
    let teacher = try TinyViT.model()
    let swapped = try apply("swap{mixer=lstm{form=full},order=\(order),layers=all}", to: teacher)
    #expect(swapped.layers.map(\.heads) == teacher.layers.map(\.heads))
    #expect(swapped.layers.allSatisfy { $0.kind == "lstm" })
    let error = #expect(throws: VitError.self) {
      try apply("swap{mixer=lstm{form=full},heads=5,layers=all}", to: teacher)
    }
    #expect(error?.kind == .usage)
  }

  @Test(
    "layers are kept up to date: looking for them anew finds the same",
    arguments: ["glr", "lstm{form=full}", "none"])
  func upToDate(mixer: String) throws {
    func places(_ hybrid: Hybrid) -> [Layer] {
      hybrid.layers.map { layer in
        var layer = layer.forgotten
        layer.node = ""
        return layer
      }
    }
    let swapped = try apply("swap{mixer=\(mixer),layers=all}", to: try TinyViT.model(layers: 3))
    #expect(places(swapped) == places(Hybrid(finding: swapped.graph)))
    let restored = try apply("select{layers=[1]},restore", to: swapped)
    #expect(places(restored) == places(Hybrid(finding: restored.graph)))
    #expect(restored.layers.map(\.choice) == [.kept, .selected, .kept])
    // Passes that know nothing of layers keep what is known.
    let folded = try apply("fold,raise,dce", to: restored)
    #expect(folded.layers.map(\.candidates) == restored.layers.map(\.candidates))
    #expect(folded.layers.map(\.choice) == restored.layers.map(\.choice))
  }

  @Test("a teacher is the model before its first layer was replaced, and nobody else's")
  func teacher() throws {
    let model = try TinyViT.model()
    #expect(try apply("score{images=2}", to: model).teacher == nil)
    let swapped = try apply("fold,swap{layers=[0]},distil{steps=1,batch=2}", to: model)
    let teacher = try #require(swapped.teacher)
    #expect(try teacher.graph.firstDifference(from: model.graph) == nil)
    #expect(teacher.layers == model.layers)
    var other = swapped
    for (wrong, reason) in [
      (try TinyViT.model(layers: 3), "it has 3 layers, the hybrid 2"),
      (try TinyViT.model(classToken: false), "layer 0 reads other tokens"),
    ] {
      other.teacher = Teacher(wrong)
      let error = #expect(throws: VitError.self) { try apply("distil{steps=1,batch=2}", to: other) }
      #expect(error?.diagnostic.code == "teacher-mismatch")
      #expect(error?.diagnostic.message.contains(reason) == true, "\(error?.description ?? "")")
    }
  }

  @Test("a teacher's constants may be called as a mixer's are, and are trained as the others are")
  func names() throws {
    let plain = try TinyViT.graph(layers: 1)
    let logits = try #require(plain.outputs.first).value
    let head = try #require(plain.nodes.first { $0.results.contains(logits) }?.operands[1])
    var options = TextOptions()
    (options.inlineFloats, options.inlineIntegers) = (.max, .max)
    let text = try plain.text(options)
    func renamed(_ name: String) throws -> Graph {
      let ends = [",", ")", " "]
      return try Graph(
        text: ends.reduce(text) { $0.replacing("@\(plain[head].name)\($1)", with: "@\(name)\($1)") },
        registry: .standard)
    }
    let pipeline = "swap{layers=all},fine-tune{steps=6,batch=8,rate=0.002}"
    func tuned(_ name: String) throws -> [Float] {
      let result = try apply(pipeline, to: Hybrid(finding: try renamed(name)))
      return try #require(result.graph.tensors[name]).floats()
    }
    #expect(try tuned("mixer.0.head") == tuned("head"))
  }

  // MARK: Controls

  @Test(
    "a control has the same layers replaced by its own mixer, whatever the pipeline",
    arguments: [
      "score{images=4},swap{layers=all},distil{steps=2,batch=4},select{by=damage,count=2},restore,fine-tune{steps=1,batch=4}",
      "score{images=4},select{by=entropy,count=1},swap{mixer=lstm,width=0.25},distil{steps=2,batch=4}",
      "swap{layers=[0,2]},distil{steps=2,batch=4}", "swap{layers=all},round",
      "swap{mixer=lstm,layers=[0]},swap{layers=[1]},distil{steps=1,batch=4}",
    ])
  func controls(text: String) throws {
    let model = try TinyViT.model(layers: 3)
    let pipeline = try Pipeline(text)
    let hybrid = try apply(text, to: model)
    let replaced = hybrid.replaced.map(\.index)
    let controls = Controls.pipelines(of: pipeline, layers: replaced)
    #expect(controls.map(\.kind) == ["none", "pointwise", "static"])
    for control in controls {
      let result = try apply(control.pipeline.description, to: model)
      #expect(result.replaced.map(\.index) == replaced)
      #expect(result.replaced.allSatisfy { $0.kind == control.kind })
      func steps(_ pipeline: Pipeline) -> [Int] { pipeline.passes.compactMap { ($0 as? Distil)?.steps } }
      #expect(steps(control.pipeline) == steps(pipeline))
    }
  }

  @Test("a pipeline whose mixers are all of a control's kind has the other controls alone")
  func ownControl() throws {
    let pipeline = Pipeline([Swap(mixer: "none", layers: .all)])
    #expect(Controls.pipelines(of: pipeline, layers: [0]).map(\.kind) == ["pointwise", "static"])
    #expect(Controls.pipelines(of: pipeline, layers: []).isEmpty)
    #expect(Controls.pipelines(of: Pipeline([Score()]), layers: [0]).isEmpty)
  }

  @Test("floors that are solved for together have the errors that each has alone")
  func floors() throws {
    let model = try TinyViT.model(layers: 3)
    let pipeline = try Pipeline("swap{mixer=lstm,layers=[0,2]},distil{steps=3,batch=4,images=8}")
    #expect(Controls.floors(of: pipeline, layers: []).map(\.distil.steps) == nil)
    let (swaps, distil) = try #require(Controls.floors(of: pipeline, layers: [0, 2]))
    #expect(swaps.map(\.kind) == ["none", "pointwise", "static"])
    let hybrids = try swaps.map { try apply(Pipeline([$0.swap]).description, to: model) }
    let errors = try distil.solvedErrors(of: hybrids, phase: "floors", context: TinyViT.context())
    for (hybrid, errors) in zip(hybrids, errors) {
      let alone = try apply(Pipeline([distil]).description, to: hybrid)
      for layer in alone.replaced {
        #expect(errors[layer.index] == layer.candidates.last?.error)
      }
      #expect(Set(errors.keys) == [0, 2])
    }
    #expect(errors[0] != errors[1] && errors[1] != errors[2])
  }

  // MARK: Precision

  @Test(
    "steps with products in bfloat16 come as far as those in floats, with the same bits on any number of threads",
    arguments: [
      "swap{mixer=glr,layers=all},distil{steps=30,batch=8,rate=0.01,solve=false,precision=bf16}",
      "swap{mixer=lstm,layers=[0]},fine-tune{steps=10,batch=8,rate=0.001,precision=bf16}",
    ])
  func bfloat16(text: String) throws {
    let model = try TinyViT.model()
    func run(_ text: String, threads: Int = 1) throws -> (hybrid: Hybrid, loss: Double, notes: [String]) {
      let context = TinyViT.context(threads: threads, count: 16)
      var notes: [String] = []
      context.report = { notes.append($0.code) }
      var hybrid = model
      let results = try Pipeline(text).run(on: &hybrid, context: context)
      return (hybrid, try #require(results.last?.curves.first?.points.last?.loss), notes)
    }
    let narrow = try run(text)
    let plain = try run(text.replacing(",precision=bf16", with: ""))
    #expect(abs(narrow.loss - plain.loss) < 0.02 * plain.loss)
    #expect(try narrow.hybrid.weightBytes() == run(text, threads: 2).hybrid.weightBytes())
    let isNarrow = try narrow.hybrid.weightBytes() != plain.hybrid.weightBytes()
    #expect(isNarrow == Machine.isFasterInBrainFloats)
    #expect(narrow.notes.contains("no-bf16") != Machine.isFasterInBrainFloats)
    #expect(try Pipeline(text).description.contains("precision=bf16"))
  }

  // MARK: Divergence

  @Test("a layer whose training goes astray says so with its step and rate, and keeps better weights")
  func divergence() throws {
    let context = TinyViT.context()
    var reports: [Diagnostic] = []
    context.report = { reports.append($0) }
    var hybrid = try apply("swap{layers=all}", to: try TinyViT.model(), context)
    let results = try Pipeline([Distil(steps: 12, batch: 8, rate: 1e6, clip: 1e9)]).run(
      on: &hybrid, context: context)
    let found = try #require(results.first?.divergences.first)
    #expect(found.pass == "distil" && found.step < 12 && found.rate > 0)
    let layer = try #require(hybrid.layers.first { $0.index == found.layer })
    #expect(layer.candidates.last?.divergence == Layer.Divergence(step: found.step, rate: found.rate))
    let said = reports.filter { $0.code == "diverged" }
    #expect(said.count == results[0].divergences.count)
    #expect(
      said[0].message.hasPrefix("distil: layer \(layer.index) diverges at step \(found.step + 1), rate "))
    #expect(hybrid.layers.allSatisfy { ($0.candidates.last?.error ?? 2) < 1 })
  }

  @Test("fine-tuning that goes astray says so, backs off once, and keeps what was there")
  func fineTuneDivergence() throws {
    let context = TinyViT.context()
    var reports: [Diagnostic] = []
    context.report = { reports.append($0) }
    var hybrid = try apply("swap{layers=[1]},distil{steps=2,batch=8}", to: try TinyViT.model(), context)
    let before = try hybrid.weightBytes()
    let results = try Pipeline([FineTune(steps: 10, batch: 8, rate: 1e30, clip: 1e30)]).run(
      on: &hybrid, context: context)
    #expect(!results[0].divergences.isEmpty)
    #expect(results[0].divergences.allSatisfy { $0.pass == "fine-tune" && $0.layer == nil && $0.rate > 0 })
    #expect(reports.contains { $0.code == "diverged" && $0.message.contains("training diverges at step") })
    #expect(try hybrid.weightBytes() == before)
  }

  @Test("a rate that only makes things worse at first is backed off, which is no divergence")
  func backOff() throws {
    let context = TinyViT.context()
    var reports: [Diagnostic] = []
    context.report = { reports.append($0) }
    var hybrid = try apply(
      "swap{layers=[1]},distil{steps=40,batch=8}", to: try TinyViT.model(layers: 3), context)
    let results = try Pipeline([FineTune(steps: 40, batch: 8, rate: 0.01)]).run(on: &hybrid, context: context)
    #expect(results[0].divergences.isEmpty)
    #expect(results[0].notes.first?.hasPrefix("rate 0.0025, ") == true)
    #expect(reports.map(\.code) == ["back-off"])
    #expect(reports.first?.message.hasPrefix("fine-tune: backs off at step 5, rate ") == true)
  }

  @Test(
    "a pass that works on mixers says where there are none", arguments: ["distil", "fine-tune", "restore"])
  func nothingReplaced(pass: String) throws {
    let context = TinyViT.context()
    var reports: [Diagnostic] = []
    context.report = { reports.append($0) }
    let model = try TinyViT.model()
    let after = try apply(pass, to: model, context)
    #expect(reports.map(\.code) == ["nothing-replaced"])
    #expect(reports.first?.message == "\(pass): no layer of the model is replaced, so there is nothing to do")
    #expect(try after.firstDifference(from: model) == nil)
  }

  // MARK: Outputs

  /// Samples with these labels.
  private struct Labelled: SampleSource {
    let labels: [Int?]
    var count: Int { labels.count }
    let shape = [3, 8, 8]
    func label(_ index: Int) -> Int? { labels[index] }
    func read(_ index: Int, variant: UInt64?, into target: UnsafeMutableBufferPointer<Float>) {
      for place in target.indices { target[place] = Float(place % 7) / 7 + Float(index) }
    }
  }

  @Test("what outputs mean is decided from all labels, in no order, and foreign ones are said and left out")
  func outputKind() throws {
    let graph = try TinyViT.graph()
    var reports: [Diagnostic] = []
    func kind(_ labels: [[Int?]]) -> OutputKind {
      OutputKind(graph, data: labels.map(Labelled.init)) { reports.append($0) }
    }
    #expect(kind([[99, 1, nil], [2]]) == .classes)
    #expect(kind([[2], [1, 99]]) == .classes)
    #expect(reports.map(\.code) == ["label-range", "label-range"])
    #expect(reports.first?.message.hasPrefix("1 of 3 labels are no class of the model") == true)
    #expect(kind([[99, 98]]) == .values && kind([[nil]]) == .classes && kind([]) == .classes)
    let context = PassContext(pool: SerialPool(), registry: .standard)
    let data = Labelled(labels: [99, 1, 2])
    let meter = try FidelityMeter(teacher: graph, data: data, context: context)
    let accuracy = try #require(meter.teacherScores?.rate)
    #expect([0, 0.5, 1].contains(accuracy))
  }

  @Test("a model without outputs cannot be measured, and says so") func noOutputs() throws {
    var graph = try TinyViT.graph()
    graph.outputs = []
    let context = TinyViT.context()
    let error = #expect(throws: VitError.self) {
      try FidelityMeter(teacher: graph, data: try #require(context.heldOut), context: context)
    }
    #expect(error?.diagnostic.code == "no-outputs")
  }
}
