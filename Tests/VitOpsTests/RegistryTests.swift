import Foundation
import Testing
import VitIR
import VitOps

@Suite("Registry")
struct RegistryTests {
  private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  private static func sources(_ folder: String) -> [URL] {
    FileManager.default.enumerator(at: root.appending(path: folder), includingPropertiesForKeys: nil)?
      .compactMap { $0 as? URL }.filter { $0.pathExtension == "swift" } ?? []
  }

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

  @Test("the names that files of Sources/VitOps define are those that are registered")
  func functions() throws {
    let names =
      /(?:static let name|static let \(name, summary\)) = \(?\s*"((?:onnx|vit|com\.microsoft)\.\w+)"/
    var found: Set<String> = []
    for file in Self.sources("Sources/VitOps") {
      for match in try String(contentsOf: file, encoding: .utf8).matches(of: names) {
        found.insert(String(match.1))
      }
    }
    #expect(found == Set(Registry.standard.operations.map { $0.name }))
  }

  @Test("no file outside of Sources/VitOps names an operator, but the one list of the decoder")
  func literals() throws {
    let known = Set(
      Registry.standard.operations.map { $0.name.split(separator: ".").last.map(String.init) ?? "" })
    let literal = /"((?:(?:onnx|vit|com\.microsoft|ai\.onnx)\.)?)(\w+)"/
    for file in Self.sources("Sources") where !file.path.contains("/Sources/VitOps/") {
      guard file.lastPathComponent != "OnnxOperator.swift" else { continue }
      for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n") {
        for match in line.matches(of: literal) {
          // A bare name is one of an operator in the decoder alone; elsewhere it is a word.
          let isBare = match.1.isEmpty
          let names = isBare ? file.path.contains("/ONNX/") && known.contains(String(match.2)) : true
          #expect(!names, "\(file.lastPathComponent) names the operator \(match.0)")
        }
      }
    }
  }
}
