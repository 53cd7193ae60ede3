import Foundation
import Testing
import VitTestSupport

@Suite("Commands on the bundled teacher") struct CommandTests {
  /// Fails where a document does not keep to its schema.
  func expectSchema(_ result: Tool.Result, _ name: String, sourceLocation: SourceLocation = #_sourceLocation)
    throws
  {
    #expect(result.status == 0, "\(result.errors)", sourceLocation: sourceLocation)
    #expect(try Schema(name).problems(result.output) == [], sourceLocation: sourceLocation)
  }

  @Test("inspect finds the layers, and each can be replaced") func inspect() throws {
    let result = try Tool.run("inspect", "--json", Tool.teacher)
    try expectSchema(result, "inspect")
    let layers = try #require(try result.json["layers"] as? [[String: Any]])
    #expect(layers.count == 8)
    for layer in layers {
      #expect(layer["kind"] as? String == "attention")
      #expect(layer["heads"] as? Int == 3)
      #expect(layer["parameters"] as? Int == 37248)
      #expect(layer["replaceable"] as? Bool == true)
    }
    Golden.expect(try Tool.run("inspect", Tool.teacher).output, "cli/inspect-teacher.txt")
  }

  @Test("the textual IR after each stage is as it was") func stages() throws {
    for (name, passes) in [("decoded", "dce"), ("folded", "fold,dce"), ("raised", "fold,raise,dce")] {
      let result = try Tool.run("opt", Tool.teacher, "--passes", passes, "--verify-each")
      #expect(result.status == 0, "\(result.errors)")
      Golden.expect(result.output, "passes/fashion-vit.\(name).vit")
    }
  }

  @Test("a text that opt wrote is read back, and computes the same") func textRoundTrip() throws {
    let scratch = try Scratch()
    let text = scratch.file("teacher.vit")
    let written = try Tool.run("opt", Tool.teacher, "--passes", "fold,raise,dce", "-o", text)
    #expect(written.status == 0, "\(written.errors)")
    let result = try Tool.run("diff", Tool.teacher, text)
    #expect(result.status == 0, "\(result.output)\(result.errors)")
    #expect(try scratch.names == ["teacher.vit", "teacher.vit.tensors"])
  }

  @Test("a .vmod that opt wrote is read back, verified, and computes the same") func containerRoundTrip()
    throws
  {
    let scratch = try Scratch()
    let file = scratch.file("teacher.vmod")
    #expect(try Tool.run("opt", Tool.teacher, "--passes", "fold,raise,dce", "-o", file).status == 0)
    try expectSchema(Tool.run("verify", "--json", file), "verify")
    try expectSchema(Tool.run("diff", "--json", Tool.teacher, file), "diff")
  }

  @Test("a difference is exit code 1, and the first value that diverges is named") func differences() throws {
    let scratch = try Scratch()
    let other = scratch.file("other.vit")
    let text = try Tool.run("opt", Tool.teacher, "--passes", "fold,raise,dce", "-o", other)
    #expect(text.status == 0)
    let changed = try String(contentsOfFile: other, encoding: .utf8)
      .replacingOccurrences(of: "epsilon = 1e-06", with: "epsilon = 0.5")
    try Data(changed.utf8).write(to: URL(fileURLWithPath: other))
    let result = try Tool.run("diff", "--json", Tool.teacher, other)
    #expect(result.status == 1)
    #expect(try Schema("diff").problems(result.output) == [])
    let kinds = try #require(try result.json["differences"] as? [[String: Any]]).compactMap {
      $0["kind"] as? String
    }
    #expect(kinds.contains("attributes"))
    #expect(kinds.contains("output"))
    #expect(kinds.contains("value"))
    #expect(try Tool.run("diff", "--tolerance", "1000", Tool.teacher, other).status == 1)
  }

  @Test("run takes arrays by name and writes outputs") func arrays() throws {
    let scratch = try Scratch()
    let zeros = scratch.file("x.npy")
    try Data(CommandTests.zeros([2, 1, 28, 28])).write(to: URL(fileURLWithPath: zeros))
    let result = try Tool.run(
      "run", Tool.teacher, "--input", "pixel_values=\(zeros)", "--output", "logits=\(scratch.file("y.npy"))",
      "--json")
    try expectSchema(result, "run")
    #expect(try scratch.names == ["x.npy", "y.npy"])
    let unnamed = try Tool.run("run", Tool.teacher, "--input", zeros, "--output", scratch.file("z.npy"))
    #expect(unnamed.status == 0, "\(unnamed.errors)")
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: scratch.file("y.npy")))
        == Data(contentsOf: URL(fileURLWithPath: scratch.file("z.npy"))))
  }

  @Test("run refuses arrays that are not the model's") func wrongArrays() throws {
    let scratch = try Scratch()
    let zeros = scratch.file("x.npy")
    try Data(CommandTests.zeros([2, 3, 28, 28])).write(to: URL(fileURLWithPath: zeros))
    let shape = try Tool.run("run", Tool.teacher, "--input", zeros)
    #expect(shape.status == 3)
    #expect(shape.errors.contains("pixel_values"))
    let name = try Tool.run("run", Tool.teacher, "--input", "image=\(zeros)")
    #expect(name.status == 2)
    #expect(name.errors.contains("its inputs are 'pixel_values'"))
  }

  @Test("run classifies images with the names of the classes") func images() throws {
    let image = Fixture.path("formats/gray.png")
    let result = try Tool.run("run", Tool.teacher, image, "--top", "3", "--json")
    try expectSchema(result, "run")
    let images = try #require(try result.json["images"] as? [[String: Any]])
    let top = try #require(images[0]["top"] as? [[String: Any]])
    #expect(top.count == 3)
    #expect(top[0]["label"] is String)
  }

  @Test("eval and score keep to their schemas") func measures() throws {
    try expectSchema(
      Tool.run("eval", Tool.teacher, "--data", "synthetic:16", "--against", Tool.teacher, "--json"), "eval")
    let score = try Tool.run("score", Tool.teacher, "--data", "synthetic:8", "--json")
    try expectSchema(score, "score")
    let layers = try #require(try score.json["layers"] as? [[String: Any]])
    var numbers: [String: Double] = [:]
    for (index, layer) in layers.enumerated() {
      for key in ["entropy", "gini", "hoyer", "top_mass", "distance", "cosine", "drop"] {
        numbers["\(index).\(key)"] = layer[key] as? Double
      }
    }
    try Golden.expect(numbers, "scores/fashion-vit.json", bound: 2e-3)
  }

  @Test("bench measures two models in turn") func bench() throws {
    let result = try Tool.run("bench", Tool.teacher, "--against", Tool.teacher, "--time", "0.1s", "--json")
    try expectSchema(result, "bench")
    #expect(try result.json["other"] != nil)
    try expectSchema(Tool.run("bench", Tool.teacher, "--profile", "--time", "0.1s", "--json"), "profile")
  }

  /// A `.npy` of zeros.
  static func zeros(_ shape: [Int]) -> [UInt8] {
    var header =
      "{'descr': '<f4', 'fortran_order': False, 'shape': (\(shape.map(String.init).joined(separator: ", "))), }"
    while (header.utf8.count + 11) % 64 != 0 { header += " " }
    header += "\n"
    let length = header.utf8.count
    return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(length & 255), UInt8(length >> 8)] + Array(header.utf8)
      + [UInt8](repeating: 0, count: shape.reduce(4, *))
  }

  @Test(
    "a hybrid larger than its teacher at the same precision is said, in the summary and in the report",
    arguments: [("swap{mixer=lstm,width=4,layers=[0]}", true), ("swap{mixer=none,layers=[0]}", false)])
  func larger(passes: String, isLarger: Bool) throws {
    let tiny = try TinyModel(images: 1)
    let result = try tiny.run([
      "compile", "t.vmod", "--data", "synthetic:8", "-o", "h.vmod", "--report", "r.json", "--passes", passes,
    ])
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.output.contains("the hybrid has more parameters") == isLarger)
    let text = try tiny.bytes("r.json")
    #expect(try Schema("report").problems(String(decoding: text, as: UTF8.self)) == [])
    let report = try #require(try JSONSerialization.jsonObject(with: text) as? [String: Any])
    #expect(report["larger"] as? Bool == isLarger)
    // What stands there is set against the attention that it replaced.
    #expect(result.output.contains(": more than what it replaces") == isLarger, "\(result.output)")
    let layer = try #require((report["layers"] as? [[String: Any]])?.first)
    let (cost, attention) = (layer["cost"] as? [String: Int], layer["attention"] as? [String: Int])
    #expect(layer["kind"] as? String == (isLarger ? "lstm" : "none"))
    let (own, old) = (try #require(cost?["parameters"]), try #require(attention?["parameters"]))
    #expect((own > old) == isLarger)
    #expect(try #require(attention?["flops"]) > 0)
  }
}
