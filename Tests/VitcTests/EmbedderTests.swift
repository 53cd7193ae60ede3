import Testing
import VitIR
import VitPasses
import VitTestSupport
import Vitc

/// What somebody writes who imports the library.
@Suite("The library as its users see it") struct EmbedderTests {
  private func teacher() throws -> Model { try Model(contentsOf: Fixture.path("teacher/fashion-vit.onnx")) }

  @Test("a session gives one row of logits a sample, and the same again on the same input") func session()
    throws
  {
    let session = try Session(teacher())
    let input = Tensor(shape: [3, 1, 28, 28], floats: (0..<3 * 784).map { Float($0 % 17) / 17 })
    let first = try session.run(input)
    #expect(first.shape == [3, 10])
    #expect(try session.run(input).floats() == first.floats())
  }

  @Test("samples in a batch compute what they compute alone, within rounding") func batch() throws {
    let session = try Session(teacher())
    let input = Tensor(shape: [2, 1, 28, 28], floats: (0..<2 * 784).map { Float($0 % 23) / 23 })
    let both = try session.run(input).floats()
    let one = try session.run(Tensor(shape: [1, 1, 28, 28], floats: Array(input.floats().prefix(784))))
      .floats()
    for (a, b) in zip(one, both) { #expect(abs(a - b) < 1e-4) }
  }

  @Test("double-precision arrays are converted, whole numbers are not") func elements() throws {
    let session = try Session(teacher())
    _ = try session.run(Tensor(.f64, shape: [1, 1, 28, 28], values: Array(repeating: 0.5, count: 784)))
    #expect(throws: VitError.self) {
      try session.run(Tensor(shape: [1, 1, 28, 28], integers: Array(repeating: 1, count: 784)))
    }
  }

  @Test("a pass of the embedder's own runs in a pipeline beside vitc's") func ownPass() throws {
    struct Rename: GraphPass {
      static let name = "rename"
      static let summary = "Gives the model a name"
      let name: String
      init(options: inout OptionReader) throws(VitError) { name = try options.value("to", default: "model") }
      var options: [(name: String, value: String)] { [("to", name)] }
      func run(on graph: inout Graph, context: PassContext) throws -> PassResult {
        graph.name = name
        return PassResult(changes: 1)
      }
    }
    let pipeline = try Pipeline("fold,rename{to=mine}", known: Pipeline.standardPasses + [Rename.self])
    #expect(pipeline.description == "fold,rename{to=mine}")
    #expect(try pipeline.run(on: teacher()).graph.name == "mine")
  }

  @Test("options that make no sense are a usage error before anything runs") func badOptions() {
    var options = CompilerOptions()
    options.replace = .fraction(0)
    #expect(throws: VitError.self) { try Compiler(options) }
    options = CompilerOptions()
    options.mixer = "nothing"
    #expect(throws: VitError.self) { try Compiler(options) }
  }

  @Test("a compile that is stopped throws so, and calls it an interruption") func stopped() throws {
    let teacher = try teacher()
    let data = try Samples("synthetic:8", for: teacher, purpose: .calibration, report: { _ in })
    let error = #expect(throws: VitError.self) {
      try Compiler().compile(teacher, data, progress: Progress(isCancelled: { true }))
    }
    #expect(error?.kind == .interrupted)
  }

  @Test("without a layer to replace channels alone go, and data are needed to find out which") func noLayers()
    throws
  {
    let teacher = try teacher()
    var options = CompilerOptions()
    (options.replace, options.maximumDrop, options.fineTuneSteps) = (.count(0), 100, 0)
    options.timeBudget = 5
    let data = try Samples("synthetic:64", for: teacher, purpose: .calibration, report: { _ in })
    var text = ""
    let result = try Compiler(options).compile(teacher, data) { event in
      if case .pipeline(let pipeline) = event { text = pipeline }
      if case .bound = event { Issue.record("nothing is replaced") }
    }
    #expect(text.hasPrefix("select{by=auto,count=0,"))
    #expect(result.report.selected.isEmpty)
    #expect(result.model.graph.parameterCount < teacher.graph.parameterCount)
    #expect(!text.contains("margins"))
    // What it is judged on is weighted by how sure the teacher is of images that it has not seen.
    let unseen = try Samples("synthetic:32", for: teacher, purpose: .calibration, report: { _ in })
    _ = try Compiler(options).compile(teacher, data, evaluation: unseen) { event in
      if case .pipeline(let pipeline) = event { text = pipeline }
    }
    let reduction = try #require(Pipeline(text).reduction)
    #expect(reduction.profile?.cuts.count == 4, "\(text)")
    let error = #expect(throws: VitError.self) { try Compiler(options).compile(teacher) }
    #expect(error?.diagnostic.code == "data-missing")
    options.select = .damage
    #expect(throws: VitError.self) { try Compiler(options) }
  }

  @Test("less time to search is fewer images that parts are measured on, and more steps") func searchTime() {
    let work = Budget.Work(
      teacher: 1e9, layers: 3e8, trials: 12, batch: 32, heldOut: 1000, evaluation: 5000, searches: 100)
    let usual = Budget(seconds: 3600, work: work)
    let short = Budget(seconds: 3600, work: work, searching: 20)
    #expect(short.searched < usual.searched && short.judged < usual.judged)
    #expect(short.searched >= 32 && short.fineTuneSteps > usual.fineTuneSteps)
    #expect(Budget(seconds: 3600, work: work, searching: 1e6) == usual)
  }

  @Test("JSON is written with sorted keys, escapes and null for what is no number") func json() {
    let value = JSON.object([
      ("b", .number(.nan)), ("a", .array([.int(1), .number(0.5), .string("\"\n\u{1}")])),
    ])
    #expect(value.line == "{\"a\":[1,0.5,\"\\\"\\n\\u0001\"],\"b\":null}")
    #expect(JSON.array([]).text == "[]\n")
    #expect(JSON.object([("k", .bool(true))]).text == "{\n  \"k\": true\n}\n")
  }

  @Test("steps follow from the budget alone, and explicit ones win") func budget() {
    let work = Budget.Work(
      teacher: 1e8, layers: 2e7, trials: 8, batch: 64, heldOut: 1000, evaluation: 5000)
    let short = Budget(seconds: 30, work: work)
    let long = Budget(seconds: 300, work: work)
    #expect(short == Budget(seconds: 30, work: work))
    #expect(long.distilSteps > 8 * short.distilSteps)
    #expect(Budget(seconds: 0.001, work: work).distilSteps == 10)
  }

  @Test(
    "all of a compile counts in its budget, and little time takes fewer images", arguments: [6e7, 1e9, 9e9])
  func budgetCountsAll(teacher: Double) {
    let work = Budget.Work(
      teacher: teacher, layers: teacher / 2, trials: 12, batch: 32, heldOut: 1000, evaluation: 50_000)
    var last = Budget(seconds: 1, work: work)
    for seconds in [60.0, 600, 3600, 7200] {
      let budget = Budget(seconds: seconds, work: work)
      // What is least has to be done, whatever the budget.
      if seconds >= 600 || teacher < 1e9 { #expect(budget.seconds <= seconds) }
      for count in [\Budget.scored, \.solved, \.judged, \.evaluated, \.distilSteps, \.fineTuneSteps] {
        #expect(budget[keyPath: count] >= last[keyPath: count])
      }
      last = budget
    }
    let rich = Budget(seconds: 1e6, work: work)
    #expect(rich.scored == Score().images && rich.judged == 1000 && rich.evaluated == 50_000)
  }

  @Test("Spearman's coefficient is 1 for the same order, -1 for the reverse, and knows ties")
  func correlation() {
    #expect(RankCorrelation.spearman([1, 2, 3], [10, 20, 90]) == 1)
    #expect(RankCorrelation.spearman([1, 2, 3], [3, 2, 1]) == -1)
    #expect(RankCorrelation.spearman([1, 1, 1], [3, 2, 1]) == nil)
    #expect(RankCorrelation.spearman([1], [1]) == nil)
    // scipy.stats.spearmanr([1, 2, 2, 4], [4, 1, 2, 9]) gives 0.31622776601683794.
    #expect(abs((RankCorrelation.spearman([1, 2, 2, 4], [4, 1, 2, 9]) ?? 0) - 0.31622776601683794) < 1e-12)
  }
}
