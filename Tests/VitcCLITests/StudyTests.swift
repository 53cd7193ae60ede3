import Foundation
import Testing
import VitTestSupport

@Suite("Studies") struct StudyTests {
  /// Models of many exporters, where they are at hand.
  private static let zoo = ProcessInfo.processInfo.environment["VITC_ZOO"]

  /// A folder with a protocol that takes a moment.
  private struct Bench {
    let scratch: Scratch

    init(_ change: ((inout [String: Any]) -> Void)? = nil) throws {
      scratch = try Scratch()
      let printed = try Tool.run("study", "x.onnx", "--print-protocol", "--budget", "quick")
      #expect(printed.status == 0, "\(printed.errors)")
      var plan = try printed.json
      plan["name"] = "tiny"
      plan["batch"] = 4
      plan["fine_tune_rate"] = 1e-4
      plan["images"] = ["fitted": 16, "scored": 8, "measured": 16, "held_out": 8]
      plan["replacement"] = [
        "mixers": ["glr"], "controls": ["none"], "groups": ["sparse", "last"], "part": 0.25, "seeds": 1,
        "distil_steps": 2, "fine_tune_steps": 1,
      ]
      plan["retention"] = [
        "keep": [0.7], "mixer": "glr", "part": 0.25, "distil_steps": 2, "fine_tune_steps": 1,
      ]
      let form: [String: Any] = ["mixer": "conv", "prefix": "auto", "steps": 0, "seeds": 1]
      plan["position"] = [
        "factors": [0.5, 1, 2], "squares": 1, "recovery_steps": 1, "gate": 1, "forms": [form], "noises": 1,
      ]
      plan["subsets"] = ["form": form, "part": 0.5, "most": 4, "pairs": 1, "fine_tune_steps": 1]
      change?(&plan)
      try JSONSerialization.data(withJSONObject: plan).write(
        to: URL(fileURLWithPath: scratch.file("p.json")))
    }

    func words(_ out: String, threads: Int = 2, data: String = "synthetic:40") -> [String] {
      [
        "study", Tool.teacher, "--protocol", "p.json", "--data", data, "-o", out, "--threads", "\(threads)",
      ]
    }

    func run(_ words: [String]) throws -> Tool.Result { try Tool.run(words, in: scratch.path) }

    func bytes(_ name: String) throws -> Data {
      try Data(contentsOf: URL(fileURLWithPath: scratch.file(name)))
    }

    func jobs(_ out: String) -> [String] {
      ((try? FileManager.default.contentsOfDirectory(atPath: scratch.file("\(out)/jobs"))) ?? []).sorted()
    }
  }

  @Test("a study gives records, a table and a page: the same for any number of threads, and after any kill")
  func study() throws {
    let bench = try Bench()
    let whole = try bench.run(bench.words("a"))
    #expect(whole.status == 0, "\(whole.errors)")
    #expect(whole.output.contains("verdict: "), "\(whole.output)")
    let json = String(decoding: try bench.bytes("a/study.json"), as: UTF8.self)
    #expect(try Schema("study").problems(json) == [])
    let study = try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
    let records = try #require(study["records"] as? [[String: Any]])
    let kinds = Set(records.compactMap { $0["record"] as? String })
    #expect(
      kinds == ["replacement", "teacher", "layer", "single", "noise", "subset", "pair", "retention"],
      "\(kinds)")
    #expect(records.count { $0["record"] as? String == "subset" } == 4)
    let table = String(decoding: try bench.bytes("a/study.csv"), as: UTF8.self).split(separator: "\n")
    #expect(table.count == records.count + 1 && table[0].hasPrefix("record,"))
    let page = String(decoding: try bench.bytes("a/study.html"), as: UTF8.self)
    for title in [
      "Sparsity or position", "The teacher's layers", "Groups under a fixed budget", "All subsets",
    ] {
      #expect(page.contains("<h2>\(title)</h2>"), "\(title)")
    }
    #expect(!page.contains("://") && !page.contains("<script"))
    if Browser.path != nil {
      for width in [1100, 390] { try Browser.draw("a/study.html", width: width, in: bench.scratch) }
    }
    // Twenty kills at moments that are drawn.
    var random = SystemRandomNumberGenerator()
    let all = bench.jobs("a")
    // A job of its own, as a plan of steps has it.
    let planned = try bench.run(["plan", "--format", "json", "--"] + bench.words("b", threads: 1))
    #expect(planned.status == 0, "\(planned.errors)")
    let steps = try #require(try planned.json["steps"] as? [[String: Any]])
    #expect(
      Set(steps.compactMap { $0["output"] as? String })
        == Set(all.map { "b/jobs/\($0)" } + ["b/study.json"]))
    let alone = try #require(steps.dropLast().last?["words"] as? [String])
    let done = try bench.run(alone)
    #expect(done.status == 0, "\(done.errors)")
    let job = try #require(bench.jobs("b").first { $0.hasSuffix(".json") })
    #expect(try bench.bytes("a/jobs/\(job)") == bench.bytes("b/jobs/\(job)"))
    let unknown = try bench.run(bench.words("b") + ["--job", "subset"])
    #expect(unknown.status == 2 && unknown.errors.contains("did you mean 'subsets'"), "\(unknown.errors)")
    var moments: [Int] = []
    for _ in 0..<20 where bench.jobs("b").count < all.count {
      let moment = Int.random(in: 20...900, using: &random)
      moments.append(moment)
      let before = bench.jobs("b")
      let run = try Tool.start(bench.words("b", threads: 1), in: bench.scratch.path, scratch: bench.scratch)
      usleep(UInt32(1000 * moment))
      kill(run.process.processIdentifier, SIGKILL)
      let result = try run.finish()
      let after = bench.jobs("b").filter { $0.hasSuffix(".json") }
      // What was there is there, and every job that another one followed is, too.
      #expect(Set(before.filter { $0.hasSuffix(".json") }).isSubset(of: after), "\(moments)")
      let begun = result.output.split(separator: "\n").count { $0.contains("/\(all.count) ") }
      #expect(after.count >= begun - 1, "\(moments)")
      for job in after {
        #expect(try bench.bytes("a/jobs/\(job)") == bench.bytes("b/jobs/\(job)"), "\(job) after \(moments)")
      }
    }
    let rest = try bench.run(bench.words("b", threads: 1))
    #expect(rest.status == 0, "\(rest.errors)")
    for file in ["study.json", "study.csv", "study.html"] {
      #expect(try bench.bytes("a/\(file)") == bench.bytes("b/\(file)"), "\(file) after \(moments)")
    }
    // Another one beside it.
    let both = try bench.run(bench.words("a") + ["--beside", "b/study.json"])
    #expect(both.status == 0, "\(both.errors)")
    #expect(both.output.contains(": done before"))
    let shown = String(decoding: try bench.bytes("a/study.html"), as: UTF8.self)
    #expect(shown.contains("<h2>Teachers side by side</h2>"))
    // Against an earlier one: the same, and then not.
    let same = try bench.run(bench.words("a") + ["--against", "b/study.json"])
    #expect(same.status == 0 && same.output.contains("\nas before\n"), "\(same.errors)")
    var changed = study
    var entries = records
    let place = try #require(entries.firstIndex { $0["record"] as? String == "subset" })
    entries[place]["damage"] = 100
    changed["records"] = entries
    try JSONSerialization.data(withJSONObject: changed).write(
      to: URL(fileURLWithPath: bench.scratch.file("c.json")))
    let apart = try bench.run(bench.words("a") + ["--against", "c.json"])
    #expect(apart.status == 1 && apart.output.contains("differs: subset: other numbers"), "\(apart.output)")
    changed["isa"] = "another"
    try JSONSerialization.data(withJSONObject: changed).write(
      to: URL(fileURLWithPath: bench.scratch.file("c.json")))
    let elsewhere = try bench.run(bench.words("a") + ["--against", "c.json"])
    #expect(
      elsewhere.status == 1 && elsewhere.output.contains("'damage' is ")
        && elsewhere.output.split(separator: "\n").count { $0.hasPrefix("differs") } == 1,
      "\(elsewhere.output)")
    // A folder of another study is refused before any work, and stays as it is.
    let other = try bench.run(bench.words("b", data: "synthetic:41"))
    #expect(
      other.status == 2 && other.errors.contains("it belongs to a study of another data"), "\(other.errors)")
    #expect(try bench.bytes("b/study.json") == Data(json.utf8))
    try bench.scratch.write(Array("{\"schema\": \"vitc.study.job/1\"".utf8), to: "b/jobs/subsets.json")
    let damaged = try bench.run(bench.words("b"))
    #expect(damaged.status == 3 && damaged.errors.contains("b/jobs/subsets.json"), "\(damaged.errors)")
  }

  @Test(
    "what cannot be done on a model is left out and said, and the rest is done",
    .enabled(if: StudyTests.zoo != nil, "no VITC_ZOO"))
  func leftOut() throws {
    // Rotary positions: queries and keys are turned between their maps and the scores.
    let model = try #require(StudyTests.zoo.map { "\($0)/open/timm_eva02_rope_ts17.onnx" })
    let bench = try Bench()
    var words = bench.words("a", data: "synthetic:24")
    words[1] = model
    let result = try bench.run(words)
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.errors.contains("position-square-0-0 is left out: "), "\(result.errors)")
    let json = String(decoding: try bench.bytes("a/study.json"), as: UTF8.self)
    #expect(try Schema("study").problems(json) == [])
    #expect(json.contains("\"omitted\"") && json.contains("\"subset\""))
    #expect(json.contains("undecided at this size"))
  }

  @Test("--dry-run says what would be done, and does nothing")
  func dry() throws {
    let bench = try Bench()
    let result = try bench.run(bench.words("a") + ["--dry-run"])
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.output.contains("protocol tiny, ") && result.output.contains("position-square-0-2"))
    #expect(try bench.scratch.names == ["p.json"])
  }

  @Test(
    "what is wrong is one error before any work",
    arguments: [
      (["--budget", "large"], "quick, small, full"),
      (["--protocol", "p.json", "--budget", "small"], "one too many"),
      (["--protocol", "missing.json"], "missing.json"),
      (["--protocol", "bad.json"], "'retention.keep' is out of range"),
      (["--protocol", "old.json"], "vitc.study.protocol/1"),
      (["--protocol", "group.json"], "the group 'middle'"),
      (["--protocol", "form.json"], "the protocol has no 'position.forms[0].mixer'"),
      (["--protocol", "p.json", "--beside", "p.json"], "expected a study"),
    ])
  func wrong(_ words: [String], _ expected: String) throws {
    let bench = try Bench()
    let changes: [String: (inout [String: Any]) -> Void] = [
      "bad.json": {
        $0["retention"] = [
          "keep": [1.5], "mixer": "glr", "part": 0.5, "distil_steps": 1, "fine_tune_steps": 1,
        ]
      },
      "old.json": { $0["schema"] = "vitc.study.protocol/9" },
      "group.json": {
        var groups = $0["replacement"] as? [String: Any] ?? [:]
        groups["groups"] = ["middle"]
        $0["replacement"] = groups
      },
      "form.json": {
        var depth = $0["position"] as? [String: Any] ?? [:]
        depth["forms"] = [["prefix": "auto"]]
        $0["position"] = depth
      },
    ]
    for (name, change) in changes {
      let other = try Bench(change)
      try bench.scratch.write([UInt8](try other.bytes("p.json")), to: name)
    }
    let result = try bench.run(["study", Tool.teacher, "--data", "synthetic:40", "-o", "a"] + words)
    #expect(result.status == 2 || result.status == 3, "\(result.errors)")
    #expect(result.errors.split(separator: "\n").count { $0.contains("error: ") } == 1, "\(result.errors)")
    #expect(result.errors.contains(expected), "\(result.errors)")
    #expect(bench.jobs("a").isEmpty)
  }

  @Test("a teacher of one layer, no data, and no folder are said")
  func missing() throws {
    let tiny = try TinyModel()
    for (words, expected) in [
      (["study", "t.vmod", "--data", "data"], "needs -o DIR"),
      (["study", "t.vmod", "-o", "a"], "needs --data"),
    ] {
      let result = try tiny.run(words)
      #expect(result.status == 2 && result.errors.contains(expected), "\(result.errors)")
    }
  }
}
