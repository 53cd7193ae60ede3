import Foundation
import Glibc
import Testing
import VitTestSupport

@Suite("Outputs that are inputs") struct OverwriteTests {
  /// A folder with other names for its files, and a model in several files.
  private func folder() throws -> TinyModel {
    let tiny = try TinyModel(images: 2)
    let scratch = tiny.scratch
    try scratch.link("link.vmod", to: "t.vmod")
    #expect(Glibc.link(scratch.file("t.vmod"), scratch.file("hard.vmod")) == 0)
    try scratch.link("folder", to: "data")
    try scratch.write(Fixture.bytes("compat/v1/image.npy"), to: "x.npy")
    try scratch.write(Fixture.bytes("compat/v1/hybrid.vit"), to: "h.vit")
    try scratch.write(Fixture.bytes("compat/v1/hybrid.vit.tensors"), to: "h.vit.tensors")
    try scratch.link("tensors.vmod", to: "h.vit.tensors")
    try scratch.link("report.json", to: "preprocessor_config.json")
    try scratch.link("image.vmod", to: "data/b/1.png")
    try scratch.link("to.vmod", to: "new.vmod")
    return tiny
  }

  private static let score = ["score", "t.vmod", "--data", "data", "--threads", "1"]
  private static let opt = ["opt", "t.vmod", "--passes", "dce"]

  @Test(
    "are refused with exit 2, and every file stays as it was",
    arguments: [
      (TinyModel.compile + ["-o", "t.vmod"], "-o 't.vmod' would overwrite what the command reads"),
      (TinyModel.compile + ["-o", "./data/../t.vmod"], "would overwrite 't.vmod'"),
      (TinyModel.compile + ["-o", "link.vmod"], "would overwrite 't.vmod'"),
      (TinyModel.compile + ["-o", "hard.vmod"], "would overwrite 't.vmod'"),
      (TinyModel.compile + ["-o", "image.vmod"], "would overwrite 'data/b/1.png'"),
      (TinyModel.compile + ["-o", "o.vmod", "--report", "preprocessor_config.json"], "--report"),
      (TinyModel.compile + ["-o", "o.vmod", "--report", "report.json"], "--report 'report.json'"),
      (TinyModel.compile + ["-o", "o.vmod", "-MD", "-MF", "t.vmod"], "-MF"),
      (TinyModel.compile + ["-o", "o.vmod", "-MD", "-MF", "data/a/0.png"], "-MF"),
      (TinyModel.compile + ["-o", "o.vmod", "--eval-data", "x.npy", "--report", "x.npy"], "--report"),
      (TinyModel.compile + ["-o", "o", "--report", "o"], "are the same file"),
      (TinyModel.compile + ["-o", "new.vmod", "--report", "to.vmod"], "--report"),
      (TinyModel.compile + ["-o", "o", "-MD", "-MF", "./o"], "are the same file"),
      (TinyModel.compile + ["-o", "o", "-MD", "--report", "o.d"], "--report"),
      (TinyModel.compile + ["-o", "o", "--report", "o.checkpoint"], "--report"),
      (["compile", "h.vit", "-o", "tensors.vmod", "--data", "data"], "would overwrite 'h.vit.tensors'"),
      (score + ["-o", "t.vmod"], "-o 't.vmod'"), (score + ["-o", "folder/a/0.png"], "-o"),
      (score + ["-o", "image.vmod"], "-o 'image.vmod' would overwrite 'data/b/1.png'"),
      (opt + ["-o", "link.vmod"], "would overwrite 't.vmod'"),
      (["opt", "h.vit", "--passes", "dce", "-o", "h.vit"], "-o 'h.vit'"),
      (["opt", "h.vit", "--passes", "dce", "-o", "tensors.vmod"], "would overwrite 'h.vit.tensors'"),
      (opt + ["-o", "o.vmod", "-MD", "-MF", "o.vmod"], "-MF"),
      (["run", "t.vmod", "--input", "x.npy", "--output", "x.npy"], "--output 'x.npy'"),
      (["run", "t.vmod", "--input", "x.npy", "--output", "t.vmod"], "--output"),
      (["run", "t.vmod", "--input", "image=x.npy", "--output", "logits=./x.npy"], "--output './x.npy'"),
    ])
  func refused(words: [String], message: String) throws {
    let tiny = try folder()
    let names = try tiny.scratch.names
    let before = names.map { try? tiny.bytes($0) }
    let result = try tiny.run(words)
    #expect(result.status == 2, "\(result.errors)")
    #expect(result.errors.contains(message), "\(result.errors)")
    #expect(result.output == "")
    #expect(try tiny.scratch.names == names)
    #expect(names.map { try? tiny.bytes($0) } == before)
  }

  @Test("a text that would write its tensors over the model's is refused") func tensors() throws {
    let tiny = try TinyModel(images: 1)
    let scratch = tiny.scratch
    try scratch.write(Fixture.bytes("compat/v1/teacher.vmod"), to: "o.vit.tensors")
    let result = try tiny.run(["opt", "o.vit.tensors", "--passes", "dce", "-o", "o.vit"])
    #expect(result.status == 2, "\(result.errors)")
    #expect(result.errors.contains("the tensors of -o 'o.vit.tensors'"))
  }

  /// y = x + w, where w lies in `w.bin`.
  private static var external: [UInt8] {
    func field(_ number: UInt8, _ content: [UInt8]) -> [UInt8] {
      [number << 3 | 2, UInt8(content.count)] + content
    }
    func text(_ number: UInt8, _ text: String) -> [UInt8] { field(number, Array(text.utf8)) }
    func value(_ name: String) -> [UInt8] {
      let shape = field(2, field(1, [8, 4]))
      return text(1, name) + field(2, field(1, [8, 1] + shape))
    }
    let weight =
      [8, 4, 16, 1] + text(8, "w") + field(13, text(1, "location") + text(2, "w.bin")) + [14 << 3, 1]
    let graph =
      field(1, text(1, "x") + text(1, "w") + text(2, "y") + text(4, "Add")) + text(2, "g") + field(5, weight)
      + field(11, value("x")) + field(12, value("y"))
    return [8, 8] + field(7, graph) + field(8, [16, 17])
  }

  @Test("external data of an ONNX model are an input", arguments: ["w.bin.vmod", "hard.vmod"])
  func external(output: String) throws {
    let scratch = try Scratch()
    try scratch.write(OverwriteTests.external, to: "m.onnx")
    try scratch.write([UInt8](repeating: 0, count: 16), to: "w.bin")
    try scratch.link("w.bin.vmod", to: "w.bin")
    #expect(Glibc.link(scratch.file("w.bin"), scratch.file("hard.vmod")) == 0)
    #expect(try Tool.run("inspect", "m.onnx", in: scratch.path).status == 0)
    let result = try Tool.run("opt", "m.onnx", "--passes", "dce", "-o", output, in: scratch.path)
    #expect(result.status == 2, "\(result.errors)")
    #expect(result.errors.contains("-o '\(output)' would overwrite 'w.bin'"), "\(result.errors)")
    #expect(try Data(contentsOf: URL(fileURLWithPath: scratch.file("w.bin"))).count == 16)
  }

  @Test("devices are no files: they may be written as often as one likes") func devices() throws {
    let tiny = try TinyModel(images: 2)
    let result = try tiny.run(TinyModel.compile + ["-o", "/dev/null", "--report", "/dev/null"])
    #expect(result.status == 0, "\(result.errors)")
    #expect(!FileManager.default.fileExists(atPath: "/dev/null.checkpoint"))
  }

  @Test("a new file beside the inputs is written") func beside() throws {
    let tiny = try folder()
    #expect(try tiny.run(TinyModel.compile + ["-o", "to.vmod"]).status == 0)
    #expect(try tiny.run(["verify", "new.vmod"]).status == 0)
    // A link stays one, and what was written may be written again.
    #expect(try tiny.run(TinyModel.compile + ["-o", "to.vmod"]).status == 0)
    #expect(try tiny.run(OverwriteTests.opt + ["-o", "data/a/new.vmod"]).status == 0)
  }
}
