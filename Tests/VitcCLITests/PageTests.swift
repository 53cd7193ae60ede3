import Foundation
import FoundationXML
import Testing
import VitTestSupport
import Vitc

@Suite("Reports as pages") struct PageTests {
  /// The elements of a page, each with its texts; nothing where it is no well-formed document.
  private func elements(_ page: String) throws -> [(name: String, attributes: [String: String])] {
    final class Reader: NSObject, XMLParserDelegate {
      var found: [(name: String, attributes: [String: String])] = []
      func parser(
        _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?,
        attributes: [String: String]
      ) { found.append((name, attributes)) }
    }
    let start = "<!DOCTYPE html>\n"
    #expect(page.hasPrefix(start))
    let parser = XMLParser(data: Data(page.dropFirst(start.count).utf8))
    let reader = Reader()
    parser.delegate = reader
    #expect(parser.parse(), "\(String(describing: parser.parserError))")
    return reader.found
  }

  private func text(_ tiny: TinyModel, _ name: String) throws -> String {
    String(decoding: try tiny.bytes(name), as: UTF8.self)
  }

  @Test("a compile writes one page that needs nothing else, and the JSON gives the same one with the models")
  func page() throws {
    let tiny = try TinyModel()
    #expect(try tiny.run(TinyModel.compile + ["-o", "h.vmod", "--report", "r.json"]).status == 0)
    let again = try tiny.run(TinyModel.compile + ["-o", "h2.vmod", "--report", "r.html"])
    #expect(again.status == 0, "\(again.errors)")
    let made = try tiny.run([
      "report", "r.json", "-o", "p.html", "--hybrid", "h.vmod", "--teacher", "t.vmod", "--data", "data",
      "-MD",
    ])
    #expect(made.status == 0, "\(made.errors)")
    let page = try text(tiny, "p.html")
    let found = try elements(page)
    for section in [
      "Beside each other", "Layers", "What each pass did", "Training", "Which tokens layers look at",
    ] {
      #expect(page.contains("<h2>\(section)</h2>"), "\(section)")
    }
    for chart in [
      "Accuracy under controlled retention", "Patches that go on, layer by layer",
      "Importance of patches, layer by layer",
    ] { #expect(page.contains(chart), "\(chart)") }
    // Nothing is asked of a network, and nothing runs.
    #expect(!page.contains("://") && !found.contains { ["script", "iframe", "img"].contains($0.name) })
    let links = found.flatMap(\.attributes).filter { ["href", "src"].contains($0.key) }
    #expect(
      links.allSatisfy { $0.value.hasPrefix("data:") } && links.contains { $0.value.contains("image/png") })
    // Every picture says what it shows, and charts have their numbers beside them.
    let pictures = found.filter { $0.name == "svg" }
    #expect(!pictures.isEmpty && pictures.allSatisfy { $0.attributes["role"] == "img" })
    #expect(pictures.allSatisfy { !($0.attributes["aria-label"] ?? "").isEmpty })
    #expect(found.count { $0.name == "desc" } == found.count { $0.name == "details" })
    let depfile = try text(tiny, "p.d")
    for name in ["r.json", "h.vmod", "t.vmod"] { #expect(depfile.contains(name)) }
    // The compile's own page is that page but for what only files know and for times.
    let own = try text(tiny, "r.html")
    #expect(try elements(own).count { $0.name == "figure" } == found.count { $0.name == "figure" })
    // The same once more, byte by byte.
    #expect(try tiny.run(["report", "r.json", "-o", "a.html"]).status == 0)
    #expect(try tiny.run(["report", "r.json", "-o", "b.html"]).status == 0)
    #expect(try tiny.bytes("a.html") == tiny.bytes("b.html"))
  }

  @Test("what a report says is text, whatever it says")
  func hostile() throws {
    let tiny = try TinyModel()
    #expect(try tiny.run(TinyModel.compile + ["-o", "h.vmod", "--report", "r.json"]).status == 0)
    var report = try #require(
      try JSONSerialization.jsonObject(with: tiny.bytes("r.json")) as? [String: Any])
    let words = "\"><script>alert(1)</script>&\u{1}"
    for name in ["mixer", "pipeline", "found", "version"] { report[name] = words }
    var layers = try #require(report["layers"] as? [[String: Any]])
    layers[0]["kind"] = words
    layers[0]["scores"] = [words: 1e308, "damage": -1e308, "error": 0]
    layers[0]["floors"] = [words: 1]
    report["layers"] = layers
    report["points"] = [["cost": 1e300, "damage": 1e-300], ["cost": -1, "damage": 3], [:], 3]
    report["steps"] = [["pass": words], ["pass": 3]]
    report["curves"] = [["pass": "distil", "layer": 1e300, "steps": [1, 2], "losses": [0, "x"]]]
    report["timed_batch"] = 1e300
    try JSONSerialization.data(withJSONObject: report).write(
      to: URL(fileURLWithPath: tiny.scratch.file("r.json")))
    let made = try tiny.run(["report", "r.json", "-o", "p.html"])
    #expect(made.status == 0, "\(made.errors)")
    #expect(try !elements(try text(tiny, "p.html")).contains { $0.name == "script" })
  }

  @Test("numbers of any size are drawn")
  func sizes() throws {
    let tiny = try TinyModel()
    #expect(try tiny.run(TinyModel.compile + ["-o", "h.vmod", "--report", "r.json"]).status == 0)
    let whole = try #require(
      try JSONSerialization.jsonObject(with: tiny.bytes("r.json")) as? [String: Any])
    let layer = try #require((whole["layers"] as? [[String: Any]])?.first)
    func damage(_ value: Double) -> [String: Any] {
      layer.merging(["scores": ["damage": value, "entropy": value]]) { $1 }
    }
    let (huge, least) = (1.7e308, Double.leastNonzeroMagnitude)
    let changes: [(String, Any)] = [
      ("layers", [damage(huge)]), ("layers", [damage(huge), damage(-huge)]), ("layers", [damage(least)]),
      ("layers", [damage(huge), damage(least), damage(1)]), ("layers", [Any]()),
      ("stages", [["pass": "solve", "before": huge, "after": -huge]]),
      ("steps", [["pass": "swap", "parameters": huge, "flops": least]]),
      ("points", [["cost": 1, "damage": huge], ["cost": 0.5, "damage": huge]]),
      ("points", [["cost": 1, "damage": least], ["cost": 0.5, "damage": least]]),
      ("points", [["cost": 1e16, "damage": 1], ["cost": 1e16, "damage": 1]]),
      ("points", [["cost": huge, "damage": 1], ["cost": -huge, "damage": 1]]),
      ("curves", [["pass": "distil", "layer": 1, "steps": [9_007_199_254_740_992], "losses": [0.5]]]),
      ("curves", [["pass": "fine-tune", "layer": NSNull(), "steps": [1, 2], "losses": [NSNull(), 0.5]]]),
      (
        "curves",
        (0..<30).map {
          ["pass": "distil", "layer": $0, "steps": [1, 2], "losses": [0.5, 0.25]] as [String: Any]
        }
      ),
      ("seed", huge), ("aim", huge), ("timed_batch", -huge),
    ]
    for (name, value) in changes {
      var report = whole
      report[name] = value
      try JSONSerialization.data(withJSONObject: report).write(
        to: URL(fileURLWithPath: tiny.scratch.file("x.json")))
      let made = try tiny.run(["report", "x.json", "-o", "x.html"])
      #expect(made.status == 0, "\(name): \(value): \(made.errors)")
      _ = try elements(try text(tiny, "x.html"))
    }
  }

  @Test("what is no report is one error line, and no page is there")
  func refused() throws {
    let tiny = try TinyModel()
    func refuses(_ contents: String, _ words: String, _ help: String = "") throws {
      try tiny.scratch.write(Array(contents.utf8), to: "r.json")
      let result = try tiny.run(["report", "r.json", "-o", "p.html"])
      #expect(
        result.status != 0 && result.errors.contains("r.json") && result.errors.contains(words),
        "\(result.errors)")
      #expect(help.isEmpty || result.errors.contains(help))
      #expect(result.errors.split(separator: "\n").count { $0.hasPrefix("error:") } == 1)
      #expect(try !tiny.scratch.names.contains("p.html"))
    }
    try refuses("{", "expected JSON")
    try refuses("[]", "no 'schema'")
    try refuses("{\"schema\": \"vitc.golden/1\"}", "found 'vitc.golden/1'", "vitc compile --report")
    try refuses("{\"schema\": \"vitc.report/9\"}", "found 'vitc.report/9'", "a newer vitc")
    try refuses("{\"schema\": \"vitc.report/1\", \"teacher\": {\"parameters\": 1}}", "'teacher.flops'")
    try refuses(
      "{\"schema\": \"vitc.report/1\", \"teacher\": {\"parameters\": 1, \"flops\": 1}, \"hybrid\": {\"parameters\": 1, \"flops\": 1}, \"fidelity\": {\"images\": 1}, \"layers\": [{}]}",
      "layer 0")
    for (words, message) in [
      (["report", "r.json"], "report needs -o"), (["report", "r.json", "-o", "p.json"], "HTML"),
      (["report", "r.json", "-o", "r.json"], "HTML"), (["report", "-o", "p.html"], "REPORT"),
      (["report", "r.json", "-o", "p.html", "--data", "data"], "--hybrid and --teacher is missing"),
      (["report", "gone.json", "-o", "p.html"], "gone.json"),
    ] {
      let result = try tiny.run(words)
      #expect(result.status != 0 && result.errors.contains(message), "\(words): \(result.errors)")
    }
  }

  @Test(
    "a browser draws the page without a word, at the width of a desk and of a phone",
    .enabled(if: Browser.path != nil, "there is no chromium"), arguments: [1100, 390])
  func drawn(_ width: Int) throws {
    let tiny = try TinyModel()
    let made = try tiny.run(TinyModel.compile + ["-o", "h.vmod", "--report", "r.html"])
    #expect(made.status == 0, "\(made.errors)")
    try Browser.draw("r.html", width: width, in: tiny.scratch)
  }
}
