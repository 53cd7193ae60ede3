import Foundation
import FoundationXML
import Testing
import VitFormats
import VitIR
import VitTestSupport
import Vitc

/// A hybrid of the tiny teacher, and a golden of it.
private struct Kept {
  let tiny: TinyModel

  init(_ options: [String] = []) throws {
    tiny = try TinyModel()
    #expect(try compile().status == 0)
    let made = try run(["golden", "init", "goldens", "h.vmod"] + options)
    #expect(made.status == 0, "\(made.errors)")
    #expect(made.output.contains("wrote goldens/h.json"))
  }

  @discardableResult
  func compile(_ more: [String] = ["--mixer", "glr"]) throws -> Tool.Result {
    try tiny.run(TinyModel.compile + ["-o", "h.vmod", "--report", "r.json"] + more)
  }

  func run(_ words: [String]) throws -> Tool.Result { try tiny.run(words) }

  /// The results that are not as they should be, by what was checked.
  func broken(_ words: [String]) throws -> [String: [[String: Any]]] {
    let result = try run(words + ["--json"])
    #expect(result.status == 1, "\(result.output)\(result.errors)")
    #expect(try Schema("check").problems(result.output) == [])
    let models = try #require(try result.json["models"] as? [[String: Any]])
    let results = models.flatMap { $0["results"] as? [[String: Any]] ?? [] }
    return Dictionary(grouping: results.filter { $0["verdict"] as? String == "fails" }) {
      $0["check"] as? String ?? ""
    }
  }

  /// Scales one tensor of the file, and says which: the first weight of the last perceptron.
  @discardableResult
  func drift(by factor: Double = 1.2) throws -> String {
    let path = tiny.scratch.file("h.vmod")
    var file = try VModReader.read(path: path, registry: .vitc)
    let node = try #require(file.hybrid.graph.nodes.last { $0.name == "vit.mlp" })
    let weight = try #require(node.operands[1])
    let tensor = try #require(file.hybrid.graph.tensor(weight))
    file.hybrid.graph.setTensor(
      Tensor(tensor.element, shape: tensor.shape, values: try tensor.doubles().map { $0 * factor }),
      of: weight)
    try VModWriter.write(file, to: path)
    return file.hybrid.graph[weight].name
  }
}

@Suite("Checks and goldens") struct CheckTests {
  @Test("a recompile is as recorded, and so is one whose file alone is another") func recompile() throws {
    let kept = try Kept()
    #expect(
      try Schema("golden").problems(
        String(contentsOfFile: kept.tiny.scratch.file("goldens/h.json"), encoding: .utf8)) == [])
    try kept.compile()
    let same = try kept.run(["golden", "check", "goldens"])
    #expect(same.status == 0, "\(same.output)\(same.errors)")
    #expect(same.output.contains("all hold") && !same.output.contains("drift"))
    // The same numbers in another file.
    let path = kept.tiny.scratch.file("h.vmod")
    var file = try VModReader.read(path: path, registry: .vitc)
    file.lineage = file.lineage.map { $0.key == "seed" ? ("seed", "17") : $0 }
    try VModWriter.write(file, to: path)
    let other = try kept.run(["golden", "check", "goldens"])
    #expect(other.status == 0, "\(other.output)\(other.errors)")
    #expect(other.output.contains("drift: bytes\n"), "\(other.output)")
    #expect(other.output.contains("seed is '17' and was '0'"), "\(other.output)")
    #expect(try kept.run(["golden", "bless", "goldens", "--allow", "nothing"]).status == 0)
    try kept.compile()  // With the seed that it had.
    #expect(try kept.broken(["golden", "check", "goldens"]).keys.sorted() == ["bytes"])
  }

  @Test("a tensor that moved is named, about how far, and where values begin to differ") func tensor() throws
  {
    let kept = try Kept()
    let name = try kept.drift()
    let broken = try kept.broken(["golden", "check", "goldens"])
    #expect(broken.keys.sorted() == ["output", "tensor"])
    #expect(broken["tensor"]?.map { $0["place"] as? String } == [name])
    // A fifth, by a sum of eight.
    let found = try #require(broken["tensor"]?.first?["found"] as? String)
    let part = try #require(found.split(separator: " ").compactMap { Double($0) }.first)
    #expect((8.0...32).contains(part), "\(found)")
    let text = try kept.run(["golden", "check", "goldens"])
    #expect(text.output.contains("drift: bytes, numbers, behaviour"), "\(text.output)")
    #expect(text.output.contains("others from here on"), "\(text.output)")
    #expect(text.output.contains("vit.mlp"), "\(text.output)")
    // Too little to see in the outputs: allowed only where tensors may move.
    try kept.compile()
    try kept.drift(by: 1 + 1e-3)
    #expect(try kept.broken(["golden", "check", "goldens"]).keys.sorted() == ["tensor"])
    #expect(try kept.run(["golden", "init", "free", "h.vmod", "--allow", "numbers"]).status == 0)
    try kept.compile()
    let free = try kept.run(["golden", "check", "free"])
    #expect(free.status == 0, "\(free.output)")
    #expect(free.output.contains("drift: bytes, numbers\n"), "\(free.output)")
  }

  @Test("a layer of another kind is named") func layer() throws {
    let kept = try Kept()
    try kept.compile(["--mixer", "conv"])
    let broken = try kept.broken(["golden", "check", "goldens"])
    let layer = try #require(broken["layer"]?.first)
    #expect(layer["place"] as? String == "layer 0")
    #expect((layer["expected"] as? String)?.hasPrefix("glr ") == true)
    #expect((layer["found"] as? String)?.hasPrefix("conv ") == true)
    #expect(broken["size"]?.count == 1)
    // Against the report of the compile as well.
    try kept.compile()
    #expect(try kept.run(["check", "h.vmod", "--against", "r.json"]).status == 0)
    #expect(try kept.run(TinyModel.compile + ["-o", "c.vmod", "--mixer", "conv"]).status == 0)
    let against = try kept.broken(["check", "c.vmod", "--against", "r.json"])
    #expect(against["layer"]?.map { $0["found"] as? String } == ["conv"])
  }

  @Test("limits that are passed fail, those of a golden and those of options") func limits() throws {
    let kept = try Kept(["--max-params", "10"])
    var broken = try kept.broken(["golden", "check", "goldens"])
    #expect(broken.keys.sorted() == ["max-params"])
    broken = try kept.broken(["check", "h.vmod", "--against", "goldens/h.json", "--max-bytes", "1K"])
    #expect(broken.keys.sorted() == ["max-bytes", "max-params"])
    // An option goes before what the golden says.
    let loose = try kept.run(["golden", "check", "goldens", "--max-params", "100000000"])
    #expect(loose.status == 0, "\(loose.output)")
    let bounds = [
      "--max-flops", "1000000000", "--max-params", "100000000", "--max-bytes", "1G", "--max-ms-ratio", "1e9",
    ]
    let all = try kept.run(["check", "h.vmod", "--teacher", "t.vmod"] + bounds)
    #expect(all.status == 0, "\(all.output)\(all.errors)")
    #expect(
      try kept.broken(["check", "h.vmod", "--teacher", "t.vmod", "--max-ms-ratio", "1e-9"]).keys.sorted()
        == ["max-ms-ratio"])
    // What nobody measured does not pass.
    #expect(try kept.broken(["check", "h.vmod", "--max-ms-ratio", "1e9"]).keys.sorted() == ["max-ms-ratio"])
    #expect(try kept.broken(["check", "t.vmod", "--min-accuracy", "0"]).keys.sorted() == ["min-accuracy"])
  }

  @Test("accuracy and closeness are held on the data, which may lie elsewhere") func scores() throws {
    let measured = ["--data", "data", "--teacher", "t.vmod"]
    let kept = try Kept(measured)
    let fine = try kept.run(["golden", "check", "goldens"])
    #expect(fine.status == 0, "\(fine.output)\(fine.errors)")
    #expect(fine.output.contains("agreement") && fine.output.contains("kl"))
    // Paths are from the golden's folder, wherever it is looked at from.
    let elsewhere = try Tool.run("golden", "check", kept.tiny.scratch.file("goldens"))
    #expect(elsewhere.status == 0, "\(elsewhere.output)\(elsewhere.errors)")
    let text = try String(contentsOfFile: kept.tiny.scratch.file("goldens/h.json"), encoding: .utf8)
    #expect(text.contains("\"../data\"") && text.contains("\"../t.vmod\"") && text.contains("\"../h.vmod\""))
    #expect(!text.contains(kept.tiny.scratch.path))

    try FileManager.default.moveItem(
      atPath: kept.tiny.scratch.file("data"), toPath: kept.tiny.scratch.file("moved"))
    #expect(try kept.broken(["golden", "check", "goldens"])["scores"]?.count == 1)
    let refused = try kept.run(["golden", "bless", "goldens"])
    #expect(refused.status == 3 && refused.errors.contains("--data D"), "\(refused.errors)")
    #expect(try String(contentsOfFile: kept.tiny.scratch.file("goldens/h.json"), encoding: .utf8) == text)
    let moved = try kept.run(["golden", "check", "goldens", "--data", "moved"])
    #expect(moved.status == 0, "\(moved.output)")
    try kept.tiny.scratch.write(Fixture.bytes("formats/rgb.png"), to: "moved/a/9.png")
    let others = try kept.broken(["golden", "check", "goldens", "--data", "moved"])
    #expect("\(others["scores"] ?? [])".contains("not comparable"))

    let bounds = ["--min-accuracy", "0", "--max-drop", "100", "--min-agreement", "0", "--max-kl", "1e6"]
    let held = try kept.run(["check", "h.vmod", "--data", "moved", "--teacher", "t.vmod"] + bounds)
    #expect(held.status == 0, "\(held.output)\(held.errors)")
    #expect(held.output.contains("on 9 images"), "\(held.output)")
    #expect(
      try kept.broken(["check", "h.vmod", "--data", "moved", "--min-accuracy", "1"]).keys.sorted()
        == ["min-accuracy"])
  }

  @Test("what is there is blessed, with the limits and tolerances that there were") func bless() throws {
    let kept = try Kept(["--max-params", "100000000", "--tolerance", "0.5", "--points", "3"])
    try kept.compile(["--mixer", "conv"])
    let blessed = try kept.run(["golden", "bless", "goldens"])
    #expect(blessed.status == 0, "\(blessed.errors)")
    #expect(blessed.output.contains("FAILED") && blessed.output.contains("wrote goldens/h.json"))
    let now = try kept.run(["golden", "check", "goldens"])
    #expect(now.status == 0 && now.output.contains("max-params"), "\(now.output)")
    let text = try String(contentsOfFile: kept.tiny.scratch.file("goldens/h.json"), encoding: .utf8)
    #expect(text.contains("\"outputs\": 0.5") && text.contains("\"points\": 3"))
    // Twice the same is the same text.
    #expect(try kept.run(["golden", "bless", "goldens"]).status == 0)
    #expect(try String(contentsOfFile: kept.tiny.scratch.file("goldens/h.json"), encoding: .utf8) == text)
  }

  @Test("JUnit and SARIF say the same to build systems") func forms() throws {
    let kept = try Kept(["--max-params", "10"])
    let name = try kept.drift()
    let result = try kept.run(["golden", "check", "goldens", "--junit", "j.xml", "--sarif", "s.sarif"])
    #expect(result.status == 1)
    let xml = try Data(contentsOf: URL(fileURLWithPath: kept.tiny.scratch.file("j.xml")))
    let cases = Cases()
    let parser = XMLParser(data: xml)
    parser.delegate = cases
    #expect(parser.parse(), "\(String(decoding: xml, as: UTF8.self))")
    #expect(cases.failed.contains("tensor \(name)") && cases.failed.contains("max-params"), "\(cases.failed)")
    #expect(cases.tests > cases.failed.count && !cases.failed.contains { $0.hasPrefix("layer") })
    #expect(cases.counted == [cases.tests, cases.failed.count])

    let data = try Data(contentsOf: URL(fileURLWithPath: kept.tiny.scratch.file("s.sarif")))
    let sarif = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    #expect(sarif["version"] as? String == "2.1.0")
    let run = try #require((sarif["runs"] as? [[String: Any]])?.first)
    let results = try #require(run["results"] as? [[String: Any]])
    let driver = try #require((run["tool"] as? [String: Any])?["driver"] as? [String: Any])
    let rules = Set(try #require(driver["rules"] as? [[String: Any]]).compactMap { $0["id"] as? String })
    #expect(results.allSatisfy { rules.contains($0["ruleId"] as? String ?? "") })
    let errors = results.filter { $0["level"] as? String == "error" }.compactMap { $0["ruleId"] as? String }
    #expect(Set(errors) == ["tensor", "output", "max-params"])
    #expect("\(results)".contains(name) && "\(results)".contains("goldens/h.json"))
  }

  @Test(
    "a golden that is damaged is refused with the place",
    arguments: [
      ("\"layers\": [", "\"layers\": [3,", "'layers[0]' is no text"),
      ("\"allow\": \"bytes\"", "\"allow\": \"all\"", "expected nothing, bytes, numbers"),
      ("\"budgets\": {}", "\"budgets\": {\"max-param\": 3}", "'max-param', which is no limit"),
      ("\"outputs\": [", "\"outputs\": [], \"others\": [", "not those that 'interface' names"),
      ("\"values\":[", "\"values\":[1,", "as many numbers as an output of [1, 5] has"),
      ("\"shape\":[1,5]", "\"shape\":[4611686018427387904,4]", "an output of [4611686018427387904, 4]"),
      ("\"flops\":", "\"flop\":", "no 'flops'"), ("vitc.golden/1", "vitc.golden/9", "found 'vitc.golden/9'"),
      ("\"points\": 0.5", "\"points\": [", "JSON"), ("\"sums\":[", "\"sums\":[1,", "list of 8 numbers"),
    ])
  func damaged(old: String, new: String, message: String) throws {
    let kept = try Kept()
    let path = kept.tiny.scratch.file("goldens/h.json")
    let text = try String(contentsOfFile: path, encoding: .utf8)
    #expect(text.contains(old))
    try text.replacingOccurrences(of: old, with: new).write(toFile: path, atomically: true, encoding: .utf8)
    let result = try kept.run(["golden", "check", "goldens"])
    #expect(result.status == 3 && result.errors.contains(message), "\(result.errors)")
    #expect(result.errors.contains("goldens"))
  }

  @Test("goldens are not overwritten, and what is wrong is said") func usage() throws {
    let kept = try Kept()
    let wrong: [([String], Int32, String)] = [
      (["golden", "init", "goldens", "h.vmod"], 2, "there already"),
      (["golden", "check", "goldens", "t.vmod"], 2, "no golden in 'goldens' is of 't.vmod'"),
      (["golden", "check", "data"], 3, "no goldens lie here"),
      (["golden", "check", "nowhere"], 3, "nowhere"),
      (["golden", "show", "goldens"], 2, "unknown action 'show'"),
      (["golden", "check", "goldens", "--tolerance", "1"], 2, "init and bless"),
      (["golden", "init", "goldens"], 2, "needs MODEL"), (["check", "h.vmod"], 2, "nothing to hold"),
      (["check", "h.vmod", "--min-accuracy", "96"], 2, "a part of one"),
      (["golden", "check", "goldens", "h.vmod", "goldens/h.vmod"], 2, "have one name"),
      (["golden", "init", "goldens", ".h.vmod"], 2, "no name"),
      (["check", "h.vmod", "--against", "h.vmod"], 3, "JSON"),
      (["check", "h.vmod", "--against", "preprocessor_config.json"], 3, "expected a report"),
      (["check", "h.vmod", "--max-params", "1", "--junit", "h.vmod"], 2, "--junit"),
      (["golden", "check", "goldens", "--sarif", "goldens/h.json"], 2, "reads"),
    ]
    for (words, status, message) in wrong {
      let result = try kept.run(words)
      #expect(result.status == status && result.errors.contains(message), "\(words): \(result.errors)")
    }
    #expect(try kept.run(["golden", "check", "goldens", "h.vmod"]).status == 0)
  }

  @Test("a report that is damaged holds nothing", arguments: ["hybrid", "layers"])
  func damagedReport(member: String) throws {
    let kept = try Kept()
    let path = kept.tiny.scratch.file("r.json")
    var report = try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: path))) as? [String: Any])
    report[member] = nil
    try JSONSerialization.data(withJSONObject: report).write(to: URL(fileURLWithPath: path))
    let result = try kept.run(["check", "h.vmod", "--against", "r.json"])
    #expect(result.status == 3 && result.errors.contains("the report has no '\(member)"), "\(result.errors)")
  }

  @Test("of several models one that is gone fails, and the others are looked at") func gone() throws {
    let kept = try Kept()
    #expect(try kept.run(["golden", "init", "goldens", "t.vmod"]).status == 0)
    try FileManager.default.removeItem(atPath: kept.tiny.scratch.file("h.vmod"))
    let result = try kept.run(["golden", "check", "goldens", "--junit", "j.xml"])
    #expect(result.status == 1, "\(result.errors)")
    #expect(
      result.output.contains("FAILED  model") && result.output.contains("t.vmod against goldens/t.json"))
    let before = try String(contentsOfFile: kept.tiny.scratch.file("goldens/t.json"), encoding: .utf8)
    #expect(try kept.run(["golden", "bless", "goldens"]).status == 3)
    #expect(try String(contentsOfFile: kept.tiny.scratch.file("goldens/t.json"), encoding: .utf8) == before)
    // Nothing is left of a golden that was not made.
    #expect(try kept.run(["golden", "init", "new", "t.vmod", "h.vmod"]).status == 3)
    #expect(!FileManager.default.fileExists(atPath: kept.tiny.scratch.file("new")))
  }

  /// A graph of text, as a model.
  private static func text(_ body: String, _ results: String, tensor: String = "[1, 2, 3, 4]") -> String {
    """
    version 2
    graph "g" (%x: f32[batch, 4], %y: f32[batch, 4]) -> (\(results)) {
      tensor @p : f32[4] = \(tensor)
      tensor @q : f32[4] = [1, 0.5, 0.25, 2]
    \(body)
    }

    """
  }

  @Test(
    "what is wired otherwise is told",
    arguments: [
      (
        "  %a = onnx.Sub(%y, %x) : f32[batch, 4]\n  %b = onnx.Mul(%a, @p) : f32[batch, 4]", "a = %b, b = %a",
        "operation"
      ),
      (
        "  %a = onnx.Sub(%x, %y) : f32[batch, 4]\n  %b = onnx.Mul(%a, @q) : f32[batch, 4]", "a = %b, b = %a",
        "operation"
      ),
      (
        "  %a = onnx.Sub(%x, %y) : f32[batch, 4]\n  %b = onnx.Mul(%a, @p) : f32[batch, 4]", "b = %a, a = %b",
        "interface"
      ),
      (
        "  %a = onnx.Sub(%x, %y) : f32[batch, 4]\n  %b = onnx.Mul(%a, @p) : f32[batch, 4]", "a = %b, c = %a",
        "output"
      ),
    ])
  func wiring(body: String, results: String, check: String) throws {
    let scratch = try Scratch()
    let before = CheckTests.text(
      "  %a = onnx.Sub(%x, %y) : f32[batch, 4]\n  %b = onnx.Mul(%a, @p) : f32[batch, 4]", "a = %b, b = %a")
    try scratch.write(Array(before.utf8), to: "m.vit")
    let made = try Tool.run("golden", "init", "g", "m.vit", "--tolerance", "1000", in: scratch.path)
    #expect(made.status == 0, "\(made.errors)")
    try scratch.write(Array(CheckTests.text(body, results).utf8), to: "m.vit")
    let result = try Tool.run("golden", "check", "g", "--json", in: scratch.path)
    #expect(result.status == 1, "\(result.output)\(result.errors)")
    let models = try #require(try result.json["models"] as? [[String: Any]])
    let failed = try #require(models.first?["results"] as? [[String: Any]])
      .filter { $0["verdict"] as? String == "fails" }.compactMap { $0["check"] as? String }
    #expect(failed.contains(check), "\(failed)")
  }

  @Test("outputs that are no numbers are held to that") func infinite() throws {
    let scratch = try Scratch()
    let body = "  %a = onnx.Div(%x, @p) : f32[batch, 4]\n  %b = onnx.Add(%a, %y) : f32[batch, 4]"
    try scratch.write(Array(CheckTests.text(body, "b = %b", tensor: "[1, 0, 2, 0]").utf8), to: "m.vit")
    #expect(try Tool.run("golden", "init", "g", "m.vit", in: scratch.path).status == 0)
    let same = try Tool.run("golden", "check", "g", in: scratch.path)
    #expect(same.status == 0, "\(same.output)\(same.errors)")
    try scratch.write(Array(CheckTests.text(body, "b = %b", tensor: "[1, 3, 2, 0]").utf8), to: "m.vit")
    let other = try Tool.run("golden", "check", "g", in: scratch.path)
    #expect(other.status == 1 && other.output.contains("numbers where there are none"), "\(other.output)")
  }

  @Test("two exports of one network differ in form and agree in behaviour") func behaviour() throws {
    let pair = ["script17", "rewritten14"].map { Fixture.path("pairs/\($0).onnx") }
    let plain = try Tool.run(["diff"] + pair + ["--json"])
    #expect(plain.status == 1)
    #expect(try Schema("diff").problems(plain.output) == [])
    let behaviour = try Tool.run(["diff", "--behaviour"] + pair)
    #expect(
      behaviour.status == 0 && behaviour.output.contains("what they compute agrees"), "\(behaviour.output)")
  }
}

/// The cases of a JUnit file.
private final class Cases: NSObject, XMLParserDelegate {
  private(set) var tests = 0
  private(set) var failed: [String] = []
  /// What the first element says of tests and failures.
  private(set) var counted: [Int] = []
  private var name = ""

  func parser(
    _ parser: XMLParser, didStartElement element: String, namespaceURI: String?, qualifiedName: String?,
    attributes: [String: String]
  ) {
    switch element {
    case "testsuites": counted = ["tests", "failures"].compactMap { attributes[$0].flatMap { Int($0) } }
    case "testcase":
      tests += 1
      name = attributes["name"] ?? ""
    case "failure": failed.append(name)
    default: break
    }
  }
}
