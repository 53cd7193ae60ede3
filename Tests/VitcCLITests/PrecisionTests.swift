import Foundation
import Testing
import VitTestSupport

@Suite("Models in 8 bits, on the command line") struct PrecisionTests {
  /// The bundled teacher with its inner weights in 8 bits.
  private func quantised(in scratch: Scratch) throws -> String {
    let file = scratch.file("q.vmod")
    let made = try Tool.run(
      "opt", Tool.teacher, "--passes", "fold,raise,dce,quantise,round{weights=f16}", "-o", file)
    #expect(made.status == 0, "\(made.errors)")
    return file
  }

  @Test("a file of about a quarter of the bytes, which computes nearly the same, and says what it holds")
  func small() throws {
    let scratch = try Scratch()
    let file = try quantised(in: scratch)
    let size = try MappedSize.of(file)
    #expect(Double(size) < 0.26 * Double(try MappedSize.of(Tool.teacher)), "\(size) bytes")
    #expect(try Tool.run("verify", file).status == 0)
    let inspected = try Tool.run("inspect", "--json", file)
    #expect(try Schema("inspect").problems(inspected.output) == [])
    let storage = try #require(try inspected.json["storage"] as? [[String: Any]])
    #expect(storage.first?["element"] as? String == "q8" && storage.first?["numbers"] as? Int == 589_824)
    #expect(try Tool.run("inspect", file).output.contains("stored      589,824 in q8"))
    let data = ["--data", "synthetic:200", "--against", Tool.teacher, "--json"]
    let own = try Tool.run(["eval", file] + data)
    let floats = try Tool.run(["eval", file, "--precision", "f32"] + data)
    #expect(
      floats.errors.contains("note: weights in fewer bits are taken for the floats that they stand for"))
    func damage(_ result: Tool.Result) throws -> Double { try #require(try result.json["kl"] as? Double) }
    #expect(try damage(own) < 0.01 && damage(own) > 0)
    #expect(try damage(floats) < 0.01 && damage(floats) != damage(own))
  }

  @Test("compile --precision int8 brings what it made into 8 bits, the same bytes for any number of threads")
  func compile() throws {
    let scratch = try Scratch()
    var bytes: [Data] = []
    for threads in ["1", "3"] {
      let file = scratch.file("h\(threads).vmod")
      let result = try Tool.run(
        "compile", Tool.teacher, "-o", file, "--data", "synthetic:64", "--precision", "int8", "--passes",
        "swap{mixer=glr,layers=[2],images=16},distil{steps=2,batch=8,images=16},trim", "--threads", threads,
        "--reproducible")
      #expect(result.status == 0, "\(result.errors)")
      #expect(result.output.contains("quantise{weights=int8,activations=dynamic},round{weights=f16}"))
      bytes.append(try Data(contentsOf: URL(filePath: file)))
      #expect(try Tool.run("verify", file).status == 0)
    }
    #expect(bytes[0] == bytes[1])
  }

  @Test(
    "compile --weights int4 stores a quarter of the bytes of f16, computed in floats or brought into 8 bits")
  func stored() throws {
    let scratch = try Scratch()
    func compile(_ weights: String) throws -> (file: String, bytes: Int) {
      let file = scratch.file("\(weights).vmod")
      let result = try Tool.run(
        "compile", Tool.teacher, "-o", file, "--data", "synthetic:64", "--weights", weights, "--passes",
        "trim",
        "--reproducible")
      #expect(result.status == 0, "\(result.errors)")
      #expect(try Tool.run("verify", file).status == 0)
      return (file, try Data(contentsOf: URL(filePath: file)).count)
    }
    let (half, byte, nibble) = (try compile("f16"), try compile("int8"), try compile("int4"))
    #expect(byte.bytes < half.bytes * 7 / 10 && nibble.bytes < half.bytes * 2 / 5)
    #expect(try Tool.run("inspect", nibble.file).output.contains("in w4"))
    func damage(_ file: String, _ precision: String) throws -> Double {
      let result = try Tool.run(
        "eval", file, "--against", Tool.teacher, "--data", "synthetic:200", "--precision", precision, "--json"
      )
      return try #require(result.json["kl"] as? Double, "\(result.errors)")
    }
    let (eight, four) = (try damage(byte.file, "f32"), try damage(nibble.file, "f32"))
    #expect(eight > 0 && four > eight && four < 0.02)
    #expect(try damage(nibble.file, "int8") != four && damage(nibble.file, "int8") < 0.02)
    // On data columns make up for each other.
    func made(_ solved: Int) throws -> Double {
      let file = scratch.file("s\(solved).vmod")
      let result = try Tool.run(
        "opt", Tool.teacher, "--passes", "fold,raise,dce,quantise{weights=int4,solved=\(solved)}", "--data",
        "synthetic:128", "-o", file)
      #expect(result.status == 0, "\(result.errors)")
      return try damage(file, "f32")
    }
    let (alone, together) = (try made(0), try made(64))
    #expect(together < 0.3 * alone, "\(alone) to \(together)")
    let onnx = scratch.file("out.onnx")
    #expect(try Tool.run("export", nibble.file, "-o", onnx).status == 0)
    let refused = try Tool.run(
      "compile", Tool.teacher, "-o", scratch.file("no.vmod"), "--weights", "int4", "--precision", "int8")
    #expect(refused.status == 2 && refused.errors.contains("found precision int8"), "\(refused.errors)")
  }

  @Test(
    "in bfloat16 a file of half the bytes computes nearly the same, as the teacher does where it is asked to")
  func bfloat16() throws {
    let scratch = try Scratch()
    let file = scratch.file("b.vmod")
    let made = try Tool.run(
      "opt", Tool.teacher, "--passes", "fold,raise,dce,quantise{weights=bf16},round{weights=f16}", "-o", file)
    #expect(made.status == 0, "\(made.errors)")
    let inspected = try Tool.run("inspect", file).output
    #expect(inspected.contains("in bf16"), "\(inspected)")
    let data = ["--data", "synthetic:200", "--against", Tool.teacher, "--json"]
    func result(_ arguments: String...) throws -> Double {
      let result = try Tool.run(["eval"] + arguments + data)
      return try #require(result.json["kl"] as? Double, "\(result.errors)")
    }
    #expect(try result(file) < 1e-3)
    let own = try result(Tool.teacher, "--precision", "bf16")
    #expect(own > 0 && own < 1e-3)
    #expect(try result(Tool.teacher, "--precision", "int8") < 1e-2)
    #expect(try result(Tool.teacher) == 0)
  }

  @Test("more than the file holds, and a precision that there is not, are one error")
  func wrong() throws {
    let scratch = try Scratch()
    let more = try Tool.run("bench", try quantised(in: scratch), "--precision", "bf16", "--time", "0.1s")
    #expect(more.status == 2 && more.errors.contains("expected int8, or f32"), "\(more.errors)")
    let other = try Tool.run("run", Tool.teacher, "--precision", "int4", "--input", "x.npy")
    #expect(other.status == 2 && other.errors.contains("f32, bf16, int8"), "\(other.errors)")
  }

  @Test("as ONNX it is what it stands for, and other passes get floats")
  func leaving() throws {
    let scratch = try Scratch()
    let file = try quantised(in: scratch)
    let onnx = scratch.file("q.onnx")
    #expect(try Tool.run("export", file, "-o", onnx).status == 0)
    let floats = scratch.file("f.vmod")
    let made = try Tool.run("opt", file, "--passes", "dce", "-o", floats)
    #expect(made.status == 0 && made.errors.contains("taken for the floats"), "\(made.errors)")
    let same = try Tool.run("diff", "--behaviour", onnx, floats)
    #expect(same.status == 0, "\(same.output)\(same.errors)")
  }

  @Test("as text it comes back, its values beside it, and none may stand in the text")
  func text() throws {
    let scratch = try Scratch()
    let file = try quantised(in: scratch)
    let text = scratch.file("q.vit")
    #expect(try Tool.run("opt", file, "--passes", "round{weights=f16}", "-o", text).status == 0)
    let back = scratch.file("back.vmod")
    #expect(try Tool.run("opt", text, "--passes", "round{weights=f16}", "-o", back).status == 0)
    #expect(try Tool.run("diff", file, back).status == 0)
    let bad = scratch.file("bad.vit")
    try Data("graph \"g\" () -> (y = @w) {\n  tensor @w : q8[2] = [1, 2]\n}\n".utf8).write(
      to: URL(filePath: bad))
    let refused = try Tool.run("inspect", bad)
    #expect(refused.status == 3 && refused.errors.contains("q8 cannot be written out"), "\(refused.errors)")
    let input = scratch.file("input.vit")
    try Data("graph \"g\" (%x: q8[2]) -> (y = %x) {\n}\n".utf8).write(to: URL(filePath: input))
    let typed = try Tool.run("inspect", input)
    #expect(typed.status == 3 && typed.errors.contains("in which nothing is computed"), "\(typed.errors)")
  }
}

/// Sizes of files.
private enum MappedSize {
  static func of(_ path: String) throws -> Int {
    try #require(try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int)
  }
}
