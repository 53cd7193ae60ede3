import Foundation
import Testing
import VitTestSupport

/// What the README promises must be there.
@Suite("The README") struct ReadmeTests {
  private static let root = Fixture.path("..")

  private func lines() throws -> [String] {
    try String(contentsOfFile: "\(Self.root)/README.md", encoding: .utf8).components(separatedBy: "\n")
  }

  @Test("every command line of it names a command and options that vitc has") func commands() throws {
    var line = ""
    var seen = 0
    for text in try lines() {
      line += text
      if line.hasSuffix("\\") {
        line.removeLast()
        continue
      }
      defer { line = "" }
      guard line.hasPrefix("    vitc ") else { continue }
      let words = line.prefix { $0 != "#" }.split(separator: " ").map(String.init)
      // What is planned is a command, too.
      for words in words.dropFirst().split(separator: "--") {
        let command = try #require(words.first)
        let help = try Tool.run("help", command)
        #expect(help.status == 0, "vitc \(command)")
        for option in words where option.hasPrefix("-") {
          #expect(help.output.contains("  \(option) "), "vitc \(command) \(option)")
        }
      }
      seen += 1
    }
    #expect(seen >= 5)
  }

  @Test("what it shows of embedding is the package that is built") func embedding() throws {
    let source = try String(
      contentsOfFile: "\(Self.root)/tools/embed/Sources/Embed/Embed.swift", encoding: .utf8)
    let parts = source.components(separatedBy: "// README begins\n")
    let body = try #require(parts.last?.components(separatedBy: "    // README ends").first)
    #expect(parts.count == 2 && body.count > 100)
    #expect(try lines().joined(separator: "\n").contains(body))
  }

  @Test("every file that it names is there") func files() throws {
    let text = try lines().joined(separator: "\n")
    let pieces = text.split(whereSeparator: { " \n`(),;:".contains($0) })
    for piece in pieces {
      let name = piece.hasSuffix(".") ? String(piece.dropLast()) : String(piece)
      let places = ["tools/", "golden/", "schemas/", "Sources/", "Tests/", "CONTRIBUTING", "LICENSE"]
      guard places.contains(where: name.hasPrefix) else { continue }
      #expect(FileManager.default.fileExists(atPath: "\(Self.root)/\(name)"), "\(name)")
    }
  }
}
