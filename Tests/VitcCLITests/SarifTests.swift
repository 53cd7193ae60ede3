import Foundation
import Testing
import VitTestSupport

@Suite("messages as SARIF")
struct SarifTests {
  /// The only run of the document that a command leaves on standard error.
  private func run(_ words: String...) throws -> (status: Int32, run: [String: Any]) {
    let ended = try Tool.run(words + ["--diagnostics", "sarif"])
    let value = try JSONSerialization.jsonObject(with: Data(ended.errors.utf8))
    let document = try #require(value as? [String: Any])
    #expect(
      document["version"] as? String == "2.1.0"
        && (document["$schema"] as? String)?.hasSuffix(".json") ?? false)
    let runs = try #require(document["runs"] as? [[String: Any]])
    #expect(runs.count == 1)
    let found = runs[0]
    let invocation = try #require((found["invocations"] as? [[String: Any]])?.first)
    #expect(invocation["exitCode"] as? Int == Int(ended.status))
    #expect(invocation["executionSuccessful"] as? Bool == (ended.status < 2))
    // Each result names a rule that is there.
    let driver = try #require((found["tool"] as? [String: Any])?["driver"] as? [String: Any])
    let rules = try #require(driver["rules"] as? [[String: Any]]).compactMap { $0["id"] as? String }
    for result in try #require(found["results"] as? [[String: Any]]) {
      #expect(rules.contains(try #require(result["ruleId"] as? String)))
      #expect(["error", "warning", "note"].contains(result["level"] as? String))
    }
    return (ended.status, found)
  }

  private func results(_ run: [String: Any]) throws -> [[String: Any]] {
    try #require(run["results"] as? [[String: Any]])
  }

  @Test("an error in a file has its place as a URI")
  func places() throws {
    let scratch = try Scratch()
    let file = try scratch.write(Array("vit 1\nnonsense\n".utf8), to: "a model ü.vit")
    let (status, run) = try run("inspect", file)
    let result = try #require(try results(run).first)
    #expect(status == 3 && result["level"] as? String == "error")
    let place = try #require(
      (result["locations"] as? [[String: Any]])?.first?["physicalLocation"] as? [String: Any])
    let uri = try #require((place["artifactLocation"] as? [String: Any])?["uri"] as? String)
    #expect(uri.hasPrefix("file:///") && uri.hasSuffix("/a%20model%20%C3%BC.vit"))
    #expect(URL(string: uri)?.path == file)
  }

  @Test("errors of usage are told so, too, wherever the option stands")
  func usage() throws {
    for words in [["compile"], ["compil"], ["compile", "x", "--no-such-option"], ["--no-such-option"]] {
      let ended = try Tool.run(words + ["--diagnostics=sarif"])
      let value = try JSONSerialization.jsonObject(with: Data(ended.errors.utf8))
      #expect((value as? [String: Any])?["runs"] != nil && ended.status == 2)
    }
  }

  @Test("warnings and notes stand beside each other, without progress, and nothing is said twice")
  func several() throws {
    let scratch = try Scratch()
    let (status, run) = try run(
      "compile", Fixture.path("compat/v1/teacher.vmod"), "-o", scratch.file("h.vmod"), "--data",
      "synthetic:32", "--passes", "swap{mixer=conv,layers=[0],images=16}")
    let levels = try results(run).compactMap { $0["level"] as? String }
    #expect(status == 0 && levels.contains("warning") && !levels.contains("error"))
    let texts = try results(run).map { "\($0["message"] ?? "")" }
    #expect(Set(texts).count == texts.count)
  }
}
