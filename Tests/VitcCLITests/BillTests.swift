import Foundation
import Testing
import VitTestSupport

@Suite("lineage and the bill of materials")
struct BillTests {
  private static let teacher = Fixture.path("compat/v1/teacher.vmod")

  /// A hybrid of the tiny teacher.
  private func hybrid(in scratch: Scratch) throws -> String {
    let file = scratch.file("h.vmod")
    let ended = try Tool.run([
      "compile", Self.teacher, "-o", file, "--data", "synthetic:64", "--reproducible", "--passes",
      "swap{mixer=conv,layers=[0],images=16},trim",
    ])
    #expect(ended.status == 0, "\(ended.errors)")
    return file
  }

  private func component(_ file: String) throws -> [String: Any] {
    let bill = try Tool.run("inspect", file, "--bom", "cyclonedx").json
    #expect(bill["bomFormat"] as? String == "CycloneDX" && bill["specVersion"] as? String == "1.6")
    let metadata = try #require(bill["metadata"] as? [String: Any])
    return try #require(metadata["component"] as? [String: Any])
  }

  private func digest(_ component: [String: Any]) throws -> String {
    let hashes = try #require(component["hashes"] as? [[String: Any]])
    #expect(hashes.count == 1 && hashes[0]["alg"] as? String == "SHA-256")
    return try #require(hashes[0]["content"] as? String)
  }

  @Test("a hybrid's bill names its teacher by the digest that the teacher's own bill has")
  func bill() throws {
    let scratch = try Scratch()
    let own = try component(hybrid(in: scratch))
    let teacher = try component(Self.teacher)
    let ancestors = try #require((own["pedigree"] as? [String: Any])?["ancestors"] as? [[String: Any]])
    #expect(try digest(ancestors[0]) == digest(teacher) && digest(own) != digest(teacher))
    #expect(own["type"] as? String == "machine-learning-model" && own["name"] as? String == "h.vmod")
    let card = try #require(own["modelCard"] as? [String: Any])
    let parameters = try #require(card["modelParameters"] as? [String: Any])
    #expect("\(parameters["modelArchitecture"] ?? "")".contains("layer 0 conv"))
    #expect((parameters["inputs"] as? [[String: Any]])?.count == 1)
    let analysis = try #require(card["quantitativeAnalysis"] as? [String: Any])
    let metrics = try #require(analysis["performanceMetrics"] as? [[String: Any]])
    // Made-up images have no labels.
    #expect(
      metrics.compactMap { $0["type"] as? String } == ["agreement with the teacher", "KL from the teacher"])
    #expect(teacher["pedigree"] == nil)
    // Nothing in it says where or when.
    let texts = try (0..<2).map { _ in
      try Tool.run("inspect", scratch.file("h.vmod"), "--bom", "cyclonedx").output
    }
    #expect(texts[0] == texts[1] && !texts[0].contains(scratch.path))
  }

  @Test("the lineage alone, as lines and as JSON")
  func lineage() throws {
    let scratch = try Scratch()
    let file = try hybrid(in: scratch)
    let lines = try Tool.run("inspect", file, "--lineage").output.split(separator: "\n")
    let json = try Tool.run("inspect", file, "--lineage", "--json").json
    #expect(lines.count == json.count && json.count >= 7)
    for line in lines {
      let parts = line.split(separator: ":", maxSplits: 1)
      #expect(json[String(parts[0])] as? String == parts[1].dropFirst().description)
    }
    #expect("\(json["pipeline"] ?? "")".contains("swap{mixer=conv"))
  }

  @Test("what contradicts itself is a usage error")
  func usage() throws {
    for words in [
      ["--bom", "spdx"], ["--bom", "cyclonedx", "--json"], ["--bom", "cyclonedx", "--lineage"],
      ["--lineage", "--explain"],
    ] {
      #expect(try Tool.run(["inspect", Self.teacher] + words).status == 2, "\(words)")
    }
  }
}
