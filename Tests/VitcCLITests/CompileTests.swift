import Foundation
import Testing
import VitTestSupport

/// Training in a debug build takes minutes, so these run in release.
@Suite("Compiling", .enabled(if: Build.isRelease, "this is a debug build")) struct CompileTests {
  /// A compile that takes a second or two.
  static let quick = [
    "compile", Tool.teacher, "--data", "synthetic:48", "--distil-steps", "3", "--fine-tune-steps", "2",
    "--batch", "6",
    "--seed", "5",
  ]

  @Test("a compile writes a hybrid that verifies, a report and a depfile, and prints what it promises")
  func whole() throws {
    let scratch = try Scratch()
    let out = scratch.file("hybrid.vmod")
    let result = try Tool.run(
      CompileTests.quick + [
        "-o", out, "--report", scratch.file("r.json"), "-MD", "--eval-data", "synthetic:20",
      ])
    #expect(result.status == 0, "\(result.errors)")
    for promise in [
      "bound: ", "pipeline\n", "scores\n", "choice: ", "teacher", "agreement", "KL", "rank correlation",
    ] {
      #expect(result.output.contains(promise), "\(promise) in \(result.output)")
    }
    #expect(try scratch.names == ["hybrid.d", "hybrid.vmod", "r.json"])
    let report = try String(contentsOfFile: scratch.file("r.json"), encoding: .utf8)
    #expect(try Schema("report").problems(report) == [])
    let rule = try String(contentsOfFile: scratch.file("hybrid.d"), encoding: .utf8)
    #expect(rule.hasPrefix("\(out): \\\n  \(Tool.teacher)"))
    #expect(try Tool.run("verify", out).status == 0)
    let inspected = try Tool.run("inspect", "--json", out)
    #expect(try Schema("inspect").problems(inspected.output) == [])
    let layers = try #require(try inspected.json["layers"] as? [[String: Any]])
    #expect(layers.compactMap { $0["kind"] as? String }.filter { ["conv", "glr"].contains($0) }.count == 4)
    #expect(layers.count == 8)
    // What the machine's kernels are, and how fast, is its own.
    let own = ["lineage     isa:", "lineage     blas:", "measured    "]
    let lines = try Tool.run("inspect", out).output.split(separator: "\n", omittingEmptySubsequences: false)
    for start in own { #expect(lines.count { $0.hasPrefix(start) } == 1) }
    let text = lines.filter { line in !own.contains { line.hasPrefix($0) } }
      .map { line in line.hasPrefix("model ") ? line.prefix { $0 != "(" } + "(vmod)" : String(line) }
    Golden.expect(text.joined(separator: "\n"), "cli/inspect-hybrid.txt")
    var numbers: [String: Double] = [:]
    let trained = try #require(try JSONSerialization.jsonObject(with: Data(report.utf8)) as? [String: Any])
    for layer in try #require(trained["layers"] as? [[String: Any]]) {
      let scores = try #require(layer["scores"] as? [String: Double])
      let index = try #require(layer["index"] as? Int)
      numbers["\(index).damage"] = scores["damage"]
      numbers["\(index).error"] = scores["error"]
    }
    try Golden.expect(numbers, "scores/compile.json", bound: 0.02)
  }

  @Test("one seed gives the same bytes in different folders and for every number of threads")
  func deterministic() throws {
    let (one, two) = (try Scratch(), try Scratch())
    let copy = try two.write([UInt8](Data(contentsOf: URL(fileURLWithPath: Tool.teacher))), to: "deep/t.onnx")
    try two.write(
      Fixture.bytes("teacher/fashion-vit.preprocessor_config.json"), to: "deep/t.preprocessor_config.json")
    let flags = Array(CompileTests.quick.dropFirst(2)) + ["--reproducible"]
    let first = try Tool.run(["compile", Tool.teacher, "-o", one.file("a.vmod"), "--threads", "1"] + flags)
    let second = try Tool.run(["compile", copy, "-o", "b.vmod", "--threads", "2"] + flags, in: two.path)
    #expect(first.status == 0 && second.status == 0, "\(first.errors)\(second.errors)")
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: one.file("a.vmod")))
        == Data(contentsOf: URL(fileURLWithPath: two.file("b.vmod"))))
  }

  @Test("a target beyond what the bound allows is an error that says how far it goes, and leaves nothing")
  func unreachable() throws {
    let scratch = try Scratch()
    let result = try Tool.run([
      "compile", Tool.teacher, "--data", "synthetic:32", "--held-out", "8", "--no-train", "--replace",
      "layers=7",
      "--mixer", "pointwise", "--target-speedup", "50", "-o", scratch.file("a.vmod"),
    ])
    #expect(result.status == 1, "\(result.errors)")
    #expect(result.errors.contains("cannot come to 2.0 % of its time"), "\(result.errors)")
    #expect(try scratch.names.isEmpty)
  }

  @Test("models of other points of a search go to a folder, with an index that says what each reaches")
  func pareto() throws {
    let scratch = try Scratch()
    let result = try Tool.run([
      "compile", Tool.teacher, "--data", "synthetic:48", "--held-out", "16", "--no-train", "--replace", "0",
      "--max-drop", "100", "--search-time", "5s", "--pareto", scratch.file("points"), "--reproducible", "-o",
      scratch.file("a.vmod"),
    ])
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.output.contains("points on the way") && result.output.contains("point-1.vmod"))
    let index = try String(contentsOfFile: scratch.file("points/pareto.json"), encoding: .utf8)
    #expect(try Schema("pareto").problems(index) == [])
    let parsed = try #require(try JSONSerialization.jsonObject(with: Data(index.utf8)) as? [String: Any])
    let models = try #require(parsed["models"] as? [[String: Any]])
    #expect((1...8).contains(models.count))
    for model in models {
      let file = try #require(model["file"] as? String)
      let report = try #require(model["report"])
      let text = String(decoding: try JSONSerialization.data(withJSONObject: report), as: UTF8.self)
      #expect(try Schema("report").problems(text) == [])
      #expect(try Tool.run("verify", scratch.file("points/\(file)")).status == 0)
    }
    let missing = try Tool.run([
      "compile", Tool.teacher, "--data", "synthetic:16", "--pareto", scratch.file("no/points"), "-o",
      scratch.file("b.vmod"),
    ])
    #expect(missing.status == 4 && missing.errors.contains("the folder cannot be made"), "\(missing.errors)")
  }

  @Test("the pipeline that is printed gives the same hybrid when it is pasted back") func pipeline() throws {
    let scratch = try Scratch()
    let first = try Tool.run(CompileTests.quick + ["-o", scratch.file("a.vmod"), "--reproducible"])
    #expect(first.status == 0, "\(first.errors)")
    let lines = first.output.split(separator: "\n")
    let place = try #require(lines.firstIndex(of: "pipeline"))
    let pipeline = String(lines[place + 1].drop { $0 == " " })
    let second = try Tool.run(
      "compile", Tool.teacher, "--data", "synthetic:48", "--seed", "5", "--passes", pipeline, "-o",
      scratch.file("b.vmod"), "--reproducible")
    #expect(second.status == 0, "\(second.errors)")
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: scratch.file("a.vmod")))
        == Data(contentsOf: URL(fileURLWithPath: scratch.file("b.vmod"))))
  }

  @Test(
    "every mixer and order compiles",
    arguments: [
      ["--mixer", "lstm"], ["--mixer", "none"], ["--mixer", "pointwise"], ["--order", "cross"],
      ["--order", "forward"], ["--mixer", "conv"], ["--mixer", "static"], ["--mixer", "ssd"],
      ["--mixer", "mamba"], ["--mixer", "retention"], ["--mixer", "lstm{form=full}"],
      ["--mixer", "mamba", "--order", "cross"], ["--mixer", "lstm{form=full}", "--order", "forward"],
      ["--select", "entropy"], ["--select", "last"], ["--replace", "layers=1,6"], ["--replace", "1"],
      ["--weights", "f32"],
      ["--width", "0.5", "--heads", "4"],
    ])
  func variants(flags: [String]) throws {
    let scratch = try Scratch()
    let out = scratch.file("h.vmod")
    let chooses = flags.contains { ["--select", "--replace"].contains($0) }
    let layers = chooses ? [] : ["--replace", "layers=2,5"]
    let result = try Tool.run(CompileTests.quick + layers + ["-o", out] + flags)
    #expect(result.status == 0, "\(result.errors)")
    #expect(try Tool.run("verify", out).status == 0)
  }

  @Test("a depfile names files as make and ninja read them, whatever is in the names") func depfile() throws {
    let scratch = try Scratch()
    let model = try scratch.write(
      [UInt8](Data(contentsOf: URL(fileURLWithPath: Tool.teacher))), to: #"a\ b:c#d$e%.onnx"#)
    let words = ["compile", model, "--data", "synthetic:8", "--distil-steps", "1", "--fine-tune-steps", "0"]
    #expect(try Tool.run(words + ["-o", "h x.vmod", "-MD"], in: scratch.path).status == 0)
    let rule = try String(contentsOfFile: scratch.file("h x.d"), encoding: .utf8)
    #expect(rule == #"h\ x.vmod: \"# + "\n  " + scratch.path + ##"/a\\\ b\:c\#d$$e%.onnx"## + "\n")
  }

  @Test("the textual IR is written where it is asked for, and runs") func text() throws {
    let scratch = try Scratch()
    let out = scratch.file("h.vit")
    #expect(try Tool.run(CompileTests.quick + ["-o", out, "--emit", "ir"]).status == 0)
    #expect(try scratch.names == ["h.vit", "h.vit.tensors"])
    #expect(try Tool.run("verify", out).status == 0)
  }

  @Test("a device or a pipe takes a hybrid, and what is said of it goes elsewhere") func devices() throws {
    #expect(try Tool.run(CompileTests.quick + ["-o", "/dev/null"]).status == 0)
    let scratch = try Scratch()
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments =
      ["-c", "\"$@\" 2>said | cat >piped.vmod", "sh", Tool.path] + CompileTests.quick + ["-o", "/dev/stdout"]
    process.currentDirectoryURL = URL(fileURLWithPath: scratch.path)
    try process.run()
    process.waitUntilExit()
    #expect(try Tool.run("verify", scratch.file("piped.vmod")).status == 0)
    #expect(try String(contentsOfFile: scratch.file("said"), encoding: .utf8).contains("choice: "))
  }

  @Test("an interruption leaves the checkpoint, which --resume takes up to the same result")
  func interruption() throws {
    let scratch = try Scratch()
    let flags = [
      "compile", Tool.teacher, "--data", "synthetic:48", "--distil-steps", "400", "--fine-tune-steps", "2",
      "--batch", "2",
      "--reproducible", "--threads", "2",
    ]
    let out = scratch.file("h.vmod")
    let logs = try Scratch()
    let run = try Tool.start(flags + ["-o", out], scratch: logs)
    // Until the first step of training has been taken; how long that takes does not matter.
    while run.process.isRunning {
      let progress = try logs.names.filter { $0.hasSuffix(".err") }.map {
        try String(contentsOfFile: logs.file($0), encoding: .utf8)
      }
      if progress.contains(where: { $0.contains("distil: ") }) { break }
      usleep(20_000)
    }
    run.process.interrupt()
    let result = try run.finish()
    #expect(result.status == 130, "\(result.errors)")
    #expect(result.errors.contains("h.vmod.checkpoint"))
    #expect(result.errors.contains("--resume"))
    #expect(try scratch.names == ["h.vmod.checkpoint"])
    let other = try Tool.run(flags + ["-o", out, "--resume", "--seed", "9"])
    #expect(other.status == 3, "\(other.errors)")
    #expect(other.errors.contains("another compile"))
    let checkpoint = try Data(contentsOf: URL(fileURLWithPath: out + ".checkpoint"))
    for place in stride(from: 0, to: checkpoint.count, by: checkpoint.count / 5) {
      var damaged = [UInt8](checkpoint)
      damaged[place] ^= 4
      try scratch.write(damaged, to: "h.vmod.checkpoint")
      let refused = try Tool.run(flags + ["-o", out, "--resume"])
      #expect(refused.status == 3, "flipped at \(place): \(refused.errors)")
      #expect(refused.errors.contains("h.vmod.checkpoint"))
    }
    try scratch.write([UInt8](checkpoint), to: "h.vmod.checkpoint")
    let resumed = try Tool.run(flags + ["-o", out, "--resume"])
    #expect(resumed.status == 0, "\(resumed.errors)")
    #expect(try scratch.names == ["h.vmod"])
    let whole = try Tool.run(flags + ["-o", scratch.file("w.vmod")])
    #expect(whole.status == 0, "\(whole.errors)")
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: out))
        == Data(contentsOf: URL(fileURLWithPath: scratch.file("w.vmod"))))
  }

  @Test("an output that cannot be written is found before training, with exit code 4") func unwritable()
    throws
  {
    let scratch = try Scratch()
    for out in [scratch.file("no/such/folder/h.vmod"), scratch.path, "/proc/h.vmod", "x/"] {
      let result = try Tool.run("compile", Tool.teacher, "--data", "synthetic:8", "-o", out)
      #expect(result.status == 4, "\(out): \(result.errors)")
      #expect(result.errors.contains(out))
      #expect(!result.output.contains("pipeline"))
    }
    let nameless = try Tool.run("compile", Tool.teacher, "--data", "synthetic:8", "-o", "")
    #expect(nameless.status == 2 && !nameless.output.contains("pipeline"), "\(nameless.errors)")
    #expect(try scratch.names == [])
    #expect(try Tool.run("opt", Tool.teacher, "--passes", "fold", "-o", scratch.file("no/x.vit")).status == 4)
  }

  @Test(
    "a full disk is exit code 4, and leaves nothing but the checkpoint behind",
    .enabled(if: TinyDisk.isPossible, "no tmpfs can be mounted"))
  func fullDisk() throws {
    let scratch = try Scratch()
    let disk = try #require(TinyDisk(at: scratch.file("disk"), kilobytes: 64))
    let result = try Tool.run(CompileTests.quick + ["-o", disk.path + "/h.vmod"])
    #expect(result.status == 4, "\(result.errors)")
    #expect(result.errors.contains("No space left"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: disk.path) == ["h.vmod.checkpoint"])
  }

  @Test("results that standard output cannot take are exit code 4") func fullOutput() throws {
    let full = try #require(FileHandle(forWritingAtPath: "/dev/full"))
    let process = Process()
    process.executableURL = URL(fileURLWithPath: Tool.path)
    process.arguments = ["help"]
    process.standardOutput = full
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 4)
  }

  @Test("a model without attention is refused") func noAttention() throws {
    let scratch = try Scratch()
    let text = """
      graph "plain" (%x: f32[batch, 1, 8, 8]) -> (y = %y) {
        %y = onnx.Neg(%x) : f32[batch, 1, 8, 8]
      }

      """
    let path = try scratch.write(Array(text.utf8), to: "plain.vit")
    let result = try Tool.run("compile", path, "--data", "synthetic:8", "-o", scratch.file("h.vmod"))
    #expect(result.status == 3, "\(result.errors)")
    #expect(result.errors.contains("no attention layers"))
    #expect(try Tool.run("score", path, "--data", "synthetic:8").status == 3)
    #expect(try scratch.names == ["plain.vit"])
  }

  @Test(
    "layers that cannot be replaced are a usage error before training",
    arguments: ["9", "layers=8", "layers=0,99"])
  func impossibleLayers(amount: String) throws {
    let scratch = try Scratch()
    let result = try Tool.run(
      "compile", Tool.teacher, "--data", "synthetic:8", "-o", scratch.file("h.vmod"), "--replace", amount)
    #expect(result.status == 2, "\(result.errors)")
    #expect(!result.output.contains("pipeline"))
  }

  @Test("a mixer is credited only where it beats the controls, trained for the same steps") func controls()
    throws
  {
    let scratch = try Scratch()
    let result = try Tool.run(
      CompileTests.quick + ["-o", scratch.file("h.vmod"), "--controls", "--report", scratch.file("r.json")])
    #expect(result.status == 0, "\(result.errors)")
    let text = try String(contentsOfFile: scratch.file("r.json"), encoding: .utf8)
    #expect(try Schema("report").problems(text) == [])
    let report = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    let controls = try #require(report["controls"] as? [[String: Any]])
    #expect(controls.compactMap { $0["mixer"] as? String } == ["none", "pointwise", "static"])
    func kl(_ entry: [String: Any]) throws -> Double {
      try #require((entry["fidelity"] as? [String: Any])?["kl"] as? Double)
    }
    let own = try kl(report)
    // Only by more than chance explains: an interval of the pairs that is off zero.
    let isBetter = try controls.allSatisfy { control in
      let excess = try #require(control["excess"] as? [String: Any])
      let (mean, error) = (try #require(excess["mean"] as? Double), try #require(excess["error"] as? Double))
      #expect(abs(try kl(control) - own - mean) < 1e-5 + 1e-3 * abs(mean))
      return mean - 1.96 * error > 0
    }
    #expect(report["beats_controls"] as? Bool == isBetter)
    #expect(result.output.contains(isBetter ? "beat the controls" : "mixing of tokens was not needed"))
    for case let layer as [String: Any] in try #require(report["layers"] as? [Any])
    where layer["selected"] as? Bool == true {
      #expect((layer["floors"] as? [String: Any])?.keys.sorted() == ["none", "pointwise", "static"])
    }
    #expect(
      (report["stages"] as? [[String: Any]])?.compactMap { $0["pass"] as? String } == ["solve", "fine-tune"])
  }

  @Test(
    "a model that takes images of any size is compiled for the size of the data",
    .enabled(if: Zoo.path != nil, "VITC_ZOO is not set"))
  func anySize() throws {
    let scratch = try Scratch()
    let zoo = try #require(Zoo.path)
    let out = scratch.file("h.vmod")
    let result = try Tool.run(
      "compile", "\(zoo)/open/timm_vit_dynsize_ts17.onnx", "-o", out, "--data", "synthetic:8", "--preprocess",
      "size=64x64", "--distil-steps", "1", "--fine-tune-steps", "1", "--batch", "2")
    #expect(result.status == 0, "\(result.errors)")
    #expect(try Tool.run("inspect", out).output.contains("f32[batch, 3, 64, 64]"))
    #expect(try Tool.run("verify", out).status == 0)
  }

  @Test("one image is enough to compile") func oneImage() throws {
    let scratch = try Scratch()
    let result = try Tool.run(
      "compile", Tool.teacher, "--data", "synthetic:1", "--distil-steps", "1", "--fine-tune-steps", "1",
      "--batch", "2",
      "-o", scratch.file("h.vmod"))
    #expect(result.status == 0, "\(result.errors)")
  }

  @Test("without data synthetic images are used, and said so") func synthetic() throws {
    let scratch = try Scratch()
    let result = try Tool.run(
      "compile", Tool.teacher, "--distil-steps", "1", "--fine-tune-steps", "0", "--batch", "2", "--replace",
      "1", "--select",
      "last", "-o", scratch.file("h.vmod"))
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.errors.contains("synthetic images are used"))
    #expect(result.errors.contains("--data"))
  }
}

/// A disk of a few kilobytes.
final class TinyDisk {
  let path: String

  /// Whether one can be mounted here.
  static let isPossible: Bool = {
    guard geteuid() == 0, let scratch = try? Scratch() else { return false }
    return TinyDisk(at: scratch.file("disk"), kilobytes: 16) != nil
  }()

  init?(at path: String, kilobytes: Int) {
    self.path = path
    guard (try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)) != nil,
      mount("tmpfs", path, "tmpfs", 0, "size=\(kilobytes)k") == 0
    else { return nil }
  }

  deinit { umount(path) }
}
