import Foundation
import Testing
import VitTestSupport

@Suite("A compile in steps", .enabled(if: Build.isRelease, "this is a debug build"))
struct StepsTests {
  private static let data = ["--data", "synthetic:40", "--held-out", "8", "--seed", "4"]
  private static let passes = [
    "score{images=8}", "swap{layers=all}", "distil{steps=2,batch=4}", "select{by=damage,count=3}", "restore",
    "fine-tune{steps=2,batch=4}", "round{weights=f16}",
  ]

  @Test("each pass as a command of its own gives the weights and layers of one compile") func steps() throws {
    let scratch = try Scratch()
    let whole = scratch.file("whole.vmod")
    let compiled = try Tool.run(
      ["compile", Tool.teacher, "-o", whole, "--passes", Self.passes.joined(separator: ","), "--eval-data"]
        + ["synthetic:8"] + Self.data)
    #expect(compiled.status == 0, "\(compiled.errors)")
    func step(_ input: String, _ passes: String, _ more: [String] = []) throws -> String {
      let out = scratch.file("after-\(passes.prefix { $0 != "{" && $0 != "," }).vmod")
      let result = try Tool.run(["opt", input, "--passes", passes, "-o", out] + more)
      #expect(result.status == 0, "\(passes): \(result.errors)")
      return out
    }
    var file = try step(Tool.teacher, "fold,raise,dce")
    for (place, pass) in Self.passes.enumerated() {
      file = try step(file, pass, Self.data + (place < 2 ? [] : ["--teacher", Tool.teacher]))
    }
    let difference = try Tool.run("diff", whole, file)
    #expect(difference.status == 0, "\(difference.output)")
    let layers = try [whole, file].map { try Tool.run("inspect", "--json", $0).json["layers"] as? NSArray }
    #expect(layers[0] == layers[1] && layers[0]?.count == 8)
    let kinds = try #require(layers[0]).compactMap { ($0 as? [String: Any])?["kind"] as? String }
    #expect(kinds.filter { $0 == "glr" }.count == 3)
    // The teacher is known by its digest.
    let other = scratch.file("other.onnx")
    try Data([UInt8](Data(contentsOf: URL(fileURLWithPath: Tool.teacher))) + [0x12, 0]).write(
      to: URL(fileURLWithPath: other))
    let foreign = try Tool.run(
      ["opt", file, "--passes", "distil{steps=1,batch=2}", "--teacher", other, "-o", scratch.file("x.vmod")]
        + Self.data)
    #expect(foreign.status == 3 && foreign.errors.contains("this is not the teacher"), "\(foreign.errors)")
    let alone = try Tool.run(
      ["opt", file, "--passes", "distil{steps=1,batch=2}", "-o", scratch.file("x.vmod")] + Self.data)
    #expect(alone.status == 2 && alone.errors.contains("--teacher"), "\(alone.errors)")
  }

  @Test("controls under --passes are other hybrids") func controls() throws {
    let scratch = try Scratch()
    let result = try Tool.run(
      [
        "compile", Tool.teacher, "-o", scratch.file("h.vmod"), "--controls", "--report",
        scratch.file("r.json"),
        "--passes", "swap{layers=[2,5]},distil{steps=2,batch=4}",
      ] + Self.data)
    #expect(result.status == 0, "\(result.errors)")
    let text = try String(contentsOfFile: scratch.file("r.json"), encoding: .utf8)
    #expect(try Schema("report").problems(text) == [])
    let report = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    let controls = try #require(report["controls"] as? [[String: Any]])
    let own = try #require((report["fidelity"] as? [String: Any])?["kl"] as? Double)
    let others = controls.compactMap { ($0["fidelity"] as? [String: Any])?["kl"] as? Double }
    #expect(others.count == 3 && Set(others + [own]).count == 4, "\(own) \(others)")
  }

  @Test("training that diverges is in the progress, the summary and the report") func divergence() throws {
    let scratch = try Scratch()
    let result = try Tool.run(
      [
        "compile", Tool.teacher, "-o", scratch.file("h.vmod"), "--report", scratch.file("r.json"), "--passes",
        "swap{layers=[2]},distil{steps=8,batch=4,rate=1000000,clip=1000000000}",
      ] + Self.data)
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.errors.contains("distil: layer 2 diverges at step"))
    #expect(result.output.contains("distil: layer 2 went astray at step"))
    let text = try String(contentsOfFile: scratch.file("r.json"), encoding: .utf8)
    #expect(try Schema("report").problems(text) == [])
    #expect(text.contains("\"divergences\": [\n"))
    // One layer says nothing about rankings.
    #expect(!result.output.contains("rank correlation"))
  }

  @Test("a compile that is killed leaves its checkpoint, from which the same command comes to the same file")
  func killed() throws {
    let scratch = try Scratch()
    let flags =
      [
        "compile", Tool.teacher, "--reproducible", "--passes",
        "swap{layers=[1,4]},distil{steps=400,batch=2},fine-tune{steps=2,batch=2,rate=0.001}",
      ] + Self.data
    let out = scratch.file("h.vmod")
    let logs = try Scratch()
    let run = try Tool.start(flags + ["-o", out], scratch: logs)
    while run.process.isRunning, !(try scratch.names.contains("h.vmod.checkpoint")) { usleep(20_000) }
    kill(run.process.processIdentifier, SIGKILL)
    _ = try run.finish()
    #expect(try scratch.names.contains("h.vmod.checkpoint") && !scratch.names.contains("h.vmod"))
    let resumed = try Tool.run(flags + ["-o", out, "--resume"])
    #expect(resumed.status == 0, "\(resumed.errors)")
    #expect(try !scratch.names.contains("h.vmod.checkpoint"))
    let whole = try Tool.run(flags + ["-o", scratch.file("w.vmod")])
    #expect(whole.status == 0, "\(whole.errors)")
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: out))
        == Data(contentsOf: URL(fileURLWithPath: scratch.file("w.vmod"))))
  }

  @Test(
    "an output that the disk has no room for leaves the checkpoint, and says how to go on",
    .enabled(if: TinyDisk.isPossible, "no tmpfs can be mounted"))
  func fullDisk() throws {
    let scratch = try Scratch()
    // Room for the state of one layer, and not for the output beside it.
    let disk = try #require(TinyDisk(at: scratch.file("disk"), kilobytes: 1500))
    let flags =
      [
        "compile", Tool.teacher, "-o", disk.path + "/h.vmod", "--weights", "f32", "--reproducible",
        "--passes",
        "swap{mixer=pointwise,layers=[2]},distil{steps=2,batch=4}",
      ] + Self.data
    let full = try Tool.run(flags)
    #expect(full.status == 4 && full.errors.contains("No space left"), "\(full.errors)")
    #expect(full.errors.contains("--resume"), "\(full.errors)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: disk.path) == ["h.vmod.checkpoint"])
  }
}
