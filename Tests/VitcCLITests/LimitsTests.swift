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
    "so does a compile", .enabled(if: Build.isRelease), arguments: [150, 250, 350, 500, 700, 1000, 2000])
  func compile(mebibytes: Int) throws {
    let scratch = try Scratch()
    let result = try run(
      [
        "compile", Tool.teacher, "--data", "synthetic:24", "--distil-steps", "4", "--fine-tune-steps", "2",
        "--batch", "16", "-o", scratch.file("x.vmod"),
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

  /// A folder for the loader to look into first, in which something else goes by the name of OpenBLAS.
  private func withoutBlas(_ scratch: Scratch) throws -> [String: String] {
    try scratch.write(Array("this is no library".utf8), to: "lib/libopenblas.so.0")
    return ["LD_LIBRARY_PATH": scratch.file("lib"), "VITC_ISA": "base"]
  }

  @Test(
    "where OpenBLAS cannot be loaded, whatever needs it says so and what helps",
    arguments: [
      ["eval", "t.vmod", "--data", "synthetic:4"], ["bench", "t.vmod"],
      ["score", "t.vmod", "--data", "synthetic:4"], ["verify", "t.vmod"], ["diff", "t.vmod", "t.vmod"],
      ["opt", "t.vmod", "--passes", "score{images=2}", "--data", "synthetic:4", "-o", "o.vmod"],
      [
        "opt", "t.vmod", "--passes", "swap{layers=all},distil{steps=2,batch=2}", "--data", "synthetic:4",
        "-o",
        "o.vmod",
      ],
      [
        "compile", "t.vmod", "--data", "synthetic:8", "--distil-steps", "2", "--fine-tune-steps", "0", "-o",
        "o.vmod",
      ],
      ["run", "double.vit", "--input", "x.npy"], ["bench", "double.vit"],
    ])
  func noBlas(words: [String]) throws {
    let tiny = try TinyModel(images: 1)
    try tiny.scratch.write(Array(LimitsTests.double.utf8), to: "double.vit")
    try tiny.scratch.write(LimitsTests.doubles, to: "x.npy")
    let environment = try withoutBlas(tiny.scratch)
    let result = try Tool.run(words, in: tiny.scratch.path, environment: environment)
    #expect(result.status == 4, "\(result.errors)")
    #expect(result.errors.contains("OpenBLAS cannot be loaded: "), "\(result.errors)")
    #expect(result.errors.contains("apt install libopenblas0"), "\(result.errors)")
    #expect(try !tiny.scratch.names.contains("o.vmod"))
    // With the library, they work.
    let whole = try Tool.run(words, in: tiny.scratch.path, environment: ["VITC_ISA": "base"])
    #expect(whole.status == 0, "\(whole.errors)")
  }

  @Test("a distillation whose maps are solved for misses OpenBLAS before the model is scored")
  func noBlasBeforeWork() throws {
    let tiny = try TinyModel(images: 1)
    var environment = try withoutBlas(tiny.scratch)
    environment["VITC_ISA"] = nil
    let result = try Tool.run(
      [
        "compile", "t.vmod", "--data", "synthetic:8", "--distil-steps", "2", "--fine-tune-steps", "0", "-o",
        "o.vmod",
      ],
      in: tiny.scratch.path, environment: environment)
    #expect(result.status == 4 && result.errors.contains("OpenBLAS cannot be loaded: "), "\(result.errors)")
    #expect(!result.errors.contains("score: "))
  }

  @Test("what needs no product does without OpenBLAS", arguments: [["--version"], ["inspect", "t.vmod"]])
  func needsNoBlas(words: [String]) throws {
    let processor = try String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)
    guard processor.contains(" avx2 ") else { return }
    let tiny = try TinyModel(images: 1)
    var environment = try withoutBlas(tiny.scratch)
    environment["VITC_ISA"] = nil
    #expect(try Tool.run(words, in: tiny.scratch.path, environment: environment).status == 0)
  }

  /// A model in double.
  private static let double = """
    graph "double" (%x: f64[batch, 2]) -> (y = %y) {
      tensor @w : f64[2, 2] = [1.0, 2.0, 3.0, 4.0]
      %y = onnx.MatMul(%x, @w) : f64[batch, 2]
    }

    """

  /// Its input, as a `.npy` file.
  private static let doubles: [UInt8] = {
    var header = Array("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }".utf8)
    while (10 + header.count + 1) % 64 != 0 { header.append(0x20) }
    header.append(0x0a)
    return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(header.count), 0] + header
      + [1.5, -2.0].flatMap { withUnsafeBytes(of: $0.bitPattern.littleEndian, Array.init) }
  }()

  @Test(
    "memory that training will not have is missed before the model is scored", .enabled(if: Build.isRelease))
  func beforeWork() throws {
    let scratch = try Scratch()
    let words = [
      "compile", Tool.teacher, "--data", "synthetic:64", "--distil-steps", "4", "--fine-tune-steps", "2",
      "--threads", "1", "-o", scratch.file("x.vmod"), "--memory-limit",
    ]
    let result = try Tool.run(words + ["100M"])
    #expect(result.status == 4 && result.errors.contains("MiB"), "\(result.errors)")
    #expect(!result.errors.contains("score: "), "\(result.errors)")
  }
}
