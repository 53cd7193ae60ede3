import Foundation
import Testing
import VitTestSupport

@Suite("Plans of steps") struct PlanTests {
  /// A compile of the tiny teacher, whose two layers are both distilled.
  private static let command = [
    "compile", "t.vmod", "--data", "data", "--replace", "1.0", "--select", "damage", "--mixer", "glr",
    "--distil-steps",
    "3", "--fine-tune-steps", "1", "--batch", "2", "--threads", "1", "--reproducible",
  ]

  private struct Step {
    let name: String, words: [String], inputs: [String], output: String, depfile: String
  }

  private func plan(_ tiny: TinyModel, _ words: [String]) throws -> [Step] {
    let planned = try tiny.run(["plan", "--format", "json", "--"] + words)
    #expect(planned.status == 0, "\(planned.errors)")
    #expect(try Schema("plan").problems(planned.output) == [])
    let steps = try #require(try planned.json["steps"] as? [[String: Any]])
    return steps.map { step in
      func list(_ key: String) -> [String] { step[key] as? [String] ?? [] }
      func text(_ key: String) -> String { step[key] as? String ?? "" }
      return Step(
        name: text("name"), words: list("words"), inputs: list("inputs"), output: text("output"),
        depfile: text("depfile"))
    }
  }

  /// Runs a shell's words in the folder, with vitc in the path.
  private func shell(_ tiny: TinyModel, _ words: [String], _ environment: [String: String] = [:]) throws
    -> Tool.Result
  {
    let folder = URL(fileURLWithPath: Tool.path).deletingLastPathComponent().path
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
    let started = try Tool.start(
      words, in: tiny.scratch.path, environment: environment.merging(["PATH": "\(folder):\(path)"]) { $1 },
      executable: "/usr/bin/env", scratch: tiny.scratch)
    return try started.finish()
  }

  @Test(
    "the steps of a compile give its bytes, in any order and for any number of threads",
    arguments: [
      PlanTests.command,
      [
        "compile", "t.vmod", "--data", "data", "--passes",
        "score,swap{layers=all},distil{steps=2,batch=2},solve", "--reproducible",
      ],
      // Beside what is distilled others are tried: another kind, and of fewer channels.
      [
        "compile", "t.vmod", "--data", "data", "--replace", "1.0", "--distil-steps", "3", "--fine-tune-steps",
        "1",
        "--batch", "2", "--threads", "1", "--reproducible",
      ],
    ])
  func compile(_ words: [String]) throws {
    let tiny = try TinyModel(images: 8)
    let whole = try tiny.run(words + ["-o", "whole.vmod"])
    #expect(whole.status == 0 && whole.errors.contains("distil"), "\(whole.errors)")
    let chooses = !words.contains("--select") && !words.contains("--passes")
    let steps = try plan(tiny, words + ["-o", "h.vmod", "--report", "r.json"])
    let parts = ["part-0", "part-1"]
    #expect(steps.map(\.name) == parts + (chooses ? ["choices-0", "choices-1"] : []) + ["compile"])
    let stages = [Array(steps[..<2]), Array(steps[2...].dropLast())]
    for (number, stage) in stages.enumerated() {
      for step in stage.reversed() {
        #expect(step.inputs == ["t.vmod"] + (number == 0 ? [] : stages[0].map(\.output)))
        var words = step.words
        if let threads = words.firstIndex(of: "--threads") { words[threads + 1] = "2" }
        let ended = try tiny.run(words)
        #expect(ended.status == 0, "\(ended.errors)")
        let depends = String(decoding: try tiny.bytes(step.depfile), as: UTF8.self)
        #expect(depends.contains("\(step.output):") && depends.contains("data/a/0.png"), "\(depends)")
      }
    }
    let last = try #require(steps.last)
    #expect(last.inputs == ["t.vmod"] + steps.dropLast().map(\.output) && last.output == "h.vmod")
    let ended = try tiny.run(last.words)
    #expect(ended.status == 0, "\(ended.errors)")
    // All of it was done before.
    #expect(!ended.errors.contains("distil"), "\(ended.errors)")
    #expect(try tiny.bytes("h.vmod") == tiny.bytes("whole.vmod"))
    #expect(FileManager.default.fileExists(atPath: tiny.scratch.file("r.json")))
    // Parts belong to one compile.
    let other = try tiny.run(last.words.filter { $0 != "--reproducible" } + ["--seed", "9"])
    #expect(
      other.status == 3 && other.errors.contains("the part belongs to another compile"), "\(other.errors)")
    try Data(tiny.bytes(steps[0].output).dropLast(3)).write(
      to: URL(fileURLWithPath: tiny.scratch.file(steps[0].output)))
    let cut = try tiny.run(last.words)
    #expect(cut.status == 3 && cut.errors.contains("does not match its digest"), "\(cut.errors)")
    try FileManager.default.removeItem(atPath: tiny.scratch.file(steps[0].output))
    let gone = try tiny.run(last.words)
    #expect(gone.status != 0 && gone.errors.contains(steps[0].output), "\(gone.errors)")
  }

  @Test("ninja does the steps, and none again that nothing asks for")
  func ninja() throws {
    let tiny = try TinyModel()
    guard try shell(tiny, ["ninja", "--version"]).status == 0 else { return }
    // Names that ninja and shells read in their own way.
    try FileManager.default.moveItem(
      atPath: tiny.scratch.file("t.vmod"), toPath: tiny.scratch.file("5$ a: b.vmod"))
    let words = PlanTests.command.map { $0 == "t.vmod" ? "5$ a: b.vmod" : $0 }
    let planned = try tiny.run(
      ["plan", "--format", "ninja", "-o", "build.ninja", "--"] + words + ["-o", "h.vmod"])
    #expect(planned.status == 0, "\(planned.errors)")
    let first = try shell(tiny, ["ninja"])
    #expect(first.status == 0, "\(first.output)\(first.errors)")
    #expect(first.output.contains("[3/3] vitc h.vmod"), "\(first.output)")
    #expect(try shell(tiny, ["ninja"]).output.contains("no work to do"))
    try tiny.addImage("a/9.png")
    #expect(try shell(tiny, ["ninja", "-n"]).output.contains("vitc h.vmod.part-1"))
    let whole = try tiny.run(words + ["-o", "whole.vmod"])
    #expect(whole.status == 0, "\(whole.errors)")
    let again = try shell(tiny, ["ninja"])
    #expect(again.status == 0, "\(again.output)\(again.errors)")
    #expect(try tiny.bytes("h.vmod") == tiny.bytes("whole.vmod"))
  }

  @Test("the script for Slurm does a step for each number of its array, and the last without one")
  func slurm() throws {
    let tiny = try TinyModel()
    let name = "it's \"5\" $(a).vmod"
    try FileManager.default.moveItem(atPath: tiny.scratch.file("t.vmod"), toPath: tiny.scratch.file(name))
    let words = PlanTests.command.map { $0 == "t.vmod" ? name : $0 }
    let planned = try tiny.run(
      ["plan", "--format", "slurm", "-o", "run.sh", "--"] + words + ["-o", "h.vmod"])
    #expect(planned.status == 0, "\(planned.errors)")
    let script = String(decoding: try tiny.bytes("run.sh"), as: UTF8.self)
    #expect(script.contains("--array=0-1 ") && script.contains("#SBATCH"), "\(script)")
    #expect(try shell(tiny, ["bash", "run.sh"], ["SLURM_ARRAY_TASK_ID": "2"]).status == 2)
    for number in ["1", "0"] {
      let ended = try shell(tiny, ["bash", "run.sh"], ["SLURM_ARRAY_TASK_ID": number])
      #expect(ended.status == 0, "\(ended.errors)")
    }
    let last = try shell(tiny, ["bash", "run.sh"])
    #expect(last.status == 0, "\(last.errors)")
    #expect(try tiny.run(words + ["-o", "whole.vmod"]).status == 0)
    #expect(try tiny.bytes("h.vmod") == tiny.bytes("whole.vmod"))
  }

  @Test("what has no steps is one, and what makes none is one error line")
  func others() throws {
    let tiny = try TinyModel()
    let channels = ["compile", "t.vmod", "--data", "data", "--replace", "0", "-o", "h.vmod"]
    #expect(try plan(tiny, channels).map(\.name) == ["compile"])
    let listed = PlanTests.command.map { $0 == "1.0" ? "layers=1" : $0 }.filter {
      $0 != "--select" && $0 != "damage"
    }
    #expect(try plan(tiny, listed + ["-o", "h.vmod"]).map(\.name) == ["part-1", "choices-1", "compile"])
    for (words, code) in [
      (["compil", "t.vmod"], "did you mean 'compile'"),
      (["compile", "t.vmod"], "needs -o"),
      (["compile", "t.vmod", "--deadline", "5s", "-o", "h.vmod"], "deadline"),
      (["compile", "t.vmod", "-o", "h.vmod", "--part", "0"], "--part is for one step"),
      (["compile", "t.vmod", "-o", "h.vmod", "--nonsense"], "--nonsense"),
      (["compile", "missing.vmod", "-o", "h.vmod"], "missing.vmod"),
      (["compile", "data/a/0.png", "-o", "h.vmod"], "PNG"),
      (["study", "t.vmod", "--data", "data"], "needs -o"),
    ] {
      let ended = try tiny.run(["plan", "--format", "json", "--"] + words)
      #expect(
        ended.status != 0 && ended.output.isEmpty && ended.errors.contains(code), "\(words): \(ended.errors)")
    }
    #expect(try tiny.run(["plan", "--format", "json", "--", "run", "t.vmod"]).status == 2)
    // What would be read as an option, and what the parts do not write, stay where they belong.
    try FileManager.default.copyItem(
      atPath: tiny.scratch.file("t.vmod"), toPath: tiny.scratch.file("-t.vmod"))
    let odd = try plan(
      tiny,
      [
        "compile", "--data", "data", "--replace", "layers=1,1", "--mixer", "glr", "--distil-steps", "1",
        "--batch", "2",
        "--emit", "ir", "-o", "o.vit", "--", "-t.vmod",
      ])
    #expect(odd.map(\.name) == ["part-1", "choices-1", "compile"])
    for step in odd {
      let ended = try tiny.run(step.words)
      #expect(ended.status == 0, "\(step.words): \(ended.errors)")
    }
    try FileManager.default.copyItem(
      atPath: tiny.scratch.file("t.vmod"), toPath: tiny.scratch.file("a|b.vmod"))
    let barred = try tiny.run(["plan", "--format", "ninja", "--", "compile", "a|b.vmod", "-o", "h.vmod"])
    #expect(barred.status == 2 && barred.errors.contains("'|'"), "\(barred.errors)")
    #expect(
      try tiny.run(["plan", "--", "compile", "t.vmod", "-o", "h.vmod"]).errors.contains("needs --format"))
    let beyond = try tiny.run(PlanTests.command + ["--part", "7", "-o", "p"])
    #expect(
      beyond.status == 2 && beyond.errors.contains("layer 7 has no part of its own"), "\(beyond.errors)")
    let none = try tiny.run(
      ["compile", "t.vmod", "--data", "data", "--replace", "0", "--part", "0", "-o", "p"])
    #expect(none.status == 2 && none.errors.contains("distils nothing"), "\(none.errors)")
  }
}
