import Foundation
import Testing
import VitTestSupport

/// Every command that writes files, with what it writes.
private struct Writer: CustomTestStringConvertible, Sendable {
  let words: [String]
  let outputs: [String]
  var testDescription: String { words.joined(separator: " ") }

  private static let data = ["--data", "data", "--threads", "1"]

  static let all: [Writer] = [
    Writer(words: TinyModel.compile + ["-o", "h2.vmod"], outputs: ["h2.vmod"]),
    Writer(words: TinyModel.compile + ["-o", "h.part", "--part", "0"], outputs: ["h.part"]),
    Writer(
      words: ["rebuild", "h.vmod", "--teacher", "t.vmod", "-o", "again.vmod"] + data, outputs: ["again.vmod"]),
    Writer(words: ["opt", "t.vmod", "--passes", "score", "-o", "o.vmod"] + data, outputs: ["o.vmod"]),
    Writer(
      words: ["opt", "t.vmod", "--passes", "fold", "-o", "o.vit"], outputs: ["o.vit", "o.vit.tensors"]),
    Writer(words: ["score", "t.vmod", "-o", "s.vmod"] + data, outputs: ["s.vmod"]),
    Writer(words: ["export", "h.vmod", "-o", "e.onnx"], outputs: ["e.onnx"]),
    Writer(words: ["report", "r.json", "-o", "r.html"], outputs: ["r.html"]),
    Writer(words: ["golden", "init", "g", "h.vmod"], outputs: ["g/h.json"]),
    Writer(
      words: ["check", "h.vmod", "--max-params", "9999999", "--junit", "c.xml", "--sarif", "c.sarif"],
      outputs: ["c.xml", "c.sarif"]),
    Writer(
      words: ["plan", "--format", "ninja", "-o", "p.ninja", "--"] + TinyModel.compile + ["-o", "h.vmod"],
      outputs: ["p.ninja"]),
  ]

  /// A folder with the teacher, a hybrid of it, and the report.
  static func folder() throws -> TinyModel {
    let tiny = try TinyModel(images: 1)
    let made = try tiny.run(TinyModel.compile + ["-o", "h.vmod", "--report", "r.json"])
    #expect(made.status == 0, "\(made.errors)")
    return tiny
  }

  /// The outputs as they are now; `nil` for one that is not there.
  func found(in tiny: TinyModel) -> [Data?] { outputs.map { try? tiny.bytes($0) } }

  /// Takes the outputs away.
  func clear(_ tiny: TinyModel) {
    for name in outputs { try? FileManager.default.removeItem(atPath: tiny.scratch.file(name)) }
  }
}

/// What is written is whole or not there, whatever ends the process.
@Suite("Commands that write") struct WritersTests {
  @Test("a kill leaves each output as it was, or as it should be", arguments: Writer.all)
  private func killed(_ writer: Writer) throws {
    let tiny = try Writer.folder()
    let clock = ContinuousClock()
    var ended: Tool.Result?
    let time = try clock.measure { ended = try tiny.run(writer.words) } / .seconds(1)
    #expect(ended?.status == 0, "\(ended?.errors ?? "")")
    let whole = writer.found(in: tiny)
    #expect(!whole.contains(nil))
    writer.clear(tiny)
    var random = SystemRandomNumberGenerator()
    var moments: [Int] = []
    for _ in 0..<20 {
      let before = writer.found(in: tiny)
      let moment = Int.random(in: 0...Int(1.2e6 * time), using: &random)
      moments.append(moment)
      let run = try Tool.start(writer.words, in: tiny.scratch.path, scratch: tiny.scratch)
      usleep(UInt32(moment))
      kill(run.process.processIdentifier, SIGKILL)
      _ = try run.finish()
      for (place, now) in writer.found(in: tiny).enumerated() {
        #expect(now == before[place] || now == whole[place], "\(writer.outputs[place]) after \(moments) µs")
      }
      // Every other time there is something to be replaced.
      if moments.count % 2 == 0 { writer.clear(tiny) }
    }
    let last = try tiny.run(writer.words)
    #expect(last.status == 0, "\(last.errors) after \(moments) µs")
    #expect(writer.found(in: tiny) == whole)
  }

  @Test("a full disk is exit code 4, and leaves what was there", arguments: Writer.all)
  private func full(_ writer: Writer) throws {
    let tiny = try Writer.folder()
    let old = Data("what was there before".utf8)
    let isGolden = writer.words[0] == "golden"
    for name in writer.outputs where !isGolden {
      try old.write(to: URL(fileURLWithPath: tiny.scratch.file(name)))
    }
    let names = try tiny.scratch.names
    // A limit of the size of files is a disk that is full from the first byte.
    let started = try Tool.start(
      ["-c", "ulimit -f 0; exec \"$@\" 2>/dev/null", "bash", Tool.path] + writer.words, in: tiny.scratch.path,
      executable: "/bin/bash", scratch: tiny.scratch)
    let ended = try started.finish()
    #expect(ended.status == 4, "\(ended.output)")
    if isGolden {
      #expect(writer.found(in: tiny) == [nil])
    } else {
      #expect(writer.found(in: tiny).allSatisfy { $0 == old })
      let left = try tiny.scratch.names.filter { !$0.hasSuffix(".out") && !$0.hasSuffix(".err") }
      #expect(left.filter { !names.contains($0) && !$0.hasSuffix(".checkpoint") } == [])
    }
  }

  @Test("of two at once one is there in the end, whole", arguments: Writer.all)
  private func two(_ writer: Writer) throws {
    let tiny = try Writer.folder()
    #expect(try tiny.run(writer.words).status == 0)
    let whole = writer.found(in: tiny)
    writer.clear(tiny)
    let runs = try (0..<2).map { _ in
      try Tool.start(writer.words, in: tiny.scratch.path, scratch: tiny.scratch)
    }
    let ended = try runs.map { try $0.finish() }
    // Who makes a golden that the other one has made by then says so.
    let isGolden = writer.words[0] == "golden"
    #expect(
      ended.contains { $0.status == 0 } && (isGolden || ended.allSatisfy { $0.status == 0 }),
      "\(ended.map(\.errors))")
    #expect(writer.found(in: tiny) == whole)
  }
}
