import Foundation
import Testing
import VitTestSupport

/// Whether a program can be found.
private func has(_ program: String) -> Bool {
  (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
    .contains { FileManager.default.isExecutableFile(atPath: "\($0)/\(program)") }
}

@Suite("Files of dependencies") struct DepfileTests {
  /// A build system and the file that tells it of one compile, whose command counts its runs in `log`.
  enum Build: String, CaseIterable {
    case make, ninja

    var rules: String {
      let command =
        (["'\(Tool.path)'"] + TinyModel.compile + [
          "--preprocess", "order=rgb", "-o", "out/h.vmod", "-MD", "-MP",
        ])
        .joined(separator: " ")
      switch self {
      case .make: return "out/h.vmod:\n\t\(command) && echo run >> log\n-include out/h.d\n"
      case .ninja:
        return """
          rule c
            command = \(command) && echo run >> log
            depfile = out/h.d
            deps = gcc
          build out/h.vmod: c

          """
      }
    }

    var file: String { self == .make ? "Makefile" : "build.ninja" }
  }

  private func build(_ tool: Build, in tiny: TinyModel) throws -> (status: Int32, output: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [tool.rawValue] + (tool == .make ? ["out/h.vmod"] : [])
    process.currentDirectoryURL = URL(fileURLWithPath: tiny.scratch.path)
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, output)
  }

  private func runs(_ tiny: TinyModel) throws -> Int {
    String(decoding: try tiny.bytes("log"), as: UTF8.self).split(separator: "\n").count
  }

  @Test("--restat leaves what has the same bytes as it is, and nothing else")
  func restat() throws {
    let tiny = try TinyModel()
    func time(_ more: String...) throws -> Date {
      let words = TinyModel.compile + ["--preprocess", "order=rgb", "-o", "h.vmod"] + more
      let ended = try tiny.run(words)
      #expect(ended.status == 0, "\(ended.errors)")
      let attributes = try FileManager.default.attributesOfItem(atPath: tiny.scratch.file("h.vmod"))
      return try #require(attributes[.modificationDate] as? Date)
    }
    let first = try time()
    #expect(try time("--restat") == first)
    let again = try time()
    #expect(again > first)
    #expect(try time("--restat", "--seed", "5") > again)
    #expect(try tiny.scratch.names.allSatisfy { !$0.hasSuffix(".tmp") })
  }

  @Test(
    "build systems run a compile again when what it read has changed, and only then",
    arguments: Build.allCases)
  func rebuilds(tool: Build) throws {
    guard has(tool.rawValue) else {
      print("\(tool.rawValue) is not installed: not tested")
      return
    }
    let tiny = try TinyModel(images: 2)
    let scratch = tiny.scratch
    try scratch.write(Array(tool.rules.utf8), to: tool.file)
    try FileManager.default.createDirectory(atPath: scratch.file("out"), withIntermediateDirectories: true)
    func expect(_ count: Int, _ what: String) throws {
      // File times of some systems count in steps of milliseconds; make wants the output to be younger.
      usleep(20_000)
      let result = try build(tool, in: tiny)
      #expect(result.status == 0, "\(what): \(result.output)")
      #expect(try runs(tiny) == count, "\(what): \(result.output)")
    }
    try expect(1, "the first")
    try expect(1, "nothing changed")
    usleep(20_000)
    try tiny.addImage("a/with blank.png")
    try expect(2, "an image came")
    try expect(2, "nothing changed after that")
    try FileManager.default.removeItem(atPath: scratch.file("data/a/with blank.png"))
    try expect(3, "an image went")
    try scratch.write(Array(TinyModel.configuration(mean: 0.6).utf8), to: "preprocessor_config.json")
    try expect(4, "a mean changed")
    try tiny.addImage("c/0.png")
    try expect(5, "a class came")
    try tiny.addImage("b/0.png")
    try expect(6, "an image changed")
    try scratch.write(Fixture.bytes("compat/v1/teacher.vmod"), to: "t.vmod")
    try expect(7, "the teacher changed")
    try expect(7, "nothing changed at the end")
  }

  @Test("name all that was read, whatever is in the names, with rules of their own where that is asked for")
  func names() throws {
    let tiny = try TinyModel(images: 1)
    let scratch = tiny.scratch
    let odd = #"d/a\ b:c#d$e%=(1)[2].png"#
    try scratch.write(Fixture.bytes("formats/rgb.png"), to: odd)
    try scratch.write(Fixture.bytes("formats/rgb.png"), to: "d/a;b.png")
    try scratch.write(Array("no image".utf8), to: "d/broken.png")
    let result = try tiny.run([
      "score", "t.vmod", "--data", "d", "-o", "out.vmod", "-MD", "-MF", "x.d", "-MP",
    ])
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.errors.contains("warning: d/a;b.png: make and ninja"))
    let text = String(decoding: try tiny.bytes("x.d"), as: UTF8.self)
    let escaped = ##"d/a\\\ b\:c\#d$$e%=(1)[2].png"##
    #expect(
      text == """
        out.vmod: \\
          t.vmod \\
          d \\
          \(escaped) \\
          d/broken.png \\
          preprocessor_config.json

        t.vmod:

        d:

        d/broken.png:

        preprocessor_config.json:

        """)
  }

  @Test("a folder that holds the output is left out with a warning") func ownFolder() throws {
    let tiny = try TinyModel(images: 1)
    let words = ["score", "t.vmod", "--data", "data", "-o", "data/a/out.vmod", "-MD"]
    let result = try tiny.run(words)
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.errors.contains("warning: data/a: the folder holds the output 'data/a/out.vmod'"))
    let names = String(decoding: try tiny.bytes("data/a/out.d"), as: UTF8.self).split(separator: " ")
    #expect(!names.contains("data/a") && names.contains("data/b") && names.contains("data/a/0.png"))
  }

  @Test("opt names its inputs, the tensors of a text among them") func opt() throws {
    let tiny = try TinyModel(images: 1)
    try tiny.scratch.write(Fixture.bytes("compat/v1/hybrid.vit"), to: "h.vit")
    try tiny.scratch.write(Fixture.bytes("compat/v1/hybrid.vit.tensors"), to: "h.vit.tensors")
    #expect(try tiny.run(["opt", "h.vit", "--passes", "dce", "-o", "o.vit", "-MD"]).status == 0)
    #expect(
      String(decoding: try tiny.bytes("o.d"), as: UTF8.self) == "o.vit: \\\n  h.vit \\\n  h.vit.tensors\n")
  }
}
