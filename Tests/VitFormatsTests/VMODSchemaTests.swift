import FoundationEssentials
import Glibc
import Testing
import VitTestSupport

@Suite struct VMODSchemaTests {
  private static let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
    .joined(separator: "/")

  private static var hasCompiler: Bool { system("command -v protoc-c >/dev/null 2>&1") == 0 }

  /// The generated text without the line that names the version of the generator.
  private func text(_ path: String) throws -> [Substring] {
    String(decoding: try Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self)
      .split(separator: "\n").filter { !$0.contains("PROTOBUF_C_MIN_COMPILER_VERSION") }
  }

  @Test(
    "the C of the manifest is what schemas/vmod.proto gives (else run tools/gen-protos)",
    .enabled(if: hasCompiler, "protoc-c is not installed (Debian: protobuf-c-compiler)"))
  func fresh() throws {
    let scratch = try Scratch()
    #expect(system("'\(Self.root)/tools/gen-protos' '\(scratch.path)'") == 0)
    for file in ["vmod.pb-c.c", "include/vmod.pb-c.h"] {
      #expect(
        try text(scratch.file(file)) == text("\(Self.root)/Sources/CVitFormats/\(file)"), "\(file) is stale")
    }
  }
}
