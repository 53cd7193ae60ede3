import Foundation
import Testing
import VitTestSupport

@Suite("Pipelines of one's own", .enabled(if: Build.isRelease, "this is a debug build"))
struct PassesTests {
  private static func compile(_ model: String, _ passes: String, _ flags: [String]) throws -> Tool.Result {
    try Tool.run(["compile", model, "--data", "synthetic:24", "--seed", "5", "--passes", passes] + flags)
  }

  private static func kinds(_ path: String) throws -> [String] {
    let layers = try #require(try Tool.run("inspect", "--json", path).json["layers"] as? [[String: Any]])
    return layers.compactMap { $0["kind"] as? String }
  }

  @Test("a pass that occurs twice trains twice, whatever the other one left in the checkpoint") func twice()
    throws
  {
    let scratch = try Scratch()
    let once = "swap{layers=[2]},distil{steps=3,batch=4},fine-tune{steps=2,batch=4,rate=0.0001}"
    let more = once + ",distil{steps=2,batch=4},fine-tune{steps=1,batch=4,rate=0.0001}"
    for (passes, name) in [(once, "a.vmod"), (more, "b.vmod")] {
      let result = try Self.compile(Tool.teacher, passes, ["-o", scratch.file(name)])
      #expect(result.status == 0, "\(result.errors)")
      #expect(try Tool.run("verify", scratch.file(name)).status == 0)
    }
    #expect(try scratch.names == ["a.vmod", "b.vmod"])
  }

  @Test("layers that swap names are reported as replaced, and the bound counts them") func named() throws {
    let scratch = try Scratch()
    let result = try Self.compile(
      Tool.teacher, "swap{layers=[1,4,6]},distil{steps=1,batch=4}",
      ["-o", scratch.file("h.vmod"), "--report", scratch.file("r.json")])
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.output.contains("without 3 of them"))
    #expect(result.output.contains("layers [1, 4, 6] are glr"))
    let report = try JSONSerialization.jsonObject(
      with: Data(contentsOf: URL(fileURLWithPath: scratch.file("r.json"))))
    #expect((report as? [String: Any])?["selected"] as? [Int] == [1, 4, 6])
  }

  @Test("a hybrid is compiled further; the mixers that it has are layers like others") func further() throws {
    let scratch = try Scratch()
    let first = try Tool.run(
      CompileTests.quick + ["-o", scratch.file("a.vmod"), "--replace", "layers=2,5", "--mixer", "glr"])
    #expect(first.status == 0, "\(first.errors)")
    let words = CompileTests.quick.map { $0 == Tool.teacher ? scratch.file("a.vmod") : $0 }
    let second = try Tool.run(words + ["-o", scratch.file("b.vmod"), "--replace", "1", "--mixer", "lstm"])
    #expect(second.status == 0, "\(second.errors)")
    let kinds = try Self.kinds(scratch.file("b.vmod"))
    #expect(kinds[2] == "glr" && kinds[5] == "glr")
    #expect(kinds.filter { $0 == "lstm" }.count == 1 && kinds.filter { $0 == "attention" }.count == 5)
    #expect(try Tool.run("verify", scratch.file("b.vmod")).status == 0)
  }

  @Test("a model that a pass has changed does not carry the proof of the one before") func proof() throws {
    let scratch = try Scratch()
    let (one, two, three) = (scratch.file("a.vmod"), scratch.file("b.vmod"), scratch.file("c.vmod"))
    #expect(try Tool.run(CompileTests.quick + ["-o", one]).status == 0)
    #expect(try Tool.run("opt", one, "--passes", "swap{layers=[0]}", "-o", two).status == 0)
    #expect(try Tool.run("verify", two).status == 0)
    #expect(try Tool.run("inspect", two).output.contains(",swap{mixer=glr"))
    #expect(try Tool.run("opt", one, "--passes", "dce", "-o", three).status == 0)
    #expect(try Tool.run("verify", three).output == Tool.run("verify", one).output)
  }

  @Test("layers that are listed leave nothing to choose") func conflict() throws {
    let result = try Tool.run(
      CompileTests.quick + ["-o", "/dev/null", "--replace", "layers=1", "--select", "entropy"])
    #expect(result.status == 2, "\(result.errors)")
  }
}
