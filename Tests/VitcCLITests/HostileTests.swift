import Foundation
import Testing
import VitTestSupport

/// What somebody hands to vitc that is not what it says it is.
@Suite("Bad input") struct HostileTests {
  /// Fails unless vitc refused with one error line that has `words`, and left nothing behind.
  private func expectRefused(
    _ result: Tool.Result, _ words: [String] = [], sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(result.status == 3, "\(result.errors)", sourceLocation: sourceLocation)
    let errors = result.errors.split(separator: "\n").filter { $0.hasPrefix("error: ") }
    #expect(errors.count == 1, "\(result.errors)", sourceLocation: sourceLocation)
    for word in words {
      #expect(result.errors.contains(word), "\(result.errors)", sourceLocation: sourceLocation)
    }
  }

  @Test("what is no model is refused by every command that takes one")
  func noModel() throws {
    let scratch = try Scratch()
    let files = [
      "empty": [], "text": Array("hello\n".utf8),
      "noise": (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 197 &+ 13) },
      "graph": Array("graph \"x\" (".utf8), "vmod": Array("\u{89}VMOD\r\n\u{1a}".utf8) + [1, 2, 3],
    ]
    for (name, bytes) in files.sorted(by: { $0.key < $1.key }) {
      let path = try scratch.write(bytes, to: name)
      let out = scratch.file("out.vmod")
      expectRefused(try Tool.run("inspect", path), [path])
      expectRefused(try Tool.run("compile", path, "-o", out, "--data", "synthetic:8"), [path])
      expectRefused(try Tool.run("run", path, "--input", "x.npy"), [path])
      expectRefused(try Tool.run("verify", path), [path])
      expectRefused(try Tool.run("diff", path, Tool.teacher), [path])
      expectRefused(try Tool.run("opt", path, "--passes", "fold"), [path])
    }
    #expect(try scratch.names == files.keys.sorted())
  }

  @Test("a file that is missing, or a folder, is refused") func missing() throws {
    let scratch = try Scratch()
    expectRefused(try Tool.run("inspect", scratch.file("none.onnx")), ["none.onnx"])
    expectRefused(try Tool.run("inspect", scratch.path), [scratch.path])
  }

  @Test("a damaged .vmod is refused, whatever is damaged") func damagedContainer() throws {
    let scratch = try Scratch()
    let whole = scratch.file("whole.vmod")
    #expect(try Tool.run("opt", Tool.teacher, "--passes", "fold,raise,dce", "-o", whole).status == 0)
    let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: whole)))
    for length in [0, 7, 8, 40, 100, bytes.count / 2, bytes.count - 1] {
      expectRefused(try Tool.run("verify", try scratch.write(Array(bytes.prefix(length)), to: "cut")))
    }
    for place in stride(from: 0, to: bytes.count, by: bytes.count / 12) {
      var flipped = bytes
      flipped[place] ^= 0x10
      expectRefused(try Tool.run("verify", try scratch.write(flipped, to: "flipped")))
    }
    expectRefused(try Tool.run("verify", try scratch.write(bytes + [0], to: "longer")))
  }

  @Test("data that are missing, empty or malformed are refused") func badData() throws {
    let scratch = try Scratch()
    let out = scratch.file("out.vmod")
    func compile(_ data: String) throws -> Tool.Result {
      try Tool.run("compile", Tool.teacher, "-o", out, "--data", data)
    }
    expectRefused(try compile(scratch.file("nowhere")), ["nowhere"])
    try FileManager.default.createDirectory(
      atPath: scratch.file("folder"), withIntermediateDirectories: false)
    expectRefused(try compile(scratch.file("folder")))
    expectRefused(try compile(try scratch.write([1, 2, 3], to: "short.npy")))
    expectRefused(try compile(try scratch.write([0, 0, 8, 3, 255, 255, 255, 255], to: "images-idx3-ubyte")))
    try scratch.write([0xff, 0xd8, 0xff, 0xe0], to: "images/a.jpg")
    try scratch.write([0x89, 0x50], to: "images/b.png")
    expectRefused(try compile(scratch.file("images")))
    #expect(try Tool.run("compile", Tool.teacher, "-o", out, "--data", "synthetic:many").status == 2)
    #expect(!FileManager.default.fileExists(atPath: out))
  }

  @Test("numbers that no exporter writes are no trap: axes from the end, double precision, tiny scales")
  func strangeModels() throws {
    let scratch = try Scratch()
    let attention = """
      graph "double" (%x: f64[batch, 1, 8, 8]) -> (y = %y) {
        tensor @w : f64[1, 1] = [0.5]
        tensor @shape : i64[3] = [-1, 8, 8]
        tensor @flat : i64[2] = [-1, 64]
        %t = onnx.Reshape(%x, @shape) : f64[batch, 8, 8]
        %k = onnx.Transpose(%t) {perm = [0, -1, -2]} : f64[batch, 8, 8]
        %s = onnx.MatMul(%t, %k) : f64[batch, 8, 8]
        %p = onnx.Softmax(%s) {axis = -1} : f64[batch, 8, 8]
        %o = onnx.MatMul(%p, %t) : f64[batch, 8, 8]
        %r = onnx.Add(%o, %t) : f64[batch, 8, 8]
        %c = onnx.Cast(%r) {to = 1} : f32[batch, 8, 8]
        %y = onnx.Reshape(%c, @flat) : f32[batch, 64]
      }

      """
    let path = try scratch.write(Array(attention.utf8), to: "double.vit")
    let inspected = try Tool.run("inspect", path, "--json")
    #expect((try inspected.json["layers"] as? [Any])?.count == 1)
    #expect(try Tool.run("eval", path, "--data", "synthetic:4").status == 0)
    let scored = try Tool.run("score", path, "--data", "synthetic:4", "--json")
    #expect(scored.status == 0, "\(scored.errors)")
    let layer = try #require((try scored.json["layers"] as? [[String: Any]])?.first)
    #expect(layer["entropy"] is Double)
    let resize = """
      graph "resize" (%x: f32[batch, 1, 8, 8]) -> (y = %y) {
        tensor @s : f32[4] = [1.0, 1.0, 1e-38, 1e-38]
        %y = onnx.Resize(%x, _, @s) {antialias = 1, mode = "linear"} : f32[batch, 1, 0, 0]
      }

      """
    let tiny = try scratch.write(Array(resize.utf8), to: "resize.vit")
    let same = try Tool.run("diff", tiny, tiny)
    #expect(same.status == 0, "\(same.errors)")
  }

  @Test(
    "bad words about preprocessing are usage errors on the command line, bad input in a file, which is named")
  func badPreprocessing() throws {
    let scratch = try Scratch()
    try scratch.write([UInt8](Data(contentsOf: URL(fileURLWithPath: Tool.teacher))), to: "m.onnx")
    let model = scratch.file("m.onnx")
    for setting in ["std=0", "mean=nan", "mean=1,2,3,4,5", "interpolation=best", "colour=1"] {
      let result = try Tool.run("eval", model, "--data", "synthetic:4", "--preprocess", setting)
      #expect(result.status == 2, "\(setting): \(result.errors)")
    }
    for text in [
      #"{"image_mean": [1, 2, 3]}"#, #"{"image_mean": [0.5], "image_std": [0]}"#,
      #"{"size": {"height": -1, "width": 3}}"#,
      #"{"input_size": [1, 28, 28], "crop_pct": 1e-320}"#, "[",
    ] {
      let name = text.contains("input_size") ? "config.json" : "preprocessor_config.json"
      try scratch.write(Array(text.utf8), to: name)
      expectRefused(try Tool.run("eval", model, "--data", "synthetic:4"), [name])
      try FileManager.default.removeItem(atPath: scratch.file(name))
    }
  }

  @Test("an unreadable image among good ones is skipped, said and counted") func skippedImages() throws {
    let scratch = try Scratch()
    for name in ["a", "b"] { try scratch.write(Fixture.bytes("formats/gray.png"), to: "images/\(name).png") }
    try scratch.write([0x89, 0x50], to: "images/c.png")
    let result = try Tool.run("eval", Tool.teacher, "--data", scratch.file("images"), "--json")
    #expect(result.status == 0, "\(result.errors)")
    #expect(try result.json["images"] as? Int == 2)
    #expect(result.errors.contains("warning: "))
    #expect(result.errors.contains("c.png"))
    #expect(result.errors.contains("1 images could not be read"))
  }

  @Test(
    "a file that was handed to vitc by mistake is named", .enabled(if: Zoo.path != nil, "VITC_ZOO is not set")
  )
  func zoo() throws {
    let zoo = try #require(Zoo.path)
    for file in try Zoo.bad(in: zoo) {
      // Without the link that it asks for, it is a model whose data are missing: refused all the same.
      let scratch = try Scratch()
      let path = "\(zoo)/bad/\(file.name)"
      let result = try Tool.run("inspect", path)
      switch file.expectation {
      case "error":
        expectRefused(result, [file.name])
        let compiled = try Tool.run("compile", path, "-o", scratch.file("out.vmod"), "--data", "synthetic:8")
        expectRefused(compiled)
        #expect(try scratch.names == [])
      case "valid": #expect(result.status == 0, "\(file.name): \(result.errors)")
      default: #expect([0, 3].contains(result.status), "\(file.name): \(result.errors)")
      }
    }
  }

  @Test(
    "weights that are no numbers are warned of, and not compiled",
    .enabled(if: Zoo.path != nil, "VITC_ZOO is not set"))
  func notANumber() throws {
    let path = "\(try #require(Zoo.path))/bad/nan_weights.onnx"
    let inspected = try Tool.run("inspect", path)
    if inspected.status == 0 {
      #expect(inspected.errors.contains("norm1.weight"))
      #expect(inspected.errors.contains("NaN"))
    }
    let scratch = try Scratch()
    expectRefused(
      try Tool.run("compile", path, "-o", scratch.file("out.vmod"), "--data", "synthetic:8"), ["NaN"])
  }
}

/// The models of other people, where they lie.
enum Zoo {
  static let path = ProcessInfo.processInfo.environment["VITC_ZOO"]

  /// The bad files with what is expected of them.
  static func bad(in zoo: String) throws -> [(name: String, expectation: String)] {
    let value = try JSONSerialization.jsonObject(
      with: Data(contentsOf: URL(fileURLWithPath: "\(zoo)/bad/manifest.json")))
    let files = try #require((value as? [String: Any])?["files"] as? [[String: Any]])
    return try files.map { (try #require($0["file"] as? String), try #require($0["expect"] as? String)) }
  }
}
