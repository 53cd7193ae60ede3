import Foundation
import Testing
import VitTestSupport

@Suite("codes of messages")
struct CodeTests {
  /// The codes that are written in the sources.
  private static func written() throws -> Set<String> {
    let sources = URL(fileURLWithPath: Fixture.path("../Sources"))
    let files =
      FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil)?.allObjects as? [URL]
    var codes: Set<String> = []
    for file in files ?? [] where file.pathExtension == "swift" {
      let text = try String(contentsOf: file, encoding: .utf8)
      for match in text.matches(
        of: /code: (?:String = )?(?:[a-z]+ == nil \? )?"([a-z0-9-]+)"(?: : "([a-z0-9-]+)")?/)
      {
        codes.insert(String(match.1))
        if let other = match.2 { codes.insert(String(other)) }
      }
      for match in text.matches(of: /what: (?:name\.hasPrefix\("-"\) \? )?"([a-z]+)"(?: : "([a-z]+)")?, help/)
      {
        codes.insert("unknown-\(match.1)")
        if let other = match.2 { codes.insert("unknown-\(other)") }
      }
    }
    return codes
  }

  @Test("each that a message can have is explained, and no other")
  func complete() throws {
    let listed = try Tool.run("explain").output.matches(of: /(?m)^  ([a-z0-9-]+)(?: |$)/).map { String($0.1) }
    let written = try Self.written()
    #expect(written.count > 200 && Set(listed).count == listed.count)
    #expect(written.subtracting(listed).sorted() == [])
    #expect(Set(listed).subtracting(written).sorted() == [])
  }

  @Test("one is explained by name; of what there is not, one that is near is named")
  func explains() throws {
    let known = try Tool.run("explain", "missing-file")
    #expect(known.status == 0 && known.output.contains("There is no such file"))
    let unknown = try Tool.run("explain", "missing-fil")
    #expect(unknown.status == 2 && unknown.errors.contains("missing-file"))
  }
}
