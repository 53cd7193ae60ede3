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
}
