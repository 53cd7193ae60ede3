import Foundation
import Testing
import VitTestSupport

@Suite("A teacher for other classes") struct HeadCommandTests {
  /// The tiny teacher, with pictures of two kinds.
  private func tiny() throws -> TinyModel {
    let tiny = try TinyModel()
    for index in 0..<4 {
      try tiny.scratch.write(Fixture.bytes("formats/palette.png"), to: "data/b/\(index).png")
    }
    return tiny
  }

  /// Makes `n.vmod`, the tiny teacher with a head for the folders of its data.
  private func headed(_ tiny: TinyModel, _ more: [String] = []) throws -> Tool.Result {
    try tiny.run(["opt", "t.vmod", "--passes", "head", "--data", "data", "-o", "n.vmod"] + more)
  }

  private func lineage(_ tiny: TinyModel, _ file: String) throws -> [String: String] {
    let json = try tiny.run(["inspect", "--json", file]).json
    return try #require(json["lineage"] as? [String: String])
  }

  @Test("it has the classes of the data by name, and is its own teacher") func teacher() throws {
    let tiny = try tiny()
    try tiny.scratch.write(Array(#"{"label_names": ["v", "w", "x", "y", "z"]}"#.utf8), to: "config.json")
    let made = try headed(tiny)
    #expect(made.status == 0, "\(made.errors)")
    #expect(made.errors.contains("note: head: 2 classes solved on 8 samples"))
    let own = try tiny.run(["inspect", "--json", "n.vmod"]).json
    #expect((own["labels"] as? [String]) ?? ["a", "b"] == ["a", "b"])
    let entries = try lineage(tiny, "n.vmod")
    #expect(entries["teacher"] == nil && entries["backbone"]?.count == 64)
    #expect(entries["pipeline"] == "head{classes=auto,images=all,ridge=auto}")
    // Names beside the file are those of the model that it was.
    let eval = try tiny.run(["eval", "n.vmod", "--data", "data", "--per-class"])
    #expect(
      eval.status == 0 && eval.errors.contains("classes by name, 2 of 2 in the model: a = 0, b = 1"),
      "\(eval.errors)")
    // What is made of it has it as its teacher, and not what that was made from.
    let swap = try tiny.run(["opt", "n.vmod", "--passes", "swap{layers=[0]}", "-o", "s.vmod"])
    #expect(swap.status == 0, "\(swap.errors)")
    let digest = try lineage(tiny, "s.vmod")
    #expect(digest["teacher"] != nil && digest["teacher"] != entries["backbone"])
    let step = [
      "opt", "s.vmod", "--passes", "distil{steps=1,batch=2}", "--data", "data", "-o", "d.vmod", "--teacher",
    ]
    let foreign = try tiny.run(step + ["t.vmod"])
    #expect(foreign.status == 3 && foreign.errors.contains("this is not the teacher"), "\(foreign.errors)")
    let right = try tiny.run(step + ["n.vmod"])
    #expect(right.status == 0, "\(right.errors)")
    var words = TinyModel.compile + ["-o", "h.vmod"]
    words[1] = "n.vmod"
    let compiled = try tiny.run(words)
    #expect(compiled.status == 0, "\(compiled.errors)")
  }

  @Test("data without names give numbers, and a list gives classes as folders do") func lists() throws {
    let tiny = try tiny()
    try tiny.scratch.write(Array("a/0.png,6\nb/0.png,2\na/1.png,6\n".utf8), to: "data/numbers.csv")
    let made = try tiny.run(
      ["opt", "t.vmod", "--passes", "head", "--data", "data/numbers.csv", "-o", "n.vmod", "-MD"])
    #expect(made.status == 0, "\(made.errors)")
    #expect(made.errors.contains("5 of 7 classes have no samples"))
    let rules = String(decoding: try tiny.bytes("n.d"), as: UTF8.self)
    for name in ["data/numbers.csv", "data/a/0.png", "data/b/0.png"] {
      #expect(rules.contains(name), "\(rules)")
    }
    #expect(!rules.contains("data/b/1.png"))
    let eval = try tiny.run(["eval", "n.vmod", "--data", "data/numbers.csv", "--per-class"])
    #expect(
      eval.status == 0 && eval.errors.contains("classes as the data number them, 7 in the model"),
      "\(eval.errors)")
    try tiny.scratch.write(Array("path,label\na/0.png,b\nb/0.png,a\n".utf8), to: "data/names.csv")
    let named = try tiny.run([
      "opt", "t.vmod", "--passes", "head", "--data", "data/names.csv", "-o", "m.vmod",
    ])
    #expect(named.status == 0, "\(named.errors)")
    let evaluated = try tiny.run(["eval", "m.vmod", "--data", "data"])
    #expect(evaluated.errors.contains("classes by name, 2 of 2"), "\(evaluated.errors)")
  }

  @Test("pictures that are all alike have no head") func alike() throws {
    let result = try headed(try TinyModel())
    #expect(result.status == 3 && result.errors.contains("the model gives the same numbers for all of them"))
  }

  @Test("what cannot be is one line of error, before any work") func refused() throws {
    let tiny = try TinyModel()
    try tiny.scratch.write(Array("a/0.png\nb/0.png\n".utf8), to: "data/bare.csv")
    for (words, status, message, help) in [
      (["opt", "t.vmod", "--passes", "fold,head"], 2, "head needs data", "--data"),
      (
        ["opt", "t.vmod", "--passes", "head", "--data", "data/bare.csv"], 3, "head needs samples with labels",
        "a folder for each class"
      ),
      (
        ["opt", "t.vmod", "--passes", "head", "--data", "synthetic:8"], 3, "head needs samples with labels",
        "a folder for each class"
      ),
      (
        ["opt", "t.vmod", "--passes", "head{classes=1}", "--data", "data"], 2, "expected 2 to 65536 classes",
        nil
      ),
      (
        ["opt", "t.vmod", "--passes", "head,prune", "--data", "data"], 2, "'prune' would change",
        "write it with -o"
      ),
      (
        ["opt", "t.vmod", "--passes", "head,swap{layers=[0]}", "--data", "data"], 2, "'swap' would change",
        "write it with -o"
      ),
      (
        ["compile", "t.vmod", "--data", "data", "-o", "h.vmod", "--passes", "head"], 2,
        "a compile keeps to its own", "vitc opt"
      ),
    ] as [([String], Int32, String, String?)] {
      let result = try tiny.run(words)
      let errors = result.errors.split(separator: "\n").filter {
        $0.hasPrefix("error:") || $0.contains(": error:")
      }
      #expect(
        result.status == status && errors.count == 1 && result.errors.contains(message),
        "\(words): \(result.errors)")
      if let help {
        #expect(result.errors.contains("help:") && result.errors.contains(help), "\(result.errors)")
      }
      #expect(result.output.isEmpty)
    }
  }
}
