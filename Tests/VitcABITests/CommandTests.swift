import CVitc
import Foundation
import Synchronization
import Testing
import VitTestSupport

/// What was heard of a command.
private final class Heard: @unchecked Sendable {
  var output: [CChar] = []
  var messages: [(severity: String, code: String)] = []
  var phases: Set<String> = []
  var cancelsAfter = Int.max
  var text: String { String(decoding: output.map(UInt8.init(bitPattern:)), as: UTF8.self) }
}

/// Runs a command through the C library.
private func command(_ words: [String], _ heard: Heard = Heard()) -> Ended {
  func own(_ context: UnsafeMutableRawPointer?) -> Heard? {
    context.map { Unmanaged<Heard>.fromOpaque($0).takeUnretainedValue() }
  }
  var callbacks = vitc_callbacks()
  callbacks.size = MemoryLayout<vitc_callbacks>.size
  callbacks.context = Unmanaged.passUnretained(heard).toOpaque()
  callbacks.output = { context, text, size in
    let heard = context.map { Unmanaged<Heard>.fromOpaque($0).takeUnretainedValue() }
    heard?.output += UnsafeBufferPointer(start: text, count: size)
  }
  callbacks.message = { context, severity, code, _ in
    let heard = context.map { Unmanaged<Heard>.fromOpaque($0).takeUnretainedValue() }
    if let severity, let code {
      heard?.messages.append((String(cString: severity), String(cString: code)))
    }
  }
  callbacks.progress = { context, phase, done, total, _ in
    let heard = context.map { Unmanaged<Heard>.fromOpaque($0).takeUnretainedValue() }
    if let phase, done <= total { heard?.phases.insert(String(cString: phase)) }
  }
  callbacks.cancelled = { context in
    let heard = context.map { Unmanaged<Heard>.fromOpaque($0).takeUnretainedValue() }
    return (heard?.phases.count ?? 0) >= (heard?.cancelsAfter ?? .max) ? 1 : 0
  }
  let texts = words.map { strdup($0) }
  defer { texts.forEach { free($0) } }
  let pointers = texts.map { UnsafePointer<CChar>($0) }
  return withExtendedLifetime(heard) { Ended { vitc_command(pointers, pointers.count, &callbacks, $0) } }
}

@Suite("commands through the C library")
struct CommandTests {
  private let teacher = Fixture.path("compat/v1/teacher.vmod")

  @Test(
    "results, messages and progress are heard; the same bytes come out as of the command line's own compile")
  func compiles() throws {
    let scratch = try Scratch()
    func words(_ name: String) -> [String] {
      [
        "compile", teacher, "-o", scratch.file(name), "--data", "synthetic:64", "--reproducible", "--passes",
        "score{images=8},swap{mixer=glr,layers=[0]},distil{steps=2,batch=8,images=16},solve{images=16},trim",
      ]
    }
    let heard = Heard()
    let ended = command(words("a.vmod"), heard)
    #expect(ended.status == VITC_OK, "\(ended)")
    #expect(heard.text.contains("result: layers [0] are glr"))
    #expect(heard.phases.contains("distil") && !heard.messages.contains { $0.severity == "error" })
    #expect(command(words("b.vmod") + ["--threads", "1"]).status == VITC_OK)
    let bytes = try ["a.vmod", "b.vmod"].map { try Data(contentsOf: URL(fileURLWithPath: scratch.file($0))) }
    #expect(bytes[0] == bytes[1] && !bytes[0].isEmpty)
    let diff = Heard()
    let same = command(["diff", scratch.file("a.vmod"), scratch.file("b.vmod")], diff)
    #expect(same.status == VITC_OK && !diff.text.isEmpty)
    let other = command(["diff", scratch.file("a.vmod"), teacher])
    #expect(other.status == VITC_CHECK_FAILED && other.code == nil)
  }

  @Test("work stops when it is asked to, with what was trained kept")
  func cancels() throws {
    let scratch = try Scratch()
    let heard = Heard()
    heard.cancelsAfter = 3
    let ended = command(
      [
        "compile", teacher, "-o", scratch.file("c.vmod"), "--data", "synthetic:64", "--distil-steps", "20000",
        "--fine-tune-steps", "1", "--select", "first",
      ], heard)
    #expect(ended.status == VITC_INTERRUPTED && ended.code == "interrupted", "\(ended)")
    #expect(try !scratch.names.contains("c.vmod"))
  }

  @Test("wrong words are usage errors, and nothing is written to the standard streams")
  func misuse() {
    #expect(command([]).status == VITC_USAGE)
    #expect(command(["compil"]).status == VITC_USAGE)
    #expect(command(["inspect", "/nowhere"]).code == "missing-file")
    let limited = command(["score", teacher, "--data", "synthetic:4", "--memory-limit", "1G"])
    #expect(limited.status == VITC_USAGE && limited.code == "option-conflict")
    #expect(Ended { vitc_command(nil, 2, nil, $0) }.status == VITC_USAGE)
    var callbacks = vitc_callbacks()
    #expect(Ended { vitc_command(nil, 0, &callbacks, $0) }.status == VITC_USAGE)
    let heard = Heard()
    #expect(command(["--version"], heard).status == VITC_OK && heard.text.hasPrefix("vitc "))
  }
}
