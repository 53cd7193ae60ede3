import Foundation
import Testing
import VitFormats
import VitIR
import VitTestSupport
import Vitc

@Suite("Compiling again from the lineage") struct RebuildTests {
  private static let rebuild = ["rebuild", "h.vmod", "--teacher", "t.vmod", "--data", "data"]

  private func compiled(_ more: [String] = []) throws -> TinyModel {
    let tiny = try TinyModel()
    let ended = try tiny.run(TinyModel.compile + ["-o", "h.vmod"] + more)
    #expect(ended.status == 0, "\(ended.errors)")
    return tiny
  }

  @Test(
    "all but times is the same again, whatever was asked for",
    arguments: [
      [], ["--mixer", "lstm", "--seed", "3"], ["--weights", "f32", "--fine-tune-rate", "0.001"],
      ["--precision", "int8"],
      ["--held-out", "3", "--eval-images", "1"], ["--controls"], ["--preprocess", "mean=0.1,0.2,0.3"],
      ["--eval-data", "data/a"], ["--timed-batch", "2"],
    ])
  func same(_ options: [String]) throws {
    let tiny = try TinyModel()
    // Whether the first one holds times does not matter.
    var words = TinyModel.compile.filter { $0 != "--reproducible" || options.isEmpty }
    if options.contains("--fine-tune-rate"), let steps = words.firstIndex(of: "--fine-tune-steps") {
      words[steps + 1] = "2"
    }
    let ended = try tiny.run(words + ["-o", "h.vmod"] + options)
    #expect(ended.status == 0, "\(ended.errors)")
    let evaluated = options.first == "--eval-data" ? options : []
    let again = try tiny.run(RebuildTests.rebuild + evaluated + ["--json"])
    #expect(again.status == 0, "\(again.output)\(again.errors)")
    #expect(try again.json["same"] as? String == "content", "\(again.output)")
    #expect(try Schema("rebuild").problems(again.output) == [])
  }

  @Test("what is made again is written where it is asked for, and is the same file where no times are in it")
  func written() throws {
    let tiny = try compiled()
    let again = try tiny.run(RebuildTests.rebuild + ["-o", "again.vmod", "--threads", "2"])
    #expect(again.status == 0, "\(again.errors)")
    #expect(again.output.hasPrefix("the same: every byte but times"))
    let (first, second) = try (
      VModReader.read(path: tiny.scratch.file("h.vmod"), registry: .vitc),
      VModReader.read(path: tiny.scratch.file("again.vmod"), registry: .vitc)
    )
    #expect(first.contentDigest == second.contentDigest && first.contentDigest != nil)
    #expect(again.output.contains("\(try #require(first.contentDigest))"))
    #expect(!FileManager.default.fileExists(atPath: tiny.scratch.file("again.vmod.checkpoint")))
  }

  @Test("a weight that somebody changed is found, and so is a story that does not fit")
  func changed() throws {
    let tiny = try compiled()
    let path = tiny.scratch.file("h.vmod")
    var file = try VModReader.read(path: path, registry: .vitc)
    let name = try #require(file.graph.tensors.names.first { file.graph.tensors[$0]?.shape.count == 2 })
    let tensor = try #require(file.graph.tensors[name])
    var values = try tensor.doubles()
    values[0] += 1
    file.graph.tensors[name] = Tensor(tensor.element, shape: tensor.shape, values: values)
    try VModWriter.write(file, to: path)
    let found = try tiny.run(RebuildTests.rebuild)
    #expect(found.status == 1 && found.output.hasPrefix("another model\n"), "\(found.output)\(found.errors)")
    #expect(found.output.contains("tensor '\(name)'"), "\(found.output)")
    #expect(
      try tiny.run(RebuildTests.rebuild + ["--tolerance", "1e9"]).output.hasPrefix("the same model as far"))

    try tiny.run(TinyModel.compile + ["-o", "h.vmod"])
    var named = try VModReader.read(path: path, registry: .vitc)
    named.preprocessing = named.preprocessing.map { $0.key == "mean" ? ("mean", "0.1,0.2,0.3") : $0 }
    named.labels = ["cat", "dog", "owl", "fox", "bat"]
    try VModWriter.write(named, to: path)
    let prepared = try tiny.run(
      RebuildTests.rebuild + ["--preprocess", "mean=0.5,0.4,0.3", "--tolerance", "1e9"])
    #expect(
      prepared.status == 1 && prepared.output.contains("attributes 'labels': "),
      "\(prepared.output)\(prepared.errors)")
    #expect(prepared.output.contains("attributes 'preprocessing': "), "\(prepared.output)")

    try tiny.run(TinyModel.compile + ["-o", "h.vmod"])
    var told = try VModReader.read(path: path, registry: .vitc)
    told.lineage = told.lineage.map { $0.key == "version" ? ("version", "0.0.1") : $0 }
    try VModWriter.write(told, to: path)
    let other = try tiny.run(RebuildTests.rebuild)
    #expect(other.status == 0 && other.output.hasPrefix("the same model, in a file"), "\(other.output)")
    #expect(other.output.contains("lineage 'version': '0.0.1', now '\(Version.current)'"), "\(other.output)")
  }

  @Test("what it was not made from is refused before any work")
  func refused() throws {
    let tiny = try compiled(["--eval-data", "data/a"])
    func code(_ words: [String]) throws -> (Int32, String) {
      let ended = try tiny.run(words + ["--diagnostics", "json", "--quiet"])
      #expect(ended.output.isEmpty)
      let line = try #require(
        ended.errors.split(separator: "\n").last { $0.contains("error") }, "\(ended.errors)")
      let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
      return (ended.status, object?["code"] as? String ?? "")
    }
    #expect(try code(RebuildTests.rebuild) == (2, "evaluation-missing"))
    #expect(
      try code(["rebuild", "h.vmod", "--teacher", "h.vmod", "--data", "data"]) == (3, "lineage-differs"))
    #expect(
      try code(["rebuild", "h.vmod", "--teacher", "t.vmod", "--data", "data/a"]) == (3, "lineage-differs")
    )
    #expect(try code(["rebuild", "h.vmod", "--teacher", "t.vmod"]) == (3, "lineage-differs"))
    #expect(
      try code(RebuildTests.rebuild + ["--eval-data", "data"]) == (3, "lineage-differs"))
    #expect(
      try code(["rebuild", "t.vmod", "--teacher", "t.vmod", "--data", "data"]) == (3, "lineage-missing"))
    #expect(try code(["rebuild", "h.vmod"]) == (2, "option-missing"))
    #expect(try code(RebuildTests.rebuild + ["--resume"]) == (2, "option-conflict"))
    #expect(try code(RebuildTests.rebuild + ["-o", "h.vit"]) == (2, "output-format"))
    let late = try tiny.run(
      TinyModel.compile.filter { $0 != "--reproducible" } + ["-o", "d.vmod", "--deadline", "1h"])
    #expect(late.status == 0, "\(late.errors)")
    #expect(
      try code(["rebuild", "d.vmod", "--teacher", "t.vmod", "--data", "data"]) == (3, "not-repeatable"))
  }
}
