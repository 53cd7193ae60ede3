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
