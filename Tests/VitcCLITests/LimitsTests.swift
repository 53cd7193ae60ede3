import Foundation
import Testing
import VitTestSupport

@Suite("What vitc takes from the machine") struct LimitsTests {
  /// Runs vitc in so much address space.
  private func run(_ words: [String], mebibytes: Int) throws -> Tool.Result {
    let script = "ulimit -v \(mebibytes << 10); exec \"$0\" \"$@\""
    let scratch = try Scratch()
    return try Tool.start(
      ["-c", script, Tool.path] + words, executable: "/bin/sh", scratch: scratch
    ).finish()
  }

  @Test("OpenBLAS is loaded for products in double or at the base level, and for nothing else")
  func blas() throws {
    func loads(_ words: [String], level: String? = nil) throws -> Bool {
      var environment = ["LD_DEBUG": "files"]
      environment["VITC_ISA"] = level
      return try Tool.run(words, environment: environment).errors.contains("libopenblas")
    }
    #expect(try !loads(["--version"]))
    #expect(try !loads(["inspect", Tool.teacher]))
    let eval = ["eval", Tool.teacher, "--data", "synthetic:2"]
    #expect(try loads(eval, level: "base"))
    let processor = try String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)
    if processor.contains(" avx2 ") { #expect(try !loads(eval)) }
  }

  @Test(
    "in any address space a command does its work or says what it needs",
    arguments: [90, 110, 130, 160, 200, 250, 400])
  func addressSpace(mebibytes: Int) throws {
    let result = try run(["eval", Tool.teacher, "--data", "synthetic:8"], mebibytes: mebibytes)
    #expect(result.status == 0 || result.status == 4, "\(result.errors)")
    if result.status == 4 { #expect(result.errors.contains("MiB"), "\(result.errors)") }
  }

  @Test(
    "so does a compile", .enabled(if: Tool.isRelease), arguments: [150, 250, 350, 500, 700, 1000, 2000])
  func compile(mebibytes: Int) throws {
    let scratch = try Scratch()
    let result = try run(
      [
        "compile", Tool.teacher, "--data", "synthetic:64", "--distil-steps", "4", "--fine-tune-steps", "2",
        "-o",
        scratch.file("x.vmod"),
      ], mebibytes: mebibytes)
    #expect(result.status == 0 || result.status == 4, "\(result.errors)")
    if result.status == 4 { #expect(result.errors.contains("MiB"), "\(result.errors)") }
  }

  @Test("--memory-limit bounds what a run takes, and is told in the error") func limit() throws {
    let words = ["eval", Tool.teacher, "--data", "synthetic:8", "--memory-limit"]
    #expect(try Tool.run(words + ["1G"]).status == 0)
    let result = try Tool.run(words + ["1M"])
    #expect(
      result.status == 4 && result.errors.contains("the 1 MiB that '--memory-limit' allows"),
      "\(result.errors)")
    for wrong in ["", "0", "x", "1X", "-1", "99999999999999999999", "9999999999G"] {
      #expect(try Tool.run(words + [wrong]).status == 2)
    }
  }
}
