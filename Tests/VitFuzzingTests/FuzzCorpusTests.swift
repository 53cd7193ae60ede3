import Foundation
import Testing
import VitFuzzing
import VitTestSupport

/// What the fuzzers once found, and one legal input of each kind, read again with every run of the tests.
@Suite("the corpus of the fuzzers")
struct FuzzCorpusTests {
  /// An input of `golden/fuzz`.
  struct Input: Sendable, CustomTestStringConvertible {
    let target: String
    let file: String
    var testDescription: String { "\(target)/\(file)" }
  }

  static let inputs: [Input] = FuzzTarget.all.flatMap { target in
    let files =
      (try? FileManager.default.contentsOfDirectory(atPath: Fixture.path("fuzz/\(target.name)"))) ?? []
    return files.sorted().map { Input(target: target.name, file: $0) }
  }

  @Test(
    "each input is accepted or refused with a reason, and reads back where it is accepted", arguments: inputs)
  func reads(_ input: Input) throws {
    let target = try #require(FuzzTarget.all.first { $0.name == input.target })
    let scratch = try Scratch()
    try target.run(Fixture.bytes("fuzz/\(input.target)/\(input.file)"), folder: scratch.path)
  }

  @Test("each target has an input that it accepts", arguments: FuzzTarget.all.map(\.name))
  func hasSeed(_ name: String) throws {
    let target = try #require(FuzzTarget.all.first { $0.name == name })
    let scratch = try Scratch()
    let accepted = try Self.inputs.filter { $0.target == name }.filter {
      try target.run(Fixture.bytes("fuzz/\(name)/\($0.file)"), folder: scratch.path)
    }
    #expect(!accepted.isEmpty)
  }

  @Test("folders of inputs belong to targets")
  func folders() throws {
    let names = try FileManager.default.contentsOfDirectory(atPath: Fixture.path("fuzz"))
    #expect(Set(names).subtracting(FuzzTarget.all.map(\.name)).isEmpty)
  }
}
