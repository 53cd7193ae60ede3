import Foundation
import Testing
import VitTestSupport

/// Whatever ends a compile, it leaves its checkpoint or its output.
@Suite("Compiles that end badly") struct NothingLostTests {
  private static let steps = 60

  private func words(_ more: [String] = []) -> [String] {
    [
      "compile", "t.vmod", "--data", "synthetic:12", "--replace", "layers=0", "--distil-steps",
      "\(NothingLostTests.steps)", "--fine-tune-steps", "2", "--fine-tune-rate", "0.001", "--batch", "2",
      "--threads",
      "1", "--reproducible", "-o", "h.vmod",
    ] + more
  }

  /// Runs vitc below a limit of the size of files, in blocks of 1024 bytes.
  private func limited(_ blocks: Int, _ words: [String], in tiny: TinyModel) throws -> (
    status: Int32, errors: String
  ) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/bash")
    process.arguments = ["-c", "ulimit -f \(blocks); exec \"$@\"", "bash", Tool.path] + words
    process.currentDirectoryURL = URL(fileURLWithPath: tiny.scratch.path)
    let pipe = Pipe()
    process.standardOutput = FileHandle.nullDevice
    process.standardError = pipe
    try process.run()
    let errors = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus + (process.terminationReason == .uncaughtSignal ? 128 : 0), errors)
  }

  @Test("a checkpoint that cannot be written is one warning, and the compile goes on") func unwritten() throws
  {
    let tiny = try TinyModel(images: 1)
    // A folder stands where the checkpoint would be: it is there, so it is no first one, and nobody can write it.
    try FileManager.default.createDirectory(
      atPath: tiny.scratch.file("h.vmod.checkpoint"), withIntermediateDirectories: false)
    let result = try tiny.run(words())
    #expect(result.status == 0, "\(result.errors)")
    let warnings = result.errors.split(separator: "\n").filter { $0.contains("the checkpoint ") }
    #expect(warnings.count == 1, "\(result.errors)")
    #expect(try tiny.run(["verify", "h.vmod"]).status == 0)
  }

  @Test("an output whose name is no UTF-8 is written and found, and so is its checkpoint") func bytes() throws
  {
    let tiny = try TinyModel(images: 1)
    func shell(_ script: String) throws -> Tool.Result {
      let run = try Tool.start(
        ["-c", script, Tool.path] + words().filter { !["-o", "h.vmod"].contains($0) }, in: tiny.scratch.path,
        executable: "/bin/bash", scratch: tiny.scratch)
      return try run.finish()
    }
    let made = try shell(
      "out=$(printf 'h\\351.vmod'); \"$0\" \"$@\" -o \"$out\" && \"$0\" verify \"$out\" && ls *.vmod | wc -l")
    #expect(made.status == 0 && made.output.hasSuffix("2\n"), "\(made.output)\(made.errors)")
    let full = try shell(
      "out=$(printf 'i\\351.vmod'); (ulimit -f 0; \"$0\" \"$@\" -o \"$out\"); [ ! -e \"$out\" ] && \"$0\" \"$@\" -o \"$out\" && rm \"$out\""
    )
    #expect(full.status == 0, "\(full.errors)")
    let left = try tiny.scratch.names
    #expect(!left.contains { $0.hasPrefix("i") }, "\(left)")
  }

  @Test("an output that does not fit leaves the checkpoint, which gives it where it fits") func full() throws
  {
    let tiny = try TinyModel(images: 1)
    let whole = try TinyModel(images: 1)
    #expect(try whole.run(words()).status == 0)
    let size = try whole.bytes("h.vmod").count
    // The checkpoint of one small layer is smaller than the model.
    let result = try limited((size - 1) / 1024, words(), in: tiny)
    #expect(result.status == 4, "\(result.errors)")
    #expect(result.errors.contains("h.vmod: "), "\(result.errors)")
    let left = try tiny.scratch.names.filter { $0.hasPrefix("h.") }
    #expect(left == ["h.vmod.checkpoint"], "\(result.errors)")
    let resumed = try tiny.run(words(["--resume"]))
    #expect(resumed.status == 0, "\(resumed.errors)")
    #expect(try tiny.bytes("h.vmod") == whole.bytes("h.vmod"))
    #expect(try !tiny.scratch.names.contains("h.vmod.checkpoint"))
  }

  @Test(
    "a kill at any step leaves the checkpoint or the output, and resuming gives the same bytes",
    arguments: 0..<5)
  func killed(point: Int) throws {
    let tiny = try TinyModel(images: 1)
    let whole = try TinyModel(images: 1)
    #expect(try whole.run(words()).status == 0)
    let logs = try Scratch()
    let run = try Tool.start(words(), in: tiny.scratch.path, scratch: logs)
    let marks = [
      "score", "distil: 1/", "distil: \(NothingLostTests.steps / 2)/", "fine-tune: 2/", "measure hybrid",
    ]
    while run.process.isRunning {
      let said = try logs.names.filter { $0.hasSuffix(".err") }.map {
        try String(contentsOfFile: logs.file($0), encoding: .utf8)
      }
      if said.contains(where: { $0.contains(marks[point]) }) { break }
      usleep(2000)
    }
    kill(run.process.processIdentifier, SIGKILL)
    _ = try run.finish()
    let names = try tiny.scratch.names
    #expect(names.contains("h.vmod") || names.contains("h.vmod.checkpoint"), "\(names)")
    guard !names.contains("h.vmod") else { return }
    let resumed = try tiny.run(words(["--resume"]))
    #expect(resumed.status == 0, "\(resumed.errors)")
    #expect(try tiny.bytes("h.vmod") == whole.bytes("h.vmod"))
  }

  @Test("two compiles to one output at once: the last one's is whole, and neither checkpoint stays")
  func twoAtOnce() throws {
    let tiny = try TinyModel(images: 1)
    let logs = try Scratch()
    let runs = try ["1", "2"].map {
      try Tool.start(words(["--seed", $0]), in: tiny.scratch.path, scratch: logs)
    }
    for run in runs {
      let result = try run.finish()
      #expect(result.status == 0, "\(result.errors)")
    }
    #expect(try tiny.run(["verify", "h.vmod"]).status == 0)
    #expect(try tiny.scratch.names.filter { $0.hasPrefix("h.") || $0.hasPrefix(".h") } == ["h.vmod"])
    let seeds = try ["1", "2"].map { seed in
      let alone = try TinyModel(images: 1)
      #expect(try alone.run(words(["--seed", seed])).status == 0)
      return try alone.bytes("h.vmod")
    }
    #expect(seeds.contains(try tiny.bytes("h.vmod")))
  }

  @Test("two compiles to one output that are killed each go on from their own state") func bothKilled() throws
  {
    let tiny = try TinyModel(images: 1)
    let logs = try Scratch()
    let flags = ["1", "2"].map {
      words(["--seed", $0]).map { $0 == "\(NothingLostTests.steps)" ? "1500" : $0 }
    }
    let runs = try flags.map { try Tool.start($0, in: tiny.scratch.path, scratch: logs) }
    while runs.allSatisfy({ $0.process.isRunning }) {
      let said = try logs.names.filter { $0.hasSuffix(".err") }.map {
        try String(contentsOfFile: logs.file($0), encoding: .utf8)
      }
      if said.count == 2, said.allSatisfy({ $0.contains("distil: 150/") }) { break }
      usleep(2000)
    }
    for run in runs { kill(run.process.processIdentifier, SIGKILL) }
    for run in runs { _ = try run.finish() }
    #expect(try tiny.scratch.names.filter { $0.hasPrefix("h.vmod.checkpoint") }.count == 2)
    for words in flags {
      let resumed = try tiny.run(words + ["--resume"])
      #expect(resumed.status == 0, "\(resumed.errors)")
    }
    #expect(try !tiny.scratch.names.contains { $0.hasPrefix("h.vmod.checkpoint") })
  }

  /// A model with positive outputs only as long as the attention of its second layer is there: what comes of a mixer that
  /// gives zeros has no root.
  private static let fragile: String = {
    func zeros(_ count: Int, _ value: Double = 0) -> String {
      "[" + Array(repeating: "\(value)", count: count).joined(separator: ", ") + "]"
    }
    let eye = (0..<16).map { $0 % 5 == 0 ? "0.5" : "0.1" }.joined(separator: ", ")
    return """
      graph "fragile" (%image: f32[batch, 3, 8, 8]) -> (logits = %logits) {
        tensor @patch : f32[4, 3, 4, 4] = \(zeros(192, 0.01))
        tensor @below : f32[4] = \(zeros(4, -20))
        tensor @gain : f32[4] = \(zeros(4, 1))
        tensor @shift : f32[4] = \(zeros(4, 0.3))
        tensor @w : f32[4, 4] = [\(eye)]
        tensor @b : f32[4] = \(zeros(4, 0.1))
        tensor @far : f32[4] = \(zeros(4, 100))
        tensor @head : f32[3, 4] = \(zeros(12, 1))
        %tokens = vit.patch_embed(%image, @patch, @below) : f32[batch, 4, 4]
        %n0 = vit.layer_norm(%tokens, @gain, @shift) : f32[batch, 4, 4]
        %a0 = vit.attention(%n0, @w, @b, @w, @b, @w, @b, @w, @b) {heads = 2} : f32[batch, 4, 4]
        %x0 = vit.add(%tokens, %a0) : f32[batch, 4, 4]
        %n1 = vit.layer_norm(%x0, @gain, @far) : f32[batch, 4, 4]
        %a1 = vit.attention(%n1, @w, @b, @w, @b, @w, @b, @w, @b) {heads = 2} : f32[batch, 4, 4]
        %x1 = vit.add(%x0, %a1) : f32[batch, 4, 4]
        %pooled = onnx.ReduceMean(%x1) {axes = [1], keepdims = false} : f32[batch, 4]
        %sums = vit.linear(%pooled, @head) : f32[batch, 3]
        %logits = onnx.Sqrt(%sums) : f32[batch, 3]
      }

      """
  }()

  @Test("a hybrid that gives no numbers for a probe leaves the checkpoint, and no output") func probe() throws
  {
    let tiny = try TinyModel(images: 1)
    try tiny.scratch.write(Array(NothingLostTests.fragile.utf8), to: "f.vit")
    let words = [
      "compile", "f.vit", "--data", "synthetic:12", "--threads", "1", "-o", "h.vmod", "--passes",
      "swap{layers=[0]},distil{steps=4,batch=2},swap{mixer=none,layers=[1]}",
    ]
    let result = try tiny.run(words)
    #expect(result.status == 1, "\(result.errors)")
    #expect(result.errors.contains("the hybrid gives no numbers for any of"), "\(result.errors)")
    #expect(result.errors.contains("what was trained so far is in 'h.vmod.checkpoint'"), "\(result.errors)")
    #expect(try tiny.scratch.names.filter { $0.hasPrefix("h.") } == ["h.vmod.checkpoint"])
    let resumed = try tiny.run(words + ["--resume"])
    #expect(resumed.status == 1 && !resumed.errors.contains("distil: 1/"), "\(resumed.errors)")
    #expect(try tiny.scratch.names.filter { $0.hasPrefix("h.") } == ["h.vmod.checkpoint"])
  }

  @Test("a compile in which training goes astray goes on after a kill to the same file and report")
  func divergedAndKilled() throws {
    let tiny = try TinyModel(images: 1)
    let whole = try TinyModel(images: 1)
    let words = [
      "compile", "t.vmod", "--data", "synthetic:12", "--threads", "1", "--reproducible", "-o", "h.vmod",
      "--report", "r.json", "--passes",
      "swap{layers=[0]},distil{steps=300,batch=2,rate=1000000,clip=1000000000},fine-tune{steps=10,batch=2,rate=1e+30,clip=1e+30}",
    ]
    let uninterrupted = try whole.run(words)
    #expect(uninterrupted.status == 0, "\(uninterrupted.errors)")
    #expect(uninterrupted.errors.contains("distil: layer 0 diverges"), "\(uninterrupted.errors)")
    let logs = try Scratch()
    let run = try Tool.start(words, in: tiny.scratch.path, scratch: logs)
    while run.process.isRunning {
      let said = try logs.names.filter { $0.hasSuffix(".err") }.map {
        try String(contentsOfFile: logs.file($0), encoding: .utf8)
      }
      if said.contains(where: { $0.contains("distil: 100/") }) { break }
      usleep(2000)
    }
    kill(run.process.processIdentifier, SIGKILL)
    _ = try run.finish()
    guard try !tiny.scratch.names.contains("h.vmod") else { return }
    let resumed = try tiny.run(words + ["--resume"])
    #expect(resumed.status == 0, "\(resumed.errors)")
    // It was said before the kill, and is in the report all the same.
    #expect(!resumed.errors.contains("distil: layer 0 diverges"))
    #expect(try tiny.bytes("h.vmod") == whole.bytes("h.vmod"))
    func divergences(_ model: TinyModel) throws -> NSArray {
      let report = try JSONSerialization.jsonObject(with: model.bytes("r.json")) as? [String: Any]
      return try #require(report?["divergences"] as? NSArray)
    }
    #expect(try divergences(whole).count >= 2)
    #expect(try divergences(tiny) == divergences(whole))
  }

  @Test("a second signal ends the process while a library hangs") func secondSignal() throws {
    let tiny = try TinyModel(images: 1)
    // The loader opens what it finds under the name, and waits for somebody to write into it.
    let pipe = tiny.scratch.file("libopenblas.so.0")
    try #require(mkfifo(pipe, 0o600) == 0)
    let logs = try Scratch()
    let run = try Tool.start(
      words(), in: tiny.scratch.path, environment: ["LD_LIBRARY_PATH": tiny.scratch.path], scratch: logs)
    var writer: Int32 = -1
    while run.process.isRunning, writer < 0 {
      writer = open(pipe, O_WRONLY | O_NONBLOCK)
      usleep(2000)
    }
    try #require(writer >= 0, "nobody waits for the library")
    defer { close(writer) }
    kill(run.process.processIdentifier, SIGINT)
    usleep(200_000)
    #expect(run.process.isRunning)
    kill(run.process.processIdentifier, SIGINT)
    let result = try run.finish()
    #expect(result.status == 130)
    #expect(result.errors.hasSuffix("error: interrupted\n"), "\(result.errors)")
  }

  /// What follows after `dce` is not rehearsed, so it is there that memory runs out.
  @Test("memory that runs out in the middle of a compile leaves its checkpoint, which comes to the same file")
  func outOfMemory() throws {
    let tiny = try TinyModel(images: 1)
    let whole = try TinyModel(images: 1)
    let words = [
      "compile", Tool.teacher, "--data", "synthetic:16", "--threads", "1", "--reproducible", "-o", "h.vmod",
      "--passes", "swap{layers=[0]},distil{steps=4,batch=2},dce,fine-tune{steps=1,batch=64,rate=0.001}",
    ]
    let result = try tiny.run(words + ["--memory-limit", "90M"])
    #expect(result.status == 4, "\(result.errors)")
    #expect(result.errors.contains("MiB that '--memory-limit' allows"), "\(result.errors)")
    #expect(result.errors.contains("what was trained so far is in 'h.vmod.checkpoint'"), "\(result.errors)")
    #expect(try tiny.scratch.names.filter { $0.hasPrefix("h.") } == ["h.vmod.checkpoint"])
    let resumed = try tiny.run(words + ["--resume"])
    #expect(resumed.status == 0 && !resumed.errors.contains("distil: 1/"), "\(resumed.errors)")
    #expect(try whole.run(words).status == 0)
    #expect(try tiny.bytes("h.vmod") == whole.bytes("h.vmod"))
  }
}
