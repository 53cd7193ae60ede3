import Foundation
import Testing
import VitTestSupport

/// What a shell does with an output: pipes, devices, closed streams, signals.
@Suite("Streams and signals") struct StreamTests {
  /// Runs words of a shell, in which `$V` is vitc and `$T` the teacher; returns its exit code.
  private func shell(_ script: String, in scratch: Scratch) throws -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", script]
    process.currentDirectoryURL = URL(fileURLWithPath: scratch.path)
    process.environment = ProcessInfo.processInfo.environment
      .merging(["SWIFT_BACKTRACE": "enable=no", "V": Tool.path, "T": Tool.teacher]) { $1 }
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    return process.terminationStatus
  }

  private func contents(_ name: String, in scratch: Scratch) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: scratch.file(name)))
  }

  @Test("a model goes through a pipe as into a file") func pipe() throws {
    let scratch = try Scratch()
    #expect(try shell("$V opt $T --passes fold -o file.vmod", in: scratch) == 0)
    #expect(try shell("$V opt $T --passes fold -o /dev/stdout | cat >piped.vmod", in: scratch) == 0)
    #expect(try contents("piped.vmod", in: scratch) == contents("file.vmod", in: scratch))
    #expect(
      try shell(
        "mkfifo f; cat f >named.vmod & $V opt $T --passes fold -o f; s=$?; wait; exit $s", in: scratch)
        == 0)
    #expect(try contents("named.vmod", in: scratch) == contents("file.vmod", in: scratch))
  }

  @Test("with standard output closed, no other file is taken for it") func closedOutput() throws {
    let scratch = try Scratch()
    try scratch.write([UInt8](Data(contentsOf: URL(fileURLWithPath: Tool.teacher))), to: "m.onnx")
    // A link of our own, as /dev/stdout is one.
    try scratch.link("out", to: "/proc/self/fd/1")
    _ = try shell("$V opt m.onnx --passes fold -o out >&-", in: scratch)
    #expect(try contents("m.onnx", in: scratch) == Data(contentsOf: URL(fileURLWithPath: Tool.teacher)))
    #expect(try scratch.names == ["m.onnx", "out"])
    #expect(try shell("$V inspect m.onnx >&-", in: scratch) == 4)
  }

  @Test("a signal ends at once what keeps nothing, also what waits for a pipe")
  func signals() throws {
    let scratch = try Scratch()
    let logs = try Scratch()
    #expect(try shell("mkfifo f", in: scratch) == 0)
    for (words, progress) in [
      (["bench", Tool.teacher, "--time", "1h"], ["--diagnostics", "json"]),
      (["opt", Tool.teacher, "--passes", "fold", "-o", scratch.file("f")], []),
    ] {
      let run = try Tool.start(words + progress, scratch: logs)
      // Long enough that the handlers are set; what it is at then does not matter.
      usleep(1_500_000)
      run.process.terminate()
      let result = try run.finish()
      #expect(result.status == 130, "\(words): \(result.errors)")
      #expect(result.errors.contains("interrupted"))
      #expect(result.errors.hasPrefix(progress.isEmpty ? "error: " : "{"), "\(result.errors)")
      #expect(result.output.isEmpty)
    }
    #expect(try scratch.names == ["f"])
  }

  @Test("--version and --help stand alone") func alone() throws {
    #expect(try Tool.run("--version", "--jsno").status == 2)
    #expect(try Tool.run("--help", "compile").status == 2)
  }
}
