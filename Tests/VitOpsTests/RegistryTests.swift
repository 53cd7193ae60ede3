import Foundation
import Testing
import VitIR
import VitOps

@Suite("Registry")
struct RegistryTests {
  private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  /// The protocols by which a type in `Sources/VitOps` is an operation, `Operation` and what refines it.
  private static func operationProtocols(_ texts: [String]) -> Set<String> {
    var found: Set<String> = [
      "Operation", "PointwiseOperation", "MovementOperation", "ConvolutionOperation",
      "MatrixProductOperation",
    ]
    let declaration = /(?:^|\n)(?:public |private )?protocol (\w+): ([\w, ]+)/
    var count = 0
    while count != found.count {
      count = found.count
      for text in texts {
        for match in text.matches(of: declaration) where conforms(match.2, found) {
          found.insert(String(match.1))
        }
      }
    }
    return found
  }

  private static func conforms(_ list: Substring, _ protocols: Set<String>) -> Bool {
    list.split(separator: ",").contains { protocols.contains($0.trimmingCharacters(in: .whitespaces)) }
  }

  @Test("every operation in Sources/VitOps is registered")
  func registered() throws {
    let folder = Self.root.appending(path: "Sources/VitOps")
    let files =
      FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)?
      .compactMap { $0 as? URL }.filter { $0.pathExtension == "swift" } ?? []
    let texts = try files.map { try String(contentsOf: $0, encoding: .utf8) }
    let protocols = Self.operationProtocols(texts)
    let known = Set(
      Registry.standard.operations.map { "\($0)".split(separator: "<").first.map(String.init) ?? "" })
    let declaration = /(?:^|\n)(?:public |private |package )?struct (\w+)(?:<[^>]*>)?: ([\w, ]+)/
    var count = 0
    for text in texts {
      for match in text.matches(of: declaration) where Self.conforms(match.2, protocols) {
        count += 1
        #expect(known.contains(String(match.1)), "\(match.1) is in no list of Registry.standard")
      }
    }
    #expect(count > 100)
  }

  @Test("every function that makes a generic operation is registered")
  func functions() throws {
    // The names that files define are those that the registry has.
    let folder = Self.root.appending(path: "Sources/VitOps")
    let files =
      FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)?
      .compactMap { $0 as? URL }.filter { $0.pathExtension == "swift" } ?? []
    let names =
      /(?:static let name|static let \(name, summary\)) = \(?\s*"((?:onnx|vit|com\.microsoft)\.\w+)"/
    var found: Set<String> = []
    for file in files {
      for match in try String(contentsOf: file, encoding: .utf8).matches(of: names) {
        found.insert(String(match.1))
      }
    }
    #expect(found == Set(Registry.standard.operations.map { $0.name }))
  }
}
