import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime

struct PipelineTests {
  @Test(
    "the canonical text has every option, and reading it gives it again",
    arguments: [
      ("fold", "fold"),
      (" fold , raise,dce", "fold,raise,dce"),
      ("score", "score{images=128,drop=true}"),
      ("score{ images = 3 }", "score{images=3,drop=true}"),
      ("select", "select{by=damage,fraction=0.5}"),
      ("select{by=top-mass,count=4}", "select{by=top-mass,count=4}"),
      ("select{layers=[3,5]}", "select{layers=[3,5]}"),
      ("select{layers=3}", "select{layers=[3]}"),
      ("swap", "swap{mixer=glr,order=bidirectional,placement=last,prefix=auto,layers=selected,images=128}"),
      (
        "swap{mixer=lstm,width=0.25,heads=4,order=cross,layers=[0, 2]}",
        "swap{mixer=lstm{form=narrow},width=0.25,heads=4,order=cross,placement=last,"
          + "prefix=auto,layers=[0,2],images=128}"
      ),
      (
        "swap{layers=all}",
        "swap{mixer=glr,order=bidirectional,placement=last,prefix=auto,layers=all,images=128}"
      ),
      ("distil{steps=9}", "distil{steps=9,batch=64,rate=0.002,clip=1.0,solve=true,images=256,match=output}"),
      ("fine-tune", "fine-tune{steps=200,batch=64,rate=auto,clip=1.0,temperature=2.0,train=all}"),
      (
        "fine-tune{rate=1e-4}",
        "fine-tune{steps=200,batch=64,rate=0.0001,clip=1.0,temperature=2.0,train=all}"
      ),
      ("restore{}", "restore"), ("raise", "raise"), ("raise{max-rewrites=3}", "raise{max-rewrites=3}"),
    ])
  func canonical(_ text: String, _ expected: String) throws {
    let pipeline = try Pipeline(text)
    #expect(pipeline.description == expected)
    #expect(try Pipeline(pipeline.description).description == expected)
  }

  @Test(
    "what is wrong is named",
    arguments: [
      (
        "fuse", "unknown pass 'fuse'", "unknown-pass",
        "the passes are dce, depth, dequantise, distil, factorise, fine-tune, fix-size, fold, head, lower, merge, open-batch, own-prefix, prune, quantise, raise, restore, retain, round, score, select, share, solve, swap, trim"
          as String?
      ),
      (
        "select{n=1}", "select: unknown option 'n'", "option-unknown",
        "its options are group, by, threshold, count, fraction, layers, images"
      ),
      ("fold{deep=true}", "fold: unknown option 'deep'", "option-unknown", "it has no options"),
      ("swap{mixr=glr}", "swap: unknown option 'mixr'", "option-unknown", "did you mean 'mixer'?"),
      (
        "select{by=damge}",
        "select: option 'by' cannot be 'damge' (expected one of \(Select.Criterion.allCases.map(\.rawValue).joined(separator: ", ")))",
        "option-value", "did you mean 'damage'?"
      ),
      ("select{count=x}", "select: option 'count' cannot be 'x' (expected Int)", "option-value", nil),
      ("score{drop=maybe}", "score: option 'drop' cannot be 'maybe' (expected Bool)", "option-value", nil),
      (
        "select{by=size}",
        "select: option 'by' cannot be 'size' (expected one of auto, damage, entropy, gini, hoyer, top-mass, "
          + "distance, dependence, cosine, conv, drop, first, last, random, alternate)", "option-value", nil
      ),
      (
        "select{layers=[1,x]}", "select: option 'layers' cannot be '[1,x]' (expected numbers as in [3,5])",
        "option-value", nil
      ),
      (
        "select{layers=[]}", "select: option 'layers' cannot be '[]' (expected numbers as in [3,5])",
        "option-value", nil
      ),
      (
        "select{count=0}", "select: expected a count and images of at least 1 and a fraction in (0, 1]",
        "option-value",
        nil
      ),
      (
        "select{fraction=1.5}", "select: expected a count and images of at least 1 and a fraction in (0, 1]",
        "option-value", nil
      ),
      (
        "select{fraction=nan}", "select: expected a count and images of at least 1 and a fraction in (0, 1]",
        "option-value", nil
      ),
      (
        "raise{max-rewrites=-1}",
        "raise: option 'max-rewrites' cannot be '-1' (expected a number of at least 0)", "option-value", nil
      ),
      ("score{images=0}", "score: expected at least one image", "option-value", nil),
      (
        "distil{rate=-1}", "distil: expected rate > 0, clip > 0 and images > 0", "option-value",
        nil
      ),
      (
        "distil{rate=inf}", "distil: expected rate > 0, clip > 0 and images > 0", "option-value",
        nil
      ),
      (
        "fine-tune{rate=fast}",
        "fine-tune: option 'rate' cannot be 'fast' (expected a number above 0, or auto)", "option-value", nil
      ),
      (
        "fine-tune{batch=0}",
        "fine-tune: expected steps in 0…100000000 and a batch in 1…65536, found 200 and 0",
        "option-value", nil
      ),
      (
        "swap{mixer=rnn}",
        "unknown mixer 'rnn', expected one of 'conv', 'glr', 'lstm', 'mamba', 'none', 'pointwise', 'retention', 'ssd', 'static'",
        "unknown-mixer", nil
      ),
      (
        "swap{layers=some}", "swap: option 'layers' cannot be 'some' (expected numbers as in [3,5])",
        "option-value", nil
      ),
      (
        "select{count=1,count=2}", "option 'count' is given twice in 'select{count=1,count=2}'",
        "option-twice",
        nil
      ),
    ])
  func errors(_ text: String, _ message: String, _ code: String, _ help: String?) {
    #expect(throws: VitError(message, kind: .usage, code: code, help: help)) { try Pipeline(text) }
  }

  @Test(
    "text that is no pipeline is malformed",
    arguments: ["", ",", "fold,", "fold}", "select{count=1", "select{count}", "select{count=1}x", "fold{[}"])
  func malformed(_ text: String) throws {
    let error = #expect(throws: VitError.self) { try Pipeline(text) }
    #expect(error?.diagnostic.code == "pipeline-syntax")
    #expect(error?.diagnostic.help == "write passes as name{option=value,…}, separated by commas")
    #expect(error?.kind == .usage)
  }

  /// A pass of an embedder.
  private struct Rename: Pass {
    static let name = "rename"
    static let summary = "Renames the graph, or fails"
    let to: String
    init(options: inout OptionReader) throws(VitError) { to = try options.value("to", default: "new") }
    var options: [(name: String, value: String)] { [("to", to)] }
    func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
      guard to != "fail" else { throw VitError("no name", code: "test") }
      hybrid.graph.name = to
      return PassResult(changes: 1, notes: ["renamed"])
    }
  }

  private final class Log: PassObserver {
    let name: String
    let write: (String) -> Void
    init(_ name: String, _ write: @escaping (String) -> Void) {
      self.name = name
      self.write = write
    }
    func before(_ pass: any Pass, _ hybrid: Hybrid) { write("\(name) before \(hybrid.graph.name)") }
    func after(_ pass: any Pass, _ hybrid: Hybrid, _ result: Result<PassResult, any Error>) {
      switch result {
      case .success(let value): write("\(name) after \(hybrid.graph.name) \(value.changes)")
      case .failure: write("\(name) failed")
      }
    }
  }

  @Test("observers hear of each pass in order before it and in reverse after it, also when it fails")
  func observers() throws {
    var hybrid = Hybrid(Graph(name: "old"))
    var lines: [String] = []
    let observers = ["a", "b"].map { name in Log(name) { lines.append($0) } }
    let pipeline = try Pipeline("rename,rename{to=fail}", known: Pipeline.standardPasses + [Rename.self])
    let context = PassContext(pool: SerialPool(), registry: .standard)
    #expect(throws: VitError("no name", code: "test")) {
      try pipeline.run(on: &hybrid, context: context, observers: observers)
    }
    #expect(
      lines == [
        "a before old", "b before old", "b after new 1", "a after new 1", "a before new", "b before new",
        "b failed", "a failed",
      ])
  }

  @Test("a user who wants to stop is heard between passes")
  func cancelled() throws {
    var hybrid = Hybrid(Graph(name: "old"))
    let context = PassContext(pool: SerialPool(), registry: .standard)
    context.isCancelled = { true }
    #expect(throws: VitError("interrupted", kind: .interrupted, code: "interrupted")) {
      try Pipeline("fold").run(on: &hybrid, context: context)
    }
  }

  @Test(
    "a pass that lacks data or the model it compares with says so",
    arguments: [
      ("score", "score needs data", "data-missing"),
      ("restore", "restore needs the model that the layers were replaced in", "teacher-missing"),
      ("distil", "distil needs the model that the layers were replaced in", "teacher-missing"),
    ])
  func missing(_ pass: String, _ message: String, _ code: String) throws {
    var hybrid = try apply("swap{layers=all}", to: try TinyViT.model())
    hybrid.teacher = nil
    let context = PassContext(pool: SerialPool(), registry: .standard)
    let error = #expect(throws: VitError.self) { try Pipeline(pass).run(on: &hybrid, context: context) }
    #expect(error?.diagnostic.message == message)
    #expect(error?.diagnostic.code == code)
    #expect(error?.kind == .usage)
  }
}
